#include "snapshot_object.h"

#define NAME "pyprof_agent._native._core.snapshot"

/* It has references to the code objects of the nodes from `first_node` on, so that these can be
   listed even if the sampler is stopped meanwhile. */
struct held_snapshot {
    struct snapshot copy;
    Py_ssize_t first_node;
};

static void
destroy(PyObject *capsule)
{
    struct held_snapshot *held = PyCapsule_GetPointer(capsule, NAME);
    for (Py_ssize_t i = held->first_node; i < (Py_ssize_t)held->copy.node_count; i++) {
        Py_XDECREF((PyObject *)held->copy.nodes[i].code);
    }
    snapshot_free(&held->copy);
    PyMem_Free(held);
}

PyObject *
snapshot_object(Py_ssize_t first_node, snapshot_take take, void *context)
{
    if (first_node < 0) {
        return PyErr_Format(PyExc_ValueError, "the first node is %zd; use 0 or more", first_node);
    }
    struct held_snapshot *held = PyMem_Calloc(1, sizeof *held);
    if (held == NULL) {
        return PyErr_NoMemory();
    }
    held->first_node = first_node;
    PyObject *capsule = PyCapsule_New(held, NAME, destroy);
    if (capsule == NULL) {
        PyMem_Free(held);
        return NULL;
    }
    /* To make an object may run any code, even stop the sampler; from here on none is made until
       the references are taken. */
    if (!take(&held->copy, context)) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = first_node; i < (Py_ssize_t)held->copy.node_count; i++) {
        Py_XINCREF((PyObject *)held->copy.nodes[i].code);
    }
    return capsule;
}

const struct snapshot *
snapshot_of(PyObject *capsule)
{
    struct held_snapshot *held = PyCapsule_GetPointer(capsule, NAME);
    return held == NULL ? NULL : &held->copy;
}

/* Cut `*stop` down to `count`; false, with an error, if the range begins outside. */
static bool
clip(Py_ssize_t lowest, Py_ssize_t start, Py_ssize_t *stop, Py_ssize_t count)
{
    if (*stop > count) {
        *stop = count;
    }
    if (start < lowest || start > *stop) {
        PyErr_Format(PyExc_ValueError, "there are %zd to %zd, not %zd to %zd", lowest, count, start,
                     *stop);
        return false;
    }
    return true;
}

PyObject *
snapshot_nodes(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    if (!PyArg_ParseTuple(args, "Onn:snapshot_nodes", &capsule, &start, &stop)) {
        return NULL;
    }
    const struct held_snapshot *held = PyCapsule_GetPointer(capsule, NAME);
    if (held == NULL || !clip(held->first_node, start, &stop, held->copy.node_count)) {
        return NULL;
    }
    PyObject *codes = PyList_New(stop - start);
    PyObject *instructions = PyList_New(stop - start);
    for (Py_ssize_t i = 0; codes != NULL && instructions != NULL && i < stop - start; i++) {
        const struct stack_node *node = &held->copy.nodes[start + i];
        PyObject *instruction = PyLong_FromLong(node->instruction);
        if (instruction == NULL) {
            Py_CLEAR(codes);
            break;
        }
        PyList_SET_ITEM(instructions, i, instruction);
        PyList_SET_ITEM(codes, i, Py_NewRef(node->code ? (PyObject *)node->code : Py_None));
    }
    if (codes == NULL || instructions == NULL) {
        Py_XDECREF(codes);
        Py_XDECREF(instructions);
        return NULL;
    }
    return Py_BuildValue("(NN)", codes, instructions);
}

/* What is made here cannot be part of a cycle, so the garbage collector need not see it: it would go
   through half a million frames of 20,000 stacks at each of its full collections, and through the
   thousands of new tuples of a profile it would come to one.

   The stack of a row as a tuple of frames, leaf first. */
static PyObject *
make_stack(const struct snapshot *snapshot, const struct snapshot_row *row, PyObject *frames)
{
    uint32_t leaf = row->node;
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
    PyObject_GC_UnTrack(stack);
    return stack;
}

static PyObject *
make_values(const struct snapshot *snapshot, const struct snapshot_row *row,
            PyObject *Py_UNUSED(frames))
{
    PyObject *numbers = PyTuple_New(snapshot->columns);
    for (uint32_t i = 0; numbers != NULL && i < snapshot->columns; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(row->values[i]);
        if (number == NULL) {
            Py_CLEAR(numbers);
            break;
        }
        PyTuple_SET_ITEM(numbers, (Py_ssize_t)i, number);
    }
    if (numbers != NULL) {
        PyObject_GC_UnTrack(numbers);
    }
    return numbers;
}

static PyObject *
make_thread(const struct snapshot *Py_UNUSED(snapshot), const struct snapshot_row *row,
            PyObject *Py_UNUSED(frames))
{
    return PyLong_FromUnsignedLong(row->thread);
}

typedef PyObject *(*make_row)(const struct snapshot *, const struct snapshot_row *,
                              PyObject *frames);

/* What `make` makes of each row from start to stop; the arguments are those, after the snapshot,
   and then the frames if the format has them. */
static PyObject *
list_rows(PyObject *args, const char *format, make_row make)
{
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    PyObject *frames = NULL;
    if (!PyArg_ParseTuple(args, format, &capsule, &start, &stop, &PyList_Type, &frames)) {
        return NULL;
    }
    const struct held_snapshot *held = PyCapsule_GetPointer(capsule, NAME);
    if (held == NULL || !clip(0, start, &stop, held->copy.row_count)) {
        return NULL;
    }
    PyObject *rows = PyList_New(stop - start);
    for (Py_ssize_t i = start; rows != NULL && i < stop; i++) {
        PyObject *row = make(&held->copy, &held->copy.rows[i], frames);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, i - start, row);
    }
    return rows;
}

PyObject *
snapshot_stacks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_rows(args, "OnnO!:snapshot_stacks", make_stack);
}

PyObject *
snapshot_values(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_rows(args, "Onn:snapshot_values", make_values);
}

PyObject *
snapshot_threads(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_rows(args, "Onn:snapshot_threads", make_thread);
}

PyObject *
untrack(PyObject *Py_UNUSED(module), PyObject *rows)
{
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
