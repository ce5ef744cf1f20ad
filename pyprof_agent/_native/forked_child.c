#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "clock.h"
#include "collector_hold.h"
#include "forked_child.h"
#include "guarded.h"

#include <pthread.h>
#include <stdatomic.h>

#define HOOKS_NS INT64_C(1000000000) /* how long CPython's hooks have, and then between two calls */
#define HOOKS_LATE_NS (60 * HOOKS_NS) /* how much longer where they were announced */

/* Whether CPython is forking in this thread: how often, as a signal handler may fork in the middle. */
static _Thread_local unsigned announced;

static PyObject *to_call; /* a reference; set and called with the GIL held */
static uint64_t survivor;
static _Atomic int64_t untold_since; /* monotonic ns; later, where hooks will come; 0: CPython knows of
                                        this process */

static int64_t
monotonic(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* Nobody else runs yet, so no lock is needed; lists of CPython's that a thread was about to change can be
   followed all the same. A thread that is made later may get the id of one that is not there. */
static void
forget_others(bool told)
{
    const PyThreadState *own = told ? frames_holder() : frames_survivor(survivor);
    PyInterpreterState *interpreter = PyInterpreterState_Head();
    for (; interpreter != NULL; interpreter = PyInterpreterState_Next(interpreter)) {
        PyThreadState *state = told ? NULL : PyInterpreterState_ThreadHead(interpreter);
        for (; state != NULL; state = PyThreadState_Next(state)) {
            if (state != own && state->thread_id != survivor) {
                frames_forget(state);
            }
        }
        frames_renew_gil(interpreter, own);
    }
    frames_forget_waiting();
}

static void
in_child(void)
{
    bool told = announced > 0;
    announced = 0; /* forks around this one do not go on here */
    survivor = (uint64_t)pthread_self();
    forget_others(told);
    collector_hold_in_child();
    guarded_in_child();
    atomic_store(&untold_since, monotonic() + (told ? HOOKS_LATE_NS : 0));
}

bool
forked_child_follow(PyObject *go_on)
{
    static bool follows_forks = false;
    if (!follows_forks) {
        if (pthread_atfork(NULL, NULL, in_child) != 0) {
            return false;
        }
        follows_forks = true;
    }
    Py_INCREF(go_on);
    Py_XSETREF(to_call, go_on);
    return true;
}

void
forked_child_announce(bool begins)
{
    if (begins) {
        announced++;
    }
    else if (announced > 0) {
        announced--;
    }
}

bool
forked_child_untold(void)
{
    return atomic_load(&untold_since) != 0;
}

bool
forked_child_told(void)
{
    return atomic_exchange(&untold_since, 0) != 0;
}

/* Called by the interpreter, between two bytecodes of the main thread. */
static int
call(void *Py_UNUSED(context))
{
    if (forked_child_untold()) {
        PyObject *result = PyObject_CallNoArgs(to_call);
        if (result == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_Exception)) {
                return -1; /* a signal handler's, such as SystemExit: raised where it would have been */
            }
            PyErr_WriteUnraisable(to_call);
        }
        Py_XDECREF(result);
    }
    return 0;
}

void
forked_child_remind(void)
{
    int64_t since = atomic_load_explicit(&untold_since, memory_order_relaxed);
    if (since == 0) {
        return;
    }
    int64_t now = monotonic();
    if (now - since >= HOOKS_NS) {
        atomic_store(&untold_since, now);
        /* A full queue is tried again. CPython's lock of it is held for some instructions by who
           queues a call, which hardly anybody does without the GIL, as at the moment of a fork. */
        Py_AddPendingCall(call, NULL);
    }
}

uint64_t
forked_child_thread(void)
{
    return survivor;
}
