/* Interned stacks: a tree of frames from the root to the leaf, each stack a node of it. */
#ifndef PYPROF_STACK_TABLE_H
#define PYPROF_STACK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STACK_ROOT 0u          /* the empty stack */
#define STACK_NONE UINT32_MAX  /* the table is full, or there is no memory */

#define STACK_LINE_UNKNOWN (-1)

/* Nodes without a function, by their `instruction`. */
enum stack_marker {
    MARKER_CUT = 1,        /* root of a stack that was deeper than max_frames */
    MARKER_NO_FRAME = 2,   /* outside of any Python function */
    MARKER_NO_GIL = 3,     /* allocated by a thread that did not hold the GIL */
    MARKER_OVERFLOW = 4,   /* stacks that came after the table was full */
    MARKER_UNREADABLE = 5, /* the thread moved on at each attempt to read its frames */
    MARKER_UNSAMPLED = 6,  /* CPU time of a thread that was never seen running */
    MARKER_NATIVE = 7,     /* CPU time of threads without Python */
    MARKER_SAMPLER = 8,    /* CPU time of the sampling thread */
    MARKER_COUNT,          /* one more than the largest */
};

struct stack_node {
    uint32_t function;   /* its number in a function_table; 0 for a marker */
    int32_t instruction; /* of a marker: which one */
    uint32_t parent;     /* its caller's node */
    int32_t line;        /* set by the owner, once it is known */
};

/* Not thread-safe: its owner has a lock. Nodes are never removed. */
struct stack_table {
    struct stack_node *nodes;
    uint32_t *index; /* hash table of node ids; 0 is empty */
    uint32_t count;
    uint32_t capacity;
    uint32_t slots; /* a power of two */
    uint32_t limit;
};

/* An empty table of at most `limit` nodes; false without memory. */
bool stack_table_init(struct stack_table *table, uint32_t limit);
void stack_table_free(struct stack_table *table);

/* The node below `parent` for this frame, made if it is not there; STACK_NONE if that cannot be. */
uint32_t stack_table_intern(struct stack_table *table, uint32_t parent, uint32_t function,
                            int32_t instruction);

/* The node of a marker, below the root. */
uint32_t stack_table_marker(struct stack_table *table, enum stack_marker marker);

/* Bytes of memory it has. */
size_t stack_table_bytes(const struct stack_table *table);

#endif
