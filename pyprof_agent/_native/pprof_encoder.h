/* A profile as pprof protobuf: github.com/google/pprof, proto/profile.proto. Calls nothing of Python and
   needs no GIL.

   Rows of equal stacks and labels are added up, and those of zeros left out. Equal profiles give equal
   bytes, in whatever order their stacks were seen: stacks are in the order of a walk through their tree,
   in which callees are in the order of their addresses, and rows of one stack in the order of their
   labels. Stacks that have much in common are near each other then, which makes the compressed profile
   smaller. */
#ifndef PYPROF_PPROF_ENCODER_H
#define PYPROF_PPROF_ENCODER_H

#include "bytes_buffer.h"
#include "stack_table.h"

#define PPROF_MAX_COLUMNS 4

/* UTF-8. */
struct pprof_text {
    const char *bytes;
    size_t count;
};

struct pprof_function {
    struct pprof_text name;
    struct pprof_text file;
    struct pprof_text identity; /* of which addresses are made: see `address` in formats/pprof.py */
    int64_t first_line;
};

/* Functions, and numbers of functions, are in segments of so many, as these need not move to grow. */
#define PPROF_SEGMENT 1024u

struct pprof_value_type {
    struct pprof_text type;
    struct pprof_text unit;
};

struct pprof_label {
    struct pprof_text key;
    struct pprof_text text; /* of no bytes: it is a number */
    int64_t number;
    struct pprof_text unit;
};

struct pprof_labels {
    const struct pprof_label *labels;
    uint32_t count;
};

struct pprof_row {
    int64_t values[PPROF_MAX_COLUMNS];
    uint32_t node;
    uint32_t labels; /* one of those in the input */
};

#define PPROF_NO_LABELS UINT32_MAX

/* The place of a number in an array in which they are in order; PPROF_NO_LABELS if it is not there. */
static inline uint32_t
pprof_label_place(const uint32_t *labels, uint32_t count, uint32_t wanted)
{
    uint32_t begin = 0;
    uint32_t end = count;
    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        if (labels[middle] < wanted) {
            begin = middle + 1;
        }
        else {
            end = middle;
        }
    }
    return begin < count && labels[begin] == wanted ? begin : PPROF_NO_LABELS;
}

enum pprof_result {
    PPROF_DONE,
    PPROF_NO_MEMORY,
    PPROF_NO_NAME, /* a node has a function or a marker, or a row has labels, that the input has not */
};

struct pprof_input {
    const struct stack_node *nodes; /* a caller's is before those of its callees */
    uint32_t node_count;
    const struct pprof_function *const *functions; /* in segments; no two equal */
    const uint32_t *const *function_of; /* in segments: which of them, by the number that a node has */
    uint32_t next_number;               /* after the last that is known */
    const struct pprof_function *markers; /* by number */
    uint32_t marker_count;
    const struct pprof_row *rows;
    uint32_t row_count;
    const uint32_t *labels; /* the numbers that rows have for theirs, in order */
    const uint32_t *set_of; /* which set of labels each stands for */
    uint32_t label_count;
    const struct pprof_labels *sets; /* in order, and no two equal */
    uint32_t columns;
    uint32_t default_column; /* the one to be shown first; not less than `columns`: the reader chooses */
    struct pprof_value_type sample_types[PPROF_MAX_COLUMNS];
    struct pprof_value_type period_type;
    int64_t period;
    int64_t time_nanos;
    int64_t duration_nanos;
    struct pprof_text mapping;
    const struct pprof_text *comments;
    uint32_t comment_count;
};

static inline bool
pprof_is_zero(const int64_t *values, uint32_t columns)
{
    bool zero = true;
    for (uint32_t column = 0; column < columns; column++) {
        zero = zero && values[column] == 0;
    }
    return zero;
}

/* The buffer is the caller's to free in any case. */
enum pprof_result pprof_encode(const struct pprof_input *input, struct bytes_buffer *output);

#endif
