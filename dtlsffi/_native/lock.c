/* The lock of a connection: 4 ns where nobody else wants it.
 *
 * The thread that holds it may take it again, so that a callback can ask its own connection for what it knows.
 */
#include "core.h"

static _Thread_local char this_thread;

bool dtlsffi_lock_init(dtlsffi_lock *lock)
{
    atomic_init(&lock->owner, 0);
    lock->depth = 0;
    return pthread_mutex_init(&lock->mutex, NULL) == 0;
}

void dtlsffi_lock_destroy(dtlsffi_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

/* Returns how often the calling thread holds the lock now. */
unsigned dtlsffi_lock_take(dtlsffi_lock *lock)
{
    uintptr_t me = (uintptr_t)&this_thread;

    /* Only this thread can have written its own address there, so a relaxed look is enough. */
    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) == me)
        return ++lock->depth;
    if (pthread_mutex_trylock(&lock->mutex) != 0) {
        void *gil = dtlsffi_gil_release();
        pthread_mutex_lock(&lock->mutex);
        dtlsffi_gil_retake(gil);
    }
    atomic_store_explicit(&lock->owner, me, memory_order_relaxed);
    return lock->depth = 1;
}

/* Takes the lock if nobody has it, the calling thread included. */
bool dtlsffi_lock_try(dtlsffi_lock *lock)
{
    uintptr_t me = (uintptr_t)&this_thread;

    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) == me || pthread_mutex_trylock(&lock->mutex) != 0)
        return false;
    atomic_store_explicit(&lock->owner, me, memory_order_relaxed);
    lock->depth = 1;
    return true;
}

void dtlsffi_lock_release(dtlsffi_lock *lock)
{
    if (--lock->depth > 0)
        return;
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    pthread_mutex_unlock(&lock->mutex);
}
