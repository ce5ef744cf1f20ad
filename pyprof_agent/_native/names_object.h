/* A name_table as an object of Python's. */
#ifndef PYPROF_NAMES_OBJECT_H
#define PYPROF_NAMES_OBJECT_H

#include <Python.h>

#include "name_table.h"

/* What is in one; NULL, with an error, for another object. */
const struct name_table *names_in(PyObject *capsule);

/* The bytes of a string. What is no UTF-8, as of file names with other bytes in them, is written as
   `errors` says: a new object, which `*kept` is set to. False with an error. */
bool names_text_of(PyObject *string, const char *errors, struct pprof_text *text, PyObject **kept);

/* Name and file of a function of a table, by its index, as names_add() was given them: new objects. False with
   an error. */
bool names_parts(const struct name_table *names, uint32_t function, PyObject **name, PyObject **file);

/* Functions of the module. names_add(names, number, name, file, first_line) names the next function; nothing
   happens if it has a name. names_next(names) is the number of that one. */
PyObject *names_new(PyObject *module, PyObject *unused);
PyObject *names_add(PyObject *module, PyObject *args);
PyObject *names_next(PyObject *module, PyObject *names);
PyObject *names_bytes(PyObject *module, PyObject *names);

#endif
