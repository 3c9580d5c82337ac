/* Who holds the GIL, and when.
 *
 * cffi lets go of the GIL around every call, and taking it back costs a whole switch interval (5 ms) when another
 * thread computes: a record would cost milliseconds. So gil.h makes the generated wrappers keep it, and the few calls
 * that are long (a handshake's step) or that have to wait for another thread (lock.c) let go here.
 *
 * The rule that keeps this free of deadlock: a thread that waits for a connection's lock has let go of the GIL.
 */
#include "limited.h"

#include "core.h"

/* Whether this thread has let go of it. */
static _Thread_local bool is_away;

#if DTLSFFI_KEEPS_GIL

/* Does nothing, and returns NULL, where it has been let go of already. */
void *dtlsffi_gil_release(void)
{
    if (is_away)
        return NULL;
    is_away = true;
    return PyEval_SaveThread();
}

void dtlsffi_gil_retake(void *token)
{
    if (token == NULL)
        return;
    PyEval_RestoreThread((PyThreadState *)token);
    is_away = false;
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

static _Thread_local int callbacks;

/* For the time of a callback, which has it: returns what dtlsffi_gil_away() is to be given afterwards. */
bool dtlsffi_gil_home(void)
{
    bool was = is_away;

    is_away = false;
    callbacks++;
    return was;
}

void dtlsffi_gil_away(bool away)
{
    callbacks--;
    is_away = away;
}

/* How many callbacks this thread is in: it holds their connections' locks. */
int dtlsffi_gil_callbacks(void)
{
    return callbacks;
}
