/* Included by the generated module only, before its wrappers: they keep the GIL. See gil.c for why and for the
 * exceptions. */
#ifndef DTLSFFI_GIL_H
#define DTLSFFI_GIL_H

#include "compat.h"

#if DTLSFFI_KEEPS_GIL
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
#endif

#endif
