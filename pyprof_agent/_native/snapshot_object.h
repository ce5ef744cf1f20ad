/* A snapshot as an object of Python's, and what Python reads of it, a range at a time. */
#ifndef PYPROF_SNAPSHOT_OBJECT_H
#define PYPROF_SNAPSHOT_OBJECT_H

#include <Python.h>

#include "snapshot.h"

/* Fills a snapshot, and makes no object; false without memory. */
typedef bool (*snapshot_take)(struct snapshot *snapshot, void *context);

PyObject *snapshot_object(snapshot_take take, void *context);

/* What is in it; NULL, with an error, for another object. */
struct snapshot *snapshot_of(PyObject *capsule);

/* Cut `*stop` down to `count`; false, with an error, if the range begins outside. */
bool snapshot_clip(Py_ssize_t start, Py_ssize_t *stop, Py_ssize_t count);

/* A list with so many empty places, hidden from the garbage collector, through which other threads could find
   it, and what is to be called once it is full: the list, or NULL after an error. */
PyObject *snapshot_list(Py_ssize_t count);
PyObject *snapshot_list_full(PyObject *list);

/* Functions of the module. */
PyObject *snapshot_functions(PyObject *module, PyObject *args);
PyObject *snapshot_total(PyObject *module, PyObject *args);

/* The list `rows` itself, once the garbage collector does not see the tuples in it any more. */
PyObject *untrack(PyObject *module, PyObject *rows);

#endif
