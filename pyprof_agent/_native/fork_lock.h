/* A mutex that a fork neither waits for long nor leaves locked.

   The pthread_atfork() handlers of other libraries may run between our prepare handler and our child
   handler. They may run Python, which allocates and takes these locks. So the prepare handler does not
   keep the lock: it waits until the lock is free (fork_lock_pass). The child handler initializes the
   mutex again (fork_lock_renew), and returns whether another thread of the parent held it at the fork:
   then the data under the lock may be incomplete. */
#ifndef PYPROF_FORK_LOCK_H
#define PYPROF_FORK_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct fork_lock {
    pthread_mutex_t mutex;
    atomic_bool held; /* written by the holder */
};

#define FORK_LOCK_INITIALIZER {PTHREAD_MUTEX_INITIALIZER, false}

static inline void
fork_lock_mark_held(struct fork_lock *lock)
{
    atomic_store_explicit(&lock->held, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* a child that sees any change sees this */
}

static inline void
fork_lock_take(struct fork_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    fork_lock_mark_held(lock);
}

/* Whether it could be taken at once. */
static inline bool
fork_lock_try(struct fork_lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0) {
        return false;
    }
    fork_lock_mark_held(lock);
    return true;
}

static inline void
fork_lock_give(struct fork_lock *lock)
{
    atomic_store_explicit(&lock->held, false, memory_order_release);
    pthread_mutex_unlock(&lock->mutex);
}

/* Before a fork: wait for who is in the middle of a change, for 100 ms at most. A signal handler that forks
   may have interrupted that very thread; the child copes with it. */
static inline void
fork_lock_pass(struct fork_lock *lock)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (fork_lock_try(lock)) {
            fork_lock_give(lock);
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

/* In the child; whether a thread that it does not have was in the middle of a change. */
static inline bool
fork_lock_renew(struct fork_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    return atomic_exchange(&lock->held, false);
}

#endif
