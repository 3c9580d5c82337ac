/* The BIO beneath every SSL: one read or write is one datagram.
 *
 * It has three carriers: memory (a slot for one datagram coming in, an outbox for those going out), a connected,
 * non-blocking UDP socket, and a socket shared with others (where what comes in comes through the slot). Everything
 * else is common to them: what may come in (records.c), how large a datagram may get (mtu.c), what is counted.
 * OpenSSL's own BIO_s_datagram offers none of this for a socket: see docs/design.md.
 *
 * An error of the socket is noted in the connection, and OpenSSL is told to try again later: the SSL stays healthy,
 * and the caller gets the errno.
 */
#include "core.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* How many datagrams a call reads from a socket before Python gets a chance to look at its clock: what is junk, or
 * forged, costs those who send it nothing. */
#define READS_AT_MOST 64

static BIO_METHOD *method;

/* The records at the beginning of a datagram that find room. */
static size_t whole_records(const uint8_t *data, size_t length, size_t room)
{
    size_t taken = 0;
    size_t record;

    while ((record = dtlsffi_record_length(data + taken, length - taken)) > 0 && taken + record <= room)
        taken += record;
    return taken;
}

/* As much of the datagram in memory as OpenSSL's buffer holds: nearly always all of it, else whole records. */
static size_t take_from_memory(dtlsffi_conn *conn, uint8_t *buffer, size_t size)
{
    size_t taken = conn->in_length;

    if (taken > size)
        taken = whole_records(conn->in, conn->in_length, size);
    if (taken == 0) /* what is left is junk */
        taken = conn->in_length = size;
    memcpy(buffer, conn->in, taken);
    conn->in += taken;
    conn->in_length -= taken;
    return taken;
}

static ssize_t receive_now(const dtlsffi_conn *conn, uint8_t *buffer, size_t size)
{
    ssize_t got;

    do {
        got = recv(conn->fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* What the socket has said in place of a datagram. Where something that was sent is too large for the path, a flight is
 * sent again, in smaller datagrams; data is lost, and its sender is told. */
void dtlsffi_conn_hear(dtlsffi_conn *conn, int number)
{
    if (number == EMSGSIZE)
        dtlsffi_mtu_follow(conn);
    if (number != EMSGSIZE || conn->established)
        conn->io_errno = number;
}

/* The kernel says that our last datagram found nobody before it gives what the peer had sent until then: that is taken
 * first, and the error is the call's only where it finds nothing. */
static size_t take_from_socket(dtlsffi_conn *conn, uint8_t *buffer, size_t size)
{
    ssize_t got = receive_now(conn, buffer, size);

    if (got < 0 && errno == ECONNREFUSED) {
        conn->io_errno = errno;
        got = receive_now(conn, buffer, size);
    }
    if (got >= 0) {
        conn->stats.datagrams_received++;
        conn->stats.bytes_received += (size_t)got;
        return dtlsffi_conn_kept(conn, (size_t)got, size);
    }
    if (!dtlsffi_would_block(errno))
        dtlsffi_conn_hear(conn, errno);
    else if (!conn->local_socket)
        dtlsffi_clear_error_queue(conn->fd);
    return 0;
}

static size_t take(dtlsffi_conn *conn, uint8_t *buffer, size_t size)
{
    if (conn->in_length > 0)
        return take_from_memory(conn, buffer, size);
    if (conn->fd >= 0 && !conn->fed)
        return conn->reads++ < READS_AT_MOST ? take_from_socket(conn, buffer, size) : 0;
    if (conn->detached)
        conn->io_errno = EBADF;
    return 0;
}

static int read_datagram(BIO *bio, char *buffer, int size)
{
    dtlsffi_conn *conn = BIO_get_data(bio);
    uint8_t *data = (uint8_t *)buffer;
    size_t taken;

    BIO_clear_retry_flags(bio);
    if (conn->packed != NULL)
        dtlsffi_conn_send_packed(conn);
    while ((taken = take(conn, data, (size_t)size)) > 0) {
        size_t accepted = dtlsffi_records_accept_untrusted(conn, data, taken);

        if (accepted > 0)
            return (int)accepted;
    }
    dtlsffi_records_settle(conn);
    BIO_set_retry_read(bio);
    return -1;
}

static int send_now(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    ssize_t sent;

    if (conn->udp != NULL)
        return dtlsffi_udp_send(conn->udp, &conn->address, &conn->local, data, length);
    do {
        sent = send(conn->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

/* Whether there has been a way to the peer. */
static bool has_heard(const dtlsffi_conn *conn)
{
    return conn->stats.datagrams_received > conn->stats.dropped_junk;
}

/* A handshake's datagram that the kernel will not take is lost like any other; another try may be smaller. */
static void lose(dtlsffi_conn *conn, int number)
{
    DTLSFFI_COUNT_BOTH(conn, dropped_unsent, 1);
    conn->unsent_errno = number;
    if (number == EMSGSIZE) /* the path has become narrower */
        dtlsffi_mtu_refresh(conn);
    else if (conn->fd >= 0 && (number == ECONNREFUSED || !has_heard(conn)))
        conn->io_errno = number; /* there is no way to it; but where there was one, it may come back */
}

#define SLICE 5 /* milliseconds: poll(2) finds room where half the buffer is free, but what is this small goes before */

/* Waits for room in a shared socket's send buffer, but not for long, and not again where the last one has in vain;
 * tries meanwhile. Lets go of the GIL until the connection is left: see gil.c. Returns 0, or an errno. */
static int send_when_room(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    dtlsffi_udp *udp = conn->udp;
    struct pollfd room = {.fd = udp->fd, .events = POLLOUT};
    int most = __atomic_load_n(&udp->in_vain, __ATOMIC_RELAXED) ? 0 : udp->linger;
    void *gil = dtlsffi_gil_release();
    int number = EAGAIN;

    if (gil != NULL)
        conn->gil = gil;
    for (int waited = 0; waited < most && dtlsffi_would_block(number); waited += SLICE) {
        (void)poll(&room, 1, SLICE);
        number = send_now(conn, data, length);
    }
    __atomic_store_n(&udp->in_vain, dtlsffi_would_block(number), __ATOMIC_RELAXED);
    return number;
}

/* Nobody sends close_notify again: it waits for room where it may. Returns 0, or an errno. */
static int send_goodbye(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int number = send_now(conn, data, length);

    if (number == 0 && conn->udp != NULL)
        __atomic_store_n(&conn->udp->in_vain, 0, __ATOMIC_RELAXED);
    if (dtlsffi_would_block(number) && conn->udp != NULL)
        number = send_when_room(conn, data, length);
    if (number != 0 && !dtlsffi_would_block(number)) /* of an older datagram, perhaps */
        number = send_now(conn, data, length);
    return number;
}

/* Returns whether the datagram is dealt with; false means: not yet, try again. Over a shared socket nobody would: there
 * a flight that finds no room is sent again when its timer runs out. */
static bool put_into_socket(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    int number = conn->parting ? send_goodbye(conn, data, length) : send_now(conn, data, length);

    if (number != 0 && conn->udp != NULL && !conn->sending)
        number = send_now(conn, data, length); /* the kernel tells of an older datagram's fate, whoever comes next */
    if (number == 0) {
        conn->stats.datagrams_sent++;
        conn->stats.bytes_sent += length;
    } else if (conn->parting) {
        DTLSFFI_COUNT_BOTH(conn, dropped_unsent, 1);
    } else if (conn->sending) {
        conn->io_errno = number;
    } else if (conn->fd >= 0 && dtlsffi_would_block(number)) {
        return false;
    } else {
        lose(conn, number);
    }
    return true;
}

/* While a batch is made, a datagram waits for those that follow it. */
static bool put_into_batch(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    if (!dtlsffi_outgoing_append(conn->gathered, conn, data, length))
        conn->io_errno = ENOBUFS;
    conn->stats.bytes_sent += length;
    return true;
}

static bool put_into_memory(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    if (conn->detached) {
        conn->io_errno = EBADF;
        return true;
    }
    if (!dtlsffi_outbox_append(&conn->out, data, length)) {
        conn->io_errno = ENOMEM;
        return true;
    }
    conn->stats.datagrams_sent++;
    conn->stats.bytes_sent += length;
    return true;
}

static bool put(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    if (conn->gathered != NULL)
        return put_into_batch(conn, data, length);
    if (conn->fd >= 0 || conn->udp != NULL)
        return put_into_socket(conn, data, length);
    return put_into_memory(conn, data, length);
}

/* Sends what has been packed. */
void dtlsffi_conn_send_packed(dtlsffi_conn *conn)
{
    if (conn->packed_length > 0 && !put(conn, conn->packed, conn->packed_length))
        DTLSFFI_COUNT_BOTH(conn, dropped_unsent, 1); /* there is no other try but the timer's */
    OPENSSL_free(conn->packed);
    conn->packed = NULL;
    conn->packed_length = 0;
}

/* OpenSSL sends each message of a flight by itself where it sends it again, and all are needed: as they were the first
 * time, they are put together in as few datagrams as there can be. Returns what put() does. */
static bool pack(dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    size_t most = dtlsffi_conn_flight_mtu(conn);

    if (!conn->repeating && !conn->established)
        return put(conn, data, length);
    if (conn->packed != NULL && conn->packed_length + length > most)
        dtlsffi_conn_send_packed(conn);
    if (conn->packed == NULL)
        conn->packed = length < most ? OPENSSL_malloc(DTLSFFI_FLIGHT_MAX) : NULL; /* `most` may grow meanwhile */
    if (conn->packed == NULL)
        return put(conn, data, length);
    memcpy(conn->packed + conn->packed_length, data, length);
    conn->packed_length += length;
    return true;
}

/* As many whole records as fit in a datagram; at least one. */
static size_t cut(const uint8_t *data, size_t length, size_t mtu)
{
    size_t end = 0;
    size_t record;

    if (length <= mtu)
        return length;
    while ((record = dtlsffi_record_length(data + end, length - end)) > 0) {
        if (end > 0 && end + record > mtu)
            break;
        end += record;
    }
    return end > 0 ? end : length;
}

/* OpenSSL reckons without what an AEAD adds to an encrypted Finished (dtls1_do_write), so a flight may come out too
 * large by some 24 bytes; it is cut between two records then. */
static int write_datagram(BIO *bio, const char *buffer, int size)
{
    dtlsffi_conn *conn = BIO_get_data(bio);
    const uint8_t *data = (const uint8_t *)buffer;
    size_t length = (size_t)size;
    size_t done = 0;

    BIO_clear_retry_flags(bio);
    if (conn->sending) { /* what became of it is in io_errno */
        (void)put(conn, data, length);
        return size;
    }
    while (done < length) {
        size_t next = cut(data + done, length - done, dtlsffi_conn_flight_mtu(conn));

        if (!pack(conn, data + done, next))
            break;
        done += next;
    }
    if (done > 0)
        return (int)done;
    BIO_set_retry_write(bio);
    return -1;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    dtlsffi_conn *conn = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_DGRAM_QUERY_MTU:
        return (long)dtlsffi_conn_flight_mtu(conn);
    case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
        return (long)dtlsffi_mtu_fall_back(conn);
    case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD:
        return (long)dtlsffi_mtu_overhead(conn);
    default:
        return 0;
    }
}

bool dtlsffi_datagram_bio_init(void)
{
    int type = BIO_get_new_index();

    if (type == -1)
        return false;
    method = BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "dtlsffi datagram");
    return method != NULL && BIO_meth_set_read(method, read_datagram) && BIO_meth_set_write(method, write_datagram)
           && BIO_meth_set_ctrl(method, control);
}

BIO *dtlsffi_datagram_bio_new(dtlsffi_conn *conn)
{
    BIO *bio = BIO_new(method);

    if (bio != NULL) {
        BIO_set_data(bio, conn);
        BIO_set_init(bio, 1);
    }
    return bio;
}
