/* Every #if on a version or a platform stands here, and each yields a DTLSFFI_HAS_X that is 0 or 1.
 *
 * A function that this libssl lacks gets a stub of the same type, so that everything compiles; `_native/__init__.py`
 * hides the stub's name, so that nothing calls it.
 */
#ifndef DTLSFFI_COMPAT_H
#define DTLSFFI_COMPAT_H

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

/* PyPy's cffi drops the GIL around every call by itself, and has no PyEval_SaveThread worth calling. */
#ifdef PYPY_VERSION
#define DTLSFFI_KEEPS_GIL 0
#else
#define DTLSFFI_KEEPS_GIL 1
#endif

#endif
