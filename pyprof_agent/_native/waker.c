#include "waker.h"

#include "collector_hold.h"
#include "stack_book.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAME "pyprof_agent._native._core.waker"

#define FOREVER_SECONDS 1e9 /* more than that is for ever: 31 years */

/* How often a wait for newcomers looks whether there are some. That takes some 10 us; to run any Python after a
   pause takes a millisecond, as none of it is in the CPU's caches any more. */
#define NEWCOMERS_SECONDS 0.5

typedef struct {
    _Atomic uint32_t word; /* 1: woken, and nobody has noticed yet */
    bool newcomers;
} waker;

static void
destroy(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, NAME));
}

PyObject *
waker_new(PyObject *Py_UNUSED(module), PyObject *newcomers)
{
    waker *made = PyMem_Malloc(sizeof *made);
    if (made == NULL) {
        return PyErr_NoMemory();
    }
    atomic_init(&made->word, 0);
    made->newcomers = newcomers == Py_True;
    PyObject *capsule = PyCapsule_New(made, NAME, destroy);
    if (capsule == NULL) {
        PyMem_Free(made);
    }
    return capsule;
}

/* A wait without the GIL, in which garbage may be collected; nothing is allocated at its ends. */
struct wait {
    bool held;
    PyThreadState *thread;
};

static struct wait
begin_wait(void)
{
    bool held = collector_hold_leave();
    return (struct wait){held, PyEval_SaveThread()};
}

static void
end_wait(struct wait wait)
{
    PyEval_RestoreThread(wait.thread);
    if (wait.held) {
        collector_hold_enter();
    }
}

static struct timespec
duration_of(double seconds)
{
    double whole = seconds < FOREVER_SECONDS ? seconds : FOREVER_SECONDS;
    time_t full = (time_t)whole;
    return (struct timespec){full, (long)((whole - (double)full) * 1e9)};
}

static struct timespec
moment_in(double seconds)
{
    struct timespec moment;
    struct timespec duration = duration_of(seconds);
    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment.tv_sec += duration.tv_sec;
    moment.tv_nsec += duration.tv_nsec;
    if (moment.tv_nsec >= 1000000000) {
        moment.tv_sec++;
        moment.tv_nsec -= 1000000000;
    }
    return moment;
}

static bool
is_before(struct timespec moment, struct timespec other)
{
    return moment.tv_sec < other.tv_sec
           || (moment.tv_sec == other.tv_sec && moment.tv_nsec < other.tv_nsec);
}

/* until: of the monotonic clock; NULL: for ever. */
static bool
sleep_until_woken(waker *waiting, const struct timespec *until)
{
    while (atomic_exchange(&waiting->word, 0) == 0) {
        struct timespec next;
        const struct timespec *end = until;
        if (waiting->newcomers) {
            next = moment_in(NEWCOMERS_SECONDS);
            end = until == NULL || is_before(next, *until) ? &next : until;
        }
        long result = syscall(SYS_futex, &waiting->word, FUTEX_WAIT_BITSET_PRIVATE, 0, end, NULL,
                              FUTEX_BITSET_MATCH_ANY);
        bool over = result != 0 && errno == ETIMEDOUT;
        if (over && (end == until || stack_book_newcomers())) {
            return atomic_exchange(&waiting->word, 0) != 0;
        }
    }
    return true;
}

PyObject *
waker_wait(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    double seconds;
    if (!PyArg_ParseTuple(args, "Od:waker_wait", &capsule, &seconds)) {
        return NULL;
    }
    waker *waiting = PyCapsule_GetPointer(capsule, NAME);
    if (waiting == NULL) {
        return NULL;
    }
    struct timespec until = moment_in(seconds < 0 ? 0 : seconds);
    struct wait wait = begin_wait();
    bool woken = sleep_until_woken(waiting, seconds < 0 ? NULL : &until);
    end_wait(wait);
    return PyBool_FromLong(woken);
}

PyObject *
waker_wake(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    waker *waiting = PyCapsule_GetPointer(capsule, NAME);
    if (waiting == NULL) {
        return NULL;
    }
    atomic_store(&waiting->word, 1);
    syscall(SYS_futex, &waiting->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    Py_RETURN_NONE;
}

void
waker_sleep(double seconds)
{
    struct timespec duration = duration_of(seconds);
    struct wait wait = begin_wait();
    nanosleep(&duration, NULL); /* less, if a signal comes */
    end_wait(wait);
}

PyObject *
waker_pause(PyObject *Py_UNUSED(module), PyObject *arg)
{
    double seconds = PyFloat_AsDouble(arg);
    if (seconds == -1 && PyErr_Occurred()) {
        return NULL;
    }
    waker_sleep(seconds < 0 ? 0 : seconds);
    Py_RETURN_NONE;
}

PyObject *
waker_wait_readable(PyObject *Py_UNUSED(module), PyObject *args)
{
    int descriptor;
    double seconds;
    if (!PyArg_ParseTuple(args, "id:wait_readable", &descriptor, &seconds)) {
        return NULL;
    }
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    struct timespec duration = duration_of(seconds < 0 ? 0 : seconds);
    struct wait wait = begin_wait();
    ppoll(&polled, 1, seconds < 0 ? NULL : &duration, NULL);
    end_wait(wait);
    Py_RETURN_NONE;
}
