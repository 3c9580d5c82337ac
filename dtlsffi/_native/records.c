/* What can be seen of records without their keys: RFC 6347 section 4.1.
 *
 *     type(1) version(2) epoch(2) sequence(6) length(2) fragment(length)
 *
 * Every datagram passes here before OpenSSL sees it, since anybody can send one who knows two ports, and OpenSSL
 *
 * - ends a handshake over a plaintext alert, plaintext application data and a record of unknown type;
 * - cannot read any record after one that is too short to hold its own nonce and tag (AEAD suites, 3.0);
 * - drops only the header of a record of the wrong version or length, and takes its body for the next record.
 *
 * What no honest peer sends goes no further; an alert is held back until the timer shows that nothing better comes.
 */
#include "core.h"

#define VERIFY_REQUESTS_AT_MOST 16

static uint16_t read16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static uint32_t read32(const uint8_t *p)
{
    return (uint32_t)read16(p) << 16 | read16(p + 2);
}

/* The epoch and the sequence number, as one number that grows. */
static uint64_t read_number(const uint8_t *record)
{
    return (uint64_t)read32(record + 3) << 32 | read32(record + 7);
}

static bool is_known(uint8_t type)
{
    return type >= SSL3_RT_CHANGE_CIPHER_SPEC && type <= SSL3_RT_APPLICATION_DATA;
}

/* The length of the record that begins here, header included, or 0 if none does. */
size_t dtlsffi_record_length(const uint8_t *data, size_t length)
{
    size_t whole;

    if (length < DTLSFFI_RECORD_HEADER || data[1] != 0xfe)
        return 0;
    if (!is_known(data[0]))
        return 0;
    whole = read16(data + 11);
    if (whole > SSL3_RT_MAX_ENCRYPTED_LENGTH || whole > length - DTLSFFI_RECORD_HEADER)
        return 0;
    return DTLSFFI_RECORD_HEADER + whole;
}

/* Whether a datagram begins like a ClientHello: a plaintext handshake record with the first message of all. */
bool dtlsffi_seems_hello(const uint8_t *data, size_t length)
{
    return length > DTLSFFI_RECORD_HEADER && data[0] == SSL3_RT_HANDSHAKE && read16(data + 3) == 0
           && data[DTLSFFI_RECORD_HEADER] == SSL3_MT_CLIENT_HELLO;
}

/* DTLS 1.3 hides its header: RFC 9147 section 4. Only OpenSSL can tell what such a datagram holds. */
static bool is_unified(const dtlsffi_conn *conn, uint8_t first)
{
    return DTLSFFI_HAS_DTLSv1_3 && (first & 0xe0) == 0x20 && SSL_version(conn->ssl) == DTLS1_3_VERSION;
}

/* A warning that nobody has signed changes nothing, but for OpenSSL, which ends the handshake over it; the last of
 * them, close_notify, is no warning. */
static bool is_warning(const uint8_t *alert)
{
    return alert[0] == SSL3_AL_WARNING && alert[1] != SSL3_AD_CLOSE_NOTIFY;
}

static void hold_alert(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    if (length != sizeof(conn->held_alert) || is_warning(record + DTLSFFI_RECORD_HEADER)) {
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
        return;
    }
    memcpy(conn->held_alert, record, length);
    conn->alert_is_held = true;
    conn->stats.alerts_held++;
}

/* Plaintext records name DTLS 1.0 or 1.2, whatever the version spoken (RFC 6347 section 4.2.1), and OpenSSL accepts one
 * of them at a time. Nothing depends on it before there are keys. */
static bool settle_version(const dtlsffi_conn *conn, uint8_t *record)
{
    int version = read16(record + 1);
    int spoken = SSL_version(conn->ssl);

    if (version != DTLS1_VERSION && version != DTLS1_2_VERSION)
        return false;
    if (spoken == DTLS1_VERSION || spoken == DTLS1_2_VERSION)
        record[2] = (uint8_t)(spoken & 0xff);
    return true;
}

/* FNV-1a, of a cookie that is to be known again; never 0. */
static uint64_t hash(const uint8_t *data, size_t length)
{
    uint64_t h = 0xcbf29ce484222325;

    while (length-- > 0)
        h = (h ^ *data++) * 0x100000001b3;
    return h | 1;
}

/* OpenSSL answers every HelloVerifyRequest with a ClientHello of another message number, at once and for ever. An
 * honest server sends one for each ClientHello it gets, and ours may have been sent again before the first answer
 * came: whoever answers that one, too, has another transcript than the server, and no handshake. So each cookie is
 * taken once, and no more than a few of them. */
static bool is_answered(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    const size_t cookie_at = DTLSFFI_RECORD_HEADER + DTLS1_HM_HEADER_LENGTH + 3;
    uint64_t cookie;

    if (record[0] != SSL3_RT_HANDSHAKE || length <= cookie_at
        || record[DTLSFFI_RECORD_HEADER] != DTLS1_MT_HELLO_VERIFY_REQUEST)
        return false;
    cookie = hash(record + cookie_at, length - cookie_at);
    if (cookie == conn->cookie_taken || conn->verify_requests == VERIFY_REQUESTS_AT_MOST)
        return true;
    conn->verify_requests++;
    conn->cookie_taken = cookie;
    return false;
}

#define FRAGMENT_HEADER 12
#define CLIENTS_LAST 3      /* Certificate, ClientKeyExchange, CertificateVerify: Finished is encrypted */
#define CLIENTS_LENGTH 8192 /* bytes of the latter two at the most, and of a chain that nobody has asked for */

/* How many messages behind the client's hello, which is the first to come, a part of a message is. */
static uint16_t behind_hello(dtlsffi_conn *conn, const uint8_t *fragment)
{
    uint16_t number = read16(fragment + 4);

    if (!conn->greeted)
        conn->hello_number = number;
    conn->greeted = true;
    return (uint16_t)(number - conn->hello_number);
}

/* Whether a client may have reason to send a part of such a message, so far behind its hello. */
static bool is_clients(const dtlsffi_conn *conn, uint8_t type, uint32_t length, uint16_t behind)
{
    switch (type) {
    case SSL3_MT_CLIENT_HELLO: /* a second one where the first was asked for another key share */
        return behind <= 1 && length <= DTLSFFI_HELLO_MAX;
    case SSL3_MT_CERTIFICATE:
        return behind == 1 && (length <= CLIENTS_LENGTH || (SSL_get_verify_mode(conn->ssl) & SSL_VERIFY_PEER) != 0);
    default:
        return behind <= CLIENTS_LAST && length <= CLIENTS_LENGTH;
    }
}

/* The same of all that a handshake record behind a port holds. OpenSSL keeps ten messages that are yet to come, and has
 * memory for all of each when a byte of it has come. */
static bool is_reasonable(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    size_t at = DTLSFFI_RECORD_HEADER;

    if (record[0] != SSL3_RT_HANDSHAKE || conn->port == NULL || !SSL_is_server(conn->ssl))
        return true;
    while (length - at >= FRAGMENT_HEADER) {
        const uint8_t *fragment = record + at;
        size_t part = read32(fragment + 8) & 0xffffff;

        if (!is_clients(conn, fragment[0], read32(fragment) & 0xffffff, behind_hello(conn, fragment)))
            return false;
        at += FRAGMENT_HEADER;
        if (part > length - at)
            return true; /* OpenSSL finds that, too */
        at += part;
    }
    return true;
}

/* Whether a plaintext record may reach OpenSSL. */
static bool accept_plaintext(dtlsffi_conn *conn, uint8_t *record, size_t length)
{
    if (record[0] == SSL3_RT_APPLICATION_DATA || !settle_version(conn, record) || is_answered(conn, record, length)
        || !is_reasonable(conn, record, length) || (record[0] == SSL3_RT_ALERT && conn->established)) {
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
        return false;
    }
    if (record[0] == SSL3_RT_ALERT && !conn->established && !conn->alert_is_released) {
        hold_alert(conn, record, length);
        return false;
    }
    if (record[0] == SSL3_RT_HANDSHAKE)
        conn->alert_is_held = false; /* the peer goes on, so it was nobody's */
    return true;
}

/* The length below which no encrypted fragment can authenticate: nonce, MAC and padding of the cipher suite agreed on.
 * libssl tells what they take off a datagram, rounded to a cipher's block, so the least over a block's worth of sizes
 * is it. Leaves the SSL's MTU to be set anew. */
static size_t find_shortest(SSL *ssl)
{
    size_t least = SIZE_MAX;

    for (long mtu = DTLSFFI_MTU_DEFAULT; mtu < DTLSFFI_MTU_DEFAULT + EVP_MAX_BLOCK_LENGTH; mtu++) {
        size_t taken;

        SSL_set_mtu(ssl, mtu);
        taken = (size_t)mtu - DTLSFFI_RECORD_HEADER - DTLS_get_data_mtu(ssl);
        if (taken < least)
            least = taken;
    }
    return least;
}

/* The same, found once for each AEAD suite, since it takes as long as a step of a resumed handshake. Where the MAC is a
 * matter of extensions, it is found for each connection. */
size_t dtlsffi_records_shortest(SSL *ssl)
{
    static _Atomic uint64_t known[16]; /* the suite's number, and its answer in the lower half */
    const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
    uint64_t id = suite == NULL ? 0 : SSL_CIPHER_get_id(suite) & 0xffff;
    _Atomic uint64_t *place = &known[id % 16];
    uint64_t found = atomic_load_explicit(place, memory_order_relaxed);
    size_t least;

    if (suite != NULL && SSL_CIPHER_is_aead(suite) && found >> 32 == id + 1)
        return (size_t)(found & 0xffffffff);
    least = find_shortest(ssl);
    if (suite != NULL && SSL_CIPHER_is_aead(suite))
        atomic_store_explicit(place, (id + 1) << 32 | least, memory_order_relaxed);
    return least;
}

static int spoken(const dtlsffi_conn *conn)
{
    return conn->version != 0 ? conn->version : SSL_version(conn->ssl);
}

/* Whether an encrypted record may reach OpenSSL. Who has asked for another handshake has got all of the first one; if
 * it asks again, OpenSSL waits for the rest of a handshake that it has refused, and lets no data pass until then. */
static bool accept_encrypted(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    if (record[0] == SSL3_RT_HANDSHAKE && conn->refused) {
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
        return false;
    }
    if (length >= DTLSFFI_RECORD_HEADER + conn->shortest && read16(record + 1) == spoken(conn))
        return true;
    DTLSFFI_COUNT_BOTH(conn, dropped_unauthenticated, 1);
    return false;
}

static void watch(dtlsffi_conn *conn, const uint8_t *record)
{
    dtlsffi_watch *w = &conn->watch;

    if (!conn->established || record[0] != SSL3_RT_APPLICATION_DATA || w->fed_count == DTLSFFI_WATCHED)
        return;
    if (w->fed_count > 0 && w->fed_more == NULL)
        w->fed_more = OPENSSL_malloc((DTLSFFI_WATCHED - 1) * sizeof(*w->fed_more));
    if (w->fed_count == 0)
        w->fed = read_number(record);
    else if (w->fed_more != NULL)
        w->fed_more[w->fed_count - 1] = read_number(record);
    else
        return; /* without memory it is not watched */
    w->fed_count++;
}

void dtlsffi_records_unwatch(dtlsffi_watch *w)
{
    if (w->fed_more != NULL) /* few datagrams hold more than one record */
        OPENSSL_free(w->fed_more);
    w->fed_more = NULL;
    w->fed_count = w->delivered = 0;
}

/* The length of a record of whatever type, or 0. */
static size_t any_length(const uint8_t *data, size_t length)
{
    size_t whole;

    if (is_known(data[0]))
        return dtlsffi_record_length(data, length);
    whole = length < DTLSFFI_RECORD_HEADER || data[1] != 0xfe ? 0 : DTLSFFI_RECORD_HEADER + (size_t)read16(data + 11);
    return whole <= length ? whole : 0;
}

static bool accept_record(dtlsffi_conn *conn, uint8_t *record, size_t length)
{
    if (!is_known(record[0])) {
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
        return false;
    }
    return read16(record + 3) != 0 ? accept_encrypted(conn, record, length) : accept_plaintext(conn, record, length);
}

/* Leaves of a datagram what OpenSSL may read: its records up to what is none, but for those that must not be seen. */
size_t dtlsffi_records_accept_untrusted(dtlsffi_conn *conn, uint8_t *data, size_t length)
{
    size_t at = 0, accepted = 0, size = 0;
    uint32_t kept = 0;

    dtlsffi_records_settle(conn);
    while (at < length && !is_unified(conn, data[at]) && (size = any_length(data + at, length - at)) > 0) {
        if (accept_record(conn, data + at, size)) {
            if (accepted != at)
                memmove(data + accepted, data + at, size);
            watch(conn, data + accepted);
            accepted += size;
            kept++;
        }
        at += size;
    }
    if (at < length && is_unified(conn, data[at])) { /* and what follows is OpenSSL's to tell apart */
        memmove(data + accepted, data + at, length - at);
        conn->alone = false;
        return accepted + length - at;
    }
    if (at == 0)
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
    conn->alone = kept == 1;
    return accepted;
}

static bool was_delivered(const dtlsffi_watch *w, uint64_t number)
{
    uint64_t age = w->top - number;

    if (number > w->top)
        return false;
    return age >= DTLSFFI_WINDOW || ((w->seen >> age) & 1) != 0;
}

static void mark_delivered(dtlsffi_watch *w, uint64_t number)
{
    if (number > w->top) {
        uint64_t step = number - w->top;

        w->seen = step >= 64 ? 0 : w->seen << step;
        w->top = number;
    }
    if (w->top - number < 64)
        w->seen |= (uint64_t)1 << (w->top - number);
}

/* OpenSSL drops a replayed or forged record without a word. Once it has read all of a datagram, the records that did
 * not come out are the dropped ones: those seen before are replays, the others did not authenticate. */
void dtlsffi_records_settle(dtlsffi_conn *conn)
{
    dtlsffi_watch *w = &conn->watch;
    uint32_t lost = w->fed_count > w->delivered ? w->fed_count - w->delivered : 0;

    for (uint32_t i = 0; i < w->fed_count; i++) {
        uint64_t number = i == 0 ? w->fed : w->fed_more[i - 1];

        if (lost == 0) {
            mark_delivered(w, number);
        } else if (was_delivered(w, number)) {
            DTLSFFI_COUNT_BOTH(conn, dropped_replayed, 1);
            lost--;
        }
    }
    if (lost > 0)
        DTLSFFI_COUNT_BOTH(conn, dropped_unauthenticated, lost);
    dtlsffi_records_unwatch(w);
}
