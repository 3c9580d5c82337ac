/* What an SSL_CTX carries of ours: it lives as long as the SSL_CTX does, whoever of Python's objects goes first.
 */
#include "core.h"

#include <string.h>

static int data_index = -1;

static void free_data(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    dtlsffi_ctx_data *ours = data;

    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    if (ours == NULL)
        return;
    OPENSSL_free(ours->protocols);
    dtlsffi_tickets_free(&ours->tickets);
    OPENSSL_free(ours);
}

bool dtlsffi_ctx_init(void)
{
    data_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_data);
    return data_index >= 0;
}

dtlsffi_ctx_data *dtlsffi_ctx_get_data(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, data_index);
}

/* `handle` leads to the Python object for what happens to no connection in particular. Returns NULL where OpenSSL
 * cannot make one. */
SSL_CTX *dtlsffi_ctx_new(const SSL_METHOD *method, void *handle)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    dtlsffi_ctx_data *ours = OPENSSL_zalloc(sizeof(*ours));

    if (ctx == NULL || ours == NULL || !dtlsffi_tickets_init(&ours->tickets) ||
        SSL_CTX_set_ex_data(ctx, data_index, ours) != 1) {
        OPENSSL_free(ours);
        SSL_CTX_free(ctx);
        return NULL;
    }
    ours->handle = handle;
    return ctx;
}

/* Connections may outlive it by a moment; Python is not to hear of what they do to its session cache. */
void dtlsffi_ctx_free(SSL_CTX *ctx)
{
    SSL_CTX_sess_set_remove_cb(ctx, NULL);
    SSL_CTX_free(ctx);
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in,
                           unsigned int in_length, void *arg)
{
    const dtlsffi_ctx_data *ours = arg;
    unsigned char *chosen = NULL;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_length, ours->protocols, (unsigned int)ours->protocols_length, in,
                              in_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* `list` is as on the wire (RFC 7301 section 3.1); a server takes the first of its own that the client has, too. */
int dtlsffi_ctx_set_protocols(SSL_CTX *ctx, const uint8_t *list, size_t length)
{
    dtlsffi_ctx_data *ours = dtlsffi_ctx_get_data(ctx);
    uint8_t *copy = OPENSSL_memdup(list, length);

    if (copy == NULL || SSL_CTX_set_alpn_protos(ctx, list, (unsigned int)length) != 0) { /* 0 is success here */
        OPENSSL_free(copy);
        return 0;
    }
    OPENSSL_free(ours->protocols);
    ours->protocols = copy;
    ours->protocols_length = length;
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, ours);
    return 1;
}
