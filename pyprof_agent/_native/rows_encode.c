#include "rows_encode.h"

#include "names_object.h"
#include "rows_object.h"

/* What a call of rows_encode() reads of Python's objects before it releases the GIL. The texts are those of
   strings that the caller holds, or of new objects in `kept`. */
struct encoding {
    struct pprof_input input;
    PyObject *kept; /* a list */
    struct pprof_function *markers;
    struct pprof_text *comments;
    struct pprof_labels *sets;
    struct pprof_label *labels; /* of all sets */
    uint32_t *labels_of_rows;
    uint32_t *set_of;
};

static void
free_encoding(struct encoding *encoding)
{
    Py_XDECREF(encoding->kept);
    PyMem_Free(encoding->markers);
    PyMem_Free(encoding->comments);
    PyMem_Free(encoding->sets);
    PyMem_Free(encoding->labels);
    PyMem_Free(encoding->labels_of_rows);
    PyMem_Free(encoding->set_of);
}

/* Room for so many elements; NULL with an error. */
static void *
room_for(Py_ssize_t count, size_t size)
{
    void *room = PyMem_Calloc((size_t)count + 1, size);
    if (room == NULL) {
        PyErr_NoMemory();
    }
    return room;
}

static bool
read_text(struct encoding *encoding, PyObject *string, struct pprof_text *text)
{
    PyObject *kept = NULL;
    if (!PyUnicode_Check(string)) {
        PyErr_Format(PyExc_TypeError, "a text is a %s", Py_TYPE(string)->tp_name);
        return false;
    }
    bool read = names_text_of(string, "backslashreplace", text, &kept);
    if (kept != NULL) {
        read = PyList_Append(encoding->kept, kept) == 0;
        Py_DECREF(kept);
    }
    return read;
}

static bool
read_value_type(struct encoding *encoding, PyObject *pair, struct pprof_value_type *type)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "a value type is no pair");
        return false;
    }
    return read_text(encoding, PyTuple_GET_ITEM(pair, 0), &type->type)
           && read_text(encoding, PyTuple_GET_ITEM(pair, 1), &type->unit);
}

static bool
read_sample_types(struct encoding *encoding, PyObject *types)
{
    Py_ssize_t count = PyTuple_GET_SIZE(types);
    if (count < 1 || count > PPROF_MAX_COLUMNS) {
        PyErr_Format(PyExc_ValueError, "%zd sample types; use 1 to %d", count, PPROF_MAX_COLUMNS);
        return false;
    }
    bool read = true;
    for (Py_ssize_t i = 0; read && i < count; i++) {
        read = read_value_type(encoding, PyTuple_GET_ITEM(types, i),
                               &encoding->input.sample_types[i]);
    }
    encoding->input.columns = (uint32_t)count;
    return read;
}

static bool
read_comments(struct encoding *encoding, PyObject *comments)
{
    Py_ssize_t count = PyTuple_GET_SIZE(comments);
    encoding->comments = room_for(count, sizeof *encoding->comments);
    bool read = encoding->comments != NULL;
    for (Py_ssize_t i = 0; read && i < count; i++) {
        read = read_text(encoding, PyTuple_GET_ITEM(comments, i), &encoding->comments[i]);
    }
    encoding->input.comments = encoding->comments;
    encoding->input.comment_count = (uint32_t)count;
    return read;
}

/* Names of markers, by number. */
static bool
read_markers(struct encoding *encoding, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    encoding->markers = room_for(count, sizeof *encoding->markers);
    bool read = encoding->markers != NULL;
    for (Py_ssize_t i = 0; read && i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        struct pprof_function *marker = &encoding->markers[i];
        if (!read_text(encoding, name, &marker->name)) {
            return false;
        }
        PyObject *identity = PyUnicode_FromFormat("%c%U%c0%c", 0, name, 0, 0);
        read = identity != NULL && PyList_Append(encoding->kept, identity) == 0
               && read_text(encoding, identity, &marker->identity);
        Py_XDECREF(identity);
    }
    encoding->input.markers = encoding->markers;
    encoding->input.marker_count = (uint32_t)count;
    return read;
}

/* (key, text or number, unit) */
static bool
read_label(struct encoding *encoding, PyObject *from, struct pprof_label *label)
{
    if (!PyTuple_Check(from) || PyTuple_GET_SIZE(from) != 3) {
        PyErr_SetString(PyExc_TypeError, "a label has three parts");
        return false;
    }
    PyObject *value = PyTuple_GET_ITEM(from, 1);
    if (!read_text(encoding, PyTuple_GET_ITEM(from, 0), &label->key)) {
        return false;
    }
    if (PyUnicode_Check(value)) {
        return read_text(encoding, value, &label->text);
    }
    label->number = PyLong_AsLongLong(value);
    return (label->number != -1 || !PyErr_Occurred())
           && read_text(encoding, PyTuple_GET_ITEM(from, 2), &label->unit);
}

/* A list of tuples of labels. */
static bool
read_labels(struct encoding *encoding, PyObject *sets)
{
    Py_ssize_t count = PyList_GET_SIZE(sets);
    Py_ssize_t all = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyTuple_Check(PyList_GET_ITEM(sets, i))) {
            PyErr_SetString(PyExc_TypeError, "labels are no tuple");
            return false;
        }
        all += PyTuple_GET_SIZE(PyList_GET_ITEM(sets, i));
    }
    encoding->sets = room_for(count, sizeof *encoding->sets);
    encoding->labels = room_for(all, sizeof *encoding->labels);
    bool read = encoding->sets != NULL && encoding->labels != NULL;
    struct pprof_label *next = encoding->labels;
    for (Py_ssize_t i = 0; read && i < count; i++) {
        PyObject *set = PyList_GET_ITEM(sets, i);
        encoding->sets[i] = (struct pprof_labels){next, (uint32_t)PyTuple_GET_SIZE(set)};
        for (Py_ssize_t j = 0; read && j < PyTuple_GET_SIZE(set); j++) {
            read = read_label(encoding, PyTuple_GET_ITEM(set, j), next++);
        }
    }
    encoding->input.sets = encoding->sets;
    return read;
}

/* The numbers that rows have for labels, in order, and the set that each stands for. */
static bool
read_numbers(struct encoding *encoding, PyObject *labels, PyObject *set_of, Py_ssize_t set_count)
{
    Py_ssize_t count = PyList_GET_SIZE(labels);
    if (PyList_GET_SIZE(set_of) != count) {
        PyErr_Format(PyExc_ValueError, "%zd labels, and sets for %zd", count, PyList_GET_SIZE(set_of));
        return false;
    }
    encoding->labels_of_rows = room_for(count, sizeof *encoding->labels_of_rows);
    encoding->set_of = room_for(count, sizeof *encoding->set_of);
    if (encoding->labels_of_rows == NULL || encoding->set_of == NULL) {
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long label = PyLong_AsUnsignedLong(PyList_GET_ITEM(labels, i));
        Py_ssize_t set = PyLong_AsSsize_t(PyList_GET_ITEM(set_of, i));
        if (PyErr_Occurred()) {
            return false;
        }
        if (label >= PPROF_NO_LABELS || (i > 0 && label <= encoding->labels_of_rows[i - 1])) {
            PyErr_Format(PyExc_ValueError, "the labels %lu; give those of rows_labels(), in order", label);
            return false;
        }
        if (set < 0 || set >= set_count) {
            PyErr_Format(PyExc_IndexError, "labels %zd have the set %zd of %zd", i, set, set_count);
            return false;
        }
        encoding->labels_of_rows[i] = (uint32_t)label;
        encoding->set_of[i] = (uint32_t)set;
    }
    encoding->input.labels = encoding->labels_of_rows;
    encoding->input.set_of = encoding->set_of;
    encoding->input.label_count = (uint32_t)count;
    return true;
}

/* The bytes of the profile; the GIL is released for nearly all of the time. */
static PyObject *
encode(const struct pprof_input *input)
{
    struct bytes_buffer output = {0};
    enum pprof_result result;
    Py_BEGIN_ALLOW_THREADS
    result = pprof_encode(input, &output);
    Py_END_ALLOW_THREADS
    PyObject *bytes = NULL;
    if (result == PPROF_DONE) {
        bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)output.count);
    }
    else {
        rows_error(result);
    }
    if (bytes != NULL) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(PyBytes_AS_STRING(bytes), output.bytes, output.count);
        Py_END_ALLOW_THREADS
    }
    bytes_buffer_free(&output);
    return bytes;
}

PyObject *
rows_encode(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *rows_capsule, *names_capsule, *markers, *sets, *labels, *set_of, *sample_types;
    PyObject *period_type, *mapping, *comments;
    unsigned default_column;
    long long period, time_nanos, duration_nanos;
    if (!PyArg_ParseTuple(args, "OOO!O!O!O!O!IOLLLOO!:rows_encode", &rows_capsule, &names_capsule,
                          &PyTuple_Type, &markers, &PyList_Type, &sets, &PyList_Type, &labels,
                          &PyList_Type, &set_of,
                          &PyTuple_Type, &sample_types, &default_column, &period_type, &period,
                          &time_nanos, &duration_nanos, &mapping, &PyTuple_Type, &comments)) {
        return NULL;
    }
    const struct rows *rows = rows_in(rows_capsule);
    if (rows == NULL) {
        return NULL;
    }
    struct encoding encoding = {
        .input = {
            .default_column = default_column,
            .period = period,
            .time_nanos = time_nanos,
            .duration_nanos = duration_nanos,
        },
        .kept = PyList_New(0),
    };
    PyObject *bytes = NULL;
    if (encoding.kept != NULL && read_sample_types(&encoding, sample_types)
        && read_value_type(&encoding, period_type, &encoding.input.period_type)
        && read_text(&encoding, mapping, &encoding.input.mapping)
        && read_comments(&encoding, comments) && read_markers(&encoding, markers)
        && read_labels(&encoding, sets)
        && read_numbers(&encoding, labels, set_of, PyList_GET_SIZE(sets))) {
        if (rows->table.columns != encoding.input.columns) {
            PyErr_Format(PyExc_ValueError, "%u columns, and %u sample types", rows->table.columns,
                         encoding.input.columns);
        }
        else if (rows_input(rows, names_capsule, &encoding.input) != NULL) {
            bytes = encode(&encoding.input);
        }
    }
    free_encoding(&encoding);
    return bytes;
}
