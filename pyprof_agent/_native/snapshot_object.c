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

const struct snapshot *
snapshot_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, NAME);
}

/* Cut `*stop` down to `count`; false, with an error, if the range begins outside. */
static bool
clip(Py_ssize_t start, Py_ssize_t *stop, Py_ssize_t count)
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

/* What is made here cannot be part of a cycle, so the garbage collector need not see it: it would go
   through half a million frames of 20,000 stacks at each of its full collections, and through the
   thousands of new tuples of a profile it would come to one. */
static PyObject *
untracked(PyObject *tuple)
{
    if (tuple != NULL) {
        PyObject_GC_UnTrack(tuple);
    }
    return tuple;
}

/* The function of a node and its line; 0 and its number for a marker. */
static PyObject *
make_node(const struct snapshot *snapshot, Py_ssize_t number, PyObject *Py_UNUSED(frames))
{
    const struct stack_node *node = &snapshot->nodes[number];
    return untracked(
        Py_BuildValue("(Ii)", node->function, node->function == 0 ? node->instruction : node->line));
}

static PyObject *
make_text(const struct snapshot *snapshot, uint32_t begin)
{
    struct function_text text = function_text_at(snapshot->text, begin);
    return PyUnicode_FromKindAndData((int)text.kind, text.data, (Py_ssize_t)text.length);
}

/* Name, file and first line of a function. */
static PyObject *
make_function(const struct snapshot *snapshot, Py_ssize_t number, PyObject *Py_UNUSED(frames))
{
    const struct function *function = &snapshot->functions[number];
    PyObject *name = make_text(snapshot, function->name);
    PyObject *file = make_text(snapshot, function->file);
    if (name == NULL || file == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(file);
        return NULL;
    }
    return untracked(Py_BuildValue("(NNi)", name, file, function->first_line));
}

/* The stack of a row as a tuple of frames, leaf first. */
static PyObject *
make_stack(const struct snapshot *snapshot, Py_ssize_t number, PyObject *frames)
{
    uint32_t leaf = snapshot->rows[number].node;
    Py_ssize_t depth = 0;
    for (uint32_t node = leaf; node != STACK_ROOT; node = snapshot->nodes[node].parent) {
        depth++;
    }
    PyObject *stack = PyTuple_New(depth);
    if (stack == NULL) {
        return NULL;
    }
    Py_ssize_t i = 0;
    for (uint32_t node = leaf; node != STACK_ROOT; node = snapshot->nodes[node].parent) {
        if ((Py_ssize_t)node >= PyList_GET_SIZE(frames)) {
            Py_DECREF(stack);
            return PyErr_Format(PyExc_IndexError, "node %u has no frame", node);
        }
        PyTuple_SET_ITEM(stack, i++, Py_NewRef(PyList_GET_ITEM(frames, node)));
    }
    return untracked(stack);
}

static PyObject *
make_values(const struct snapshot *snapshot, Py_ssize_t number, PyObject *Py_UNUSED(frames))
{
    const struct snapshot_row *row = &snapshot->rows[number];
    PyObject *numbers = PyTuple_New(snapshot->columns);
    for (uint32_t i = 0; numbers != NULL && i < snapshot->columns; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(row->values[i]);
        if (value == NULL) {
            Py_CLEAR(numbers);
            break;
        }
        PyTuple_SET_ITEM(numbers, (Py_ssize_t)i, value);
    }
    return untracked(numbers);
}

static PyObject *
make_thread(const struct snapshot *snapshot, Py_ssize_t number, PyObject *Py_UNUSED(frames))
{
    return PyLong_FromUnsignedLong(snapshot->rows[number].thread);
}

static uint32_t
count_nodes(const struct snapshot *snapshot)
{
    return snapshot->node_count;
}

static uint32_t
count_functions(const struct snapshot *snapshot)
{
    return snapshot->function_count;
}

static uint32_t
count_rows(const struct snapshot *snapshot)
{
    return snapshot->row_count;
}

typedef uint32_t (*count_items)(const struct snapshot *);
typedef PyObject *(*make_item)(const struct snapshot *, Py_ssize_t number, PyObject *frames);

/* What `make` makes of each from start to stop; the arguments are those, after the snapshot, and then
   the frames if the format has them. */
static PyObject *
list_items(PyObject *args, const char *format, count_items count, make_item make)
{
    collector_hold_again();
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    PyObject *frames = NULL;
    if (!PyArg_ParseTuple(args, format, &capsule, &start, &stop, &PyList_Type, &frames)) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(capsule);
    if (snapshot == NULL || !clip(start, &stop, count(snapshot))) {
        return NULL;
    }
    PyObject *items = PyList_New(stop - start);
    for (Py_ssize_t i = start; items != NULL && i < stop; i++) {
        PyObject *item = make(snapshot, i, frames);
        if (item == NULL) {
            Py_CLEAR(items);
            break;
        }
        PyList_SET_ITEM(items, i - start, item);
    }
    return items;
}

PyObject *
snapshot_nodes(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_items(args, "Onn:snapshot_nodes", count_nodes, make_node);
}

PyObject *
snapshot_functions(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_items(args, "Onn:snapshot_functions", count_functions, make_function);
}

PyObject *
snapshot_stacks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_items(args, "OnnO!:snapshot_stacks", count_rows, make_stack);
}

PyObject *
snapshot_values(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_items(args, "Onn:snapshot_values", count_rows, make_values);
}

PyObject *
snapshot_threads(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_items(args, "Onn:snapshot_threads", count_rows, make_thread);
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
