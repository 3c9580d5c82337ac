/* The lock of a connection: two atomic operations where nobody else wants it.
 *
 * The thread that holds it may take it again, so that a callback can ask its own connection for what it knows.
 */
#include "core.h"

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

/* POSIX would have it a structure, for all we know; wherever there is OpenSSL it is a number or a pointer, and not 0. */
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

/* Whoever releases it has let go before it looks for those who wait, and they have said so before they look whether it has:
 * one of the two sees the other. */
static void wait_until_free(dtlsffi_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    atomic_fetch_add(&lock->waiting, 1);
    while (atomic_load(&lock->owner) != 0)
        pthread_cond_wait(&lock->released, &lock->mutex);
    atomic_fetch_sub(&lock->waiting, 1);
    pthread_mutex_unlock(&lock->mutex);
}

/* The GIL is asked for before the lock is taken, which may be gone by then: see gil.c. */
RARELY static void wait_for(dtlsffi_lock *lock, uintptr_t me)
{
    do {
        void *gil = dtlsffi_gil_release();

        wait_until_free(lock);
        dtlsffi_gil_retake(gil);
    } while (!grab(lock, me));
}

/* Returns how often the calling thread holds the lock now. */
unsigned dtlsffi_lock_take(dtlsffi_lock *lock)
{
    uintptr_t me = this_thread();

    if (grab(lock, me))
        return 1;
    /* Only this thread can have written its own name there, so a relaxed look is enough. */
    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) == me)
        return ++lock->depth;
    wait_for(lock, me);
    return 1;
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
