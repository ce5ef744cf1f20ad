#include "names_object.h"

#define NAMES "pyprof_agent._native._core.names"

static void
destroy_names(PyObject *capsule)
{
    struct name_table *names = PyCapsule_GetPointer(capsule, NAMES);
    name_table_free(names);
    PyMem_Free(names);
}

PyObject *
names_new(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct name_table *names = PyMem_Calloc(1, sizeof *names);
    if (names == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(names, NAMES, destroy_names);
    if (capsule == NULL) {
        PyMem_Free(names);
    }
    return capsule;
}

bool
names_text_of(PyObject *string, const char *errors, struct pprof_text *text, PyObject **kept)
{
    Py_ssize_t count = 0;
    const char *bytes = PyUnicode_AsUTF8AndSize(string, &count);
    if (bytes == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
        *kept = PyUnicode_AsEncodedString(string, "utf-8", errors);
        bytes = *kept == NULL ? NULL : PyBytes_AS_STRING(*kept);
        count = *kept == NULL ? 0 : PyBytes_GET_SIZE(*kept);
    }
    *text = (struct pprof_text){bytes, (size_t)count};
    return bytes != NULL;
}

/* Name a function, if none has done so meanwhile: to read a text may run code of the program. False with an
   error. */
static bool
add_function(struct name_table *names, uint32_t number, PyObject *name, PyObject *file, int first_line)
{
    PyObject *kept[4] = {NULL};
    struct name_parts parts;
    struct pprof_function function = {.first_line = first_line};
    struct bytes_buffer identity = {0};
    bool added = names_text_of(name, "backslashreplace", &function.name, &kept[0])
                 && names_text_of(file, "backslashreplace", &function.file, &kept[1])
                 && names_text_of(name, "surrogatepass", &parts.name, &kept[2])
                 && names_text_of(file, "surrogatepass", &parts.file, &kept[3]);
    if (added) {
        char line[16];
        int digits = snprintf(line, sizeof line, "%d", first_line);
        bytes_buffer_add(&identity, parts.file.bytes, parts.file.count + 1); /* a 0 follows each text */
        bytes_buffer_add(&identity, parts.name.bytes, parts.name.count + 1);
        bytes_buffer_add(&identity, line, (size_t)digits + 1);
        function.identity = (struct pprof_text){(const char *)identity.bytes, identity.count};
        added = !identity.failed
                && name_table_add(names, number, &function, parts.file.count, parts.name.count);
        if (!added) {
            PyErr_NoMemory();
        }
    }
    bytes_buffer_free(&identity);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        Py_XDECREF(kept[i]);
    }
    return added;
}

/* names_add(names, number, name, file, first_line) */
PyObject *
names_add(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    PyObject *name;
    PyObject *file;
    int first_line;
    unsigned number;
    if (!PyArg_ParseTuple(args, "OIUUi:names_add", &capsule, &number, &name, &file, &first_line)) {
        return NULL;
    }
    struct name_table *names = PyCapsule_GetPointer(capsule, NAMES);
    if (names == NULL) {
        return NULL;
    }
    if (number > name_table_next(names)) {
        return PyErr_Format(PyExc_IndexError, "the next function is %u, not %u",
                            name_table_next(names), number);
    }
    if (!add_function(names, number, name, file, first_line > 0 ? first_line : 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

bool
names_parts(const struct name_table *names, uint32_t function, PyObject **name, PyObject **file)
{
    const struct name_parts *parts = name_table_parts(names, function);
    *name = PyUnicode_DecodeUTF8(parts->name.bytes, (Py_ssize_t)parts->name.count, "surrogatepass");
    *file = PyUnicode_DecodeUTF8(parts->file.bytes, (Py_ssize_t)parts->file.count, "surrogatepass");
    if (*name == NULL || *file == NULL) {
        Py_CLEAR(*name);
        Py_CLEAR(*file);
        return false;
    }
    return true;
}

const struct name_table *
names_in(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, NAMES);
}

PyObject *
names_bytes(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct name_table *names = names_in(capsule);
    return names == NULL ? NULL : PyLong_FromSize_t(name_table_bytes(names));
}

PyObject *
names_next(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct name_table *names = names_in(capsule);
    return names == NULL ? NULL : PyLong_FromUnsignedLong(name_table_next(names));
}
