/* Who holds the GIL, and when.
 *
 * cffi lets go of the GIL around every call, and taking it back costs a whole switch interval (5 ms) when another
 * thread computes: a record would cost milliseconds. So gil.h makes the generated wrappers keep it, and the few
 * calls that are long (a handshake's step, a batch) or that have to wait for another thread (lock.c) let go here.
 *
 * Two rules keep this free of deadlock. A thread that waits for a connection's lock has let go of the GIL. And
 * whoever has let go of it asks for it when the connection has been left, or before it is entered: in a daemon
 * thread it may never come back (the interpreter ends), and a lock that was kept would stop whoever closes the
 * connection then.
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

/* Whether it is the main interpreter, and not a sub-interpreter, that calls. */
bool dtlsffi_gil_is_main(void)
{
    return PyInterpreterState_GetID(PyInterpreterState_Get()) == 0;
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

bool dtlsffi_gil_is_main(void)
{
    return true;
}

#endif

/* ---- for the time of some work ---- */

#define LONG 64         /* records, some 50 us: worth letting others go on */
#define VERY_LONG 4096  /* some 4 ms: as long as it may take to get the GIL back */
#define SLOW 1000000    /* ns to get it back: somebody computes */
#define KEEPING 16      /* times as long it is kept then */

static _Atomic(int64_t) kept_until;

/* Lets go of the GIL for work that takes as long as so many records, so that other threads go on with theirs. Where
 * one of them computes, it takes milliseconds to get back, longer than the work: then the GIL is kept for a while. */
void *dtlsffi_gil_release_for(uint32_t records)
{
    if (records < LONG)
        return NULL;
    if (records < VERY_LONG && dtlsffi_nanoseconds() < atomic_load_explicit(&kept_until, memory_order_relaxed))
        return NULL;
    return dtlsffi_gil_release();
}

void dtlsffi_gil_retake_after(void *token)
{
    int64_t begin, end;

    if (token == NULL)
        return;
    begin = dtlsffi_nanoseconds();
    dtlsffi_gil_retake(token);
    end = dtlsffi_nanoseconds();
    if (end - begin > SLOW)
        atomic_store_explicit(&kept_until, end + KEEPING * (end - begin), memory_order_relaxed);
}

/* ---- callbacks ---- */

static _Thread_local int callbacks;

/* For the time of a callback, which has it: returns what dtlsffi_gil_away() is to be given afterwards. Errors that a
 * callback leaves in OpenSSL's queue are none of the connection's, which SSL_get_error(3) would take them for. */
bool dtlsffi_gil_home(void)
{
    bool was = is_away;

    is_away = false;
    callbacks++;
    (void)ERR_set_mark();
    return was;
}

void dtlsffi_gil_away(bool away)
{
    (void)ERR_pop_to_mark();
    callbacks--;
    is_away = away;
}

/* How many callbacks this thread is in: it holds their connections' locks. */
int dtlsffi_gil_callbacks(void)
{
    return callbacks;
}
