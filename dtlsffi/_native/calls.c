/* The calls that every record passes through: built-in functions of Python's, which take and give its own objects.
 *
 * cffi has all the other calls. By it, a record would be converted three times over (an argument, a struct of
 * lengths, a slice of a buffer), which takes the interpreter longer than the rest of the way. These are quicker to
 * call, too. Under a connection's lock Python runs only where a handshake asks something (callbacks.c): lists are
 * made before, and no garbage is collected for the sake of `bytes`.
 */
#include "objects.h"

static dtlsffi_scratch outgoings = {.size = sizeof(dtlsffi_outgoing)};

static void *address(PyObject *number)
{
    return PyLong_AsVoidPtr(number);
}

static PyObject *answered(long answer)
{
    return answer == DTLSFFI_RAISED ? NULL : PyLong_FromLong(answer);
}

/* claim(connection): sees to it that nobody has made, or makes, the C side of a connection's object yet. */
static PyObject *claim(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    return dtlsffi_objects_counted(count, 1, 1) && dtlsffi_holder_claim(arguments[0]) ? Py_NewRef(Py_None) : NULL;
}

/* hold(connection, conn): has such an object own the C side of it, given by its address. */
static PyObject *hold(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    if (!dtlsffi_objects_counted(count, 2, 2) || !dtlsffi_holder_check(arguments[0]))
        return NULL;
    return dtlsffi_holder_own(arguments[0], address(arguments[1])) ? Py_NewRef(Py_None) : NULL;
}

/* locked(connection, value): what `with` has of a connection. */
static PyObject *locked(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    return dtlsffi_objects_counted(count, 2, 2) ? dtlsffi_locked_new(arguments[0], arguments[1]) : NULL;
}

/* equip(type): puts the methods of methods.c into the places of those that stand for them. */
static PyObject *equip(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    return dtlsffi_objects_counted(count, 1, 1) && dtlsffi_methods_equip(arguments[0]) ? Py_NewRef(Py_None) : NULL;
}

/* equip_socket(type): the same with those of socket_methods.c. */
static PyObject *equip_socket(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    bool done = dtlsffi_objects_counted(count, 1, 1) && dtlsffi_socket_methods_equip(arguments[0]);

    return done ? Py_NewRef(Py_None) : NULL;
}

/* send(connection, data[, udp]): `dtlsffi_conn_send`, or 0 where it would not go over that socket. */
static PyObject *send_one(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = dtlsffi_objects_counted(count, 2, 3) ? dtlsffi_holder_conn_of(arguments[0]) : NULL;

    (void)self;
    if (conn == NULL)
        return NULL;
    if (count == 3 && conn->udp != address(arguments[2]))
        return answered(0);
    return answered(dtlsffi_objects_send(conn, arguments[1]));
}

/* send_all(connection, buffers): one record each into memory; how many, or why there are none. */
static PyObject *send_all(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = dtlsffi_objects_counted(count, 2, 2) ? dtlsffi_holder_conn_of(arguments[0]) : NULL;
    dtlsffi_load l;
    long answer = DTLSFFI_RAISED;

    (void)self;
    if (conn == NULL)
        return NULL;
    if (dtlsffi_load_gather(&l, arguments[1], false, false))
        answer = dtlsffi_conn_send_all(conn, l.spans, l.count);
    dtlsffi_load_release(&l);
    return answered(answer);
}

/* Whether all are of the endpoint that has the socket, or were; else there is an exception. */
static bool are_its_own(const dtlsffi_load *l, const dtlsffi_udp *udp)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->conns[i]->udp == udp || l->conns[i]->detached)
            continue;
        PyErr_SetString(PyExc_ValueError, "each item begins with a connection of this endpoint's");
        return false;
    }
    return true;
}

/* Sends over a socket what `conn` is given, or what many are, each with its own (NULL). */
static PyObject *send_over(dtlsffi_conn *conn, dtlsffi_udp *udp, PyObject *items)
{
    dtlsffi_load l;
    long answer = DTLSFFI_RAISED;
    dtlsffi_outgoing *out = dtlsffi_objects_lend(&outgoings);

    if (out == NULL)
        return NULL;
    if (dtlsffi_load_gather(&l, items, conn == NULL, false) && (conn != NULL || are_its_own(&l, udp))) {
        answer = conn != NULL ? dtlsffi_conn_send_many(conn, udp, l.spans, l.count, out)
                              : dtlsffi_endpoint_send_many(l.conns, udp, l.spans, l.count, out);
        answer = answer > 0 ? answer : out->answer;
    }
    dtlsffi_load_release(&l);
    dtlsffi_scratch_give_back(&outgoings, out);
    return answered(answer);
}

/* send_many(connection, udp, buffers): a record each over its own socket; how many, or why there are none. */
static PyObject *send_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = dtlsffi_objects_counted(count, 3, 3) ? dtlsffi_holder_conn_of(arguments[0]) : NULL;

    (void)self;
    return conn == NULL ? NULL : send_over(conn, address(arguments[1]), arguments[2]);
}

/* send_by_many(udp, [(connection, data), ...]): the same over a socket that many share. */
static PyObject *send_by_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    return dtlsffi_objects_counted(count, 2, 2) ? send_over(NULL, address(arguments[0]), arguments[1]) : NULL;
}

/* receive_all(connection, datagrams): takes each, until one has ended the connection; keeps their records. */
static PyObject *receive_all(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_load l;
    long answer = DTLSFFI_RAISED;

    (void)self;
    if (!dtlsffi_objects_counted(count, 2, 2) || dtlsffi_holder_conn_of(arguments[0]) == NULL)
        return NULL;
    if (dtlsffi_load_gather(&l, arguments[1], false, true))
        answer = dtlsffi_open(arguments[0], l.spans, l.count, NULL);
    dtlsffi_load_release(&l);
    return answered(answer);
}

/* receive_batch(connection, batch, records): takes what a socket has given; its records come at the end of a list. */
static PyObject *receive_batch(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    if (!dtlsffi_objects_counted(count, 3, 3) || dtlsffi_holder_conn_of(arguments[0]) == NULL)
        return NULL;
    return answered(dtlsffi_open_batch(arguments[0], address(arguments[1]), arguments[2]));
}

/* receive_rest(connection, records): takes what has waited since the last datagram. */
static PyObject *receive_rest(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    if (!dtlsffi_objects_counted(count, 2, 2) || dtlsffi_holder_conn_of(arguments[0]) == NULL)
        return NULL;
    return answered(dtlsffi_open_rest(arguments[0], arguments[1]));
}

/* Takes what there is out of a batch, until it is through or there is news of a connection, which Python has to hear of
 * before the next may fail. Answers `count` with DTLSFFI_PUMP_..., or DTLSFFI_RAISED. */
static long harvest_some(PyObject *const *arguments, dtlsffi_udp *udp, double now, PyObject *const *lists)
{
    dtlsffi_batch *batch = address(arguments[2]);
    dtlsffi_inbox *inbox = dtlsffi_inbox_lend();
    long answer = 0;
    void *gil;

    if (inbox == NULL)
        return DTLSFFI_RAISED;
    do {
        gil = dtlsffi_gil_release_for(batch->count + batch->joined);
        dtlsffi_table_harvest(address(arguments[0]), udp, batch, inbox, now);
        dtlsffi_gil_retake_after(gil);
        if (!dtlsffi_inbox_hand_out_by_owner(inbox, lists[0], lists[1], lists[2]))
            answer = DTLSFFI_RAISED;
    } while (answer == 0 && inbox->more && inbox->odd_count == 0);
    if (answer == 0)
        answer = (batch->full ? DTLSFFI_PUMP_FULL : 0) | (batch->stranger_count != 0 ? DTLSFFI_PUMP_STRANGERS : 0)
                 | (inbox->odd_count != 0 ? DTLSFFI_PUMP_ODD : 0) | (inbox->more ? DTLSFFI_PUMP_MORE : 0);
    dtlsffi_inbox_give_back(inbox);
    return answer;
}

/* pump(table, udp, batch, steps, now, slots, records, odd): what a socket has, with at most so many steps of
 * handshakes: the count of messages with DTLSFFI_PUMP_..., or -errno. With a negative number of steps it goes on
 * with the batch. */
static PyObject *pump(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_udp *udp;
    dtlsffi_batch *batch;
    long steps, came = 0, answer = 0;
    double now;

    (void)self;
    if (!dtlsffi_objects_counted(count, 8, 8))
        return NULL;
    udp = address(arguments[1]);
    batch = address(arguments[2]);
    steps = PyLong_AsLong(arguments[3]);
    now = PyFloat_AsDouble(arguments[4]);
    if (PyErr_Occurred())
        return NULL;
    if (steps >= 0) {
        came = dtlsffi_table_receive(address(arguments[0]), udp, batch);
        batch->steps = (int)steps;
    }
    if (came > 0 || steps < 0)
        answer = harvest_some(arguments, udp, now, arguments + 5);
    return answer == DTLSFFI_RAISED ? NULL : PyLong_FromLong(came | answer);
}

static PyMethodDef methods[] = {
    {"claim", (PyCFunction)(void *)claim, METH_FASTCALL, NULL},
    {"equip", (PyCFunction)(void *)equip, METH_FASTCALL, NULL},
    {"equip_socket", (PyCFunction)(void *)equip_socket, METH_FASTCALL, NULL},
    {"hold", (PyCFunction)(void *)hold, METH_FASTCALL, NULL},
    {"locked", (PyCFunction)(void *)locked, METH_FASTCALL, NULL},
    {"pump", (PyCFunction)(void *)pump, METH_FASTCALL, NULL},
    {"receive_all", (PyCFunction)(void *)receive_all, METH_FASTCALL, NULL},
    {"receive_batch", (PyCFunction)(void *)receive_batch, METH_FASTCALL, NULL},
    {"receive_rest", (PyCFunction)(void *)receive_rest, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void *)send_one, METH_FASTCALL, NULL},
    {"send_all", (PyCFunction)(void *)send_all, METH_FASTCALL, NULL},
    {"send_by_many", (PyCFunction)(void *)send_by_many, METH_FASTCALL, NULL},
    {"send_many", (PyCFunction)(void *)send_many, METH_FASTCALL, NULL},
};

static bool put_all(PyObject *functions)
{
    PyObject *holder = dtlsffi_holder_make_type();
    bool good = holder != NULL && dtlsffi_locked_prepare() && PyDict_SetItemString(functions, "Holder", holder) == 0;

    Py_XDECREF(holder);
    for (size_t i = 0; good && i < sizeof(methods) / sizeof(*methods); i++) {
        PyObject *function = PyCFunction_NewEx(&methods[i], NULL, NULL);

        good = function != NULL && PyDict_SetItemString(functions, methods[i].ml_name, function) == 0;
        Py_XDECREF(function);
    }
    if (!good)
        PyErr_Clear();
    return good;
}

/* Puts these functions into a dictionary of Python's, given by its address. Returns 0 where that has failed. */
int dtlsffi_calls_put(void *dictionary)
{
#if DTLSFFI_KEEPS_GIL
    /* This thread has the GIL; before 3.12 a sub-interpreter's would wait for itself if it asked. */
    return put_all(dictionary);
#else
    PyGILState_STATE state = PyGILState_Ensure();
    bool good = put_all(dictionary);

    PyGILState_Release(state);
    return good;
#endif
}
