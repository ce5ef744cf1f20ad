/* What the program's own objects say, read without running its code and without a reference to them that
   would be the last. With the GIL held. */
#ifndef PYPROF_PROGRAM_FACTS_H
#define PYPROF_PROGRAM_FACTS_H

#include <Python.h>

/* (key, name, native id) of each thread in `threading._active` or the like, a dict; None for what it
   does not say. */
PyObject *program_facts_threads(PyObject *module, PyObject *active);

/* (name, file) of each module in `sys.modules` that has a file. */
PyObject *program_facts_modules(PyObject *module, PyObject *modules);

/* Clear a list of frame objects. Those that are over go into a cycle, for the garbage collector: who drops
   the last reference to one runs the finalizers of its locals. */
PyObject *program_facts_release(PyObject *module, PyObject *frames);

/* Pages of memory that the process has resident. Raises OSError where there is no /proc. */
PyObject *program_facts_resident(PyObject *module, PyObject *unused);

#endif
