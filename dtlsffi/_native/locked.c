/* What `with` has of a connection: its lock, for a look at it while no other thread moves it.
 *
 * It is in C so that Ctrl-C finds no moment between taking the lock and seeing that it is let go of again. Up to
 * Python 3.13 signals are looked for when `with` has its promise already (bpo-29988); later ones look when __enter__
 * has returned, and forget the object then, which lets go of the lock.
 */
#include "objects.h"

typedef struct {
    PyObject_HEAD
    PyObject *holder;
    PyObject *value; /* what `as` gets */
    bool held;
} locked;

static PyObject *locked_type;

static void dealloc(PyObject *self)
{
    locked *l = (locked *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (l->held)
        dtlsffi_conn_unlock(dtlsffi_holder_conn(l->holder));
    Py_XDECREF(l->holder);
    Py_XDECREF(l->value);
    release(self);
    Py_DECREF(type);
}

/* __enter__() */
static PyObject *enter(PyObject *self, PyObject *unused)
{
    locked *l = (locked *)self;
    int answer = dtlsffi_conn_lock(dtlsffi_holder_conn(l->holder));

    (void)unused;
    if (answer != 0)
        return PyObject_CallMethod(l->holder, "_raise", "i", answer);
    l->held = true;
    return Py_NewRef(l->value);
}

/* __exit__(kind, value, traceback) */
static PyObject *leave(PyObject *self, PyObject *unused)
{
    locked *l = (locked *)self;

    (void)unused;
    if (l->held) {
        l->held = false;
        dtlsffi_conn_unlock(dtlsffi_holder_conn(l->holder));
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"__enter__", enter, METH_NOARGS, NULL},
    {"__exit__", leave, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "dtlsffi._native.Locked",
    .basicsize = sizeof(locked),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

/* Returns false with an exception. */
bool dtlsffi_locked_prepare(void)
{
    if (locked_type == NULL)
        locked_type = PyType_FromSpec(&spec);
    return locked_type != NULL;
}

/* A new one, that gives `value`; NULL with an exception. */
PyObject *dtlsffi_locked_new(PyObject *holder, PyObject *value)
{
    locked *l;

    if (dtlsffi_holder_conn_of(holder) == NULL)
        return NULL;
    l = (locked *)PyType_GenericAlloc((PyTypeObject *)locked_type, 0);
    if (l == NULL)
        return NULL;
    l->holder = Py_NewRef(holder);
    l->value = Py_NewRef(value);
    return (PyObject *)l;
}
