/* The lock of a connection: two atomic operations where nobody else wants it.
 *
 * The thread that holds it may take it again, so that a callback can ask its own connection for what it knows.
 */
#include "core.h"

#include <errno.h>
#include <time.h>

#define RARELY __attribute__((noinline, cold)) /* so that the quick way is short, and goes into its callers */

bool dtlsffi_lock_init(dtlsffi_lock *lock)
{
    atomic_init(&lock->owner, 0);
    atomic_init(&lock->waiting, 0);
    lock->depth = 0;
    if (pthread_mutex_init(&lock->mutex, NULL) != 0)
        return false;
    if (pthread_cond_init(&lock->released, NULL) == 0)
        return true;
    pthread_mutex_destroy(&lock->mutex);
    return false;
}

void dtlsffi_lock_destroy(dtlsffi_lock *lock)
{
    pthread_cond_destroy(&lock->released);
    pthread_mutex_destroy(&lock->mutex);
}

/* POSIX would have it a structure, for all we know; wherever there is OpenSSL it is a number or a pointer, and not
 * 0. */
static uintptr_t this_thread(void)
{
    return (uintptr_t)pthread_self();
}

static bool grab(dtlsffi_lock *lock, uintptr_t me)
{
    uintptr_t nobody = 0;

    if (!atomic_compare_exchange_strong(&lock->owner, &nobody, me))
        return false;
    lock->depth = 1;
    return true;
}

static atomic_bool ending;

/* The interpreter ends soon: a daemon thread that is in a callback then never comes back, and keeps its lock. A
 * sub-interpreter's end is nobody else's. */
void dtlsffi_lock_end(void)
{
    if (dtlsffi_gil_is_main())
        atomic_store(&ending, true);
}

/* Waits for a second, or until it has been released; whether there is any sense in going on. */
static bool wait_a_while(dtlsffi_lock *lock)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    return pthread_cond_timedwait(&lock->released, &lock->mutex, &until) != ETIMEDOUT || !atomic_load(&ending);
}

/* Whoever releases it has let go before it looks for those who wait, and they have said so before they look whether
 * it has: one of the two sees the other. */
static bool wait_until_free(dtlsffi_lock *lock)
{
    bool goes_on = true;

    pthread_mutex_lock(&lock->mutex);
    atomic_fetch_add(&lock->waiting, 1);
    while (goes_on && atomic_load(&lock->owner) != 0)
        goes_on = wait_a_while(lock);
    atomic_fetch_sub(&lock->waiting, 1);
    pthread_mutex_unlock(&lock->mutex);
    return goes_on;
}

/* The GIL is asked for before the lock is taken, which may be gone by then: see gil.c. */
RARELY static bool wait_for(dtlsffi_lock *lock, uintptr_t me)
{
    bool goes_on;

    do {
        void *gil = dtlsffi_gil_release();

        goes_on = wait_until_free(lock);
        dtlsffi_gil_retake(gil);
    } while (goes_on && !grab(lock, me));
    return goes_on;
}

/* Returns how often the calling thread holds the lock now: 0 where it will never be released, since the interpreter
 * ends. */
unsigned dtlsffi_lock_take(dtlsffi_lock *lock)
{
    uintptr_t me = this_thread();

    if (grab(lock, me))
        return 1;
    /* Only this thread can have written its own name there, so a relaxed look is enough. */
    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) == me)
        return ++lock->depth;
    return wait_for(lock, me) ? 1 : 0;
}

/* Takes the lock if nobody has it, the calling thread included. */
bool dtlsffi_lock_try(dtlsffi_lock *lock)
{
    return grab(lock, this_thread());
}

/* All of them: one may ask for a GIL that never comes, since the interpreter has ended. */
RARELY static void wake(dtlsffi_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    pthread_cond_broadcast(&lock->released);
    pthread_mutex_unlock(&lock->mutex);
}

void dtlsffi_lock_release(dtlsffi_lock *lock)
{
    if (--lock->depth > 0)
        return;
    atomic_store(&lock->owner, 0);
    if (atomic_load(&lock->waiting) != 0)
        wake(lock);
}
