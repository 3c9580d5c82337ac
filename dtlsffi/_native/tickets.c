/* Session tickets under keys that several processes or hosts share, and change while connections come in: RFC 5077.
 */
#include "core.h"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <string.h>

bool dtlsffi_tickets_init(dtlsffi_tickets *tickets)
{
    tickets->lock = CRYPTO_THREAD_lock_new();
    return tickets->lock != NULL;
}

void dtlsffi_tickets_free(dtlsffi_tickets *tickets)
{
    OPENSSL_clear_free(tickets->keys, tickets->count * DTLSFFI_TICKET_KEY);
    CRYPTO_THREAD_lock_free(tickets->lock);
}

static bool give_key(const uint8_t *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    char digest[] = "SHA256";
    uint8_t mac_key[32];
    OSSL_PARAM params[3];

    memcpy(mac_key, key + 16, sizeof(mac_key));
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, mac_key, sizeof(mac_key));
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
    params[2] = OSSL_PARAM_construct_end();
    encrypt = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key + 48, iv, encrypt);
    encrypt = encrypt == 1 && EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(mac_key, sizeof(mac_key));
    return encrypt;
}

static int seal(const dtlsffi_tickets *tickets, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                EVP_MAC_CTX *mac)
{
    if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1 || !give_key(tickets->keys, iv, cipher, mac, 1))
        return -1;
    memcpy(name, tickets->keys, 16);
    return 1;
}

/* 0: no such key, so a full handshake; 2: an older one, so a new ticket. */
static int unseal(const dtlsffi_tickets *tickets, const unsigned char *name, const unsigned char *iv,
                  EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    size_t i;

    for (i = 0; i < tickets->count; i++) {
        const uint8_t *key = tickets->keys + i * DTLSFFI_TICKET_KEY;

        if (memcmp(name, key, 16) != 0)
            continue;
        if (!give_key(key, iv, cipher, mac, 0))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

static int find_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                    int encrypt)
{
    dtlsffi_conn *conn = SSL_get_app_data(ssl);
    dtlsffi_tickets *tickets = &conn->ctx_data->tickets;
    int answer;

    if (!CRYPTO_THREAD_read_lock(tickets->lock))
        return -1;
    answer = encrypt ? seal(tickets, name, iv, cipher, mac) : unseal(tickets, name, iv, cipher, mac);
    CRYPTO_THREAD_unlock(tickets->lock);
    return answer;
}

/* `keys` are `count` times a name (16 bytes), a key for HMAC-SHA256 (32) and one for AES-256-CBC (32). The first one
 * seals; tickets under any of them are accepted. May be called at any time. */
int dtlsffi_ctx_set_ticket_keys(SSL_CTX *ctx, const uint8_t *keys, size_t count)
{
    dtlsffi_tickets *tickets = &dtlsffi_ctx_get_data(ctx)->tickets;
    uint8_t *copy = OPENSSL_memdup(keys, count * DTLSFFI_TICKET_KEY);

    if (copy == NULL || !CRYPTO_THREAD_write_lock(tickets->lock)) {
        OPENSSL_free(copy);
        return 0;
    }
    OPENSSL_clear_free(tickets->keys, tickets->count * DTLSFFI_TICKET_KEY);
    tickets->keys = copy;
    tickets->count = count;
    CRYPTO_THREAD_unlock(tickets->lock);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, find_key) == 1;
}
