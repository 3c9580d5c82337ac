/* The one call that waits: for the next datagram, in the one system call that a plain program in C would make.
 *
 * Meanwhile nobody holds the GIL or the connection's lock, so that others may send. A signal, the end of the time,
 * and a datagram that holds no record for the caller all end it with DTLSFFI_WANT_READ: Python goes on from there.
 */
#include "core.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Has the kernel end recv() after so long; 0: never. Asked for only when it changes. */
static bool set_patience(dtlsffi_conn *conn, int64_t microseconds)
{
    struct timeval time = {
        .tv_sec = (time_t)(microseconds / 1000000),
        .tv_usec = (suseconds_t)(microseconds % 1000000),
    };

    if (conn->patience == microseconds)
        return true;
    if (setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) != 0)
        return false;
    conn->patience = microseconds;
    return true;
}

/* The socket goes to somebody else. */
void dtlsffi_conn_lose_patience(dtlsffi_conn *conn)
{
    if (conn->fd >= 0)
        (void)set_patience(conn, 0);
}

/* Whether there is something to be told without any datagram: the next record of the last one, or the end. */
static bool has_more(const dtlsffi_conn *conn)
{
    return conn->failed || conn->held_record != NULL || SSL_has_pending(conn->ssl)
           || (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* Returns 0 where there is a datagram to be waited for, with the lock let go of, or what `dtlsffi_conn_read` does. */
static int prepare(dtlsffi_conn *conn, int64_t microseconds, const dtlsffi_room *room)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    if (conn->detached)
        answer = dtlsffi_fault_system(EBADF);
    else if (has_more(conn))
        answer = dtlsffi_conn_read_entered(conn, room->data, room->size, room->limit);
    else if (!set_patience(conn, microseconds))
        answer = dtlsffi_fault_system(errno);
    dtlsffi_conn_leave(conn);
    return answer;
}

/* Has OpenSSL read the datagram and keep its first record for the next call, behind the one that has gone out now. */
static void keep_datagram(dtlsffi_conn *conn)
{
    uint8_t byte;
    int ret;

    if (conn->in_length == 0)
        return;
    if (!conn->failed && !SSL_has_pending(conn->ssl)) {
        ret = SSL_peek(conn->ssl, &byte, 1);
        conn->alone = false; /* it is there still */
        if (ret <= 0)
            (void)dtlsffi_conn_result(conn, ret);
    }
    if (conn->in_length > 0)
        DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
}

static int open_entered(dtlsffi_conn *conn, const uint8_t *datagram, size_t length, const dtlsffi_room *room)
{
    int answer;

    conn->stats.datagrams_received++;
    conn->stats.bytes_received += length;
    conn->in = datagram;
    conn->in_length = dtlsffi_conn_kept(conn, length, DTLSFFI_DATAGRAM_MAX);
    conn->fed = true;
    answer = dtlsffi_conn_read_entered(conn, room->data, room->size, room->limit);
    keep_datagram(conn);
    conn->fed = false;
    conn->in_length = 0;
    return answer;
}

static int open_datagram(dtlsffi_conn *conn, const uint8_t *datagram, size_t length, const dtlsffi_room *room)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = open_entered(conn, datagram, length, room);
    dtlsffi_conn_leave(conn);
    return answer;
}

/* Has a connection that is entered take one datagram from its socket. A record in it, if there is any, is kept. */
void dtlsffi_conn_take_datagram(dtlsffi_conn *conn)
{
    uint8_t datagram[DTLSFFI_DATAGRAM_MAX];
    ssize_t got = recv(conn->fd, datagram, sizeof(datagram), MSG_DONTWAIT | MSG_TRUNC);

    if (got > 0)
        (void)open_entered(conn, datagram, (size_t)got, &(dtlsffi_room){0});
}

static int await_datagram(dtlsffi_conn *conn, uint8_t *datagram, const dtlsffi_room *room)
{
    ssize_t got = recv(conn->fd, datagram, DTLSFFI_DATAGRAM_MAX, MSG_TRUNC);
    int answer;

    if (got > 0)
        return open_datagram(conn, datagram, (size_t)got, room);
    if (got == 0 || dtlsffi_would_block(errno) || errno == EINTR)
        return DTLSFFI_WANT_READ;
    answer = dtlsffi_fault_system(errno);
    if (errno == EMSGSIZE)
        dtlsffi_conn_follow_path(conn);
    return answer;
}

/* A datagram is opened before anybody asks for the GIL: another thread might have it, and receive hundreds of later
 * ones, of which OpenSSL's window has but 64. */
static int wait_for_record(dtlsffi_conn *conn, int64_t microseconds, dtlsffi_inbox *inbox, const dtlsffi_room *room)
{
    uint8_t *datagram = inbox->data + DTLSFFI_RECORD_MAX; /* before it the record may go */
    int answer = prepare(conn, microseconds, room);
    void *gil;

    if (answer != 0)
        return answer;
    gil = dtlsffi_gil_release();
    answer = await_datagram(conn, datagram, room);
    dtlsffi_gil_retake(gil);
    return answer;
}

/* `dtlsffi_conn_read`, but waits for the next datagram, if it has to, for so long at most (0: for ever); that comes
 * into the inbox. Who detaches the connection and sees nobody here afterwards need not wake anybody. */
int dtlsffi_conn_wait(dtlsffi_conn *conn, int64_t microseconds, dtlsffi_inbox *inbox, const dtlsffi_room *room)
{
    int answer;

    DTLSFFI_COUNT(conn->waiting, 1);
    answer = wait_for_record(conn, microseconds, inbox, room);
    DTLSFFI_COUNT(conn->waiting, -1);
    return answer;
}

/* How many threads are in there. */
int dtlsffi_conn_waiting(dtlsffi_conn *conn)
{
    return __atomic_load_n(&conn->waiting, __ATOMIC_RELAXED);
}
