/* Records on their way out by the batch: encrypted one behind the other, then handed to the kernel in as few calls
 * as it allows, neighbours of one size for one peer as one message that it cuts again (UDP_SEGMENT).
 */
#include "core.h"

#include <errno.h>
#include <sys/socket.h>

#define SEGMENTS_MAX 64      /* of one message: the kernel's own limit has been that from the beginning */
#define SEGMENTED_MAX 65000  /* bytes of one message, headers beside it */
#define MESSAGES 64          /* of one sendmmsg */
#define UNCUT_MAX 64         /* batches refused, and none cut in between: then none will be, whatever the kernel says */
#define OVERHEAD 64          /* bytes that a record is longer than its data, or less */

typedef struct {
    uint32_t first; /* datagram */
    uint32_t count;
    uint32_t bytes;
} run;

bool dtlsffi_outgoing_append(dtlsffi_outgoing *out, const dtlsffi_conn *conn, const uint8_t *data, size_t length)
{
    if (out->count == DTLSFFI_OUTGOING || length > DTLSFFI_OUTGOING_BYTES - out->used)
        return false;
    memcpy(out->data + out->used, data, length);
    out->start[out->count] = out->used;
    out->length[out->count] = (uint32_t)length;
    out->to[out->count] = conn->address;
    out->from[out->count] = conn->local;
    out->count++;
    out->used += (uint32_t)length;
    return true;
}

static bool has_room(const dtlsffi_outgoing *out)
{
    return out->count < DTLSFFI_OUTGOING && out->used <= DTLSFFI_OUTGOING_BYTES - DTLSFFI_DATAGRAM_MAX;
}

static bool same_way(const dtlsffi_outgoing *out, uint32_t a, uint32_t b)
{
    return memcmp(&out->to[a], &out->to[b], sizeof(out->to[a])) == 0
           && memcmp(&out->from[a], &out->from[b], sizeof(out->from[a])) == 0;
}

/* The datagrams from `first` on that make one message: of one size, but for the last, which may be shorter. */
static run next_run(const dtlsffi_outgoing *out, bool segments, uint32_t first)
{
    uint32_t size = out->length[first];
    run r = {first, 1, size};

    while (segments && first + r.count < out->count && r.count < SEGMENTS_MAX) {
        uint32_t next = first + r.count;

        if (out->length[next] > size || r.bytes + out->length[next] > SEGMENTED_MAX || !same_way(out, first, next))
            break;
        r.bytes += out->length[next];
        r.count++;
        if (out->length[next] < size)
            break;
    }
    return r;
}

typedef struct {
    dtlsffi_message messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    dtlsffi_sockaddr names[MESSAGES];
    dtlsffi_control spaces[MESSAGES];
    run runs[MESSAGES];
} flight;

/* Makes a message of a run, which leaves from the address that its peer has sent to, or from `anywhere`. */
static void load(flight *f, int i, const dtlsffi_outgoing *out, const dtlsffi_udp *udp, bool anywhere)
{
    static const dtlsffi_address nowhere = {0};
    struct msghdr *message = &f->messages[i].msg_hdr;
    const run *r = &f->runs[i];

    memset(message, 0, sizeof(*message));
    f->pieces[i].iov_base = (void *)(uintptr_t)(out->data + out->start[r->first]);
    f->pieces[i].iov_len = r->bytes;
    message->msg_iov = &f->pieces[i];
    message->msg_iovlen = 1;
    (void)dtlsffi_udp_address(udp, message, &out->to[r->first], anywhere ? &nowhere : &out->from[r->first],
                              &f->names[i], &f->spaces[i]);
    if (DTLSFFI_HAS_GSO && r->count > 1) {
        uint16_t size = (uint16_t)out->length[r->first];

        dtlsffi_control_add(message, &f->spaces[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
    }
}

/* Sends what it can of the datagrams from `done` on, or the first message of them from `anywhere`; how many are gone
 * then. A negative answer is -errno, for the first. */
static int send_some(dtlsffi_outgoing *out, dtlsffi_udp *udp, bool segments, uint32_t done, bool anywhere)
{
    flight f;
    uint32_t end = done;
    int count = 0, sent;
    bool whole = udp->whole;
    uint32_t gone = 0;

    while (count < (anywhere ? 1 : MESSAGES) && end < out->count) {
        f.runs[count] = next_run(out, segments, end);
        end += f.runs[count].count;
        load(&f, count, out, udp, anywhere);
        count++;
    }
    do {
        sent = dtlsffi_sendmmsg(udp->fd, f.messages, (unsigned int)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EMSGSIZE && whole) {
        dtlsffi_udp_may_fragment(udp);
        return 0;
    }
    if (sent < 0)
        return -errno;
    for (int i = 0; i < sent; i++) {
        gone += f.runs[i].count;
        if (f.runs[i].count > 1) {
            DTLSFFI_COUNT(udp->segmented, f.runs[i].count);
            udp->uncut = 0;
        }
    }
    return (int)gone;
}

static bool for_good(int number)
{
    return number == EIO || number == ENOPROTOOPT || number == EOPNOTSUPP;
}

/* Whether the kernel, or the device, may have refused to cut a message, and not to carry it: for good, or because the
 * path of this one is too narrow (EMSGSIZE; EINVAL on older kernels), or there is none (EINVAL, too). */
static bool may_be_uncut(const dtlsffi_outgoing *out, bool segments, uint32_t first, int number)
{
    return (for_good(number) || number == EINVAL || number == EMSGSIZE) && next_run(out, segments, first).count > 1;
}

/* It has gone uncut: what is refused only over one peer's path says nothing of the others'. */
static void note_uncut(dtlsffi_udp *udp, int number)
{
    if (number != EMSGSIZE)
        udp->uncut++;
    if (for_good(number) || udp->uncut >= UNCUT_MAX)
        udp->segments = 0;
}

/* Sends all; returns how many are gone, and in `number` the errno that stopped it, or 0. */
static uint32_t flush(dtlsffi_outgoing *out, dtlsffi_udp *udp, int *number)
{
    uint32_t done = 0;
    bool refused = false;

    *number = 0;
    while (done < out->count) {
        bool cuts = udp->segments && !refused; /* once, since another thread may change it */
        int some = send_some(out, udp, cuts, done, false);

        if (some < 0 && may_be_uncut(out, cuts, done, -some)) {
            int why = -some;

            refused = true;
            some = send_some(out, udp, false, done, false);
            if (some >= 0)
                note_uncut(udp, why);
        }
        if (some < 0 && out->from[done].family != 0 && dtlsffi_udp_refuses_source(-some))
            some = send_some(out, udp, cuts && !refused, done, true);
        if (some < 0) {
            *number = -some;
            break;
        }
        done += (uint32_t)some;
    }
    DTLSFFI_COUNT(udp->datagrams_sent, done);
    return done;
}

static int refusal(int number)
{
    if (dtlsffi_would_block(number))
        return DTLSFFI_WANT_WRITE;
    return number == EMSGSIZE ? DTLSFFI_TOO_LARGE : dtlsffi_fault_system(number);
}

/* What is to be sent: `spans[i]` by `conns[i]`, or all by one that is entered. */
typedef struct {
    dtlsffi_conn *entered;
    dtlsffi_conn **conns;
    const dtlsffi_span *spans;
    uint32_t count;
    uint32_t next;
} source;

static int seal_next(const source *from, dtlsffi_outgoing *out)
{
    dtlsffi_conn *conn = from->entered != NULL ? from->entered : from->conns[from->next];
    int answer = from->entered != NULL ? 0 : dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = dtlsffi_conn_seal(conn, from->spans[from->next].data, from->spans[from->next].length, out);
    if (from->entered == NULL)
        dtlsffi_conn_leave(conn);
    return answer;
}

/* Encrypts as many as there is room for; 0, or why it stopped early. Where many connections send, one that has ended is
 * passed over, and its record counted. */
static int fill(source *from, dtlsffi_udp *udp, dtlsffi_outgoing *out)
{
    while (from->next < from->count && has_room(out)) {
        uint32_t before = out->count;
        int answer = seal_next(from, out);

        if (answer <= 0 && (from->entered != NULL || answer == DTLSFFI_TOO_LARGE || answer == DTLSFFI_FORKED))
            return answer;
        for (uint32_t made = before; made < out->count; made++) /* an alert may have come before the record */
            out->item[made] = from->next;
        if (answer <= 0)
            DTLSFFI_COUNT(udp->dropped_unsent, 1);
        from->next++;
    }
    return 0;
}

/* Returns how many are dealt with; what stopped it is in `out->answer`, or 0. */
static uint32_t send_all(source *from, dtlsffi_udp *udp, dtlsffi_outgoing *out)
{
    uint32_t dealt_with = 0;
    int number = 0;

    out->answer = 0;
    while (out->answer == 0 && from->next < from->count) {
        uint32_t gone, all;

        out->count = out->used = 0;
        out->answer = fill(from, udp, out);
        all = out->count;
        gone = flush(out, udp, &number);
        dealt_with = gone < all ? out->item[gone] : from->next;
        if (number != 0)
            out->answer = refusal(number);
    }
    return dealt_with;
}

/* Sends `count` records of one connection. Returns how many are gone; what stopped it is in `out->answer`, or 0. The
 * lock is held to the end, so that nobody closes the socket meanwhile. */
uint32_t dtlsffi_conn_send_many(dtlsffi_conn *conn, dtlsffi_udp *udp, const dtlsffi_span *spans, uint32_t count,
                                dtlsffi_outgoing *out)
{
    source from = {.entered = conn, .spans = spans, .count = count};
    uint32_t gone;
    void *gil;

    out->answer = dtlsffi_conn_enter(conn);
    if (out->answer != 0)
        return 0;
    if (conn->unconfirmed && (out->answer = dtlsffi_conn_finish_others(conn)) != 0) {
        dtlsffi_conn_leave(conn);
        return 0;
    }
    gil = dtlsffi_gil_release_for(count);
    if (conn->detached) {
        out->answer = dtlsffi_fault_system(EBADF);
        gone = 0;
    } else {
        gone = send_all(&from, udp, out);
    }
    if (out->answer == DTLSFFI_TOO_LARGE)
        dtlsffi_mtu_refresh(conn);
    conn->stats.records_sent += gone;
    conn->stats.datagrams_sent += gone;
    dtlsffi_conn_leave(conn);
    dtlsffi_gil_retake_after(gil);
    return gone;
}

/* The same for records of many connections of one endpoint, `conns[i]` each; those that have ended are passed over. */
uint32_t dtlsffi_endpoint_send_many(dtlsffi_conn **conns, dtlsffi_udp *udp, const dtlsffi_span *spans, uint32_t count,
                                    dtlsffi_outgoing *out)
{
    source from = {.conns = conns, .spans = spans, .count = count};
    void *gil = dtlsffi_gil_release_for(count);
    uint32_t dealt_with = send_all(&from, udp, out);

    dtlsffi_gil_retake_after(gil);
    return dealt_with;
}

/* The same into memory: its datagrams wait in the outbox. Returns how many, or why there are none. */
int dtlsffi_conn_send_all(dtlsffi_conn *conn, const dtlsffi_span *spans, uint32_t count)
{
    int answer = dtlsffi_conn_enter(conn);
    size_t bytes = 0;
    uint32_t i;
    void *gil;

    if (answer != 0)
        return answer;
    gil = dtlsffi_gil_release_for(count);
    for (i = 0; i < count; i++)
        bytes += (spans[i].length < DTLSFFI_RECORD_MAX ? spans[i].length : DTLSFFI_RECORD_MAX) + OVERHEAD;
    (void)dtlsffi_outbox_reserve(&conn->out, count, bytes); /* else it grows bit by bit */
    for (i = 0; i < count; i++) {
        answer = dtlsffi_conn_send_entered(conn, spans[i].data, spans[i].length);
        if (answer <= 0)
            break;
    }
    dtlsffi_conn_leave(conn);
    dtlsffi_gil_retake_after(gil);
    return i > 0 ? (int)i : answer;
}
