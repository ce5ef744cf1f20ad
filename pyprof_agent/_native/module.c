/* The binding: arguments in, tuples out; no logic. */

#include "frames.h"
#include "heap_book.h"
#include "heap_sampler.h"

#define SNAPSHOT_NAME "pyprof_agent._native._core.snapshot"

static PyObject *
heap_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    double mean;
    int max_frames;
    if (!PyArg_ParseTuple(args, "di:heap_start", &mean, &max_frames)) {
        return NULL;
    }
    if (!(mean >= 1 && mean <= HEAP_MAX_MEAN) || max_frames < 1 || max_frames > HEAP_MAX_FRAMES) {
        return PyErr_Format(PyExc_ValueError, "max_frames is %d; use 1 to %d, and a mean of 1 to 2**40",
                            max_frames, HEAP_MAX_FRAMES);
    }
    if (heap_sampler_running()) {
        PyErr_SetString(PyExc_RuntimeError, "the heap sampler runs already");
        return NULL;
    }
    const char *problem = heap_sampler_start(mean, max_frames);
    if (problem != NULL) {
        PyErr_SetString(PyExc_RuntimeError, problem);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
heap_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    heap_sampler_stop();
    Py_RETURN_NONE;
}

static PyObject *
heap_repair(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(heap_sampler_repair());
}

static void
destroy_snapshot(PyObject *capsule)
{
    struct heap_snapshot *snapshot = PyCapsule_GetPointer(capsule, SNAPSHOT_NAME);
    heap_snapshot_free(snapshot);
    PyMem_Free(snapshot);
}

/* [(code or None, instruction), ...] of the nodes from `first` on. */
static PyObject *
list_nodes(const struct heap_snapshot *snapshot, Py_ssize_t first)
{
    Py_ssize_t count = (Py_ssize_t)snapshot->node_count - first;
    if (count < 0) {
        return PyErr_Format(PyExc_ValueError, "there are %u nodes, not %zd", snapshot->node_count,
                            first);
    }
    /* References first: to make an object may run any code, which may stop the sampler. */
    const struct stack_node *nodes = snapshot->nodes + first;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XINCREF((PyObject *)nodes[i].code);
    }
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *code = nodes[i].code == NULL ? Py_None : (PyObject *)nodes[i].code;
        PyObject *pair = list ? Py_BuildValue("(Oi)", code, (int)nodes[i].instruction) : NULL;
        Py_XDECREF((PyObject *)nodes[i].code);
        if (pair == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, pair);
        }
    }
    return list;
}

static PyObject *
heap_snapshot(PyObject *Py_UNUSED(module), PyObject *arg)
{
    Py_ssize_t first = PyNumber_AsSsize_t(arg, PyExc_OverflowError);
    if (first < 0) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "the first node is %zd; use 0 or more", first);
        }
        return NULL;
    }
    struct heap_snapshot *snapshot = PyMem_Calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(snapshot, SNAPSHOT_NAME, destroy_snapshot);
    if (capsule == NULL) {
        PyMem_Free(snapshot);
        return NULL;
    }
    if (!heap_book_copy(snapshot)) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    Py_ssize_t rows = snapshot->bucket_count;
    PyObject *nodes = list_nodes(snapshot, first);
    if (nodes == NULL) {
        Py_DECREF(capsule);
        return NULL;
    }
    return Py_BuildValue("(NnN)", capsule, rows, nodes);
}

/* The stack of a node as a tuple of frames, leaf first. */
static PyObject *
make_stack(const struct heap_snapshot *snapshot, uint32_t leaf, PyObject *frames)
{
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
    return stack;
}

static PyObject *
make_row(const struct heap_snapshot *snapshot, const struct heap_bucket *bucket, PyObject *frames)
{
    PyObject *stack = make_stack(snapshot, bucket->node, frames);
    if (stack == NULL) {
        return NULL;
    }
    /* Rounded down, once and at the end, as Go does. */
    return Py_BuildValue(
        "(N(KKKK))", stack, bucket->alloc_objects / HEAP_OBJECT_UNIT,
        bucket->alloc_bytes / HEAP_BYTE_UNIT,
        (bucket->alloc_objects - bucket->free_objects) / HEAP_OBJECT_UNIT,
        (bucket->alloc_bytes - bucket->free_bytes) / HEAP_BYTE_UNIT);
}

static PyObject *
heap_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    PyObject *frames;
    if (!PyArg_ParseTuple(args, "OnnO!:heap_rows", &capsule, &start, &stop, &PyList_Type,
                          &frames)) {
        return NULL;
    }
    const struct heap_snapshot *snapshot = PyCapsule_GetPointer(capsule, SNAPSHOT_NAME);
    if (snapshot == NULL) {
        return NULL;
    }
    if (stop > (Py_ssize_t)snapshot->bucket_count) {
        stop = (Py_ssize_t)snapshot->bucket_count;
    }
    if (start < 0 || start > stop) {
        return PyErr_Format(PyExc_ValueError, "no rows from %zd to %zd", start, stop);
    }
    PyObject *rows = PyList_New(stop - start);
    for (Py_ssize_t i = start; rows != NULL && i < stop; i++) {
        PyObject *row = make_row(snapshot, &snapshot->buckets[i], frames);
        if (row == NULL) {
            Py_CLEAR(rows);
        }
        else {
            PyList_SET_ITEM(rows, i - start, row);
        }
    }
    return rows;
}

static PyObject *
heap_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct heap_stats stats = heap_book_stats();
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsK}", "samples", stats.samples, "live", stats.live, "dropped",
        stats.dropped + heap_sampler_missed(), "overflowed", stats.overflowed, "subinterpreter",
        heap_sampler_skipped(), "stacks", stats.stacks, "frames", stats.nodes, "own_bytes",
        stats.bytes);
}

static PyObject *
own_stack(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long limit = PyLong_AsLong(arg);
    if (limit == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct position positions[HEAP_MAX_FRAMES];
    if (limit < 1 || limit > HEAP_MAX_FRAMES) {
        return PyErr_Format(PyExc_ValueError, "the limit is %ld; use 1 to %d", limit,
                            HEAP_MAX_FRAMES);
    }
    bool cut;
    int count = frames_collect(frames_own_thread(), positions, (int)limit, &cut);
    PyObject *list = PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("(Oi)", positions[i].code, (int)positions[i].instruction);
        if (pair == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, pair);
        }
    }
    return list;
}

static PyMethodDef methods[] = {
    {"heap_start", heap_start, METH_VARARGS, NULL},
    {"heap_stop", heap_stop, METH_NOARGS, NULL},
    {"heap_repair", heap_repair, METH_NOARGS, NULL},
    {"heap_snapshot", heap_snapshot, METH_O, NULL},
    {"heap_rows", heap_rows, METH_VARARGS, NULL},
    {"heap_stats", heap_stats, METH_NOARGS, NULL},
    {"own_stack", own_stack, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

/* The state is the process's, so only the main interpreter may have the module. */
static int
execute(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "pyprof_agent._native is for the main interpreter only");
        return -1;
    }
    if (PyModule_AddIntConstant(module, "MAX_FRAMES", HEAP_MAX_FRAMES) < 0
        || PyModule_AddIntConstant(module, "MARKER_CUT", HEAP_MARKER_CUT) < 0
        || PyModule_AddIntConstant(module, "MARKER_NO_GIL", HEAP_MARKER_NO_GIL) < 0
        || PyModule_AddIntConstant(module, "MARKER_NO_FRAME", HEAP_MARKER_NO_FRAME) < 0
        || PyModule_AddIntConstant(module, "MARKER_OVERFLOW", HEAP_MARKER_OVERFLOW) < 0) {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The native samplers of pyprof-agent.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
