#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "collector_hold.h"

#include "clock.h"

/* A collection starts all the same once so many objects have been made, most likely in the thread that
   makes them: a thread of the agent makes fewer between two waits. */
#define BUDGET 500000

/* After so long a thread of the agent, which runs for some milliseconds between two waits, is stuck. */
#define LONGEST_NS INT64_C(2000000000)

/* All of it is guarded by the GIL. */
static unsigned held;                        /* threads of the agent that run Python */
static int64_t since;                        /* monotonic: from when on there has been one */
static long long taken[FRAMES_GENERATIONS];  /* from the counts */
static PyObject *callbacks;                  /* gc.callbacks */
static PyObject *callback;                   /* `collected` as a function of Python's */

static _Thread_local bool ours;

static int64_t
monotonic(void)
{
    return clock_ns(CLOCK_MONOTONIC_COARSE);
}

static bool
is_too_long(void)
{
    return monotonic() - since > LONGEST_NS;
}

/* A count that is not negative is as the collector has it: nothing was taken, or it began at zero again. */
static void
arm(void)
{
    if (!frames_collects_by_counts() || is_too_long()) {
        return;
    }
    struct gc_generation *generations = frames_generations(PyInterpreterState_Main());
    for (int i = 0; i < FRAMES_GENERATIONS; i++) {
        if (generations[i].count >= 0) {
            taken[i] = 0;
        }
        if (generations[i].count > -BUDGET / 2) {
            taken[i] += (long long)generations[i].count + BUDGET;
            generations[i].count = -BUDGET;
        }
    }
}

static void
disarm(void)
{
    struct gc_generation *generations = frames_generations(PyInterpreterState_Main());
    for (int i = 0; i < FRAMES_GENERATIONS; i++) {
        if (generations[i].count < 0) {
            generations[i].count = (int)(generations[i].count + taken[i]);
        }
        taken[i] = 0;
    }
}

void
collector_hold_check(void)
{
    if (held > 0 && !ours && is_too_long()) {
        disarm();
    }
}

/* The collector calls it before and after a collection, which may have been asked for by gc.collect(). */
static PyObject *
collected(PyObject *Py_UNUSED(module), PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count))
{
    collector_hold_check();
    if (held > 0) {
        arm(); /* which does nothing where that has disarmed */
    }
    Py_RETURN_NONE;
}

static PyMethodDef callback_method = {
    "pyprof_agent_collected", (PyCFunction)(void (*)(void))collected, METH_FASTCALL,
    "The agent keeps collections from starting in its threads.",
};

bool
collector_hold_init(void)
{
    if (callbacks != NULL) {
        return true;
    }
    PyObject *collector = PyImport_ImportModule("gc");
    PyObject *list = collector == NULL ? NULL : PyObject_GetAttrString(collector, "callbacks");
    Py_XDECREF(collector);
    PyObject *function = list == NULL ? NULL : PyCFunction_New(&callback_method, NULL);
    if (function == NULL || !PyList_CheckExact(list)) {
        Py_XDECREF(list);
        Py_XDECREF(function);
        return !PyErr_Occurred(); /* the program has put something else there */
    }
    callbacks = list;
    callback = function;
    return true;
}

/* Where the callback is in gc.callbacks; -1 if the program has taken it out, or there is none. */
static Py_ssize_t
place_of_callback(void)
{
    for (Py_ssize_t i = callbacks == NULL ? 0 : PyList_GET_SIZE(callbacks); i-- > 0;) {
        if (PyList_GET_ITEM(callbacks, i) == callback) {
            return i;
        }
    }
    return -1;
}

void
collector_hold_enter(void)
{
    ours = true;
    if (held++ == 0) {
        since = monotonic();
    }
    arm();
    if (callbacks != NULL && place_of_callback() < 0 && PyList_Append(callbacks, callback) < 0) {
        PyErr_Clear();
    }
}

bool
collector_hold_leave(void)
{
    if (!ours) {
        return false;
    }
    ours = false;
    if (--held > 0) {
        return true;
    }
    Py_ssize_t place = place_of_callback();
    if (place >= 0) {
        PyList_SetSlice(callbacks, place, place + 1, NULL); /* makes no object */
    }
    disarm();
    return true;
}

PyObject *
collector_hold_call(PyObject *function)
{
    if (ours) {
        return PyObject_CallNoArgs(function);
    }
    collector_hold_enter();
    PyObject *result = PyObject_CallNoArgs(function);
    collector_hold_leave(); /* does nothing where the function has forked, and this is the child */
    return result;
}

void
collector_hold_again(void)
{
    if (ours) {
        arm();
    }
}

void
collector_hold_in_child(void)
{
    held = 0;
    ours = false;
    disarm();
}
