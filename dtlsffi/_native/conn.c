/* One SSL, its lock and its carrier: how they begin, how they end, and how a call enters and leaves.
 *
 * A call that moves the connection on enters (lock, clean error queue), asks OpenSSL for one step that cannot block,
 * turns what came of it into a count or one of the negative answers of core.h, and leaves: flow.c.
 */
#include "core.h"

#include <errno.h>
#include <netinet/in.h>
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

    if (where == SSL_CB_WRITE_ALERT && (value & 0xff) == SSL_AD_NO_RENEGOTIATION)
        conn->refused = true;
    if (where != SSL_CB_READ_ALERT)
        return;
    conn->alert_received = value & 0xff;
    conn->events |= DTLSFFI_EVENT_ALERT;
    if (conn->alert_received == SSL_AD_CLOSE_NOTIFY)
        conn->events |= DTLSFFI_EVENT_CLOSED;
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
    if (SSL_set_app_data(conn->ssl, conn) != 1)
        return false;
    SSL_set_info_callback(conn->ssl, note_alert);
    DTLS_set_timer_cb(conn->ssl, dtlsffi_timer_next);
    dtlsffi_mtu_refresh(conn); /* under SSL_OP_NO_QUERY_MTU nobody asks for it */
    if (!server_side) {
        SSL_set_connect_state(conn->ssl);
        return true;
    }
    SSL_set_accept_state(conn->ssl);
    /* OpenSSL does not look whether a session would pass the rules of the context it is resumed with, only whether this
     * is the same. (A client's own is in DTLSSession: with one here no PSK of DTLS 1.3 works.) */
    return SSL_set_session_id_context(conn->ssl, conn->ctx_data->rules, DTLSFFI_RULES) == 1;
}

/* Returns NULL, with a fault, where OpenSSL cannot make one. `fd` is a connected UDP socket, or -1; `handle` leads to
 * Python's object, or is NULL where its context asks nothing of Python. */
dtlsffi_conn *dtlsffi_conn_new(SSL_CTX *ctx, int server_side, int fd, void *handle)
{
    dtlsffi_conn *conn;

    ERR_clear_error();
    conn = OPENSSL_zalloc(sizeof(*conn));
    if (conn == NULL || !dtlsffi_lock_init(&conn->lock)) {
        OPENSSL_free(conn);
        (void)dtlsffi_fault_system(ENOMEM);
        return NULL;
    }
    conn->born = dtlsffi_fork_count;
    conn->handle = handle;
    conn->ctx = ctx;
    conn->ctx_data = dtlsffi_ctx_get_data(ctx);
    conn->fd = fd;
    conn->ipv6 = is_ipv6(fd);
    conn->local_socket = fd >= 0 && dtlsffi_udp_own_address(fd).any.sa_family == AF_UNIX;
    conn->mtu = conn->ctx_data->mtu;
    if (conn->mtu == 0 && fd < 0)
        conn->mtu = DTLSFFI_MTU_DEFAULT;
    conn->alert_received = -1;
    conn->shortest = DTLSFFI_SHORTEST;
    conn->timers = conn->ctx_data->timers;
    if (!attach(conn, ctx, server_side)) {
        dtlsffi_fault_take();
        dtlsffi_conn_free(conn);
        return NULL;
    }
    return conn;
}

void dtlsffi_conn_drop_held_record(dtlsffi_conn *conn)
{
    OPENSSL_clear_free(conn->held_record, conn->held_record_length);
    conn->held_record = NULL;
    conn->held_record_length = 0;
}

void dtlsffi_conn_free(dtlsffi_conn *conn)
{
    if (conn == NULL)
        return;
    if (conn->table != NULL)
        dtlsffi_table_remove(conn->table, conn);
    /* OpenSSL takes an SSL that was not shut down for one that failed, and forgets its session. Where it did fail, that
     * has been done: not here, where Python may be clearing up. */
    if (conn->ssl != NULL && conn->established)
        SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->ssl);
    dtlsffi_outbox_clear(&conn->out);
    dtlsffi_conn_drop_held_record(conn);
    OPENSSL_free(conn->packed);
    OPENSSL_free(conn->fault);
    dtlsffi_records_unwatch(&conn->watch);
    dtlsffi_lock_destroy(&conn->lock);
    OPENSSL_free(conn);
}

/* For a look at the SSL from outside; a callback may take it again. Returns 0, or the reason why not. */
int dtlsffi_conn_lock(dtlsffi_conn *conn)
{
    if (dtlsffi_is_parents(conn->born))
        return DTLSFFI_FORKED;
    return dtlsffi_lock_take(&conn->lock) > 0 ? 0 : dtlsffi_fault_system(EDEADLK);
}

void dtlsffi_conn_unlock(dtlsffi_conn *conn)
{
    dtlsffi_lock_release(&conn->lock);
}

static bool warm_up(dtlsffi_conn *conn)
{
    conn->cold = SSL_alloc_buffers(conn->ssl) != 1;
    if (!conn->cold)
        dtlsffi_table_warm(conn);
    return !conn->cold;
}

/* For a call that moves the connection on: not from within one of its own callbacks. */
int dtlsffi_conn_enter(dtlsffi_conn *conn)
{
    unsigned depth;

    if (dtlsffi_is_parents(conn->born))
        return DTLSFFI_FORKED;
    depth = dtlsffi_lock_take(&conn->lock);
    if (depth > 1) {
        dtlsffi_lock_release(&conn->lock);
        return DTLSFFI_REENTERED;
    }
    if (depth == 0)
        return dtlsffi_fault_system(EDEADLK);
    if (ERR_peek_error() != 0) /* clearing an empty queue costs a fifth of a whole record */
        ERR_clear_error();
    if (conn->cold && !warm_up(conn)) {
        dtlsffi_lock_release(&conn->lock);
        return dtlsffi_fault_system(ENOMEM);
    }
    conn->io_errno = conn->reads = 0;
    return 0;
}

void dtlsffi_conn_leave(dtlsffi_conn *conn)
{
    void *gil = conn->gil;

    conn->gil = NULL;
    if (conn->packed != NULL)
        dtlsffi_conn_send_packed(conn);
    if (conn->abandoned && !conn->failed) {
        if (conn->established)
            dtlsffi_conn_say_goodbye(conn);
        conn->failed = true;
    }
    dtlsffi_lock_release(&conn->lock);
    dtlsffi_gil_retake_after(gil);
}

SSL *dtlsffi_conn_ssl(dtlsffi_conn *conn)
{
    return conn->ssl;
}

int dtlsffi_conn_fail(dtlsffi_conn *conn)
{
    dtlsffi_fault_take();
    dtlsffi_fault_last()->verify_code = SSL_get_verify_result(conn->ssl);
    OPENSSL_free(conn->fault);
    conn->fault = OPENSSL_memdup(dtlsffi_fault_last(), sizeof(dtlsffi_fault));
    conn->failed = true;
    if (conn->established && SSL_get_session(conn->ssl) != NULL) /* RFC 5246 section 7.2.2: it is not to be resumed */
        SSL_CTX_remove_session(conn->ctx, SSL_get_session(conn->ssl));
    return DTLSFFI_FAULT;
}

/* Why the call has failed that did: a finalizer that Python has called since may have met a fault of its own in this
 * thread. */
const dtlsffi_fault *dtlsffi_conn_fault(const dtlsffi_conn *conn)
{
    return conn->failed && conn->fault != NULL ? conn->fault : dtlsffi_fault_last();
}

/* Whether the peer of a connection has said close_notify, at whatever level: where it is fatal (TinyDTLS) OpenSSL calls
 * it an error, and has nothing more to say. A handshake has failed over that. */
static bool is_over(dtlsffi_conn *conn)
{
    return conn->established && conn->alert_received == SSL_AD_CLOSE_NOTIFY && dtlsffi_conn_closed(conn);
}

/* What an SSL call that did not succeed means. */
int dtlsffi_conn_result(dtlsffi_conn *conn, int ret)
{
    if (conn->abandoned) {
        ERR_clear_error();
        return DTLSFFI_SHUT;
    }
    switch (SSL_get_error(conn->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : DTLSFFI_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return DTLSFFI_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return DTLSFFI_CLOSED;
    case SSL_ERROR_SYSCALL:
        /* Our BIO notes its errors elsewhere, and has none that end a connection. OpenSSL says this without any reason
         * over an out-of-sequence message it cannot place (its issue 25698): one more datagram to be dropped. */
        if (ERR_peek_error() == 0 && conn->io_errno != 0)
            return dtlsffi_fault_system(conn->io_errno);
        if (ERR_peek_error() == 0 && !is_over(conn))
            return DTLSFFI_WANT_READ;
        /* fall through */
    default:
        if (!is_over(conn))
            return dtlsffi_conn_fail(conn);
        ERR_clear_error();
        return DTLSFFI_CLOSED;
    }
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

/* What happened since the last call. */
int dtlsffi_conn_events(dtlsffi_conn *conn)
{
    int events;

    if (dtlsffi_conn_lock(conn) != 0)
        return 0;
    events = conn->events | conn->events_seen;
    conn->events = conn->events_seen = 0;
    dtlsffi_conn_unlock(conn);
    return events;
}

/* What happened since the last look, which dtlsffi_conn_events() still tells, with DTLSFFI_NEWS_..., and above those
 * bits the timer of a handshake that goes on: its microseconds and one more, 0 for none. */
int64_t dtlsffi_conn_news(dtlsffi_conn *conn)
{
    int64_t news, timer = -1;

    if (dtlsffi_conn_lock(conn) != 0)
        return 0;
    news = conn->events | (conn->established ? DTLSFFI_NEWS_ESTABLISHED : 0);
    conn->events_seen |= conn->events;
    conn->events = 0;
    if (!conn->established && !conn->failed)
        timer = dtlsffi_timer_left(conn);
    dtlsffi_conn_unlock(conn);
    return news | (timer + 1) << DTLSFFI_NEWS_TIMER;
}

/* Whether the peer's close_notify has come. */
int dtlsffi_conn_closed(dtlsffi_conn *conn)
{
    return (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
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

/* Bytes of a handshake message of clients, behind a shared port: OpenSSL keeps ten that are yet to come of each. */
#define MESSAGE_MAX 32768

/* The newest version that may be spoken where `asked` is (0: any). Behind a port it is 1.2: DTLS 1.3 takes no client
 * that has answered a HelloVerifyRequest (RFC 9147 section 5.3), and has timers after the handshake, too. */
int dtlsffi_conn_newest(const dtlsffi_conn *conn, int asked)
{
    bool is_newer = DTLSFFI_HAS_DTLSv1_3 && (asked == 0 || asked == DTLS1_3_VERSION);

    return conn->port != NULL && is_newer ? DTLS1_2_VERSION : asked;
}

/* Has a new connection's datagrams go to `address`, over a socket that others use, too, or from memory. Those for it
 * are fed by hand. */
void dtlsffi_conn_share(dtlsffi_conn *conn, dtlsffi_udp *udp, int in_memory, const dtlsffi_address *address)
{
    conn->port = udp;
    conn->udp = in_memory ? NULL : udp;
    conn->address = *address;
    if (!in_memory && udp->connected && conn->ctx_data->mtu == 0) {
        conn->mtu = 0;
        conn->ipv6 = is_ipv6(udp->fd);
        dtlsffi_mtu_refresh(conn);
    }
    if (DTLSFFI_HAS_DTLSv1_3)
        SSL_set_max_proto_version(conn->ssl, dtlsffi_conn_newest(conn, (int)SSL_get_max_proto_version(conn->ssl)));
    if (SSL_is_server(conn->ssl))
        SSL_set_max_cert_list(conn->ssl, MESSAGE_MAX);
}

/* The peer's, behind a port that is shared. */
const dtlsffi_address *dtlsffi_conn_address(dtlsffi_conn *conn)
{
    return &conn->address;
}

/* Which of our own addresses its datagrams leave from; family 0 for any. */
dtlsffi_address *dtlsffi_conn_local(dtlsffi_conn *conn)
{
    return &conn->local;
}

/* When the peer has sent last: that is `now`, unless it is 0. */
double dtlsffi_conn_seen(dtlsffi_conn *conn, double now)
{
    if (now > 0)
        conn->last_seen = now;
    return conn->last_seen;
}

/* Why the kernel did not take the last of the handshake's datagrams that it did not: an errno, or 0 if there was
 * none. */
int dtlsffi_conn_unsent(const dtlsffi_conn *conn)
{
    return conn->unsent_errno;
}

/* The socket, which was not when the connection was made, is connected now. */
void dtlsffi_conn_meet(dtlsffi_conn *conn)
{
    if (dtlsffi_conn_lock(conn) != 0)
        return;
    conn->ipv6 = is_ipv6(conn->fd);
    dtlsffi_mtu_refresh(conn);
    dtlsffi_conn_unlock(conn);
}

/* Lets go of the socket, before anybody closes it and its number names something else. */
void dtlsffi_conn_detach(dtlsffi_conn *conn)
{
    if (dtlsffi_conn_lock(conn) != 0)
        return;
    dtlsffi_conn_lose_patience(conn);
    conn->detached = conn->detached || conn->fd >= 0 || conn->udp != NULL;
    conn->fd = -1;
    conn->udp = NULL;
    dtlsffi_conn_unlock(conn);
}

/* Gives back OpenSSL's buffers, some 30 kB, of a connection that is silent, unless somebody is at it; whether it has
 * none now. Only reading brings them back by itself: SSL_write and SSL_shutdown write to where they were (NULL, on
 * 3.0), so whoever enters next has them allocated. */
bool dtlsffi_conn_cool(dtlsffi_conn *conn)
{
    bool cold;

    if (dtlsffi_is_parents(conn->born) || !dtlsffi_lock_try(&conn->lock))
        return false;
    if (conn->established && !conn->failed && !conn->cold)
        conn->cold = SSL_free_buffers(conn->ssl) == 1;
    cold = conn->cold;
    dtlsffi_lock_release(&conn->lock);
    return cold;
}

dtlsffi_stats *dtlsffi_conn_stats(dtlsffi_conn *conn)
{
    return &conn->stats;
}
