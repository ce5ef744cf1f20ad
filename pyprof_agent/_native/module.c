/* The binding: arguments in, tuples out; no logic. */

#include "frames.h"
#include "collector_hold.h"
#include "forked_child.h"
#include "guarded.h"
#include "heap_book.h"
#include "heap_sampler.h"
#include "look_back.h"
#include "names_object.h"
#include "program_facts.h"
#include "rows_encode.h"
#include "rows_frames.h"
#include "rows_object.h"
#include "snapshot_object.h"
#include "stack_sampler.h"
#include "waker.h"

static PyObject *
none_or_error(const char *problem)
{
    if (problem != NULL) {
        PyErr_SetString(PyExc_RuntimeError, problem);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
heap_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    double mean;
    int max_frames;
    unsigned look_back_seconds;
    if (!PyArg_ParseTuple(args, "diI:heap_start", &mean, &max_frames, &look_back_seconds)) {
        return NULL;
    }
    if (!(mean >= 1 && mean <= HEAP_MAX_MEAN) || max_frames < 1 || max_frames > HEAP_MAX_FRAMES
        || look_back_seconds > LOOK_BACK_MAX_SECONDS) {
        return PyErr_Format(PyExc_ValueError,
                            "use a mean of 1 to 2**40 bytes, 1 to %d frames, up to %u s",
                            HEAP_MAX_FRAMES, LOOK_BACK_MAX_SECONDS);
    }
    if (heap_sampler_running()) {
        PyErr_SetString(PyExc_RuntimeError, "the heap sampler runs already");
        return NULL;
    }
    return none_or_error(heap_sampler_start(mean, max_frames, look_back_seconds));
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

/* False, with an error, for a moment of the past where nothing is kept of it. */
static bool
can_look_back(long long moment, bool kept)
{
    if (moment >= 0 && !kept) {
        PyErr_SetString(PyExc_LookupError, "nothing is kept to look back at");
        return false;
    }
    return true;
}

struct heap_wanted {
    long long moment; /* -1: now */
    int64_t taken;
};

static bool
take_heap(struct snapshot *snapshot, void *context)
{
    struct heap_wanted *wanted = context;
    return wanted->moment < 0 ? heap_book_copy(snapshot)
                              : heap_book_copy_of(snapshot, wanted->moment, &wanted->taken);
}

static PyObject *
heap_snapshot(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct heap_wanted wanted = {.taken = -1};
    if (!PyArg_ParseTuple(args, "L:heap_snapshot", &wanted.moment)
        || !can_look_back(wanted.moment, heap_book_looks_back())) {
        return NULL;
    }
    PyObject *capsule = snapshot_object(take_heap, &wanted);
    if (capsule == NULL) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(capsule);
    return Py_BuildValue("(NIIL)", capsule, snapshot->function_count, snapshot->node_count,
                         (long long)wanted.taken);
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
        "{sK sK sK sK sK sK sK sK sK sK}",
        "run", (unsigned long long)stats.run,
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
stack_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct stack_settings settings;
    if (!PyArg_ParseTuple(args, "ddiI:stack_start", &settings.hz, &settings.max_cpu,
                          &settings.max_frames, &settings.look_back_seconds)) {
        return NULL;
    }
    if (!(settings.hz > 0 && settings.hz <= 10000 && settings.max_cpu > 0 && settings.max_cpu <= 1)
        || settings.max_frames < 1 || settings.max_frames > STACK_MAX_FRAMES
        || settings.look_back_seconds > LOOK_BACK_MAX_SECONDS) {
        return PyErr_Format(PyExc_ValueError,
                            "use up to 10000 Hz, a share of up to 1, 1 to %d frames, up to %u s",
                            STACK_MAX_FRAMES, LOOK_BACK_MAX_SECONDS);
    }
    if (stack_sampler_running()) {
        PyErr_SetString(PyExc_RuntimeError, "the stack sampler runs already");
        return NULL;
    }
    return none_or_error(stack_sampler_start(&settings));
}

static PyObject *
stack_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    stack_sampler_stop();
    Py_RETURN_NONE;
}

static PyObject *
stack_pause(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLongLong(stack_sampler_pause());
}

static PyObject *
stack_resume(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return none_or_error(stack_sampler_resume());
}

struct stacks_wanted {
    struct stack_snapshot *taken;
    long long moment; /* -1: now */
};

static bool
take_stacks(struct snapshot *snapshot, void *context)
{
    const struct stacks_wanted *wanted = context;
    bool copied = wanted->moment < 0 ? stack_sampler_copy(wanted->taken)
                                     : stack_book_copy_of(wanted->taken, wanted->moment);
    *snapshot = wanted->taken->books;
    return copied;
}

static PyObject *
list_threads(const struct stack_thread *threads, uint32_t count)
{
    PyObject *list = PyList_New(count);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        const struct stack_thread *thread = &threads[i];
        PyObject *facts = Py_BuildValue("(IKKNK)", thread->label, thread->ident, thread->native_id,
                                        PyBool_FromLong(thread->alive), thread->cpu);
        if (facts == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, facts);
    }
    return list;
}

static PyObject *
stack_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct stack_thread threads[STACK_MAX_THREADS];
    return list_threads(threads, stack_book_threads(threads));
}

static PyObject *
stack_newcomers(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(stack_book_newcomers());
}

static PyObject *
stack_snapshot(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct stacks_wanted wanted;
    if (!PyArg_ParseTuple(args, "L:stack_snapshot", &wanted.moment)
        || !can_look_back(wanted.moment, stack_book_looks_back())) {
        return NULL;
    }
    wanted.taken = PyMem_Calloc(1, sizeof *wanted.taken);
    if (wanted.taken == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *result = NULL;
    PyObject *capsule = snapshot_object(take_stacks, &wanted);
    if (capsule != NULL) {
        result = Py_BuildValue("(NIINLLKK)", capsule, wanted.taken->books.function_count,
                               wanted.taken->books.node_count,
                               list_threads(wanted.taken->threads, wanted.taken->thread_count),
                               (long long)wanted.taken->started, (long long)wanted.taken->taken,
                               wanted.taken->clocks.process, wanted.taken->clocks.sampler);
    }
    PyMem_Free(wanted.taken);
    return result;
}

static PyObject *
stack_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct stack_stats stats = stack_book_stats();
    struct stack_cost cost = stack_sampler_cost();
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK sK sK sK sK sO}",
        "ticks", stats.ticks,
        "unreadable", stats.unreadable,
        "retried", stats.retried,
        "overflowed", stats.overflowed,
        "folded", stats.folded,
        "run", stats.run,
        "stacks", stats.rows,
        "frames", stats.nodes,
        "own_bytes", stats.bytes + cost.bytes,
        "cpu", cost.cpu,
        "period", cost.period,
        "slowed", cost.slowed ? Py_True : Py_False);
}

static PyObject *
stack_reader(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyUnicode_FromString(guarded_way());
}

static PyObject *
stack_problem(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    const char *problem = guarded_problem();
    return PyUnicode_FromString(problem == NULL ? "" : problem);
}

/* The frames of the calling thread, as `collect` finds them: at most as many as `arg` says. */
static PyObject *
list_own_stack(PyObject *arg, int (*collect)(struct position *positions, int limit))
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
    int count = collect(positions, (int)limit);
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

static int
collect_own(struct position *positions, int limit)
{
    bool cut;
    return frames_collect(frames_own_thread(), positions, limit, &cut);
}

static PyObject *
own_stack(PyObject *Py_UNUSED(module), PyObject *arg)
{
    return list_own_stack(arg, collect_own);
}

static PyObject *
own_stack_walked(PyObject *Py_UNUSED(module), PyObject *arg)
{
    return list_own_stack(arg, stack_sampler_own);
}

static PyObject *
hold_collector(PyObject *Py_UNUSED(module), PyObject *function)
{
    return collector_hold_call(function);
}

static PyObject *
follow_forks(PyObject *Py_UNUSED(module), PyObject *go_on)
{
    if (!forked_child_follow(go_on)) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyObject *
announce_fork(PyObject *Py_UNUSED(module), PyObject *begins)
{
    forked_child_announce(begins == Py_True);
    Py_RETURN_NONE;
}

static PyObject *
fork_untold(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(forked_child_untold());
}

static PyObject *
fork_told(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(forked_child_told());
}

static PyObject *
fork_survivor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLongLong(forked_child_thread());
}

static PyMethodDef methods[] = {
    {"heap_start", heap_start, METH_VARARGS, NULL},
    {"heap_stop", heap_stop, METH_NOARGS, NULL},
    {"heap_repair", heap_repair, METH_NOARGS, NULL},
    {"heap_snapshot", heap_snapshot, METH_VARARGS, NULL},
    {"heap_compact", heap_compact, METH_NOARGS, NULL},
    {"heap_stats", heap_stats, METH_NOARGS, NULL},
    {"stack_problem", stack_problem, METH_NOARGS, NULL},
    {"stack_reader", stack_reader, METH_NOARGS, NULL},
    {"stack_start", stack_start, METH_VARARGS, NULL},
    {"stack_stop", stack_stop, METH_NOARGS, NULL},
    {"stack_pause", stack_pause, METH_NOARGS, NULL},
    {"stack_resume", stack_resume, METH_NOARGS, NULL},
    {"stack_snapshot", stack_snapshot, METH_VARARGS, NULL},
    {"stack_threads", stack_threads, METH_NOARGS, NULL},
    {"stack_newcomers", stack_newcomers, METH_NOARGS, NULL},
    {"stack_stats", stack_stats, METH_NOARGS, NULL},
    {"snapshot_total", snapshot_total, METH_VARARGS, NULL},
    {"snapshot_functions", snapshot_functions, METH_VARARGS, NULL},
    {"untrack", untrack, METH_O, NULL},
    {"thread_facts", program_facts_threads, METH_O, NULL},
    {"release_frames", program_facts_release, METH_O, NULL},
    {"rows_of", rows_of, METH_O, NULL},
    {"rows_with", rows_with, METH_VARARGS, NULL},
    {"rows_subtract", rows_subtract, METH_VARARGS, NULL},
    {"rows_only", rows_only, METH_VARARGS, NULL},
    {"rows_cpu", rows_cpu, METH_O, NULL},
    {"rows_wall", rows_wall, METH_O, NULL},
    {"rows_count", rows_count, METH_O, NULL},
    {"rows_items", rows_items, METH_VARARGS, NULL},
    {"rows_frames", rows_frames, METH_VARARGS, NULL},
    {"rows_lines", rows_lines, METH_VARARGS, NULL},
    {"rows_labels", rows_labels, METH_O, NULL},
    {"rows_encode", rows_encode, METH_VARARGS, NULL},
    {"names_new", names_new, METH_NOARGS, NULL},
    {"names_add", names_add, METH_VARARGS, NULL},
    {"names_next", names_next, METH_O, NULL},
    {"names_bytes", names_bytes, METH_O, NULL},
    {"module_files", program_facts_modules, METH_O, NULL},
    {"resident_pages", program_facts_resident, METH_NOARGS, NULL},
    {"hold_collector", hold_collector, METH_O, NULL},
    {"waker", waker_new, METH_O, NULL},
    {"waker_wait", waker_wait, METH_VARARGS, NULL},
    {"waker_wake", waker_wake, METH_O, NULL},
    {"pause", waker_pause, METH_O, NULL},
    {"wait_readable", waker_wait_readable, METH_VARARGS, NULL},
    {"follow_forks", follow_forks, METH_O, NULL},
    {"announce_fork", announce_fork, METH_O, NULL},
    {"fork_untold", fork_untold, METH_NOARGS, NULL},
    {"fork_told", fork_told, METH_NOARGS, NULL},
    {"fork_survivor", fork_survivor, METH_NOARGS, NULL},
    {"own_stack", own_stack, METH_O, NULL},
    {"own_stack_walked", own_stack_walked, METH_O, NULL},
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
        || PyModule_AddIntConstant(module, "MARKER_CUT", MARKER_CUT) < 0
        || PyModule_AddIntConstant(module, "MARKER_NO_GIL", MARKER_NO_GIL) < 0
        || PyModule_AddIntConstant(module, "MARKER_NO_FRAME", MARKER_NO_FRAME) < 0
        || PyModule_AddIntConstant(module, "MARKER_OVERFLOW", MARKER_OVERFLOW) < 0
        || PyModule_AddIntConstant(module, "MARKER_UNREADABLE", MARKER_UNREADABLE) < 0
        || PyModule_AddIntConstant(module, "MARKER_UNSAMPLED", MARKER_UNSAMPLED) < 0
        || PyModule_AddIntConstant(module, "MARKER_NATIVE", MARKER_NATIVE) < 0
        || PyModule_AddIntConstant(module, "MARKER_SAMPLER", MARKER_SAMPLER) < 0
        || PyModule_AddIntConstant(module, "THREAD_YOUNG", STACK_THREAD_YOUNG) < 0
        || PyModule_AddIntConstant(module, "THREAD_OTHERS", STACK_THREAD_OTHERS) < 0
        || PyModule_AddIntConstant(module, "LABEL_SAMPLER", STACK_LABEL_SAMPLER) < 0
        || PyModule_AddIntConstant(module, "LABEL_NATIVE", STACK_LABEL_NATIVE) < 0
        || PyModule_AddObject(module, "NO_LABELS", PyLong_FromUnsignedLong(PPROF_NO_LABELS)) < 0) {
        return -1;
    }
    return collector_hold_init() ? 0 : -1;
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
