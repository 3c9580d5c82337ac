/* What every role needs: options, clocks, contexts.
 */
#include "common.h"

#include <getopt.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct option NAMES[] = {
    {"cert", required_argument, NULL, 'c'},   {"key", required_argument, NULL, 'k'},
    {"ca", required_argument, NULL, 'a'},     {"mode", required_argument, NULL, 'm'},
    {"address", required_argument, NULL, 'A'}, {"port", required_argument, NULL, 'p'},
    {"size", required_argument, NULL, 's'},   {"count", required_argument, NULL, 'n'},
    {"batch", required_argument, NULL, 'b'},  {"seconds", required_argument, NULL, 't'},
    {"pid", required_argument, NULL, 'P'},    {"release", no_argument, NULL, 'r'},
    {"pktinfo", no_argument, NULL, 'i'},      {NULL, 0, NULL, 0},
};

void options_read(options *o, int argc, char **argv)
{
    int letter;

    *o = (options){.mode = "plain", .address = "127.0.0.1", .size = 64, .count = 100000, .batch = 1, .seconds = 1};
    while ((letter = getopt_long(argc, argv, "", NAMES, NULL)) != -1) {
        switch (letter) {
        case 'c': o->cert = optarg; break;
        case 'k': o->key = optarg; break;
        case 'a': o->ca = optarg; break;
        case 'm': o->mode = optarg; break;
        case 'A': o->address = optarg; break;
        case 'p': o->port = atoi(optarg); break;
        case 's': o->size = atoi(optarg); break;
        case 'n': o->count = atoi(optarg); break;
        case 'b': o->batch = atoi(optarg); break;
        case 't': o->seconds = atof(optarg); break;
        case 'P': o->pid = atol(optarg); break;
        case 'r': o->release = true; break;
        case 'i': o->pktinfo = true; break;
        default: exit(2);
        }
    }
}

uint64_t nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

double now(void)
{
    return (double)nanoseconds() / 1e9;
}

_Noreturn void die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

int order_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

uint64_t percentile(uint64_t *sorted, size_t count, double share)
{
    size_t index = (size_t)((double)count * share);

    return count == 0 ? 0 : sorted[index < count ? index : count - 1];
}

/* A certificate that signs itself, where no files are given. */
static void make_certificate(X509 **made, EVP_PKEY **key)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:" HOST);

    *key = EVP_EC_gen("P-256");
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, *key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)HOST, -1, -1, 0);
    X509_set_subject_name(x, name);
    X509_set_issuer_name(x, name);
    X509_NAME_free(name);
    X509_add_ext(x, names, -1);
    X509_EXTENSION_free(names);
    if (!X509_sign(x, *key, EVP_sha256()))
        die("X509_sign");
    *made = x;
}

static void load_own(SSL_CTX *context, X509 *x, EVP_PKEY *key, bool server)
{
    if (server && (SSL_CTX_use_certificate(context, x) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1))
        die("certificate");
    if (!server)
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), x);
}

static void load_files(const options *o, SSL_CTX *context, bool server)
{
    if (server && (SSL_CTX_use_certificate_chain_file(context, o->cert) != 1 ||
                   SSL_CTX_use_PrivateKey_file(context, o->key, SSL_FILETYPE_PEM) != 1))
        die(o->cert);
    if (!server && o->ca != NULL && SSL_CTX_load_verify_file(context, o->ca) != 1)
        die(o->ca);
}

static const uint8_t PSK[16] = {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};

static unsigned int psk_client(SSL *ssl, const char *hint, char *identity, unsigned int identity_room, uint8_t *psk,
                               unsigned int room)
{
    (void)ssl;
    (void)hint;
    if (identity_room < 3 || room < sizeof(PSK))
        return 0;
    memcpy(identity, "me", 3);
    memcpy(psk, PSK, sizeof(PSK));
    return sizeof(PSK);
}

static unsigned int psk_server(SSL *ssl, const char *identity, uint8_t *psk, unsigned int room)
{
    (void)ssl;
    if (strcmp(identity, "me") != 0 || room < sizeof(PSK))
        return 0;
    memcpy(psk, PSK, sizeof(PSK));
    return sizeof(PSK);
}

/* DTLS 1.2, one cipher, P-256. A client verifies where it has something to verify with. */
SSL_CTX *context_make(const options *o, bool server, bool psk)
{
    static X509 *own;
    static EVP_PKEY *own_key;
    SSL_CTX *context = SSL_CTX_new(server ? DTLS_server_method() : DTLS_client_method());

    if (context == NULL || SSL_CTX_set_cipher_list(context, psk ? PSK_CIPHER : CIPHER) != 1 ||
        SSL_CTX_set1_groups_list(context, "P-256") != 1)
        die("context");
    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* resumption by tickets */
    SSL_CTX_set_read_ahead(context, 1);
    if (psk) {
        SSL_CTX_set_psk_client_callback(context, psk_client);
        SSL_CTX_set_psk_server_callback(context, psk_server);
    } else if (o->cert != NULL || o->ca != NULL) {
        load_files(o, context, server);
    } else {
        if (own == NULL)
            make_certificate(&own, &own_key);
        load_own(context, own, own_key, server);
    }
    return context;
}
