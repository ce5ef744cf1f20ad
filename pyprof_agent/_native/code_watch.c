#include "code_watch.h"

static code_keeper keep;

#if PY_VERSION_HEX >= 0x030c0000

static int watcher = -1;

/* The event comes before anything of the object is gone; a reference taken here keeps it alive, as
   CPython's documentation of PyCode_AddWatcher says. */
static int
on_event(PyCodeEvent event, PyCodeObject *code)
{
    if (event == PY_CODE_EVENT_DESTROY && keep((PyObject *)code)) {
        Py_INCREF(code);
    }
    return 0;
}

const char *
code_watch_begin(code_keeper keeper)
{
    keep = keeper;
    watcher = PyCode_AddWatcher(on_event);
    if (watcher < 0) {
        PyErr_Clear();
        return "other code has all of CPython's code watchers";
    }
    return NULL;
}

void
code_watch_end(void)
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
    if (keep(code)) {
        Py_SET_REFCNT(code, 1);
        return;
    }
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

const char *
code_watch_begin(code_keeper keeper)
{
#  ifdef Py_TRACE_REFS
    return "this CPython keeps a list of all objects (Py_TRACE_REFS)";
#  endif
    keep = keeper;
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

/* If others have hooked it after us ours stays below theirs, and keeps nothing. */
void
code_watch_end(void)
{
    if (PyCode_Type.tp_dealloc == on_dealloc) {
        PyCode_Type.tp_dealloc = original;
    }
}

#endif
