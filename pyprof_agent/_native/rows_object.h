/* Rows of a profile as an object of Python's. */
#ifndef PYPROF_ROWS_OBJECT_H
#define PYPROF_ROWS_OBJECT_H

#include <Python.h>

#include "name_table.h"
#include "pprof_locations.h"
#include "row_table.h"

/* Rows, and the snapshot that their nodes are of. */
struct rows {
    struct row_table table;
    PyObject *snapshot;               /* a reference */
    struct pprof_locations locations; /* once rows_frames() was called */
};

/* What is in one; NULL, with an error, for another object. */
struct rows *rows_in(PyObject *capsule);

/* Set what of an encoder's input is in the rows, their snapshot and the names of its functions; the names, or
   NULL with an error. The input is good as long as the caller has references to both objects. */
const struct name_table *rows_input(const struct rows *rows, PyObject *names,
                                    struct pprof_input *input);

/* Set the error for a result that is not PPROF_DONE. */
void rows_error(enum pprof_result result);

/* Values as a tuple, which the garbage collector does not see. */
PyObject *rows_values(const int64_t *values, uint32_t count);

/* Functions of the module; `_core.pyi` says what they take. They release the GIL for what takes long, all but
   rows_items(), which is called for some rows at a time. */
PyObject *rows_of(PyObject *module, PyObject *snapshot);
PyObject *rows_with(PyObject *module, PyObject *args);
PyObject *rows_subtract(PyObject *module, PyObject *args);
PyObject *rows_only(PyObject *module, PyObject *args);
PyObject *rows_cpu(PyObject *module, PyObject *rows);
PyObject *rows_wall(PyObject *module, PyObject *rows);
PyObject *rows_count(PyObject *module, PyObject *rows);
PyObject *rows_items(PyObject *module, PyObject *args);
PyObject *rows_labels(PyObject *module, PyObject *rows);

#endif
