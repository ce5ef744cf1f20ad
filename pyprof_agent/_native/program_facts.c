#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "program_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* A value of an instance's dictionary, if it is of that type; else None. No code of its class runs. */
static PyObject *
own_attribute(PyObject *object, const char *name, PyTypeObject *type)
{
    PyObject *held = PyObject_GenericGetDict(object, NULL);
    PyObject *value = held == NULL ? NULL : PyDict_GetItemString(held, name);
    PyObject *result = value != NULL && Py_IS_TYPE(value, type) ? value : Py_None;
    Py_INCREF(result);
    Py_XDECREF(held);
    PyErr_Clear();
    return result;
}

/* Append what becomes the item's; false, with an error, if that cannot be. */
static bool
append(PyObject *list, PyObject *item)
{
    if (item == NULL) {
        return false;
    }
    PyObject_GC_UnTrack(item); /* it has strings and numbers only */
    bool appended = PyList_Append(list, item) == 0;
    Py_DECREF(item);
    return appended;
}

/* What `add` makes of each entry. To make an object may start a collection where these are not kept off,
   so that entries may go meanwhile. */
static PyObject *
list_entries(PyObject *entries, bool (*add)(PyObject *list, PyObject *key, PyObject *value))
{
    if (!PyDict_Check(entries)) {
        return PyErr_Format(PyExc_TypeError, "this is a %s; use a dict", Py_TYPE(entries)->tp_name);
    }
    PyObject *list = PyList_New(0);
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *value;
    while (list != NULL && PyDict_Next(entries, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        if (!add(list, key, value)) {
            Py_CLEAR(list);
        }
        Py_DECREF(key);
        Py_DECREF(value);
    }
    return list;
}

static bool
add_thread(PyObject *list, PyObject *key, PyObject *thread)
{
    PyObject *name = own_attribute(thread, "_name", &PyUnicode_Type);
    PyObject *native_id = own_attribute(thread, "_native_id", &PyLong_Type);
    return append(list, Py_BuildValue("(ONN)", key, name, native_id));
}

PyObject *
program_facts_threads(PyObject *Py_UNUSED(module), PyObject *active)
{
    return list_entries(active, add_thread);
}

static bool
add_module(PyObject *list, PyObject *key, PyObject *value)
{
    if (!PyUnicode_CheckExact(key) || !PyModule_Check(value)) {
        return true;
    }
    PyObject *held = PyModule_GetDict(value);
    PyObject *file = held == NULL ? NULL : PyDict_GetItemString(held, "__file__");
    return file == NULL || !PyUnicode_CheckExact(file)
           || append(list, Py_BuildValue("(ON)", key, Py_NewRef(file)));
}

PyObject *
program_facts_modules(PyObject *Py_UNUSED(module), PyObject *modules)
{
    return list_entries(modules, add_module);
}

PyObject *
program_facts_release(PyObject *Py_UNUSED(module), PyObject *frames)
{
    if (!PyList_CheckExact(frames)) {
        return PyErr_Format(PyExc_TypeError, "this is a %s; use a list", Py_TYPE(frames)->tp_name);
    }
    PyObject *over = PyList_New(0);
    bool kept = over != NULL;
    for (Py_ssize_t i = 0; kept && i < PyList_GET_SIZE(frames); i++) {
        PyObject *frame = PyList_GET_ITEM(frames, i);
        if (PyFrame_Check(frame) && frames_is_over((PyFrameObject *)frame)) {
            kept = PyList_Append(over, frame) == 0;
        }
    }
    kept = kept && (PyList_GET_SIZE(over) == 0 || PyList_Append(over, over) == 0);
    kept = kept && PyList_SetSlice(frames, 0, PyList_GET_SIZE(frames), NULL) == 0;
    Py_XDECREF(over);
    if (!kept) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Without Python's open(), which tells the program's audit hooks. */
PyObject *
program_facts_resident(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    long total;
    long resident;
    if (length > 0) {
        text[length] = '\0';
        if (sscanf(text, "%ld %ld", &total, &resident) == 2) {
            return PyLong_FromLong(resident);
        }
        errno = EIO;
    }
    return PyErr_SetFromErrno(PyExc_OSError);
}
