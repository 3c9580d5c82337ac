/* Every #if on a version or a platform stands here, and each yields a DTLSFFI_HAS_X that is 0 or 1.
 *
 * A function that this libssl lacks gets a stub of the same type, so that everything compiles; `_native/__init__.py`
 * hides the stub's name, so that nothing calls it.
 */
#ifndef DTLSFFI_COMPAT_H
#define DTLSFFI_COMPAT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* recvmmsg(2), struct in6_pktinfo, UDP_SEGMENT */
#endif

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "dtlsffi needs OpenSSL 3.0 or newer (LibreSSL, BoringSSL and AWS-LC will not do): set DTLSFFI_OPENSSL_DIR"
#endif

#if defined(OPENSSL_NO_DTLS) || defined(OPENSSL_NO_DTLS1_2_METHOD)
#error "this OpenSSL was built without DTLS 1.2: set DTLSFFI_OPENSSL_DIR to one that has it"
#endif

#if defined(OPENSSL_NO_DTLS1_METHOD) || defined(OPENSSL_NO_DTLS1)
#define DTLSFFI_HAS_DTLSv1 0
#else
#define DTLSFFI_HAS_DTLSv1 1
#endif

#ifdef DTLS1_3_VERSION
#define DTLSFFI_HAS_DTLSv1_3 1
#else
#define DTLSFFI_HAS_DTLSv1_3 0
#define DTLS1_3_VERSION 0xFEFC /* RFC 9147 section 5.3 */
#endif

/* Records older than the newest that OpenSSL still takes: up to 3.1 its map of them is an unsigned long. */
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
#define DTLSFFI_WINDOW 64
#else
#define DTLSFFI_WINDOW (8 * sizeof(unsigned long))
#endif

#if OPENSSL_VERSION_NUMBER >= 0x30200000L
#define DTLSFFI_HAS_RPK 1 /* RFC 7250 */
#else
#define DTLSFFI_HAS_RPK 0
#define TLSEXT_cert_type_x509 0 /* IANA, TLS Certificate Types */
#define TLSEXT_cert_type_rpk 2
static inline int SSL_set1_client_cert_type(SSL *ssl, const unsigned char *types, size_t length)
{
    return (void)ssl, (void)types, (void)length, 0;
}
static inline int SSL_set1_server_cert_type(SSL *ssl, const unsigned char *types, size_t length)
{
    return (void)ssl, (void)types, (void)length, 0;
}
static inline EVP_PKEY *SSL_get0_peer_rpk(const SSL *ssl)
{
    return (void)ssl, NULL;
}
static inline EVP_PKEY *X509_STORE_CTX_get0_rpk(const X509_STORE_CTX *store)
{
    return (void)store, NULL;
}
#endif

/* What a store holds, for a look at it: a copy, or itself, which is locked until it is closed. */
#if OPENSSL_VERSION_NUMBER >= 0x30300000L
static inline STACK_OF(X509_OBJECT) *dtlsffi_store_open(X509_STORE *store)
{
    return X509_STORE_get1_objects(store);
}
static inline void dtlsffi_store_close(X509_STORE *store, STACK_OF(X509_OBJECT) *objects)
{
    (void)store;
    sk_X509_OBJECT_pop_free(objects, X509_OBJECT_free);
}
#else
static inline STACK_OF(X509_OBJECT) *dtlsffi_store_open(X509_STORE *store)
{
    X509_STORE_lock(store);
    return X509_STORE_get0_objects(store);
}
static inline void dtlsffi_store_close(X509_STORE *store, STACK_OF(X509_OBJECT) *objects)
{
    (void)objects;
    X509_STORE_unlock(store);
}
#endif

#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define DTLSFFI_HAS_SIGALGS_LIST 1
#else
#define DTLSFFI_HAS_SIGALGS_LIST 0
static inline char *SSL_get1_builtin_sigalgs(OSSL_LIB_CTX *library)
{
    return (void)library, NULL;
}
#endif

#if OPENSSL_VERSION_NUMBER >= 0x3050000fL /* not in 3.5.0-dev */
#define DTLSFFI_HAS_GROUPS_LIST 1
#define DTLSFFI_HAS_SIGALG_NAMES 1
#else
#define DTLSFFI_HAS_GROUPS_LIST 0
#define DTLSFFI_HAS_SIGALG_NAMES 0
static inline long SSL_CTX_get0_implemented_groups(SSL_CTX *ctx, int all, void *names)
{
    return (void)ctx, (void)all, (void)names, 0;
}
static inline int SSL_get0_signature_name(const SSL *ssl, const char **name)
{
    return (void)ssl, (void)name, 0;
}
static inline int SSL_get0_peer_signature_name(const SSL *ssl, const char **name)
{
    return (void)ssl, (void)name, 0;
}
#endif

/* Linux tells the path MTU it has learnt for a connected socket: ip(7), ipv6(7). */
#include <netinet/in.h>
#ifdef IP_MTU
#define DTLSFFI_HAS_PATH_MTU 1
#else
#define DTLSFFI_HAS_PATH_MTU 0
#define IP_MTU 0
#endif
#if !defined(IPV6_MTU)
#define IPV6_MTU 0
#endif

/* And sends datagrams that nobody may fragment: ip(7). */
#ifdef IP_PMTUDISC_DO
#define DTLSFFI_HAS_DF 1
#else
#define DTLSFFI_HAS_DF 0
#define IP_MTU_DISCOVER 0
#define IP_PMTUDISC_WANT 0
#define IP_PMTUDISC_DO 0
#endif

/* The kernel joins datagrams on their way in, and cuts messages on their way out: udp(7). */
#include <netinet/udp.h>
#ifdef UDP_SEGMENT
#define DTLSFFI_HAS_GSO 1
#else
#define DTLSFFI_HAS_GSO 0
#define UDP_SEGMENT 0
#endif
#ifdef UDP_GRO
#define DTLSFFI_HAS_GRO 1
#else
#define DTLSFFI_HAS_GRO 0
#define UDP_GRO 0
#endif

/* And counts what a socket's buffer had no room for: SO_MEMINFO, of which SK_MEMINFO_DROPS is the ninth number. */
#ifdef SO_MEMINFO
#define DTLSFFI_HAS_MEMINFO 1
#else
#define DTLSFFI_HAS_MEMINFO 0
#define SO_MEMINFO 0
#endif
#define DTLSFFI_MEMINFO_DROPS 8

/* glibc keeps what has been freed, unless it is told: malloc_trim(3). */
#ifdef __GLIBC__
#include <malloc.h>
#define DTLSFFI_HAS_MALLOC_TRIM 1
#define dtlsffi_malloc_trim() ((void)malloc_trim(0))
#else
#define DTLSFFI_HAS_MALLOC_TRIM 0
#define dtlsffi_malloc_trim() ((void)0)
#endif

/* What the kernel tells of a socket besides datagrams, where somebody has asked for it: IP_RECVERR, SO_TIMESTAMPING. */
#include <sys/socket.h>
#ifdef MSG_ERRQUEUE
#define DTLSFFI_HAS_ERROR_QUEUE 1
#define dtlsffi_read_error_queue(fd) recv(fd, NULL, 0, MSG_ERRQUEUE | MSG_DONTWAIT)
#else
#define DTLSFFI_HAS_ERROR_QUEUE 0
#define dtlsffi_read_error_queue(fd) (-1)
#endif

/* Many messages in one call; elsewhere one call a message. */
#include <errno.h>
#if defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__)
#define DTLSFFI_HAS_MMSG 1
#define dtlsffi_recvmmsg(fd, messages, count, flags) recvmmsg(fd, messages, count, flags, NULL)
#define dtlsffi_sendmmsg sendmmsg
typedef struct mmsghdr dtlsffi_message;
#else
#define DTLSFFI_HAS_MMSG 0
typedef struct {
    struct msghdr msg_hdr;
    unsigned int msg_len;
} dtlsffi_message;
static inline int dtlsffi_recvmmsg(int fd, dtlsffi_message *messages, unsigned int count, int flags)
{
    unsigned int i;

    for (i = 0; i < count; i++) {
        ssize_t got = recvmsg(fd, &messages[i].msg_hdr, flags);

        if (got < 0)
            return i > 0 ? (int)i : -1;
        messages[i].msg_len = (unsigned int)got;
    }
    return (int)i;
}
static inline int dtlsffi_sendmmsg(int fd, dtlsffi_message *messages, unsigned int count, int flags)
{
    unsigned int i;

    for (i = 0; i < count; i++) {
        ssize_t sent = sendmsg(fd, &messages[i].msg_hdr, flags);

        if (sent < 0)
            return i > 0 ? (int)i : -1;
        messages[i].msg_len = (unsigned int)sent;
    }
    return (int)i;
}
#endif

#ifdef __SIZEOF_INT128__
#define DTLSFFI_HAS_INT128 1
#else
#define DTLSFFI_HAS_INT128 0
#endif

/* PyPy's cffi drops the GIL around every call by itself, and has no PyEval_SaveThread worth calling. */
#ifdef PYPY_VERSION
#define DTLSFFI_KEEPS_GIL 0
#else
#define DTLSFFI_KEEPS_GIL 1
#endif

#endif
