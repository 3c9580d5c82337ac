/* One SSL, its lock and its carrier.
 *
 * Every call enters (lock, clean error queue), asks OpenSSL for one step that cannot block, turns what came of it into
 * a count or one of the negative answers of core.h, and leaves.
 */
#include "core.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static bool is_ipv6(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof(peer);

    if (fd < 0 || getpeername(fd, (struct sockaddr *)&peer, &size) != 0 || peer.ss_family != AF_INET6)
        return false;
    return !IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&peer)->sin6_addr);
}

static void note_alert(const SSL *ssl, int where, int value)
{
    dtlsffi_conn *conn = SSL_get_app_data(ssl);

    if (where != SSL_CB_READ_ALERT)
        return;
    conn->alert_received = value & 0xff;
    conn->events |= DTLSFFI_EVENT_ALERT;
}

static void pass_key_on(const SSL *ssl, const char *line)
{
    dtlsffi_conn *conn = SSL_get_app_data(ssl);

    if (conn != NULL && conn->handle != NULL)
        dtlsffi_on_keylog(conn->handle, line);
}

void dtlsffi_ctx_log_keys(SSL_CTX *ctx, int on)
{
    SSL_CTX_set_keylog_callback(ctx, on ? pass_key_on : NULL);
}

static bool attach(dtlsffi_conn *conn, SSL_CTX *ctx, int server_side)
{
    BIO *bio;

    conn->ssl = SSL_new(ctx);
    if (conn->ssl == NULL)
        return false;
    bio = dtlsffi_datagram_bio_new(conn);
    if (bio == NULL)
        return false;
    SSL_set_bio(conn->ssl, bio, bio);
    SSL_set_app_data(conn->ssl, conn);
    SSL_set_info_callback(conn->ssl, note_alert);
    DTLS_set_timer_cb(conn->ssl, dtlsffi_timer_next);
    dtlsffi_mtu_refresh(conn); /* under SSL_OP_NO_QUERY_MTU nobody asks for it */
    if (server_side)
        SSL_set_accept_state(conn->ssl);
    else
        SSL_set_connect_state(conn->ssl);
    return true;
}

/* Returns NULL, with a fault, where OpenSSL cannot make one. `fd` is a connected UDP socket, or -1. */
dtlsffi_conn *dtlsffi_conn_new(SSL_CTX *ctx, int server_side, int fd, void *handle)
{
    dtlsffi_conn *conn = OPENSSL_zalloc(sizeof(*conn));

    ERR_clear_error();
    if (conn == NULL || !dtlsffi_lock_init(&conn->lock)) {
        OPENSSL_free(conn);
        return NULL;
    }
    conn->born = dtlsffi_fork_count;
    conn->handle = handle;
    conn->fd = fd;
    conn->ipv6 = is_ipv6(fd);
    conn->mtu = fd < 0 ? DTLSFFI_MTU_DEFAULT : 0;
    conn->alert_received = -1;
    conn->shortest = DTLSFFI_SHORTEST;
    dtlsffi_conn_set_timers(conn, 1000000, 2.0, 60000000); /* RFC 6347 section 4.2.4.1 */
    if (!attach(conn, ctx, server_side)) {
        dtlsffi_fault_take();
        dtlsffi_conn_free(conn);
        return NULL;
    }
    return conn;
}

static void drop_held_record(dtlsffi_conn *conn)
{
    OPENSSL_clear_free(conn->held_record, conn->held_record_length);
    conn->held_record = NULL;
    conn->held_record_length = 0;
}

void dtlsffi_conn_free(dtlsffi_conn *conn)
{
    if (conn == NULL)
        return;
    /* OpenSSL takes an SSL that was not shut down for one that failed, and forgets its session. */
    if (conn->ssl != NULL && conn->established && !conn->failed)
        SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->ssl);
    dtlsffi_outbox_clear(&conn->out);
    drop_held_record(conn);
    dtlsffi_lock_destroy(&conn->lock);
    OPENSSL_free(conn);
}

/* For a look at the SSL from outside; a callback may take it again. Returns 0, or the reason why not. */
int dtlsffi_conn_lock(dtlsffi_conn *conn)
{
    if (conn->born != dtlsffi_fork_count)
        return DTLSFFI_FORKED;
    dtlsffi_lock_take(&conn->lock);
    return 0;
}

void dtlsffi_conn_unlock(dtlsffi_conn *conn)
{
    dtlsffi_lock_release(&conn->lock);
}

/* For a call that moves the connection on: not from within one of its own callbacks. */
int dtlsffi_conn_enter(dtlsffi_conn *conn)
{
    if (conn->born != dtlsffi_fork_count)
        return DTLSFFI_FORKED;
    if (dtlsffi_lock_take(&conn->lock) > 1) {
        dtlsffi_lock_release(&conn->lock);
        return DTLSFFI_REENTERED;
    }
    if (ERR_peek_error() != 0) /* clearing an empty queue costs a fifth of a whole record */
        ERR_clear_error();
    conn->io_errno = 0;
    return 0;
}

void dtlsffi_conn_leave(dtlsffi_conn *conn)
{
    dtlsffi_lock_release(&conn->lock);
}

SSL *dtlsffi_conn_ssl(dtlsffi_conn *conn)
{
    return conn->ssl;
}

static int fail(dtlsffi_conn *conn)
{
    dtlsffi_fault_take();
    dtlsffi_fault_last()->verify_code = SSL_get_verify_result(conn->ssl);
    conn->failed = true;
    return DTLSFFI_FAULT;
}

/* What an SSL call that did not succeed means. */
int dtlsffi_conn_result(dtlsffi_conn *conn, int ret)
{
    switch (SSL_get_error(conn->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : DTLSFFI_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return DTLSFFI_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        conn->events |= DTLSFFI_EVENT_CLOSED;
        return DTLSFFI_CLOSED;
    case SSL_ERROR_SYSCALL:
        /* Our BIO notes its errors elsewhere, and has none that end a connection. OpenSSL says this without any reason
         * over an out-of-sequence message it cannot place (its issue 25698): one more datagram to be dropped. */
        if (ERR_peek_error() == 0)
            return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : DTLSFFI_WANT_READ;
        return fail(conn);
    default:
        return fail(conn);
    }
}

static void establish(dtlsffi_conn *conn)
{
    conn->established = true;
    conn->alert_is_held = false;
    conn->events |= DTLSFFI_EVENT_ESTABLISHED;
    conn->shortest = dtlsffi_records_shortest(conn->ssl);
    dtlsffi_mtu_refresh(conn);
}

/* One step of the handshake: 1 when it is finished. Long enough to let other threads run meanwhile. */
int dtlsffi_conn_step(dtlsffi_conn *conn)
{
    void *gil;
    int ret;
    int answer = 1;

    if (conn->established)
        return 1;
    if (conn->failed)
        return DTLSFFI_FAILED;
    gil = dtlsffi_gil_release();
    ret = SSL_do_handshake(conn->ssl);
    if (ret != 1)
        answer = dtlsffi_conn_result(conn, ret);
    dtlsffi_gil_retake(gil);
    if (ret == 1)
        establish(conn);
    return answer;
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

/* One record into `buffer`, which holds at least DTLSFFI_RECORD_MAX bytes: OpenSSL would cut it to a smaller one.
 * Empty records are passed over: they carry nothing, and Python would take one for the end. */
static int read_record(dtlsffi_conn *conn, uint8_t *buffer)
{
    size_t length = 0;

    do {
        int ret = SSL_read_ex(conn->ssl, buffer, DTLSFFI_RECORD_MAX, &length);

        if (ret <= 0)
            return dtlsffi_conn_result(conn, ret);
        conn->watch.delivered++;
    } while (length == 0);
    conn->stats.records_received++;
    return (int)length;
}

static bool has_room(const dtlsffi_inbox *inbox)
{
    return inbox->count < DTLSFFI_INBOX_RECORDS && inbox->used <= DTLSFFI_INBOX_BYTES - DTLSFFI_RECORD_MAX;
}

static int drain(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    while (has_room(inbox)) {
        int got = read_record(conn, inbox->data + inbox->used);

        if (got == DTLSFFI_WANT_READ || got == DTLSFFI_CLOSED)
            return (int)inbox->count;
        if (got < 0)
            return got;
        inbox->length[inbox->count++] = (uint32_t)got;
        inbox->used += (uint32_t)got;
    }
    return (int)inbox->count + DTLSFFI_MORE;
}

static int receive(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int answer;

    if (conn->failed)
        return DTLSFFI_FAILED;
    answer = dtlsffi_conn_step(conn);
    if (answer == DTLSFFI_WANT_READ || answer == DTLSFFI_WANT_WRITE)
        return 0;
    return answer == 1 ? drain(conn, inbox) : answer;
}

/* Takes one datagram from memory. Returns how many records came of it, `inbox` holds them; it does so before a negative
 * answer, too. */
int dtlsffi_conn_receive(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox)
{
    int answer = dtlsffi_conn_enter(conn);

    inbox->count = 0;
    inbox->used = 0;
    if (answer != 0)
        return answer;
    if (length > 0) {
        conn->in = data;
        conn->in_length = length;
        conn->stats.datagrams_received++;
        conn->stats.bytes_received += length;
    }
    answer = receive(conn, inbox);
    conn->in_length = 0;
    dtlsffi_conn_leave(conn);
    return answer;
}

static int give_held_record(dtlsffi_conn *conn, uint8_t *buffer, size_t limit)
{
    size_t length = conn->held_record_length;

    if (length > limit)
        return DTLSFFI_TOO_LARGE;
    memcpy(buffer, conn->held_record, length);
    drop_held_record(conn);
    return (int)length;
}

static int hold_record(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    conn->held_record = OPENSSL_memdup(record, length);
    conn->held_record_length = conn->held_record == NULL ? 0 : length;
    return DTLSFFI_TOO_LARGE;
}

static int read_limited(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit)
{
    uint8_t whole[DTLSFFI_RECORD_MAX];
    uint8_t *into = size >= sizeof(whole) ? buffer : whole;
    int got;

    if (conn->failed)
        return DTLSFFI_FAILED;
    if (conn->held_record != NULL)
        return give_held_record(conn, buffer, limit);
    got = dtlsffi_conn_step(conn);
    if (got == 1)
        got = read_record(conn, into);
    if (got > 0 && (size_t)got > limit)
        return hold_record(conn, into, (size_t)got);
    if (got > 0 && into != buffer)
        memcpy(buffer, into, (size_t)got);
    return got;
}

/* One record from the socket, of at most `limit` bytes, into `size` bytes. A larger one is kept for the next call:
 * dtlsffi_conn_pending() tells its length. */
int dtlsffi_conn_read(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = read_limited(conn, buffer, size, limit < size ? limit : size);
    dtlsffi_conn_leave(conn);
    return answer;
}

/* The bytes of the record that the next read gives out without asking the socket. */
size_t dtlsffi_conn_pending(dtlsffi_conn *conn)
{
    size_t pending;

    if (dtlsffi_conn_enter(conn) != 0)
        return 0;
    pending = conn->held_record_length;
    if (pending == 0) {
        int more = SSL_pending(conn->ssl);

        pending = more > 0 ? (size_t)more : 0;
    }
    dtlsffi_conn_leave(conn);
    return pending;
}

static int send_record(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    size_t written = 0;
    int ret;

    conn->sending = true;
    ret = SSL_write_ex(conn->ssl, data, length, &written);
    conn->sending = false;
    if (ret <= 0)
        return dtlsffi_conn_result(conn, ret);
    switch (conn->io_errno) {
    case 0:
        conn->stats.records_sent++;
        return (int)written;
    case EAGAIN:
#if EAGAIN != EWOULDBLOCK
    case EWOULDBLOCK:
#endif
        return DTLSFFI_WANT_WRITE; /* the record is gone, its number unused: the next try makes another */
    case EMSGSIZE:
        dtlsffi_mtu_refresh(conn);
        return DTLSFFI_TOO_LARGE;
    default:
        return dtlsffi_fault_system(conn->io_errno);
    }
}

static int why_not_send(const dtlsffi_conn *conn, size_t length)
{
    if (conn->failed)
        return DTLSFFI_FAILED;
    if (!conn->established)
        return DTLSFFI_NOT_READY;
    if (conn->shut)
        return DTLSFFI_SHUT;
    return length > conn->data_mtu ? DTLSFFI_TOO_LARGE : 0;
}

/* One record, one datagram. Returns `length`, or a negative answer and nothing was sent. */
int dtlsffi_conn_send(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = why_not_send(conn, length);
    if (answer == 0)
        answer = send_record(conn, data, length);
    dtlsffi_conn_leave(conn);
    return answer;
}

/* Sends close_notify, once, if there is anybody to tell. */
int dtlsffi_conn_shutdown(dtlsffi_conn *conn)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    if (conn->established && !conn->failed && !conn->shut) {
        conn->sending = true; /* one try, like any record: nobody waits for it */
        (void)SSL_shutdown(conn->ssl);
        conn->sending = false;
        ERR_clear_error();
    }
    conn->shut = true;
    dtlsffi_conn_leave(conn);
    return 0;
}

/* What happened since the last call. */
int dtlsffi_conn_events(dtlsffi_conn *conn)
{
    int events;

    if (dtlsffi_conn_lock(conn) != 0)
        return 0;
    events = conn->events;
    conn->events = 0;
    dtlsffi_conn_unlock(conn);
    return events;
}

/* The description of the last alert received (RFC 5246 section 7.2), or -1. */
int dtlsffi_conn_alert_received(dtlsffi_conn *conn)
{
    return conn->alert_received;
}

/* The description of a plaintext alert that is still held back, or -1. */
int dtlsffi_conn_alert_held(dtlsffi_conn *conn)
{
    return conn->alert_is_held ? conn->held_alert[DTLSFFI_ALERT_RECORD - 1] : -1;
}

int dtlsffi_conn_established(dtlsffi_conn *conn)
{
    return conn->established;
}

/* Lets go of the socket, before anybody closes it and its number names something else. */
void dtlsffi_conn_detach(dtlsffi_conn *conn)
{
    if (dtlsffi_conn_lock(conn) != 0)
        return;
    conn->detached = conn->detached || conn->fd >= 0;
    conn->fd = -1;
    dtlsffi_conn_unlock(conn);
}

dtlsffi_outbox *dtlsffi_conn_outbox(dtlsffi_conn *conn)
{
    return &conn->out;
}

void dtlsffi_conn_outbox_clear(dtlsffi_conn *conn)
{
    dtlsffi_outbox_clear(&conn->out);
}

const dtlsffi_stats *dtlsffi_conn_stats(dtlsffi_conn *conn)
{
    return &conn->stats;
}
