/* The methods of a Connection that every record passes through: a frame of Python's takes longer than all else that is
 * ours. Whatever is out of the ordinary is for Python's methods to see about, which get the answer. */
#include "objects.h"

#include <string.h>

static PyObject *parked_name;

/* Whether no callback has raised anything: without a handle there is none. */
bool dtlsffi_methods_quiet(PyObject *connection, const dtlsffi_conn *conn)
{
    PyObject *parked;

    if (conn->handle == NULL)
        return true;
    parked = PyObject_GetAttr(connection, parked_name);
    Py_XDECREF(parked);
    if (parked == NULL)
        PyErr_Clear();
    return parked == Py_None;
}

/* send(data) */
static PyObject *send_one(PyObject *self, PyObject *data)
{
    dtlsffi_conn *conn = dtlsffi_holder_conn(self);
    long answer;

    if (conn == NULL)
        return NULL;
    answer = dtlsffi_objects_send(conn, data);
    if (answer == DTLSFFI_RAISED)
        return NULL;
    if (answer > 0 && dtlsffi_methods_quiet(self, conn))
        return PyLong_FromLong(answer);
    return PyObject_CallMethod(self, "_sent", "l[O]", answer, data);
}

/* receive_datagram(data) */
static PyObject *receive(PyObject *self, PyObject *data)
{
    dtlsffi_conn *conn = dtlsffi_holder_conn(self);
    PyObject *bytes = conn == NULL ? NULL : dtlsffi_objects_bytes(data, "data");
    long answer;

    if (bytes == NULL)
        return NULL;
    answer = dtlsffi_open_one(self, conn, dtlsffi_objects_span(bytes));
    Py_DECREF(bytes);
    if (answer == DTLSFFI_RAISED)
        return NULL;
    if (answer >= 0 && !conn->ctx_data->watched && dtlsffi_methods_quiet(self, conn))
        return Py_NewRef(Py_None);
    return PyObject_CallMethod(self, "_after", "l", answer);
}

/* datagrams_to_send() */
static PyObject *take(PyObject *self, PyObject *unused)
{
    dtlsffi_conn *conn = dtlsffi_holder_conn(self);
    PyObject *datagrams = conn == NULL ? NULL : PyList_New(0);
    const uint8_t *at;
    bool good = true;

    (void)unused;
    if (datagrams == NULL || dtlsffi_conn_lock(conn) != 0)
        return datagrams;
    at = conn->out.data;
    for (size_t i = 0; good && i < conn->out.count; at += conn->out.length[i++])
        good = dtlsffi_objects_append(datagrams, at, conn->out.length[i]);
    if (good)
        dtlsffi_outbox_empty(&conn->out);
    dtlsffi_conn_unlock(conn);
    if (!good)
        Py_CLEAR(datagrams);
    return datagrams;
}

/* data_received() */
static PyObject *take_records(PyObject *self, PyObject *unused)
{
    (void)unused;
    return dtlsffi_holder_take(self);
}

static dtlsffi_method methods[] = {
    {"($self, /)", {"data_received", take_records, METH_NOARGS, NULL}},
    {"($self, /)", {"datagrams_to_send", take, METH_NOARGS, NULL}},
    {"($self, data, /)", {"receive_datagram", receive, METH_O, NULL}},
    {"($self, data, /)", {"send", send_one, METH_O, NULL}},
};

/* Has a Connection's class have them. */
bool dtlsffi_methods_equip(PyObject *type)
{
    parked_name = PyUnicode_InternFromString("_parked");
    return parked_name != NULL && dtlsffi_objects_equip(type, methods, sizeof(methods) / sizeof(*methods));
}
