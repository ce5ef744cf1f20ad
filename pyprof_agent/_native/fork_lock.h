/* A mutex that a fork neither waits for long nor leaves locked.

   Handlers of pthread_atfork() run in an order that nobody chooses, and those of other code may run
   Python, which allocates, or wait for a thread that does: no lock of ours may be held from one
   handler of ours to the next. So before a fork we only let the holder finish (fork_lock_pass), and
   the child, whose only thread holds nothing, gets a new mutex (fork_lock_renew). A thread may have
   taken it in between; the child is told then that what the mutex guards may be half changed. */
#ifndef PYPROF_FORK_LOCK_H
#define PYPROF_FORK_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct fork_lock {
    pthread_mutex_t mutex;
    atomic_bool held; /* written by the holder */
};

#define FORK_LOCK_INITIALIZER {PTHREAD_MUTEX_INITIALIZER, false}

static inline void
fork_lock_take(struct fork_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    atomic_store_explicit(&lock->held, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* a child that sees any change sees this */
}

/* Whether it could be taken at once. */
static inline bool
fork_lock_try(struct fork_lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0) {
        return false;
    }
    atomic_store_explicit(&lock->held, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    return true;
}

static inline void
fork_lock_give(struct fork_lock *lock)
{
    atomic_store_explicit(&lock->held, false, memory_order_release);
    pthread_mutex_unlock(&lock->mutex);
}

/* Before a fork. */
static inline void
fork_lock_pass(struct fork_lock *lock)
{
    fork_lock_take(lock);
    fork_lock_give(lock);
}

/* In the child; whether a thread that it does not have was in the middle of a change. */
static inline bool
fork_lock_renew(struct fork_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    return atomic_exchange(&lock->held, false);
}

#endif
