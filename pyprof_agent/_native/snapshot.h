/* A copy of a sampler's books: stacks as nodes of a tree, and rows of numbers. */
#ifndef PYPROF_SNAPSHOT_H
#define PYPROF_SNAPSHOT_H

#include "stack_table.h"

#include <stdlib.h>

#define SNAPSHOT_VALUES 4

struct snapshot_row {
    uint64_t values[SNAPSHOT_VALUES];
    uint32_t node;
    uint32_t thread; /* 0 where threads are not told apart */
};

struct snapshot {
    struct stack_node *nodes; /* codes are borrowed, from books that are open */
    struct snapshot_row *rows;
    uint32_t node_count;
    uint32_t row_count;
    uint32_t columns; /* of the values, how many there are */
};

static inline void
snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->nodes);
    free(snapshot->rows);
    *snapshot = (struct snapshot){0};
}

/* Room for as many rows, and a copy of the nodes; false without memory. */
static inline bool
snapshot_init(struct snapshot *snapshot, const struct stack_table *stacks, uint32_t rows,
              uint32_t columns)
{
    size_t bytes = stacks->count * sizeof *snapshot->nodes;
    *snapshot = (struct snapshot){
        .nodes = malloc(bytes + 1),
        .rows = malloc(rows * sizeof *snapshot->rows + 1),
        .node_count = stacks->count,
        .row_count = rows,
        .columns = columns,
    };
    if (snapshot->nodes == NULL || snapshot->rows == NULL) {
        snapshot_free(snapshot);
        return false;
    }
    for (uint32_t i = 0; i < stacks->count; i++) {
        snapshot->nodes[i] = stacks->nodes[i];
    }
    return true;
}

#endif
