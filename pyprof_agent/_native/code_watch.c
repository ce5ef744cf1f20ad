#include "code_watch.h"

#include <stdbool.h>

#define MOST_LISTENERS 2

static code_listener listeners[MOST_LISTENERS];
static int listening;

static void
tell(PyObject *code)
{
    for (int i = 0; i < listening; i++) {
        listeners[i](code);
    }
}

#if PY_VERSION_HEX >= 0x030c0000

static int watcher = -1;

static int
on_event(PyCodeEvent event, PyCodeObject *code)
{
    if (event == PY_CODE_EVENT_DESTROY) {
        tell((PyObject *)code);
    }
    return 0;
}

static const char *
begin(void)
{
    watcher = PyCode_AddWatcher(on_event);
    if (watcher < 0) {
        PyErr_Clear();
        return "other code has all of CPython's code watchers";
    }
    return NULL;
}

static void
end(void)
{
    if (watcher >= 0 && PyCode_ClearWatcher(watcher) < 0) {
        PyErr_Clear();
    }
    watcher = -1;
}

#else

static destructor original;
static bool called;

static void
on_dealloc(PyObject *code)
{
    called = true;
    tell(code);
    original(code);
}

/* Make a code object and free it; sets `called` if that reaches our hook. False without memory. */
static bool
probe(void)
{
    called = false;
    PyObject *code = (PyObject *)PyCode_NewEmpty("", "", 1);
    if (code == NULL) {
        PyErr_Clear();
        return false;
    }
    Py_DECREF(code);
    return true;
}

static const char *
begin(void)
{
#  ifdef Py_TRACE_REFS
    return "this CPython keeps a list of all objects (Py_TRACE_REFS)";
#  endif
    if (!probe()) {
        return "there is no memory";
    }
    /* If others hooked tp_dealloc after us, their hook still calls ours. Ours on top of theirs as well
       would call itself without end. */
    if (!called) {
        original = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = on_dealloc;
    }
    return NULL;
}

/* If others have hooked it after us ours stays below theirs, and tells nobody. */
static void
end(void)
{
    if (PyCode_Type.tp_dealloc == on_dealloc) {
        PyCode_Type.tp_dealloc = original;
    }
}

#endif

const char *
code_watch_begin(code_listener listener)
{
    const char *problem = listening == 0 ? begin() : NULL;
    if (problem == NULL) {
        listeners[listening++] = listener;
    }
    return problem;
}

void
code_watch_end(code_listener listener)
{
    for (int i = 0; i < listening; i++) {
        if (listeners[i] == listener) {
            listeners[i] = listeners[--listening];
            if (listening == 0) {
                end();
            }
            return;
        }
    }
}
