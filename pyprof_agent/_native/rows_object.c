#include "rows_object.h"

#include "collector_hold.h"
#include "names_object.h"
#include "snapshot_object.h"

#define ROWS "pyprof_agent._native._core.rows"

static void
destroy_rows(PyObject *capsule)
{
    struct rows *rows = PyCapsule_GetPointer(capsule, ROWS);
    row_table_free(&rows->table);
    pprof_locations_free(&rows->locations);
    Py_XDECREF(rows->snapshot);
    PyMem_Free(rows);
}

/* An empty object, and what is in it. */
static PyObject *
new_rows(PyObject *snapshot, struct rows **rows)
{
    *rows = PyMem_Calloc(1, sizeof **rows);
    if (*rows == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(*rows, ROWS, destroy_rows);
    if (capsule == NULL) {
        PyMem_Free(*rows);
        return NULL;
    }
    (*rows)->snapshot = Py_NewRef(snapshot);
    return capsule;
}

struct rows *
rows_in(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, ROWS);
}

const struct name_table *
rows_input(const struct rows *rows, PyObject *names, struct pprof_input *input)
{
    const struct snapshot *snapshot = snapshot_of(rows->snapshot);
    const struct name_table *table = snapshot == NULL ? NULL : names_in(names);
    if (table != NULL) {
        input->nodes = snapshot->nodes;
        input->node_count = snapshot->node_count;
        input->rows = rows->table.rows;
        input->row_count = rows->table.count;
        name_table_input(table, input);
    }
    return table;
}

void
rows_error(enum pprof_result result)
{
    if (result == PPROF_NO_MEMORY) {
        PyErr_NoMemory();
    }
    else {
        PyErr_SetString(PyExc_IndexError, "a row has a function or labels without a name");
    }
}

/* The object, or an error if it could not be filled. */
static PyObject *
filled(PyObject *capsule, bool done)
{
    if (!done) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    return capsule;
}

/* What rows are made of. */
struct recipe {
    bool (*make)(struct row_table *, const struct recipe *);
    const struct row_table *from;
    const struct row_table *earlier; /* for a difference */
    uint32_t gone;                   /* the same: labels of earlier rows that later ones have nowhere */
    unsigned columns;                /* to keep */
};

/* Rows with the nodes of a snapshot, made without the GIL. */
static PyObject *
made_by(PyObject *snapshot, const struct recipe *recipe)
{
    struct rows *rows;
    PyObject *made = new_rows(snapshot, &rows);
    if (made == NULL) {
        return NULL;
    }
    bool done;
    Py_BEGIN_ALLOW_THREADS
    done = recipe->make(&rows->table, recipe);
    Py_END_ALLOW_THREADS
    return filled(made, done);
}

static bool
make_difference(struct row_table *table, const struct recipe *recipe)
{
    return row_table_subtract(table, recipe->from, recipe->earlier, recipe->gone);
}

static bool
make_columns(struct row_table *table, const struct recipe *recipe)
{
    return row_table_only(table, recipe->from, recipe->columns);
}

static bool
make_cpu(struct row_table *table, const struct recipe *recipe)
{
    return row_table_cpu(table, recipe->from);
}

static bool
make_wall(struct row_table *table, const struct recipe *recipe)
{
    return row_table_wall(table, recipe->from);
}

PyObject *
rows_of(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    struct snapshot *snapshot = snapshot_of(capsule);
    struct rows *rows;
    PyObject *made = snapshot == NULL ? NULL : new_rows(capsule, &rows);
    if (made == NULL) {
        return NULL;
    }
    struct snapshot taken;
    snapshot_keep_nodes(snapshot, &taken);
    bool done;
    Py_BEGIN_ALLOW_THREADS
    done = row_table_of_snapshot(&rows->table, &taken);
    snapshot_free(&taken);
    Py_END_ALLOW_THREADS
    return filled(made, done);
}

/* The rows of a stack sampler with the CPU times of threads: (node, labels, ns) each. */
PyObject *
rows_with(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    PyObject *clocks;
    if (!PyArg_ParseTuple(args, "OO!:rows_with", &capsule, &PyList_Type, &clocks)) {
        return NULL;
    }
    const struct rows *from = rows_in(capsule);
    struct rows *rows;
    PyObject *made = from == NULL ? NULL : new_rows(from->snapshot, &rows);
    if (made == NULL) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(from->snapshot);
    uint32_t nodes = snapshot == NULL ? 0 : snapshot->node_count;
    bool done = true;
    rows->table.columns = STACK_COLUMNS;
    for (uint32_t i = 0; done && i < from->table.count; i++) {
        done = row_table_add(&rows->table, from->table.rows[i]);
    }
    for (Py_ssize_t i = 0; done && i < PyList_GET_SIZE(clocks); i++) {
        struct pprof_row row = {0};
        long long cpu;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(clocks, i), "IIL:rows_with", &row.node, &row.labels,
                              &cpu)) {
            Py_DECREF(made);
            return NULL;
        }
        if (row.node >= nodes) {
            Py_DECREF(made);
            return PyErr_Format(PyExc_IndexError, "there is no node %u", row.node);
        }
        row.values[COLUMN_CPU] = cpu;
        done = row_table_add(&rows->table, row);
    }
    return filled(made, done);
}

PyObject *
rows_subtract(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *later_capsule;
    PyObject *earlier_capsule;
    unsigned gone;
    if (!PyArg_ParseTuple(args, "OOI:rows_subtract", &later_capsule, &earlier_capsule, &gone)) {
        return NULL;
    }
    const struct rows *later = rows_in(later_capsule);
    const struct rows *earlier = later == NULL ? NULL : rows_in(earlier_capsule);
    if (earlier == NULL) {
        return NULL;
    }
    const struct snapshot *snapshot = snapshot_of(later->snapshot);
    const struct snapshot *other = snapshot_of(earlier->snapshot);
    if (snapshot == NULL || other == NULL) {
        return NULL;
    }
    /* Values of an earlier time may have been read later, when there were more nodes. */
    bool more = other->node_count > snapshot->node_count;
    const struct recipe recipe = {
        make_difference, &later->table, .earlier = &earlier->table, .gone = gone};
    return made_by(more ? earlier->snapshot : later->snapshot, &recipe);
}

PyObject *
rows_only(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    unsigned columns;
    if (!PyArg_ParseTuple(args, "OI:rows_only", &capsule, &columns)) {
        return NULL;
    }
    const struct rows *from = rows_in(capsule);
    if (from == NULL) {
        return NULL;
    }
    const struct recipe recipe = {make_columns, &from->table, .columns = columns};
    return made_by(from->snapshot, &recipe);
}

PyObject *
rows_cpu(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct rows *from = rows_in(capsule);
    return from == NULL ? NULL
                        : made_by(from->snapshot, &(struct recipe){make_cpu, .from = &from->table});
}

PyObject *
rows_wall(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct rows *from = rows_in(capsule);
    return from == NULL ? NULL
                        : made_by(from->snapshot, &(struct recipe){make_wall, .from = &from->table});
}

PyObject *
rows_count(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct rows *rows = rows_in(capsule);
    return rows == NULL ? NULL : PyLong_FromUnsignedLong(rows->table.count);
}

PyObject *
rows_values(const int64_t *values, uint32_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (value == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, value);
    }
    if (tuple != NULL) {
        PyObject_GC_UnTrack(tuple); /* it cannot be part of a cycle */
    }
    return tuple;
}

/* The stack that ends at a node, leaf first. */
static PyObject *
stack_at(const struct rows *rows, const struct snapshot *snapshot, uint32_t leaf, PyObject *frames)
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
        Py_ssize_t number = (Py_ssize_t)rows->locations.of_node[node] - 1;
        PyTuple_SET_ITEM(stack, i++, Py_NewRef(PyList_GET_ITEM(frames, number)));
    }
    PyObject_GC_UnTrack(stack); /* the collector would go through half a million of these frames */
    return stack;
}

/* (stack, values, labels) of each row from start to stop. */
PyObject *
rows_items(PyObject *Py_UNUSED(module), PyObject *args)
{
    collector_hold_again();
    PyObject *capsule;
    Py_ssize_t start;
    Py_ssize_t stop;
    PyObject *frames;
    if (!PyArg_ParseTuple(args, "OnnO!:rows_items", &capsule, &start, &stop, &PyList_Type, &frames)) {
        return NULL;
    }
    const struct rows *rows = rows_in(capsule);
    const struct snapshot *snapshot = rows == NULL ? NULL : snapshot_of(rows->snapshot);
    if (snapshot == NULL) {
        return NULL;
    }
    if (rows->locations.of_node == NULL
        || PyList_GET_SIZE(frames) != (Py_ssize_t)rows->locations.count) {
        return PyErr_Format(PyExc_ValueError, "%zd frames; give those of rows_frames()",
                            PyList_GET_SIZE(frames));
    }
    const struct row_table *table = &rows->table;
    if (!snapshot_clip(start, &stop, table->count)) {
        return NULL;
    }
    PyObject *items = snapshot_list(stop - start);
    for (Py_ssize_t i = start; items != NULL && i < stop; i++) {
        const struct pprof_row *row = &table->rows[i];
        PyObject *item = Py_BuildValue("(NNI)", stack_at(rows, snapshot, row->node, frames),
                                       rows_values(row->values, table->columns), row->labels);
        if (item == NULL) {
            Py_CLEAR(items);
            break;
        }
        PyObject_GC_UnTrack(item);
        PyList_SET_ITEM(items, i - start, item);
    }
    return snapshot_list_full(items);
}

/* The numbers that rows have for labels, each once, in order. */
PyObject *
rows_labels(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct rows *rows = rows_in(capsule);
    if (rows == NULL) {
        return NULL;
    }
    uint32_t count;
    uint32_t *labels;
    Py_BEGIN_ALLOW_THREADS
    labels = row_table_labels(&rows->table, &count);
    Py_END_ALLOW_THREADS
    if (labels == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        PyObject *label = PyLong_FromUnsignedLong(labels[i]);
        if (label == NULL || PyList_Append(list, label) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(label);
    }
    free(labels);
    return list;
}
