/* What moves a connection on: records in, records out, its end.
 */
#include "core.h"

#include <errno.h>
#include <string.h>

int dtlsffi_conn_why_failed(const dtlsffi_conn *conn)
{
    return conn->abandoned ? DTLSFFI_SHUT : DTLSFFI_FAILED;
}

/* One record into `buffer`, which has room for the largest that can come: OpenSSL would cut a larger one in two. Empty
 * records are passed over: they carry nothing, and Python would take one for the end. */
static int read_record(dtlsffi_conn *conn, uint8_t *buffer, size_t room)
{
    size_t length = 0;

    do {
        int ret = SSL_read_ex(conn->ssl, buffer, room, &length);

        if (ret <= 0)
            return dtlsffi_conn_result(conn, ret);
        conn->watch.delivered++;
    } while (length == 0);
    conn->stats.records_received++;
    return (int)length;
}

#define RECORD_LEAST 22 /* with a byte of plaintext: DTLS 1.3 has the shortest headers */

/* Whether all that a datagram can hold finds room. An empty inbox has room for any that UDP can carry, and takes its
 * chance with one that came by hand. */
bool dtlsffi_inbox_has_room_for(const dtlsffi_inbox *inbox, size_t length)
{
    if (inbox->count == 0)
        return inbox->odd_count < DTLSFFI_INBOX_ODD;
    return inbox->count + length / RECORD_LEAST < DTLSFFI_INBOX_RECORDS
           && inbox->used + length <= DTLSFFI_INBOX_BYTES - DTLSFFI_RECORD_MAX && inbox->odd_count < DTLSFFI_INBOX_ODD;
}

static bool has_room(const dtlsffi_inbox *inbox)
{
    return inbox->count < DTLSFFI_INBOX_RECORDS && inbox->used <= DTLSFFI_INBOX_BYTES - DTLSFFI_RECORD_MAX;
}

/* Whether OpenSSL has nothing left of what it has read; it costs to ask. */
static bool is_read_up(const dtlsffi_conn *conn)
{
    return conn->alone || !SSL_has_pending(conn->ssl);
}

static void add(dtlsffi_inbox *inbox, uint32_t length)
{
    inbox->length[inbox->count++] = length;
    inbox->used += length;
}

static int read_into_place(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int got = read_record(conn, inbox->place, inbox->place_size);

    inbox->place = NULL;
    if (got >= 0) {
        inbox->length[inbox->count++] = (uint32_t)got | DTLSFFI_PLACED;
        inbox->placed = true;
    }
    return got;
}

/* The next record: into the place that is kept for it, where nothing older can come before it, or behind the others. */
static int read_next(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int got;

    if (inbox->place != NULL && is_read_up(conn))
        return read_into_place(conn, inbox);
    inbox->place = NULL;
    got = read_record(conn, inbox->data + inbox->used, DTLSFFI_RECORD_MAX);
    if (got >= 0)
        add(inbox, (uint32_t)got);
    return got;
}

static int drain(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    while (has_room(inbox)) {
        int got = read_next(conn, inbox);

        if (got == DTLSFFI_WANT_READ)
            conn->drained = conn->version != DTLS1_3_VERSION; /* whose next epoch may be kept, too */
        if (got == DTLSFFI_WANT_READ || got == DTLSFFI_CLOSED)
            return (int)inbox->count;
        if (got < 0)
            return got;
        if (conn->drained && conn->in_length == 0 && is_read_up(conn))
            return (int)inbox->count;
    }
    return (int)inbox->count + DTLSFFI_MORE;
}

/* A record that was too large for whoever has read it comes before all others. */
static void take_held_record(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    uint32_t length = (uint32_t)conn->held_record_length;

    memcpy(inbox->data + inbox->used, conn->held_record, length);
    dtlsffi_conn_drop_held_record(conn);
    add(inbox, length);
}

static int receive(dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int answer;

    if (conn->held_record != NULL)
        take_held_record(conn, inbox);
    if (conn->failed || conn->abandoned)
        return dtlsffi_conn_why_failed(conn);
    answer = dtlsffi_conn_step(conn);
    if (answer == DTLSFFI_WANT_READ || answer == DTLSFFI_WANT_WRITE)
        return 0;
    return answer == 1 ? drain(conn, inbox) : answer;
}

/* Has a connection that is entered take one datagram from memory, or nothing but what waits; its records go behind
 * those in `inbox`. Returns their count, with DTLSFFI_MORE where there was no room for all, or a negative answer,
 * with or without records. */
int dtlsffi_conn_receive_entered(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox)
{
    int answer;

    conn->io_errno = 0;
    if (length > 0) {
        conn->in = data;
        conn->in_length = length;
        conn->stats.datagrams_received++;
        conn->stats.bytes_received += length;
    }
    conn->fed = true;
    answer = receive(conn, inbox);
    conn->fed = false;
    conn->in_length = 0;
    return answer;
}

/* The same for a connection that is not entered yet. */
int dtlsffi_conn_receive_more(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = dtlsffi_conn_receive_entered(conn, data, length, inbox);
    dtlsffi_conn_leave(conn);
    return answer;
}

static int give_held_record(dtlsffi_conn *conn, uint8_t *buffer, size_t limit)
{
    size_t length = conn->held_record_length;

    if (length > limit)
        return DTLSFFI_TOO_LARGE;
    memcpy(buffer, conn->held_record, length);
    dtlsffi_conn_drop_held_record(conn);
    return (int)length;
}

static int hold_record(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    conn->held_record = OPENSSL_memdup(record, length);
    conn->held_record_length = conn->held_record == NULL ? 0 : length;
    return DTLSFFI_TOO_LARGE;
}

/* Keeps a record for the next call, that has been read, and that nobody has got. */
void dtlsffi_conn_keep_record(dtlsffi_conn *conn, const uint8_t *record, size_t length)
{
    if (dtlsffi_conn_lock(conn) != 0)
        return;
    if (conn->held_record == NULL)
        (void)hold_record(conn, record, length);
    dtlsffi_conn_unlock(conn);
}

/* Has OpenSSL open a record that came before the handshake was finished, so that SSL_pending(3) tells of it. Returns
 * 0, or a negative answer. */
int dtlsffi_conn_open_kept(dtlsffi_conn *conn)
{
    uint8_t first;
    size_t got = 0;
    int answer = dtlsffi_conn_enter(conn);
    int ret;

    if (answer != 0)
        return answer;
    conn->fed = true; /* the socket is left alone */
    ret = SSL_peek_ex(conn->ssl, &first, 1, &got);
    conn->alone = false;
    answer = ret > 0 ? 0 : dtlsffi_conn_result(conn, ret);
    conn->fed = false;
    dtlsffi_conn_leave(conn);
    return answer;
}

/* The next record of a connection that is entered. */
int dtlsffi_conn_read_entered(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit)
{
    uint8_t whole[DTLSFFI_RECORD_MAX];
    uint8_t *into = size >= sizeof(whole) ? buffer : whole;
    int got;

    if (conn->failed)
        return dtlsffi_conn_why_failed(conn);
    if (conn->held_record != NULL)
        return give_held_record(conn, buffer, limit);
    got = dtlsffi_conn_step(conn);
    if (got == 1)
        got = read_record(conn, into, DTLSFFI_RECORD_MAX);
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
    answer = dtlsffi_conn_read_entered(conn, buffer, size, limit < size ? limit : size);
    dtlsffi_conn_leave(conn);
    return answer;
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

static int why_not_send(dtlsffi_conn *conn, size_t length)
{
    if (conn->failed)
        return dtlsffi_conn_why_failed(conn);
    if (!conn->established)
        return DTLSFFI_NOT_READY;
    if (conn->shut)
        return DTLSFFI_SHUT;
    if (length > conn->data_mtu) /* the path may have become wider */
        dtlsffi_mtu_follow(conn);
    return length > conn->data_mtu ? DTLSFFI_TOO_LARGE : 0;
}

/* One record into a batch, by a connection that is entered. Returns its length, or why not: 0 for nothing to seal. */
int dtlsffi_conn_seal(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_outgoing *out)
{
    size_t written = 0;
    int answer = why_not_send(conn, length);

    if (answer != 0 || length == 0)
        return answer;
    if (conn->detached)
        return dtlsffi_fault_system(EBADF);
    conn->io_errno = 0;
    conn->gathered = out;
    conn->sending = true;
    answer = SSL_write_ex(conn->ssl, data, length, &written);
    conn->sending = false;
    conn->gathered = NULL;
    if (answer <= 0)
        return dtlsffi_conn_result(conn, answer);
    return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : (int)written;
}

int dtlsffi_conn_send_entered(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int answer = why_not_send(conn, length);

    if (answer == 0 && conn->unconfirmed && (answer = dtlsffi_conn_finish_others(conn)) == 0)
        answer = why_not_send(conn, length);
    return answer == 0 ? send_record(conn, data, length) : answer;
}

/* One record, one datagram. Returns `length`, or a negative answer and nothing was sent. */
int dtlsffi_conn_send(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = dtlsffi_conn_send_entered(conn, data, length);
    dtlsffi_conn_leave(conn);
    return answer;
}

void dtlsffi_conn_say_goodbye(dtlsffi_conn *conn)
{
    if (conn->established && !conn->failed && !conn->shut) {
        conn->sending = conn->parting = true;
        (void)SSL_shutdown(conn->ssl);
        conn->sending = conn->parting = false;
        ERR_clear_error();
    }
    conn->shut = true;
}

/* Sends close_notify, once, if there is anybody to tell; a handshake that is not finished ends. Within a callback of
 * the connection it is done as soon as OpenSSL has been left. */
int dtlsffi_conn_shutdown(dtlsffi_conn *conn)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer == DTLSFFI_REENTERED) {
        conn->abandoned = true;
        return 0;
    }
    if (answer != 0)
        return answer;
    if (conn->established)
        dtlsffi_conn_say_goodbye(conn);
    else if (!conn->failed)
        conn->abandoned = true;
    dtlsffi_conn_leave(conn);
    return 0;
}

/* RFC 8446 section 4.6.3. Returns 0, or a negative answer. */
int dtlsffi_conn_update_keys(dtlsffi_conn *conn, int request_peer)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = why_not_send(conn, 0);
    if (answer == 0) {
        int ret = SSL_key_update(conn->ssl, request_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);

        if (ret == 1)
            ret = SSL_do_handshake(conn->ssl);
        if (ret != 1)
            answer = dtlsffi_conn_result(conn, ret);
    }
    dtlsffi_conn_leave(conn);
    return answer;
}
