#include "snapshot_object.h"

#include "collector_hold.h"

#define NAME "pyprof_agent._native._core.snapshot"

static void
destroy(PyObject *capsule)
{
    struct snapshot *snapshot = PyCapsule_GetPointer(capsule, NAME);
    snapshot_free(snapshot);
    PyMem_Free(snapshot);
}

PyObject *
snapshot_object(snapshot_take take, void *context)
{
    collector_hold_again();
    struct snapshot *snapshot = PyMem_Calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(snapshot, NAME, destroy);
    if (capsule == NULL) {
        PyMem_Free(snapshot);
        return NULL;
    }
    if (!take(snapshot, context)) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    return capsule;
}

struct snapshot *
snapshot_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, NAME);
}

bool
snapshot_clip(Py_ssize_t start, Py_ssize_t *stop, Py_ssize_t count)
{
    if (*stop > count) {
        *stop = count;
    }
    if (start < 0 || start > *stop) {
        PyErr_Format(PyExc_ValueError, "there are 0 to %zd, not %zd to %zd", count, start,
                     *stop);
        return false;
    }
    return true;
}

PyObject *
snapshot_list(Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    if (list != NULL) {
        PyObject_GC_UnTrack(list);
    }
    return list;
}

PyObject *
snapshot_list_full(PyObject *list)
{
    if (list != NULL) {
        PyObject_GC_Track(list);
    }
    return list;
}

static PyObject *
make_text(const struct snapshot *snapshot, uint32_t begin)
{
    struct function_text text = function_text_at(snapshot->text, begin);
    return PyUnicode_FromKindAndData((int)text.kind, text.data, (Py_ssize_t)text.length);
}

/* Name, file and first line of a function. */
static PyObject *
make_function(const struct snapshot *snapshot, Py_ssize_t number)
{
    const struct function *function = &snapshot->functions[number];
    PyObject *name = make_text(snapshot, function->name);
    PyObject *file = make_text(snapshot, function->file);
    if (name == NULL || file == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(file);
        return NULL;
    }
    PyObject *made = Py_BuildValue("(NNi)", name, file, function->first_line);
    if (made != NULL) {
        PyObject_GC_UnTrack(made); /* it cannot be part of a cycle, and there are thousands */
    }
    return made;
}

/* Those from start to stop. */
PyObject *
snapshot_functions(PyObject *Py_UNUSED(module), PyObject *args)
{
    collector_hold_again();
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    if (!PyArg_ParseTuple(args, "Onn:snapshot_functions", &capsule, &start, &stop)) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(capsule);
    if (snapshot == NULL || !snapshot_clip(start, &stop, snapshot->function_count)) {
        return NULL;
    }
    PyObject *functions = snapshot_list(stop - start);
    for (Py_ssize_t i = start; functions != NULL && i < stop; i++) {
        PyObject *function = make_function(snapshot, i);
        if (function == NULL) {
            Py_CLEAR(functions);
            break;
        }
        PyList_SET_ITEM(functions, i - start, function);
    }
    return snapshot_list_full(functions);
}

PyObject *
snapshot_total(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    unsigned column;
    if (!PyArg_ParseTuple(args, "OI:snapshot_total", &capsule, &column)) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(capsule);
    if (snapshot == NULL || column >= snapshot->columns) {
        return snapshot == NULL ? NULL : PyErr_Format(PyExc_IndexError, "no column %u", column);
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < snapshot->row_count; i++) {
        total += snapshot->rows[i].values[column];
    }
    return PyLong_FromUnsignedLongLong(total);
}

PyObject *
untrack(PyObject *Py_UNUSED(module), PyObject *rows)
{
    collector_hold_again();
    if (!PyList_CheckExact(rows)) {
        return PyErr_Format(PyExc_TypeError, "the rows are a %s; use a list",
                            Py_TYPE(rows)->tp_name);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(rows); i++) {
        if (PyTuple_Check(PyList_GET_ITEM(rows, i))) {
            PyObject_GC_UnTrack(PyList_GET_ITEM(rows, i));
        }
    }
    return Py_NewRef(rows);
}
