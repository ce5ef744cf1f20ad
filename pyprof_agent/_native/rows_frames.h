/* Names and lines of the stacks of rows, of which Python makes frames. */
#ifndef PYPROF_ROWS_FRAMES_H
#define PYPROF_ROWS_FRAMES_H

#include <Python.h>

/* Functions of the module; `_core.pyi` says what they take. */
PyObject *rows_frames(PyObject *module, PyObject *args);
PyObject *rows_lines(PyObject *module, PyObject *args);

#endif
