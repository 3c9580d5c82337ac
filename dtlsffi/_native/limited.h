/* Python's limited API, so that one build serves every version. Free-threaded Python has none yet. */
#ifndef DTLSFFI_LIMITED_H
#define DTLSFFI_LIMITED_H

#include <pyconfig.h> /* which says whether it is one */

#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

/* Around what no other thread may do meanwhile with the same object: nothing where there is a GIL. */
#ifdef Py_GIL_DISABLED
#define DTLSFFI_ALONE_WITH(object) Py_BEGIN_CRITICAL_SECTION(object)
#define DTLSFFI_NOT_ALONE() Py_END_CRITICAL_SECTION()
#else
#define DTLSFFI_ALONE_WITH(object) {
#define DTLSFFI_NOT_ALONE() }
#endif

#endif
