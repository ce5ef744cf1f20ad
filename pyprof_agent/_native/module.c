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

/* A copy of the books. It has references to the code objects of the nodes from `first_node` on, so
   that these can be listed even if the sampler is stopped meanwhile. */
struct held_snapshot {
    struct heap_snapshot copy;
    Py_ssize_t first_node;
};

static void
destroy_snapshot(PyObject *capsule)
{
    struct held_snapshot *held = PyCapsule_GetPointer(capsule, SNAPSHOT_NAME);
    for (Py_ssize_t i = held->first_node; i < (Py_ssize_t)held->copy.node_count; i++) {
        Py_XDECREF((PyObject *)held->copy.nodes[i].code);
    }
    heap_snapshot_free(&held->copy);
    PyMem_Free(held);
}

static PyObject *
heap_snapshot(PyObject *Py_UNUSED(module), PyObject *arg)
{
    Py_ssize_t first_node = PyNumber_AsSsize_t(arg, PyExc_OverflowError);
    if (first_node == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (first_node < 0) {
        return PyErr_Format(PyExc_ValueError, "the first node is %zd; use 0 or more", first_node);
    }
    struct held_snapshot *held = PyMem_Calloc(1, sizeof *held);
    if (held == NULL) {
        return PyErr_NoMemory();
    }
    held->first_node = first_node;
    PyObject *capsule = PyCapsule_New(held, SNAPSHOT_NAME, destroy_snapshot);
    if (capsule == NULL) {
        PyMem_Free(held);
        return NULL;
    }
    /* To make an object may run any code, even stop the sampler; from here on none is made until
       the references are taken. */
    if (!heap_book_copy(&held->copy)) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = first_node; i < (Py_ssize_t)held->copy.node_count; i++) {
        Py_XINCREF((PyObject *)held->copy.nodes[i].code);
    }
    return Py_BuildValue("(NII)", capsule, held->copy.node_count, held->copy.bucket_count);
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

static PyObject *
heap_nodes(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    if (!PyArg_ParseTuple(args, "Onn:heap_nodes", &capsule, &start, &stop)) {
        return NULL;
    }
    const struct held_snapshot *held = PyCapsule_GetPointer(capsule, SNAPSHOT_NAME);
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

/* The stack of a row as a tuple of frames, leaf first. */
static PyObject *
make_stack(const struct heap_snapshot *snapshot, const struct heap_bucket *bucket,
           PyObject *frames)
{
    uint32_t leaf = bucket->node;
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

/* The numbers of a stack, rounded down, once and at the end, as Go does. */
static PyObject *
make_values(const struct heap_snapshot *Py_UNUSED(snapshot), const struct heap_bucket *bucket,
            PyObject *Py_UNUSED(frames))
{
    const uint64_t values[4] = {
        bucket->alloc_objects / HEAP_OBJECT_UNIT,
        bucket->alloc_bytes / HEAP_BYTE_UNIT,
        (bucket->alloc_objects - bucket->free_objects) / HEAP_OBJECT_UNIT,
        (bucket->alloc_bytes - bucket->free_bytes) / HEAP_BYTE_UNIT,
    };
    PyObject *numbers = PyTuple_New(4);
    for (Py_ssize_t i = 0; numbers != NULL && i < 4; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(values[i]);
        if (number == NULL) {
            Py_CLEAR(numbers);
            break;
        }
        PyTuple_SET_ITEM(numbers, i, number);
    }
    return numbers;
}

typedef PyObject *(*make_row)(const struct heap_snapshot *, const struct heap_bucket *,
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
    const struct held_snapshot *held = PyCapsule_GetPointer(capsule, SNAPSHOT_NAME);
    if (held == NULL || !clip(0, start, &stop, held->copy.bucket_count)) {
        return NULL;
    }
    PyObject *rows = PyList_New(stop - start);
    for (Py_ssize_t i = start; rows != NULL && i < stop; i++) {
        PyObject *row = make(&held->copy, &held->copy.buckets[i], frames);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, i - start, row);
    }
    return rows;
}

static PyObject *
heap_stacks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_rows(args, "OnnO!:heap_stacks", make_stack);
}

static PyObject *
heap_values(PyObject *Py_UNUSED(module), PyObject *args)
{
    return list_rows(args, "Onn:heap_values", make_values);
}

static PyObject *
heap_compact(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(heap_book_compact());
}

static PyObject *
heap_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct heap_stats stats = heap_book_stats();
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK sK sK}",
        "samples", stats.samples,
        "live", stats.live,
        "dropped", stats.dropped + heap_sampler_missed(),
        "overflowed", stats.overflowed,
        "folded", stats.folded,
        "subinterpreter", heap_sampler_skipped(),
        "stacks", stats.stacks,
        "frames", stats.nodes,
        "own_bytes", stats.bytes);
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
    {"heap_nodes", heap_nodes, METH_VARARGS, NULL},
    {"heap_stacks", heap_stacks, METH_VARARGS, NULL},
    {"heap_values", heap_values, METH_VARARGS, NULL},
    {"heap_compact", heap_compact, METH_NOARGS, NULL},
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
