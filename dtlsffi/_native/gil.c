/* Who holds the GIL, and when.
 *
 * cffi lets go of the GIL around every call, and taking it back costs a whole switch interval (5 ms) when another
 * thread computes: a record would cost milliseconds. So gil.h makes the generated wrappers keep it, and the few calls
 * that are long (a handshake's step) or that have to wait for another thread (lock.c) let go here.
 *
 * The rule that keeps this free of deadlock: a thread that waits for a connection's lock has let go of the GIL.
 */
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

#include "core.h"

#if DTLSFFI_KEEPS_GIL

void *dtlsffi_gil_release(void)
{
    return PyEval_SaveThread();
}

void dtlsffi_gil_retake(void *token)
{
    PyEval_RestoreThread((PyThreadState *)token);
}

#else

void *dtlsffi_gil_release(void)
{
    return NULL;
}

void dtlsffi_gil_retake(void *token)
{
    (void)token;
}

#endif
