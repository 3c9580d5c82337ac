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
    OPENSSL_free(ours->removed);
    dtlsffi_tickets_free(&ours->tickets);
    pthread_mutex_destroy(&ours->removed_lock);
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

/* Returns NULL where OpenSSL cannot make one. */
SSL_CTX *dtlsffi_ctx_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    dtlsffi_ctx_data *ours = OPENSSL_zalloc(sizeof(*ours));

    if (ctx == NULL || ours == NULL || pthread_mutex_init(&ours->removed_lock, NULL) != 0) {
        OPENSSL_free(ours);
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (!dtlsffi_tickets_init(&ours->tickets) || SSL_CTX_set_ex_data(ctx, data_index, ours) != 1) {
        free_data(NULL, ours, NULL, 0, 0, NULL);
        SSL_CTX_free(ctx);
        return NULL;
    }
    dtlsffi_ctx_set_cookies(ctx);
    return ctx;
}

/* What its connections begin with: `rules` stand for those by which a server verifies its peer, `mtu` is 0 where
 * none is set, and the rest are the timers, in microseconds, with the factor between them. */
void dtlsffi_ctx_begin_with(SSL_CTX *ctx, const uint8_t *rules, size_t mtu, uint32_t initial, double back_off,
                            uint32_t cap)
{
    dtlsffi_ctx_data *ours = dtlsffi_ctx_get_data(ctx);

    memcpy(ours->rules, rules, sizeof(ours->rules));
    ours->mtu = mtu;
    ours->timers = (dtlsffi_timers){.initial = initial, .back_off = back_off, .cap = cap};
}

/* Whether Python has something to answer, or to be told, in a handshake: who has a connection made needs a handle
 * then. */
int dtlsffi_ctx_asks(SSL_CTX *ctx)
{
    return dtlsffi_ctx_get_data(ctx)->asks;
}

/* Keeps the id of a session that is not to be resumed any more, in front of a byte with its length. */
void dtlsffi_ctx_note_removed(SSL_CTX *ctx, const uint8_t *id, size_t length)
{
    dtlsffi_ctx_data *ours = dtlsffi_ctx_get_data(ctx);
    uint8_t *longer;

    pthread_mutex_lock(&ours->removed_lock);
    longer = OPENSSL_realloc(ours->removed, ours->removed_length + 1 + length);
    if (longer != NULL) {
        longer[ours->removed_length] = (uint8_t)length;
        memcpy(longer + ours->removed_length + 1, id, length);
        ours->removed = longer;
        ours->removed_length += 1 + length;
    }
    pthread_mutex_unlock(&ours->removed_lock);
}

/* Hands over what was kept, each id behind a byte with its length; to be freed with OPENSSL_free(). NULL for
 * nothing. */
uint8_t *dtlsffi_ctx_take_removed(SSL_CTX *ctx, size_t *length)
{
    dtlsffi_ctx_data *ours = dtlsffi_ctx_get_data(ctx);
    uint8_t *taken;

    pthread_mutex_lock(&ours->removed_lock);
    taken = ours->removed;
    *length = ours->removed_length;
    ours->removed = NULL;
    ours->removed_length = 0;
    pthread_mutex_unlock(&ours->removed_lock);
    return taken;
}

/* The certificates in a store, each with a reference for the caller, up to `room`; returns how many there are. Done in
 * one go: whoever waits for the store's lock may hold the GIL. */
int dtlsffi_store_list(X509_STORE *store, X509 **certificates, int room, int *crls)
{
    STACK_OF(X509_OBJECT) *objects;
    int found = 0;
    int i;

    *crls = 0;
    objects = dtlsffi_store_open(store);
    for (i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
        X509 *certificate = X509_OBJECT_get0_X509(object);

        *crls += X509_OBJECT_get_type(object) == X509_LU_CRL;
        if (certificate == NULL)
            continue;
        if (found < room && X509_up_ref(certificate))
            certificates[found] = certificate;
        found++;
    }
    dtlsffi_store_close(store, objects);
    return found;
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
    uint8_t *copy = length == 0 ? NULL : OPENSSL_memdup(list, length);

    if (copy == NULL && length != 0)
        return 0;
    if (SSL_CTX_set_alpn_protos(ctx, list, (unsigned int)length) != 0) { /* 0 is success here */
        OPENSSL_free(copy);
        return 0;
    }
    OPENSSL_free(ours->protocols);
    ours->protocols = copy;
    ours->protocols_length = length;
    SSL_CTX_set_alpn_select_cb(ctx, length == 0 ? NULL : choose_protocol, ours);
    return 1;
}
