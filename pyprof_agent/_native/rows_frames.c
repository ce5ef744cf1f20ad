#include "rows_frames.h"

#include "collector_hold.h"
#include "names_object.h"
#include "row_lines.h"
#include "rows_object.h"
#include "waker.h"

#define FRAMES_AT_ONCE 500 /* some 200 us */

/* Name, file, first line and line of a location; the number of a marker. */
static PyObject *
frame_at(const struct pprof_input *input, const struct name_table *names,
         const struct pprof_location *location)
{
    if (location->function == PPROF_NO_FUNCTION) {
        return PyLong_FromUnsignedLong(location->marker);
    }
    PyObject *name, *file;
    if (!names_parts(names, location->function, &name, &file)) {
        return NULL;
    }
    const struct pprof_function *function = pprof_location_function(input, location);
    PyObject *frame = Py_BuildValue("(NNLL)", name, file, (long long)function->first_line,
                                    (long long)location->line);
    if (frame != NULL) {
        PyObject_GC_UnTrack(frame);
    }
    return frame;
}

/* Add a new object to a list, which may be NULL for an error; the list, or NULL with an error. */
static PyObject *
appended(PyObject *list, PyObject *item)
{
    if (list != NULL && (item == NULL || PyList_Append(list, item) < 0)) {
        Py_CLEAR(list);
    }
    Py_XDECREF(item);
    if (list != NULL && PyList_GET_SIZE(list) % FRAMES_AT_ONCE == 0) {
        /* Let threads that wait for the GIL have it: without a pause this one would get it again. */
        waker_sleep(1e-6);
    }
    return list;
}

/* rows_frames(rows, names, markers): of each location of the rows; there are so many markers. */
PyObject *
rows_frames(PyObject *Py_UNUSED(module), PyObject *args)
{
    collector_hold_again();
    PyObject *capsule, *names;
    struct pprof_input input = {0};
    if (!PyArg_ParseTuple(args, "OOI:rows_frames", &capsule, &names, &input.marker_count)) {
        return NULL;
    }
    struct rows *rows = rows_in(capsule);
    const struct name_table *table = rows == NULL ? NULL : rows_input(rows, names, &input);
    if (table == NULL) {
        return NULL;
    }
    struct pprof_locations found = {0};
    enum pprof_result result;
    Py_BEGIN_ALLOW_THREADS
    result = pprof_locations_find(&found, &input);
    Py_END_ALLOW_THREADS
    if (result == PPROF_DONE && rows->locations.of_node == NULL) {
        rows->locations = found; /* what another thread has found is the same */
        found = (struct pprof_locations){0};
    }
    pprof_locations_free(&found);
    if (result != PPROF_DONE) {
        rows_error(result);
        return NULL;
    }
    PyObject *frames = PyList_New(0);
    for (uint32_t i = 0; frames != NULL && i < rows->locations.count; i++) {
        frames = appended(frames, frame_at(&input, table, &rows->locations.all[i]));
    }
    return frames;
}

/* (frame, values) of each location that has any. */
static PyObject *
list_lines(const struct row_lines *lines, const struct pprof_input *input,
           const struct name_table *names)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < lines->locations.count; i++) {
        if (pprof_is_zero(lines->sums[i], input->columns)) {
            continue;
        }
        PyObject *item = Py_BuildValue("(NN)", frame_at(input, names, &lines->locations.all[i]),
                                       rows_values(lines->sums[i], input->columns));
        if (item != NULL) {
            PyObject_GC_UnTrack(item);
        }
        list = appended(list, item);
    }
    return list;
}

/* rows_lines(rows, names, markers, own, around) */
PyObject *
rows_lines(PyObject *Py_UNUSED(module), PyObject *args)
{
    collector_hold_again();
    PyObject *capsule, *names, *prefixes;
    const char *own;
    struct pprof_input input = {0};
    if (!PyArg_ParseTuple(args, "OOIsO!:rows_lines", &capsule, &names, &input.marker_count, &own,
                          &PyTuple_Type, &prefixes)) {
        return NULL;
    }
    struct row_lines_owner owner = {.own = {own, strlen(own)}};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(prefixes); i++) {
        Py_ssize_t count;
        const char *prefix = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(prefixes, i), &count);
        if (prefix == NULL) {
            return NULL;
        }
        if (i == ROW_LINES_MOST_AROUND) {
            return PyErr_Format(PyExc_ValueError, "%zd prefixes; use %d at most",
                                PyTuple_GET_SIZE(prefixes), ROW_LINES_MOST_AROUND);
        }
        owner.around[owner.around_count++] = (struct pprof_text){prefix, (size_t)count};
    }
    const struct rows *rows = rows_in(capsule);
    const struct name_table *table = rows == NULL ? NULL : rows_input(rows, names, &input);
    if (table == NULL) {
        return NULL;
    }
    input.columns = rows->table.columns;
    struct row_lines lines = {0};
    enum pprof_result result;
    Py_BEGIN_ALLOW_THREADS
    result = row_lines_add_up(&lines, &input, &owner);
    Py_END_ALLOW_THREADS
    PyObject *list = NULL;
    if (result == PPROF_DONE) {
        list = list_lines(&lines, &input, table);
    }
    else {
        rows_error(result);
    }
    row_lines_free(&lines);
    return list;
}
