/* Datagrams of one connection in, its records out, as Python's objects.
 *
 * How long a record will be can often be told from its datagram. Then its object is made before, and OpenSSL writes
 * into that: one copy less, of what would not stay in the nearest cache.
 */
#include "objects.h"

#define WORTH_IT 256 /* bytes of a datagram: less is copied sooner than looked after */

/* What is being opened: `next` is the first datagram that has not been looked at; of the one before it records may be
 * left. Those from `begin` to `end` have their turn now. */
typedef struct {
    const dtlsffi_span *datagrams;
    dtlsffi_batch *batch;           /* where more of them come from, or NULL */
    uint32_t count;
    uint32_t next;
    bool unfinished;
    uint32_t begin;
    uint32_t end;
    uint32_t placed;                /* how many of the places have got their record: these come first */
    uint32_t place_count;           /* 0, or one for each of those whose turn it is */
    PyObject *places[DTLSFFI_FEW];  /* bytes that nobody else has seen yet, or NULL */
    uint8_t *rooms[DTLSFFI_FEW];    /* where they are in memory, in the order of the datagrams */
    dtlsffi_span spans[DTLSFFI_FEW]; /* the datagrams of a batch that are being opened */
} intake;

/* What a datagram can hold at the most. */
static size_t plaintext_of(const dtlsffi_conn *conn, const dtlsffi_span *datagram)
{
    return datagram->length - DTLSFFI_RECORD_HEADER - conn->shortest;
}

/* Makes bytes for all that a datagram can hold, or none. */
static void make_place(intake *in, uint32_t i, const dtlsffi_conn *conn)
{
    const dtlsffi_span *datagram = &in->datagrams[in->begin + i];

    in->places[i] = NULL;
    in->rooms[i] = NULL;
    if (datagram->length < WORTH_IT || plaintext_of(conn, datagram) > DTLSFFI_RECORD_MAX)
        return;
    in->places[i] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)plaintext_of(conn, datagram));
    if (in->places[i] != NULL)
        in->rooms[i] = (uint8_t *)PyBytes_AsString(in->places[i]);
    else
        PyErr_Clear(); /* it goes without */
}

/* Makes places for the next datagrams, where the first is one that is worth it. What OpenSSL has kept from before it
 * was established would not keep to them. */
static void begin(intake *in, const dtlsffi_conn *conn)
{
    uint32_t left = in->count - in->next;

    in->begin = in->next;
    in->placed = in->place_count = 0;
    if (left > 0 && conn->aead && conn->drained && in->datagrams[in->next].length >= WORTH_IT)
        in->place_count = left < DTLSFFI_FEW ? left : DTLSFFI_FEW;
    in->end = in->place_count > 0 ? in->begin + in->place_count : in->count;
    for (uint32_t i = 0; i < in->place_count; i++)
        make_place(in, i, conn);
}

static void end(intake *in)
{
    for (uint32_t i = 0; i < in->place_count; i++)
        Py_XDECREF(in->places[i]);
}

/* Offers the place of the datagram that is next, if it has one. */
static void offer(const intake *in, const dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    inbox->place = in->place_count > 0 ? in->rooms[in->next - in->begin] : NULL;
    inbox->place_size = plaintext_of(conn, &in->datagrams[in->next]);
}

/* Has the place of the datagram before the next one among those that have got a record. */
static void advance(intake *in)
{
    PyObject **from = &in->places[in->next - 1 - in->begin];
    PyObject **to = &in->places[in->placed++];
    PyObject *place = *from;

    *from = *to;
    *to = place;
}

/* Whether there is something to be taken, and room for it. */
static bool goes_on(const intake *in, const dtlsffi_inbox *inbox)
{
    if (in->unfinished || in->next == in->end)
        return in->unfinished;
    return dtlsffi_inbox_has_room_for(inbox, in->datagrams[in->next].length);
}

/* Gives a connection that is entered datagrams until there is no room in the inbox, or one has ended it. */
static int feed(intake *in, dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int answer = 0;

    while (answer >= 0 && answer < DTLSFFI_MORE && goes_on(in, inbox)) {
        dtlsffi_span datagram = {NULL, 0};

        inbox->placed = false;
        if (!in->unfinished) {
            offer(in, conn, inbox);
            datagram = in->datagrams[in->next++];
        }
        if (datagram.length == 0 && !in->unfinished)
            continue;
        answer = dtlsffi_conn_receive_entered(conn, datagram.data, datagram.length, inbox);
        if (inbox->placed)
            advance(in);
        in->unfinished = answer >= DTLSFFI_MORE;
    }
    inbox->place = NULL;
    return answer;
}

/* The same for one that is not entered; others may have their turn meanwhile. */
static int feed_some(intake *in, dtlsffi_conn *conn, dtlsffi_inbox *inbox)
{
    int answer = dtlsffi_conn_enter(conn);
    void *gil;

    if (answer != 0)
        return answer;
    gil = dtlsffi_gil_release_for(in->end - in->next);
    answer = feed(in, conn, inbox);
    dtlsffi_conn_leave(conn);
    dtlsffi_gil_retake_after(gil);
    return answer;
}

/* Whether it is the socket's fault, and not the connection's end: what ICMP says of our answer to a flight. */
static bool is_passing(const dtlsffi_conn *conn, long answer)
{
    return answer == DTLSFFI_FAULT && !conn->failed && !conn->abandoned && !conn->cold; /* for want of memory */
}

/* Whether there is more to take; the next datagrams of a batch are looked for here. */
static bool has_more(intake *in)
{
    uint32_t length = 0;

    if (in->unfinished || in->next < in->count)
        return true;
    if (in->batch == NULL)
        return false;
    in->datagrams = in->spans;
    in->count = in->next = 0;
    while (in->count < DTLSFFI_FEW && (in->spans[in->count].data = dtlsffi_batch_next(in->batch, &length)) != NULL)
        in->spans[in->count++].length = length;
    return in->count > 0;
}

/* Has a connection take all that an intake has. Returns a negative answer, or DTLSFFI_RAISED, or else. */
static long take_in(intake *in, PyObject *holder, PyObject *records)
{
    dtlsffi_conn *conn = dtlsffi_holder_conn(holder);
    dtlsffi_inbox *inbox = conn == NULL ? NULL : dtlsffi_inbox_lend();
    long answer, passing = 0;

    if (inbox == NULL)
        return DTLSFFI_RAISED;
    do {
        begin(in, conn);
        answer = feed_some(in, conn, inbox);
        passing = is_passing(conn, answer) ? answer : passing;
        if (!(records == NULL ? dtlsffi_holder_keep(holder, inbox, in->places)
                              : dtlsffi_inbox_hand_out(inbox, in->places, records)))
            answer = DTLSFFI_RAISED;
        end(in);
    } while ((answer >= 0 || is_passing(conn, answer)) && has_more(in));
    dtlsffi_inbox_give_back(inbox);
    return answer >= 0 && passing != 0 ? passing : answer;
}

/* Has a connection take some datagrams; their records come at the end of a list, or are kept for data_received()
 * (NULL). */
long dtlsffi_open(PyObject *holder, const dtlsffi_span *datagrams, uint32_t count, PyObject *records)
{
    intake in; /* of which little is looked at, and that little is set */

    in.datagrams = datagrams;
    in.batch = NULL;
    in.count = count;
    in.next = 0;
    in.unfinished = false;
    return take_in(&in, holder, records);
}

/* The same with what has waited since the last datagram: records that nobody has asked for yet, and the end. */
long dtlsffi_open_rest(PyObject *holder, PyObject *records)
{
    intake in;

    in.datagrams = NULL;
    in.batch = NULL;
    in.count = in.next = 0;
    in.unfinished = true;
    return take_in(&in, holder, records);
}

/* The same with what a socket has given. */
long dtlsffi_open_batch(PyObject *holder, dtlsffi_batch *batch, PyObject *records)
{
    intake in;

    in.batch = batch;
    in.count = in.next = 0;
    in.unfinished = false;
    return has_more(&in) ? take_in(&in, holder, records) : 0;
}

/* dtlsffi_open of one datagram, whose records are kept: an intake would be a fortieth of its time. */
long dtlsffi_open_one(PyObject *holder, dtlsffi_conn *conn, dtlsffi_span datagram)
{
    dtlsffi_inbox *inbox = dtlsffi_inbox_lend();
    long answer = 0;

    if (inbox == NULL)
        return DTLSFFI_RAISED;
    if (datagram.length > 0)
        do {
            answer = dtlsffi_conn_receive_more(conn, datagram.data, datagram.length, inbox);
            datagram.length = 0;
            if (!dtlsffi_holder_keep(holder, inbox, NULL))
                answer = DTLSFFI_RAISED;
        } while (answer >= DTLSFFI_MORE);
    dtlsffi_inbox_give_back(inbox);
    return answer;
}
