/* Rows as pprof protobuf, with the names of their functions. */
#ifndef PYPROF_ROWS_ENCODE_H
#define PYPROF_ROWS_ENCODE_H

#include <Python.h>

/* A function of the module; `_core.pyi` says what it takes. Makes a few objects, and releases the GIL for
   what takes long. */
PyObject *rows_encode(PyObject *module, PyObject *args);

#endif
