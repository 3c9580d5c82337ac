/* The methods of a connection that every record passes through: a frame of Python's takes longer than all else that is
 * ours. Whatever is out of the ordinary is for Python's methods to see about, which get the answer. */
#include "objects.h"

#include <string.h>

static PyObject *parked_name, *received_name;

static dtlsffi_conn *conn_of(PyObject *self)
{
    PyObject *number = PyObject_GetAttr(self, dtlsffi_objects_at);
    dtlsffi_conn *conn = number == NULL ? NULL : PyLong_AsVoidPtr(number);

    Py_XDECREF(number);
    return conn;
}

/* Whether no callback has raised anything: without a handle there is none. */
static bool is_quiet(PyObject *self, const dtlsffi_conn *conn)
{
    PyObject *parked;

    if (conn->handle == NULL)
        return true;
    parked = PyObject_GetAttr(self, parked_name);
    Py_XDECREF(parked);
    if (parked == NULL)
        PyErr_Clear();
    return parked == Py_None;
}

/* send(data) */
static PyObject *send_one(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = conn_of(self);
    long answer;

    if (conn == NULL || !dtlsffi_objects_counted(count, 1, 1))
        return NULL;
    answer = dtlsffi_objects_send(conn, arguments[0]);
    if (answer == DTLSFFI_RAISED)
        return NULL;
    if (answer > 0 && is_quiet(self, conn))
        return PyLong_FromLong(answer);
    return PyObject_CallMethod(self, "_sent", "l[O]", answer, arguments[0]);
}

/* receive_datagram(data) */
static PyObject *receive(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = conn_of(self);
    PyObject *bytes, *records;
    dtlsffi_span span;
    long answer;

    if (conn == NULL || !dtlsffi_objects_counted(count, 1, 1))
        return NULL;
    bytes = dtlsffi_objects_bytes(arguments[0], "data");
    if (bytes == NULL)
        return NULL;
    records = PyObject_GetAttr(self, received_name);
    span = dtlsffi_objects_span(bytes);
    answer = records == NULL ? DTLSFFI_RAISED : dtlsffi_open(conn, &span, 1, records);
    Py_XDECREF(records);
    Py_DECREF(bytes);
    if (answer == DTLSFFI_RAISED)
        return NULL;
    if (answer >= 0 && !conn->ctx_data->watched && is_quiet(self, conn))
        return Py_NewRef(Py_None);
    return PyObject_CallMethod(self, "_after", "l", answer);
}

/* datagrams_to_send() */
static PyObject *take(PyObject *self, PyObject *unused)
{
    dtlsffi_conn *conn = conn_of(self);
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

/* A record that has been read into an inbox, or None where there is none yet. */
static PyObject *read_or_not(PyObject *self, dtlsffi_conn *conn, dtlsffi_inbox *inbox, int answer, size_t limit)
{
    PyObject *record = answer > 0 ? PyBytes_FromStringAndSize((const char *)inbox->data, answer) : Py_NewRef(Py_None);

    dtlsffi_inbox_give_back(inbox);
    if (record == NULL || ((answer > 0 || answer == DTLSFFI_WANT_READ) && is_quiet(self, conn)))
        return record;
    Py_DECREF(record);
    return PyObject_CallMethod(self, "_not_read", "in", answer > 0 ? 0 : answer, (Py_ssize_t)limit);
}

static dtlsffi_inbox *lend_where_good(const dtlsffi_conn *conn)
{
    return conn == NULL || PyErr_Occurred() ? NULL : dtlsffi_inbox_lend();
}

/* try_read(limit) */
static PyObject *try_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = conn_of(self);
    size_t limit = DTLSFFI_RECORD_MAX;
    dtlsffi_inbox *inbox;

    if (!dtlsffi_objects_counted(count, 0, 1))
        return NULL;
    if (count == 1)
        limit = PyLong_AsSize_t(arguments[0]);
    inbox = lend_where_good(conn);
    if (inbox == NULL)
        return NULL;
    return read_or_not(self, conn, inbox, dtlsffi_conn_read(conn, inbox->data, DTLSFFI_RECORD_MAX, limit), limit);
}

#define LONGEST 2592000.0 /* seconds, a month */

/* How long recv(2) is to wait: microseconds, at least one; 0 is for ever, as None is. */
static int64_t patience(PyObject *timeout)
{
    double seconds = timeout == Py_None ? 0 : PyFloat_AsDouble(timeout);

    if (timeout == Py_None)
        return 0;
    return seconds < LONGEST ? (int64_t)(seconds * 1e6) + 1 : (int64_t)(LONGEST * 1e6);
}

/* wait_and_read(limit, timeout) */
static PyObject *wait_and_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    dtlsffi_conn *conn = conn_of(self);
    dtlsffi_inbox *inbox;
    int64_t microseconds;
    size_t limit;

    if (!dtlsffi_objects_counted(count, 2, 2))
        return NULL;
    limit = PyLong_AsSize_t(arguments[0]);
    microseconds = patience(arguments[1]);
    inbox = lend_where_good(conn);
    if (inbox == NULL)
        return NULL;
    return read_or_not(self, conn, inbox, dtlsffi_conn_wait(conn, microseconds, inbox, limit), limit);
}

/* What is in front of a docstring is for inspect.signature(). */
typedef struct {
    const char *signature;
    PyMethodDef method;
} entry;

static entry entries[] = {
    {"($self, /)", {"datagrams_to_send", take, METH_NOARGS, NULL}},
    {"($self, data, /)", {"receive_datagram", (PyCFunction)(void *)receive, METH_FASTCALL, NULL}},
    {"($self, data, /)", {"send", (PyCFunction)(void *)send_one, METH_FASTCALL, NULL}},
    {"($self, limit=16384, /)", {"try_read", (PyCFunction)(void *)try_read, METH_FASTCALL, NULL}},
    {"($self, limit, timeout, /)", {"wait_and_read", (PyCFunction)(void *)wait_and_read, METH_FASTCALL, NULL}},
};

/* The docstring of what stands for a method so far, behind its signature; it stays for as long as the method does. */
static char *document(const entry *e, PyObject *type)
{
    PyObject *stands = PyObject_GetAttrString(type, e->method.ml_name);
    PyObject *words = stands == NULL ? NULL : PyObject_GetAttrString(stands, "__doc__");
    PyObject *text = words == NULL ? NULL : PyUnicode_FromFormat("%s%s\n--\n\n%S", e->method.ml_name, e->signature, words);
    const char *data = text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, NULL);
    char *copy = data == NULL ? NULL : OPENSSL_strdup(data);

    Py_XDECREF(stands);
    Py_XDECREF(words);
    Py_XDECREF(text);
    if (copy == NULL && !PyErr_Occurred())
        PyErr_NoMemory();
    return copy;
}

static bool put(entry *e, PyObject *type)
{
    PyObject *method;
    bool good;

    e->method.ml_doc = document(e, type);
    if (e->method.ml_doc == NULL)
        return false;
    method = PyDescr_NewMethod((PyTypeObject *)type, &e->method);
    good = method != NULL && PyObject_SetAttrString(type, e->method.ml_name, method) == 0;
    Py_XDECREF(method);
    return good;
}

bool dtlsffi_methods_put(PyObject *type)
{
    parked_name = PyUnicode_InternFromString("_parked");
    received_name = PyUnicode_InternFromString("_received");
    if (parked_name == NULL || received_name == NULL)
        return false;
    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++)
        if (!put(&entries[i], type))
            return false;
    return true;
}
