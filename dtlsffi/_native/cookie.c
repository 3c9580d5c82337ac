/* Proof that a client is where it says it is, before anything is kept for it: RFC 6347 section 4.2.1.
 *
 * A cookie is the time of its making (4 bytes) and an HMAC-SHA256 over that time, the client's address and the
 * random of its ClientHello (28 of its bytes): whoever overhears one can do no more with it than say the same hello
 * again. The key of the HMAC is made of a secret and of the hour, so that nobody can gather cookies under one key
 * for long. Whoever has the secret and a clock can check a cookie: no process or host needs to have made it.
 *
 * A ClientHello without one is answered with a HelloVerifyRequest right here, without an SSL; and so is the first
 * fragment of one, of which the others need not be kept.
 */
#include "core.h"

#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#define STAMP 4
#define LIFE 60   /* seconds */
#define SAME 8    /* seconds for which a hello that is said again gets the same cookie */
#define SKEW 5    /* seconds that the clocks of hosts may differ */
#define ROTATION 3600

enum { BODY = DTLSFFI_RECORD_HEADER + DTLS1_HM_HEADER_LENGTH, RANDOM = SSL3_RANDOM_SIZE };

/* What a reader of untrusted bytes has left. */
typedef struct {
    const uint8_t *data;
    size_t left;
} reader;

static const uint8_t *take(reader *r, size_t length)
{
    const uint8_t *data = r->data;

    if (length > r->left)
        return NULL;
    r->data += length;
    r->left -= length;
    return data;
}

static uint32_t read_number(const uint8_t *data, size_t length)
{
    uint32_t number = 0;

    while (length-- > 0)
        number = number << 8 | *data++;
    return number;
}

static void write_number(uint8_t *data, uint32_t number, size_t length)
{
    while (length-- > 0) {
        data[length] = (uint8_t)number;
        number >>= 8;
    }
}

#define NO_HOUR UINT32_MAX /* a clock that nobody has set may say that it is the first, 0 */

/* HMAC-SHA256 (RFC 2104), made so that what depends on the key alone is done once an hour: OpenSSL's HMAC() takes four
 * times as long. */
struct dtlsffi_cookie_jar {
    pthread_mutex_t lock;
    uint8_t secret[32];
    uint32_t hour;
    EVP_MD *sha256;
    EVP_MD_CTX *inner, *outer, *work;
};

static bool pad(EVP_MD_CTX *context, const EVP_MD *sha256, const uint8_t *key, size_t length, uint8_t byte)
{
    uint8_t block[64];

    memset(block, byte, sizeof(block));
    for (size_t i = 0; i < length; i++)
        block[i] ^= key[i];
    return EVP_DigestInit_ex2(context, sha256, NULL) == 1 && EVP_DigestUpdate(context, block, sizeof(block)) == 1;
}

static bool finish(EVP_MD_CTX *work, const EVP_MD_CTX *start, const uint8_t *data, size_t length, uint8_t *digest)
{
    return EVP_MD_CTX_copy_ex(work, start) == 1 && EVP_DigestUpdate(work, data, length) == 1
           && EVP_DigestFinal_ex(work, digest, NULL) == 1;
}

static bool set_key(dtlsffi_cookie_jar *jar, const uint8_t *key)
{
    return pad(jar->inner, jar->sha256, key, 32, 0x36) && pad(jar->outer, jar->sha256, key, 32, 0x5c);
}

static bool hmac(dtlsffi_cookie_jar *jar, const uint8_t *data, size_t length, uint8_t *mac)
{
    return finish(jar->work, jar->inner, data, length, mac) && finish(jar->work, jar->outer, mac, 32, mac);
}

/* The hour's own key is the secret's HMAC of the hour. */
static bool turn_to(dtlsffi_cookie_jar *jar, uint32_t hour)
{
    uint8_t number[STAMP], key[32];
    bool ok;

    if (jar->hour == hour)
        return true;
    write_number(number, hour, sizeof(number));
    ok = set_key(jar, jar->secret) && hmac(jar, number, sizeof(number), key) && set_key(jar, key);
    jar->hour = ok ? hour : NO_HOUR;
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

static bool sign(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *random, uint32_t stamp,
                 uint8_t *cookie)
{
    uint8_t mac[32], message[STAMP + sizeof(*address) + RANDOM];
    bool ok;

    write_number(message, stamp, STAMP);
    memcpy(message + STAMP, address, sizeof(*address));
    memcpy(message + STAMP + sizeof(*address), random, RANDOM);
    pthread_mutex_lock(&jar->lock);
    ok = turn_to(jar, stamp / ROTATION) && hmac(jar, message, sizeof(message), mac);
    pthread_mutex_unlock(&jar->lock);
    memcpy(cookie, message, STAMP);
    memcpy(cookie + STAMP, mac, DTLSFFI_COOKIE - STAMP);
    return ok;
}

void dtlsffi_cookie_jar_free(dtlsffi_cookie_jar *jar)
{
    EVP_MD_CTX_free(jar->inner);
    EVP_MD_CTX_free(jar->outer);
    EVP_MD_CTX_free(jar->work);
    EVP_MD_free(jar->sha256);
    pthread_mutex_destroy(&jar->lock);
    OPENSSL_clear_free(jar, sizeof(*jar));
}

/* `secret` may have any length; none makes a jar with one of its own. Returns NULL where there is no memory or no
 * randomness. */
dtlsffi_cookie_jar *dtlsffi_cookie_jar_new(const uint8_t *secret, size_t length)
{
    dtlsffi_cookie_jar *jar = OPENSSL_zalloc(sizeof(*jar));
    bool ok;

    if (jar == NULL || pthread_mutex_init(&jar->lock, NULL) != 0) {
        OPENSSL_free(jar);
        return NULL;
    }
    jar->hour = NO_HOUR;
    jar->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    jar->inner = EVP_MD_CTX_new();
    jar->outer = EVP_MD_CTX_new();
    jar->work = EVP_MD_CTX_new();
    ok = jar->sha256 != NULL && jar->inner != NULL && jar->outer != NULL && jar->work != NULL;
    if (ok && length == 0)
        ok = RAND_bytes(jar->secret, sizeof(jar->secret)) == 1;
    else if (ok)
        ok = EVP_Digest(secret, length, jar->secret, NULL, jar->sha256, NULL) == 1;
    if (!ok) {
        dtlsffi_cookie_jar_free(jar);
        return NULL;
    }
    return jar;
}

static bool make_cookie(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *random, uint8_t *cookie)
{
    return sign(jar, address, random, (uint32_t)time(NULL) & ~(uint32_t)(SAME - 1), cookie);
}

static bool check_untrusted(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *random,
                            const uint8_t *cookie, size_t length)
{
    uint8_t expected[DTLSFFI_COOKIE];
    uint32_t stamp;
    int64_t age;

    if (length != DTLSFFI_COOKIE)
        return false;
    stamp = read_number(cookie, STAMP);
    age = (int64_t)time(NULL) - (int64_t)stamp;
    if (age < -SKEW || age > LIFE + SAME || !sign(jar, address, random, stamp, expected))
        return false;
    return CRYPTO_memcmp(expected, cookie, DTLSFFI_COOKIE) == 0;
}

static size_t request(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *record,
                      const uint8_t *random, uint8_t *reply)
{
    uint8_t *body = reply + BODY;

    memset(reply, 0, DTLSFFI_HELLO_VERIFY_REQUEST);
    reply[0] = SSL3_RT_HANDSHAKE;
    write_number(reply + 1, DTLS1_VERSION, 2);              /* RFC 6347 section 4.2.1 */
    memcpy(reply + 5, record + 5, 6);                       /* the ClientHello's record number */
    write_number(reply + 11, DTLS1_HM_HEADER_LENGTH + 3 + DTLSFFI_COOKIE, 2);
    reply[13] = DTLS1_MT_HELLO_VERIFY_REQUEST;
    write_number(reply + 14, 3 + DTLSFFI_COOKIE, 3);        /* length; message 0, fragment at 0 */
    write_number(reply + 22, 3 + DTLSFFI_COOKIE, 3);        /* of that length, too */
    write_number(body, DTLS1_VERSION, 2);
    body[2] = DTLSFFI_COOKIE;
    return make_cookie(jar, address, random, body + 3) ? DTLSFFI_HELLO_VERIFY_REQUEST : 0;
}

static const uint8_t *take_vector(reader *r, size_t length_bytes, size_t *length)
{
    const uint8_t *data = take(r, length_bytes);

    if (data == NULL)
        return NULL;
    *length = read_number(data, length_bytes);
    return take(r, *length);
}

/* The session id, the cookie, and, where a ClientHello is whole, what has to follow them; NULL where that cannot be. */
static const uint8_t *take_cookie(reader *r, bool whole, size_t *length)
{
    size_t unused;
    const uint8_t *cookie;

    if (take_vector(r, 1, &unused) == NULL || (cookie = take_vector(r, 1, length)) == NULL)
        return NULL;
    if (!whole)
        return cookie;
    if (take_vector(r, 2, &unused) == NULL || unused < 2 || take_vector(r, 1, &unused) == NULL || unused < 1)
        return NULL;
    return cookie;
}

/* The fragment in a record that seems to hold one of a ClientHello, and nothing else; `at` is where it belongs. */
static bool is_fragment(const uint8_t *record, size_t length, size_t *at, size_t *message)
{
    if (length < BODY || !dtlsffi_seems_hello(record, length))
        return false;
    *message = read_number(record + 14, 3);
    *at = read_number(record + 19, 3);
    return read_number(record + 22, 3) == length - BODY && *message <= DTLSFFI_HELLO_MAX && *at <= *message
           && length - BODY <= *message - *at;
}

static int look(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *data, size_t length,
                uint8_t *reply, uint8_t *random)
{
    size_t record = dtlsffi_record_length(data, length);
    size_t at, message, cookie_length;
    const uint8_t *field, *cookie;
    reader r;

    if (!is_fragment(data, record, &at, &message))
        return DTLSFFI_HELLO_NONE;
    if (at > 0)
        return DTLSFFI_HELLO_FRAGMENT;
    r.data = data + BODY;
    r.left = record - BODY;
    if (take(&r, 2) == NULL || (field = take(&r, RANDOM)) == NULL)
        return DTLSFFI_HELLO_NONE;
    memcpy(random, field, RANDOM);
    cookie = take_cookie(&r, record - BODY == message, &cookie_length);
    if (cookie == NULL)
        return DTLSFFI_HELLO_NONE;
    memset(random + RANDOM, 0, STAMP);
    if (check_untrusted(jar, address, random, cookie, cookie_length)) {
        memcpy(random + RANDOM, cookie, STAMP);
        return DTLSFFI_HELLO_PROVEN;
    }
    if (length < DTLSFFI_HELLO_VERIFY_REQUEST) /* no answer is larger than its question */
        return DTLSFFI_HELLO_NONE;
    if (reply == NULL)
        return DTLSFFI_HELLO_UNPROVEN;
    return (int)request(jar, address, data, random, reply);
}

/* What a datagram is that seems to begin with a ClientHello, or with the first fragment of one, which has to hold
 * the cookie: a positive answer is the length of the HelloVerifyRequest in `reply` (of DTLSFFI_HELLO_VERIFY_REQUEST
 * bytes, or NULL for none), which is to be sent and then forgotten. `random` gets the 32 bytes that tell one
 * ClientHello from another, and when its cookie was made, in 4 more. */
int dtlsffi_hello_look_untrusted(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *data,
                                 size_t length, uint8_t *reply, uint8_t *random)
{
    int what = look(jar, address, data, length, reply, random);

    return what == DTLSFFI_HELLO_NONE && dtlsffi_seems_hello(data, length) ? DTLSFFI_HELLO_BAD : what;
}
