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

/* Functions of the module. */
PyObject *snapshot_functions(PyObject *module, PyObject *args);
PyObject *snapshot_total(PyObject *module, PyObject *args);

/* The list `rows` itself, once the garbage collector does not see the tuples in it any more. */
PyObject *untrack(PyObject *module, PyObject *rows);

#endif
