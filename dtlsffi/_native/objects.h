/* What the files that know Python's objects share; see calls.c. */
#ifndef DTLSFFI_OBJECTS_H
#define DTLSFFI_OBJECTS_H

#include "limited.h"

#include "core.h"

#include <limits.h>

#define DTLSFFI_RAISED LONG_MIN /* no answer of any connection: Python has an exception */
#define DTLSFFI_FEW 256         /* pieces of data that need no memory of their own, and go with one turn of the lock */

/* Some pieces of data, and who keeps them alive. */
typedef struct {
    PyObject *items; /* a list of our own: of bytes, or of pairs with bytes */
    uint32_t count;
    dtlsffi_span *spans;
    dtlsffi_conn **conns; /* by which each goes, or NULL */
    dtlsffi_span few_spans[DTLSFFI_FEW];
    dtlsffi_conn *few_conns[DTLSFFI_FEW];
} dtlsffi_load;

/* A method; what is in front of its docstring is for inspect.signature(). */
typedef struct {
    const char *signature;
    PyMethodDef method;
} dtlsffi_method;

bool dtlsffi_objects_equip(PyObject *type, dtlsffi_method *methods, size_t count);
bool dtlsffi_objects_counted(Py_ssize_t count, Py_ssize_t least, Py_ssize_t most);
void *dtlsffi_objects_lend(dtlsffi_scratch *scratch);
long dtlsffi_objects_send(dtlsffi_conn *conn, PyObject *data);
PyObject *dtlsffi_objects_bytes(PyObject *item, const char *what);
dtlsffi_span dtlsffi_objects_span(PyObject *bytes);
bool dtlsffi_load_gather(dtlsffi_load *load, PyObject *items, bool by_many, bool empty);
void dtlsffi_load_release(dtlsffi_load *load);
bool dtlsffi_objects_append(PyObject *list, const uint8_t *data, size_t length);
dtlsffi_inbox *dtlsffi_inbox_lend(void);
void dtlsffi_inbox_give_back(dtlsffi_inbox *inbox);
PyObject *dtlsffi_inbox_take(dtlsffi_inbox *inbox, dtlsffi_conn *conn, int length, bool quiet);
bool dtlsffi_inbox_hand_out(dtlsffi_inbox *inbox, PyObject *const *placed, PyObject *records);
bool dtlsffi_inbox_hand_out_by_owner(const dtlsffi_inbox *inbox, PyObject *slots, PyObject *records, PyObject *odd);

/* holder.c */
PyObject *dtlsffi_holder_make_type(void);
bool dtlsffi_holder_check(PyObject *object);
bool dtlsffi_holder_claim(PyObject *object);
bool dtlsffi_holder_own(PyObject *self, dtlsffi_conn *conn);
dtlsffi_conn *dtlsffi_holder_conn(PyObject *self);
dtlsffi_conn *dtlsffi_holder_conn_of(PyObject *object);
bool dtlsffi_holder_keep(PyObject *self, dtlsffi_inbox *inbox, PyObject *const *placed);
PyObject *dtlsffi_holder_take(PyObject *self);

/* intake.c */
long dtlsffi_open(PyObject *holder, const dtlsffi_span *datagrams, uint32_t count, PyObject *records);
long dtlsffi_open_rest(PyObject *holder, PyObject *records);
long dtlsffi_open_batch(PyObject *holder, dtlsffi_batch *batch, PyObject *records);
long dtlsffi_open_one(PyObject *holder, dtlsffi_conn *conn, dtlsffi_span datagram);

/* locked.c */
bool dtlsffi_locked_prepare(void);
PyObject *dtlsffi_locked_new(PyObject *holder, PyObject *value);

/* methods.c */
bool dtlsffi_methods_equip(PyObject *type);
bool dtlsffi_methods_quiet(PyObject *connection, const dtlsffi_conn *conn);

/* socket_methods.c */
bool dtlsffi_socket_methods_equip(PyObject *type);

#endif
