/* The methods of a DTLSSocket that every record passes through, for as long as nothing is in their way: `_send`,
 * `_recv` and `_recv_into`, which are Python's, are for the rest.
 */
#include "objects.h"

#define LULLS 8 /* calls that wait without a look, once one has looked in vain: that is a system call less */

static PyObject *connection_name, *timeout_name;

/* Which of them may go on without Python, or not any more: DTLSFFI_MAY_... None may where the socket has gone. */
void dtlsffi_conn_allow(dtlsffi_conn *conn, int what)
{
    (void)__atomic_fetch_or(&conn->allowed, (uint8_t)what, __ATOMIC_RELAXED);
}

void dtlsffi_conn_forbid(dtlsffi_conn *conn, int what)
{
    (void)__atomic_fetch_and(&conn->allowed, (uint8_t)~what, __ATOMIC_RELAXED);
}

/* How many calls of recv() or recv_into() are to wait before they look. */
int dtlsffi_conn_lulls(const dtlsffi_conn *conn)
{
    return conn->lulls;
}

static bool may(const dtlsffi_conn *conn, int what)
{
    return (__atomic_load_n(&conn->allowed, __ATOMIC_RELAXED) & what) != 0 && !conn->detached;
}

/* Its Connection, which it has for ever, and `*conn` that one's C side; NULL with an exception. */
static PyObject *connection_of(PyObject *self, dtlsffi_conn **conn)
{
    PyObject *connection = PyObject_GetAttr(self, connection_name);

    Py_XDECREF(connection);
    *conn = connection == NULL ? NULL : dtlsffi_holder_conn_of(connection);
    return *conn == NULL ? NULL : connection;
}

/* The arguments that have names, as a dictionary, or NULL with an exception; their values are behind the others. */
static PyObject *named(PyObject *const *values, PyObject *names)
{
    PyObject *found = PyDict_New();

    for (Py_ssize_t i = 0; found != NULL && names != NULL && i < PyTuple_Size(names); i++)
        if (PyDict_SetItem(found, PyTuple_GetItem(names, i), values[i]) != 0)
            Py_CLEAR(found);
    return found;
}

/* The same call of another method. */
static PyObject *ask(PyObject *self, const char *name, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *method = PyObject_GetAttrString(self, name);
    PyObject *others = named(arguments + count, names);
    PyObject *first = PyTuple_New(count);
    PyObject *answer = NULL;

    for (Py_ssize_t i = 0; first != NULL && i < count; i++)
        (void)PyTuple_SetItem(first, i, Py_NewRef(arguments[i]));
    if (method != NULL && others != NULL && first != NULL)
        answer = PyObject_Call(method, first, others);
    Py_XDECREF(first);
    Py_XDECREF(others);
    Py_XDECREF(method);
    return answer;
}

/* send(data, flags=0) */
static PyObject *send_one(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    dtlsffi_conn *conn;
    PyObject *connection = connection_of(self, &conn);
    long answer;

    if (connection == NULL)
        return NULL;
    if (count != 1 || names != NULL || !may(conn, DTLSFFI_MAY_SEND))
        return ask(self, "_send", arguments, count, names);
    answer = dtlsffi_objects_send(conn, arguments[0]);
    if (answer == DTLSFFI_RAISED)
        return NULL;
    if (answer > 0 && dtlsffi_methods_quiet(connection, conn))
        return PyLong_FromLong(answer);
    return PyObject_CallMethod(self, "_sent", "lO", answer, arguments[0]);
}

/* Whether a buffer size is one, above 0, for which nothing needs to be said. */
static bool as_limit(PyObject *size, size_t *limit)
{
    if (size == Py_None)
        return true;
    if (!PyLong_CheckExact(size))
        return false;
    *limit = PyLong_AsSize_t(size);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    if (*limit > DTLSFFI_RECORD_MAX)
        *limit = DTLSFFI_RECORD_MAX;
    return *limit > 0;
}

#define LONGEST 2592000.0 /* seconds, a month */

/* How long recv(2) is to wait: microseconds, at least one; 0 is for ever, as None is, and -1 not at all, as 0 is. */
static int64_t patience(PyObject *timeout)
{
    double seconds;

    if (timeout == Py_None)
        return 0;
    seconds = PyFloat_AsDouble(timeout);
    if (seconds == 0)
        return -1;
    return seconds < LONGEST ? (int64_t)(seconds * 1e6) + 1 : (int64_t)(LONGEST * 1e6);
}

/* Waits for the next datagram, unless the socket never waits. */
static int wait_for_record(PyObject *self, dtlsffi_conn *conn, dtlsffi_inbox *inbox, const dtlsffi_room *room)
{
    PyObject *timeout = PyObject_GetAttr(self, timeout_name);
    int64_t microseconds = timeout == NULL ? -1 : patience(timeout);
    uint8_t lulls = conn->lulls;

    Py_XDECREF(timeout);
    conn->lulls = microseconds < 0 ? 0 : (uint8_t)((lulls == 0 ? LULLS : lulls) - 1);
    return microseconds < 0 ? DTLSFFI_WANT_READ : dtlsffi_conn_wait(conn, microseconds, inbox, room);
}

/* The next record's length, or why there is none; `*begin` is when there was none yet. */
static int look_or_wait(PyObject *self, PyObject *connection, dtlsffi_conn *conn, dtlsffi_inbox *inbox,
                        const dtlsffi_room *room, double *begin)
{
    int answer = DTLSFFI_WANT_READ;

    if (conn->lulls == 0)
        answer = dtlsffi_conn_read(conn, room->data, room->size, room->limit);
    if (answer != DTLSFFI_WANT_READ)
        return answer;
    *begin = (double)dtlsffi_nanoseconds() * 1e-9;
    return dtlsffi_methods_quiet(connection, conn) ? wait_for_record(self, conn, inbox, room) : answer;
}

/* What Python is told: a record that is there is kept, since a callback has raised something, which is to be raised. */
static int why_none(int answer)
{
    return answer > 0 ? DTLSFFI_WANT_READ : answer;
}

/* recv(bufsize=None, flags=0) */
static PyObject *receive(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    dtlsffi_conn *conn;
    PyObject *connection = connection_of(self, &conn);
    dtlsffi_room room = {NULL, DTLSFFI_RECORD_MAX, DTLSFFI_RECORD_MAX};
    dtlsffi_inbox *inbox;
    PyObject *record;
    double begin = 0;
    int answer;

    if (connection == NULL)
        return NULL;
    if (count > 1 || names != NULL || (count == 1 && !as_limit(arguments[0], &room.limit))
        || !may(conn, DTLSFFI_MAY_READ))
        return ask(self, "_recv", arguments, count, names);
    inbox = dtlsffi_inbox_lend();
    if (inbox == NULL)
        return NULL;
    room.data = inbox->data;
    answer = look_or_wait(self, connection, conn, inbox, &room, &begin);
    record = dtlsffi_inbox_take(inbox, conn, answer, answer > 0 && dtlsffi_methods_quiet(connection, conn));
    if (record != NULL || PyErr_Occurred())
        return record;
    return PyObject_CallMethod(self, "_not_received", "ind", why_none(answer), (Py_ssize_t)room.limit, begin);
}

/* Whether a number of bytes, if there is one, needs no further thought: the room it leaves a record in a bytearray. */
static bool as_room(PyObject *const *arguments, Py_ssize_t count, dtlsffi_room *room)
{
    size_t whole = (size_t)PyByteArray_Size(arguments[0]), most = whole;

    if (count > 2 || (count == 2 && !as_limit(arguments[1], &most)))
        return false; /* of 0 bytes, too, which stands for all of them */
    room->data = (uint8_t *)PyByteArray_AsString(arguments[0]);
    room->limit = room->size = most < whole ? most : whole; /* what is behind is not ours, however long the record is */
    return room->size > 0;
}

/* recv_into(buffer, nbytes=None, flags=0), into a bytearray that keeps its size meanwhile */
static PyObject *receive_into(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    dtlsffi_conn *conn;
    PyObject *connection = connection_of(self, &conn);
    PyObject *view = NULL;
    dtlsffi_inbox *inbox = NULL;
    dtlsffi_room room;
    double begin = 0;
    bool quiet;
    int answer;

    if (connection == NULL)
        return NULL;
    if (count > 0 && PyByteArray_CheckExact(arguments[0]))
        view = PyMemoryView_FromObject(arguments[0]);
    if (view != NULL && names == NULL && as_room(arguments, count, &room) && may(conn, DTLSFFI_MAY_READ))
        inbox = dtlsffi_inbox_lend();
    if (inbox == NULL) {
        PyErr_Clear();
        Py_XDECREF(view);
        return ask(self, "_recv_into", arguments, count, names);
    }
    answer = look_or_wait(self, connection, conn, inbox, &room, &begin);
    quiet = answer > 0 && dtlsffi_methods_quiet(connection, conn);
    if (answer > 0 && !quiet)
        dtlsffi_conn_keep_record(conn, room.data, (size_t)answer);
    dtlsffi_inbox_give_back(inbox);
    Py_DECREF(view);
    if (quiet)
        return PyLong_FromLong(answer);
    if (PyErr_Occurred())
        return NULL;
    return PyObject_CallMethod(self, "_not_received_into", "iOnd", why_none(answer), arguments[0],
                               (Py_ssize_t)room.limit, begin);
}

static dtlsffi_method methods[] = {
    {"($self, bufsize=None, flags=0)", {"recv", (PyCFunction)(void *)receive, METH_FASTCALL | METH_KEYWORDS, NULL}},
    {"($self, buffer, nbytes=None, flags=0)",
     {"recv_into", (PyCFunction)(void *)receive_into, METH_FASTCALL | METH_KEYWORDS, NULL}},
    {"($self, data, flags=0)", {"send", (PyCFunction)(void *)send_one, METH_FASTCALL | METH_KEYWORDS, NULL}},
};

/* Has a DTLSSocket's class have them. */
bool dtlsffi_socket_methods_equip(PyObject *type)
{
    connection_name = PyUnicode_InternFromString("_connection");
    timeout_name = PyUnicode_InternFromString("_timeout");
    return connection_name != NULL && timeout_name != NULL
           && dtlsffi_objects_equip(type, methods, sizeof(methods) / sizeof(*methods));
}
