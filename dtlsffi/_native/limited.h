/* Python's limited API, so that one build serves every version. Free-threaded Python has none yet. */
#ifndef DTLSFFI_LIMITED_H
#define DTLSFFI_LIMITED_H

#include <pyconfig.h> /* which says whether it is one */

#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

#endif
