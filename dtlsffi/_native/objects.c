/* Records and datagrams as Python's own objects: `bytes` in, `bytes` out. */
#include "objects.h"

/* Whether a call has as many arguments as it takes; else there is an exception. */
bool dtlsffi_objects_counted(Py_ssize_t count, Py_ssize_t least, Py_ssize_t most)
{
    if (count >= least && count <= most)
        return true;
    PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", count, count < least ? least : most);
    return false;
}

/* A piece of scratch memory, or NULL with an exception. */
void *dtlsffi_objects_lend(dtlsffi_scratch *scratch)
{
    void *piece = dtlsffi_scratch_lend(scratch);

    if (piece == NULL)
        PyErr_NoMemory();
    return piece;
}

/* ---- in ---- */

static void refuse(PyObject *item, const char *what)
{
    PyObject *name;

    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return;
    PyErr_Clear();
    name = PyObject_GetAttrString((PyObject *)Py_TYPE(item), "__name__");
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "%s is bytes or a buffer of them, not %U", what, name);
    Py_XDECREF(name);
}

/* The bytes of any buffer: themselves, or a copy. `what` is what a TypeError calls it. */
PyObject *dtlsffi_objects_bytes(PyObject *item, const char *what)
{
    PyObject *view, *bytes;

    if (PyBytes_CheckExact(item))
        return Py_NewRef(item);
    view = PyMemoryView_FromObject(item);
    if (view == NULL) {
        refuse(item, what);
        return NULL;
    }
    bytes = PyBytes_FromObject(view);
    Py_DECREF(view);
    return bytes;
}

dtlsffi_span dtlsffi_objects_span(PyObject *bytes)
{
    char *data = NULL;
    Py_ssize_t length = 0;

    (void)PyBytes_AsStringAndSize(bytes, &data, &length);
    return (dtlsffi_span){(const uint8_t *)data, (size_t)length};
}

/* `dtlsffi_conn_send` of any buffer, or DTLSFFI_RAISED. */
long dtlsffi_objects_send(dtlsffi_conn *conn, PyObject *data)
{
    PyObject *bytes = dtlsffi_objects_bytes(data, "data");
    dtlsffi_span span;
    long answer;

    if (bytes == NULL)
        return DTLSFFI_RAISED;
    span = dtlsffi_objects_span(bytes);
    answer = dtlsffi_conn_send(conn, span.data, span.length);
    Py_DECREF(bytes);
    return answer;
}

/* Room for `count` pieces. */
static bool make_room(dtlsffi_load *l, Py_ssize_t count, bool by_many)
{
    l->count = (uint32_t)count;
    l->spans = l->few_spans;
    l->conns = by_many ? l->few_conns : NULL;
    if (count <= DTLSFFI_FEW)
        return true;
    l->spans = OPENSSL_malloc((size_t)count * sizeof(*l->spans));
    l->conns = by_many ? OPENSSL_malloc((size_t)count * sizeof(dtlsffi_conn *)) : NULL;
    if (l->spans != NULL && (l->conns != NULL || !by_many))
        return true;
    PyErr_NoMemory();
    return false;
}

void dtlsffi_load_release(dtlsffi_load *l)
{
    if (l->spans != l->few_spans)
        OPENSSL_free(l->spans);
    if (l->conns != l->few_conns)
        OPENSSL_free((void *)l->conns);
    Py_XDECREF(l->items);
}

/* Which connection an item of `Endpoint.send_many` is for; its data is `*data`, borrowed. */
static dtlsffi_conn *conn_of_item(PyObject *item, PyObject **data)
{
    PyObject *holder;

    if (!PyTuple_Check(item) || PyTuple_Size(item) != 2) {
        PyErr_SetString(PyExc_TypeError, "each item is a tuple of a connection and its data");
        return NULL;
    }
    *data = PyTuple_GetItem(item, 1);
    holder = PyTuple_GetItem(item, 0);
    if (!dtlsffi_holder_check(holder)) {
        PyErr_SetString(PyExc_TypeError, "each item begins with a connection of the endpoint's");
        return NULL;
    }
    return dtlsffi_holder_conn(holder);
}

/* Has a copy of data that was not bytes take its place. */
static bool replace(dtlsffi_load *l, Py_ssize_t i, PyObject *bytes)
{
    PyObject *item = bytes;

    if (l->conns != NULL)
        item = Py_BuildValue("(ON)", PyTuple_GetItem(PyList_GetItem(l->items, i), 0), bytes);
    return item != NULL && PyList_SetItem(l->items, i, item) == 0;
}

static bool load_one(dtlsffi_load *l, Py_ssize_t i, bool empty)
{
    PyObject *item = PyList_GetItem(l->items, i), *data = item, *bytes;

    if (l->conns != NULL && (l->conns[i] = conn_of_item(item, &data)) == NULL)
        return false;
    if (!PyBytes_CheckExact(data)) {
        bytes = dtlsffi_objects_bytes(data, "each datagram");
        if (bytes == NULL || !replace(l, i, bytes))
            return false;
        data = bytes;
    }
    l->spans[i] = dtlsffi_objects_span(data);
    if (l->spans[i].length != 0 || empty)
        return true;
    PyErr_SetString(PyExc_ValueError, "an empty datagram cannot be sent: DTLS has no empty record to carry it");
    return false;
}

/* Has the memory of the connections that items begin with on its way, instead of waiting for each one's in turn. */
static void look_ahead(PyObject *items, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(items, i);

        if (PyTuple_Check(item) && PyTuple_Size(item) == 2)
            __builtin_prefetch(PyTuple_GetItem(item, 0), 1);
    }
}

/* What a call is given; empty pieces are for those who say so. Returns false with an exception. */
bool dtlsffi_load_gather(dtlsffi_load *l, PyObject *items, bool by_many, bool empty)
{
    l->spans = l->few_spans;
    l->conns = l->few_conns;
    l->items = PySequence_List(items);
    if (l->items == NULL || !make_room(l, PyList_Size(l->items), by_many))
        return false;
    if (by_many)
        look_ahead(l->items, (Py_ssize_t)l->count);
    for (Py_ssize_t i = 0; i < (Py_ssize_t)l->count; i++)
        if (!load_one(l, i, empty))
            return false;
    return true;
}

/* ---- out ---- */

bool dtlsffi_objects_append(PyObject *list, const uint8_t *data, size_t length)
{
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)length);
    bool good = bytes != NULL && PyList_Append(list, bytes) == 0;

    Py_XDECREF(bytes);
    return good;
}

/* A record that has been read into an object of its own, which is as long as its datagram allowed. */
static bool append_placed(PyObject *list, PyObject *bytes, size_t length)
{
    dtlsffi_span span = dtlsffi_objects_span(bytes);

    return span.length == length ? PyList_Append(list, bytes) == 0 : dtlsffi_objects_append(list, span.data, length);
}

/* Has the records of an inbox at the end of a list; `placed` are those that went to places of their own. */
bool dtlsffi_inbox_hand_out(dtlsffi_inbox *inbox, PyObject *const *placed, PyObject *records)
{
    const uint8_t *at = inbox->data;

    for (uint32_t i = 0; i < inbox->count; i++) {
        uint32_t length = inbox->length[i];

        if ((length & DTLSFFI_PLACED) != 0) {
            if (!append_placed(records, *placed++, length & ~DTLSFFI_PLACED))
                return false;
        } else {
            if (!dtlsffi_objects_append(records, at, length))
                return false;
            at += length;
        }
    }
    inbox->count = inbox->used = 0;
    return true;
}

/* A pair of a connection and its record. */
static bool append_pair(PyObject *list, PyObject *owner, const uint8_t *data, size_t length)
{
    PyObject *bytes, *pair = NULL;
    bool good;

    Py_INCREF(owner); /* a tuple may have garbage collected */
    bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)length);
    if (bytes != NULL)
        pair = PyTuple_Pack(2, owner, bytes);
    good = pair != NULL && PyList_Append(list, pair) == 0;
    Py_XDECREF(pair);
    Py_XDECREF(bytes);
    Py_DECREF(owner);
    return good;
}

/* The same, each with its connection, which `slots` has by its number, and in `odd` those to whom something else has
 * happened. None is for one that is gone. */
bool dtlsffi_inbox_hand_out_by_owner(const dtlsffi_inbox *inbox, PyObject *slots, PyObject *records, PyObject *odd)
{
    const uint8_t *at = inbox->data;
    PyObject *owner;

    for (uint32_t i = 0; i < inbox->count; i++)
        __builtin_prefetch(PyList_GetItem(slots, inbox->owner[i]), 1);
    for (uint32_t i = 0; i < inbox->count; at += inbox->length[i++])
        if ((owner = PyList_GetItem(slots, inbox->owner[i])) == NULL
            || (owner != Py_None && !append_pair(records, owner, at, inbox->length[i])))
            return false;
    for (uint32_t i = 0; i < inbox->odd_count; i++)
        if ((owner = PyList_GetItem(slots, inbox->odd[i])) == NULL || PyList_Append(odd, owner) != 0)
            return false;
    return true;
}

/* ---- what lies between ---- */

static dtlsffi_scratch inboxes = {.size = sizeof(dtlsffi_inbox)};

/* An empty one, for the time of a call, or NULL with an exception. */
dtlsffi_inbox *dtlsffi_inbox_lend(void)
{
    dtlsffi_inbox *inbox = dtlsffi_objects_lend(&inboxes);

    if (inbox == NULL)
        return NULL;
    inbox->count = inbox->used = inbox->odd_count = 0;
    inbox->place = NULL;
    return inbox;
}

void dtlsffi_inbox_give_back(dtlsffi_inbox *inbox)
{
    dtlsffi_scratch_give_back(&inboxes, inbox);
}

/* A record that has been read into an inbox, which is given back: its bytes, or NULL where there is none or where,
 * since a callback has raised something (`quiet` is false), it is kept for the next call. */
PyObject *dtlsffi_inbox_take(dtlsffi_inbox *inbox, dtlsffi_conn *conn, int length, bool quiet)
{
    PyObject *record = NULL;

    if (length > 0 && quiet)
        record = PyBytes_FromStringAndSize((const char *)inbox->data, length);
    if (length > 0 && record == NULL)
        dtlsffi_conn_keep_record(conn, inbox->data, (size_t)length);
    dtlsffi_inbox_give_back(inbox);
    return record;
}

/* ---- methods ---- */

/* The docstring of what stands for a method so far, behind its signature; it stays for as long as the method does. */
static char *document(const dtlsffi_method *m, PyObject *type)
{
    PyObject *stands = PyObject_GetAttrString(type, m->method.ml_name);
    PyObject *words = stands == NULL ? NULL : PyObject_GetAttrString(stands, "__doc__");
    PyObject *text
        = words == NULL ? NULL : PyUnicode_FromFormat("%s%s\n--\n\n%S", m->method.ml_name, m->signature, words);
    const char *data = text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, NULL);
    char *copy = data == NULL ? NULL : OPENSSL_strdup(data);

    Py_XDECREF(stands);
    Py_XDECREF(words);
    Py_XDECREF(text);
    if (copy == NULL && !PyErr_Occurred())
        PyErr_NoMemory();
    return copy;
}

static bool put(dtlsffi_method *m, PyObject *type)
{
    PyObject *method;
    bool good;

    m->method.ml_doc = document(m, type);
    if (m->method.ml_doc == NULL)
        return false;
    method = PyDescr_NewMethod((PyTypeObject *)type, &m->method);
    good = method != NULL && PyObject_SetAttrString(type, m->method.ml_name, method) == 0;
    Py_XDECREF(method);
    return good;
}

/* Puts methods into the places of those in a class that stand for them. Returns false with an exception. */
bool dtlsffi_objects_equip(PyObject *type, dtlsffi_method *methods, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!put(&methods[i], type))
            return false;
    return true;
}
