/* A connection's handshake, a step at a time, and what is seen to before and after it. */
#include "core.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static void establish(dtlsffi_conn *conn)
{
    conn->established = true;
    conn->alert_is_held = false;
    conn->events |= DTLSFFI_EVENT_ESTABLISHED;
    conn->version = SSL_version(conn->ssl);
    conn->aead = SSL_CIPHER_is_aead(SSL_get_current_cipher(conn->ssl));
    conn->shortest = dtlsffi_records_shortest(conn->ssl);
    conn->unconfirmed = conn->fd >= 0 && conn->version != DTLS1_3_VERSION
                        && SSL_is_server(conn->ssl) != SSL_session_reused(conn->ssl);
    dtlsffi_mtu_refresh(conn);
}

/* Whether a raw key that is to be verified was not: up to 3.2.3, 3.3.2 and 3.4.0 (CVE-2024-12797) OpenSSL's clients go
 * on, and only remember it. */
static bool is_refused_key(const dtlsffi_conn *conn)
{
    if (SSL_get0_peer_rpk(conn->ssl) == NULL || (SSL_get_verify_mode(conn->ssl) & SSL_VERIFY_PEER) == 0)
        return false;
    if (SSL_get_verify_callback(conn->ssl) != NULL)
        return conn->distrusted;
    return SSL_get_verify_result(conn->ssl) != X509_V_OK;
}

/* A suite without certificates must not be the way around them: a pre-shared key not around a pin, and an anonymous
 * suite not around either a pin or CERT_REQUIRED. */
static bool is_shown(const dtlsffi_conn *conn)
{
    bool required = (SSL_get_verify_mode(conn->ssl) & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) != 0;
    bool anonymous = SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(conn->ssl)) == NID_auth_null;

    if (!conn->pinned && !(required && anonymous))
        return true;
    return SSL_get0_peer_certificate(conn->ssl) != NULL || SSL_get0_peer_rpk(conn->ssl) != NULL;
}

static int check_shown(dtlsffi_conn *conn)
{
    bool refused = is_refused_key(conn);

    if (!refused && is_shown(conn))
        return 1;
    dtlsffi_conn_say_goodbye(conn);
    ERR_raise(ERR_LIB_SSL, refused ? SSL_R_CERTIFICATE_VERIFY_FAILED : SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE);
    return dtlsffi_conn_fail(conn);
}

#define STEP 256 /* records that take as long, or longer */

/* Long enough to let other threads run meanwhile, and until the connection is left: see gil.c. */
static void let_others_run(dtlsffi_conn *conn)
{
    void *gil = dtlsffi_gil_release_for(STEP);

    if (gil != NULL)
        conn->gil = gil;
}

#define OLDER_AT_MOST 10000 /* datagrams: more than a socket's buffer holds */

/* What has come before a client has said hello is no answer to it: until it was connected its socket took datagrams of
 * anybody. */
static void drop_older(dtlsffi_conn *conn)
{
    uint8_t first;

    for (int i = 0; i < OLDER_AT_MOST; i++) {
        ssize_t length = recv(conn->fd, &first, sizeof(first), MSG_DONTWAIT | MSG_TRUNC);

        if (length < 0 && errno != EINTR && errno != ECONNREFUSED)
            return;
        if (length < 0)
            continue;
        conn->stats.datagrams_received++;
        conn->stats.bytes_received += (size_t)length;
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
    }
}

/* One step of the handshake: 1 when it is finished. */
int dtlsffi_conn_step(dtlsffi_conn *conn)
{
    int ret;
    int answer = 1;

    if (conn->established)
        return 1;
    if (conn->failed)
        return dtlsffi_conn_why_failed(conn);
    if (conn->fd >= 0 && SSL_in_before(conn->ssl) && !SSL_is_server(conn->ssl))
        drop_older(conn);
    let_others_run(conn);
    ret = SSL_do_handshake(conn->ssl);
    if (ret != 1)
        answer = dtlsffi_conn_result(conn, ret);
    if (ret == 1) {
        establish(conn);
        answer = check_shown(conn);
        conn->established = answer == 1;
        if (answer != 1)
            conn->events &= ~DTLSFFI_EVENT_ESTABLISHED;
    }
    return conn->abandoned ? DTLSFFI_SHUT : answer;
}

#define HANDSHAKES_AT_MOST 64 /* datagrams that one send looks at */

/* Whether a datagram is none that others wait for: what is left of a handshake, or junk that hides it. */
static bool is_of_handshake(const uint8_t *header)
{
    return header[0] != SSL3_RT_APPLICATION_DATA && (header[0] != SSL3_RT_ALERT || (header[3] | header[4]) == 0);
}

/* Whether a datagram is there, and the header that it begins with; zeros where it is too short for one. */
static bool peek(dtlsffi_conn *conn, uint8_t *header)
{
    ssize_t got = recv(conn->fd, header, DTLSFFI_RECORD_HEADER, MSG_PEEK | MSG_DONTWAIT);

    if (got < DTLSFFI_RECORD_HEADER)
        memset(header, 0, DTLSFFI_RECORD_HEADER);
    if (got < 0 && !dtlsffi_would_block(errno) && errno != EINTR)
        dtlsffi_conn_hear(conn, errno);
    return got >= 0;
}

/* A peer that has lost our last flight repeats its own, which OpenSSL answers when it reads it: whoever only sends
 * would never have it do so. Who sends data has our flight; who waits for a datagram reads it. Returns 0, or what the
 * socket has said meanwhile. */
int dtlsffi_conn_finish_others(dtlsffi_conn *conn)
{
    uint8_t header[DTLSFFI_RECORD_HEADER];

    conn->unconfirmed = conn->fd >= 0 && conn->stats.records_received == 0;
    for (int i = 0; i < HANDSHAKES_AT_MOST && conn->unconfirmed && !conn->failed; i++) {
        if (dtlsffi_conn_waiting(conn) > 0 || !peek(conn, header))
            break;
        conn->unconfirmed = header[0] != SSL3_RT_APPLICATION_DATA;
        if (!is_of_handshake(header))
            break;
        dtlsffi_conn_take_datagram(conn);
    }
    return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : 0;
}

int dtlsffi_conn_handshake(dtlsffi_conn *conn)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = dtlsffi_conn_step(conn);
    dtlsffi_conn_leave(conn);
    return answer;
}

/* ---- behind a shared port, where the client has proved its address: cookie.c ---- */

/* OpenSSL asks for nothing but what has been checked by then. */
static int make_none(SSL *ssl, unsigned char *cookie, unsigned int *length)
{
    (void)ssl;
    (void)cookie;
    *length = 0;
    return 0;
}

static int is_proven(SSL *ssl, const unsigned char *cookie, unsigned int length)
{
    const dtlsffi_conn *conn = SSL_get_app_data(ssl);

    (void)cookie;
    (void)length;
    return conn->proven;
}

void dtlsffi_ctx_set_cookies(SSL_CTX *ctx)
{
    SSL_CTX_set_cookie_generate_cb(ctx, make_none);
    SSL_CTX_set_cookie_verify_cb(ctx, is_proven);
}

/* Begins a new server's connection with a ClientHello whose cookie has been checked, and answers it: a first step of
 * the handshake, with what dtlsffi_conn_handshake() returns. */
int dtlsffi_conn_begin(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int answer = dtlsffi_conn_enter(conn);
    BIO_ADDR *nobody;
    int ret;

    if (answer != 0)
        return answer;
    nobody = BIO_ADDR_new();
    conn->proven = true;
    conn->in = data;
    conn->in_length = length;
    conn->stats.datagrams_received++;
    conn->stats.bytes_received += length;
    ret = nobody == NULL ? -1 : DTLSv1_listen(conn->ssl, nobody);
    conn->in_length = 0;
    BIO_ADDR_free(nobody);
    /* OpenSSL may have found something in it that we did not. */
    answer = ret > 0 ? dtlsffi_conn_step(conn) : dtlsffi_conn_fail(conn);
    dtlsffi_conn_leave(conn);
    return answer;
}
