/* What a Connection begins with in memory: its C side, and the records that have come for it.
 *
 * It is the class that Python's inherits from: to find six attributes of Python's took a tenth of a record's time, and
 * there was another piece of memory to be fetched behind each. The C side is freed with the object: not before every
 * `__del__` of the same garbage has been called.
 */
#include "objects.h"

typedef struct {
    PyObject_HEAD
    dtlsffi_conn *conn; /* NULL before it is made */
    uint8_t claimed;    /* somebody makes it, or has made it */
    PyObject *received; /* a list of bytes, or NULL for an empty one */
} holder;

static PyObject *holder_type;

static void dealloc(PyObject *self)
{
    holder *h = (holder *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    dtlsffi_conn_free(h->conn);
    Py_XDECREF(h->received);
    release(self);
    Py_DECREF(type);
}

static PyObject *is_established(PyObject *self, void *unused)
{
    dtlsffi_conn *conn = dtlsffi_holder_conn(self);

    (void)unused;
    return conn == NULL ? NULL : PyBool_FromLong(conn->established);
}

static PyGetSetDef properties[] = {
    {"is_established", is_established, NULL, "Whether the handshake is finished.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_getset, properties},
    {Py_tp_doc, (void *)"What holds the C side of a connection."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "dtlsffi._native.Holder",
    .basicsize = sizeof(holder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

/* The class; NULL with an exception. */
PyObject *dtlsffi_holder_make_type(void)
{
    if (holder_type == NULL)
        holder_type = PyType_FromSpec(&spec);
    return holder_type == NULL ? NULL : Py_NewRef(holder_type);
}

/* Whether that is one; else there is an exception. */
bool dtlsffi_holder_check(PyObject *object)
{
    if (PyObject_TypeCheck(object, (PyTypeObject *)holder_type))
        return true;
    PyErr_SetString(PyExc_TypeError, "a connection is needed, and this is none");
    return false;
}

static bool is_made_already(void)
{
    PyErr_SetString(PyExc_ValueError, "this connection is made already: its __init__ is called once");
    return false;
}

/* Whether that is one, and its connection is the caller's to make; else there is an exception: somebody may be at
 * it. */
bool dtlsffi_holder_claim(PyObject *object)
{
    if (!dtlsffi_holder_check(object))
        return false;
    return __atomic_exchange_n(&((holder *)object)->claimed, 1, __ATOMIC_ACQ_REL) == 0 || is_made_already();
}

/* Has such a one own a connection from now on; false, with an exception, if it has one. */
bool dtlsffi_holder_own(PyObject *self, dtlsffi_conn *conn)
{
    holder *h = (holder *)self;

    if (h->conn != NULL)
        return is_made_already();
    h->conn = conn;
    return true;
}

/* The connection of one, or NULL with an exception. */
dtlsffi_conn *dtlsffi_holder_conn(PyObject *self)
{
    dtlsffi_conn *conn = ((holder *)self)->conn;

    if (conn == NULL)
        PyErr_SetString(PyExc_ValueError, "this connection was never made: its __init__ has to be called first");
    return conn;
}

/* The same of whatever is given as one. */
dtlsffi_conn *dtlsffi_holder_conn_of(PyObject *object)
{
    return dtlsffi_holder_check(object) ? dtlsffi_holder_conn(object) : NULL;
}

/* Where records come to; borrowed. To make a list may collect garbage, and that may call anything. */
static PyObject *list_of(holder *h)
{
    PyObject *list = h->received == NULL ? PyList_New(0) : NULL;

    if (h->received == NULL)
        h->received = list;
    else
        Py_XDECREF(list);
    return h->received;
}

/* Keeps the records of an inbox until they are taken. */
bool dtlsffi_holder_keep(PyObject *self, dtlsffi_inbox *inbox, PyObject *const *placed)
{
    PyObject *list;
    bool good;

    if (inbox->count == 0)
        return true;
    DTLSFFI_ALONE_WITH(self);
    list = list_of((holder *)self);
    Py_XINCREF(list); /* another thread may take it, where a new object lets one in between */
    good = list != NULL && dtlsffi_inbox_hand_out(inbox, placed, list);
    DTLSFFI_NOT_ALONE();
    Py_XDECREF(list);
    return good;
}

/* All that have been kept. */
PyObject *dtlsffi_holder_take(PyObject *self)
{
    holder *h = (holder *)self;
    PyObject *taken;

    DTLSFFI_ALONE_WITH(self);
    taken = h->received;
    h->received = NULL;
    DTLSFFI_NOT_ALONE();
    return taken != NULL ? taken : PyList_New(0);
}
