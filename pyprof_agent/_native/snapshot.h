/* A copy of a sampler's books: stacks as nodes of a tree, and rows of numbers. */
#ifndef PYPROF_SNAPSHOT_H
#define PYPROF_SNAPSHOT_H

#include "function_table.h"
#include "stack_table.h"

#include <stdlib.h>
#include <string.h>

#define SNAPSHOT_VALUES 4

struct snapshot_row {
    uint64_t values[SNAPSHOT_VALUES];
    uint32_t node;
    uint32_t thread; /* 0 where threads are not told apart */
};

struct snapshot {
    struct stack_node *nodes;
    struct function *functions;
    char *text; /* of their names and files */
    struct snapshot_row *rows;
    uint32_t node_count;
    uint32_t function_count;
    uint32_t row_count;
    uint32_t columns; /* of the values, how many there are */
};

static inline void
snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->nodes);
    free(snapshot->functions);
    free(snapshot->text);
    free(snapshot->rows);
    *snapshot = (struct snapshot){0};
}

/* Move all but the nodes to another one (which is overwritten). */
static inline void
snapshot_keep_nodes(struct snapshot *snapshot, struct snapshot *rest)
{
    *rest = *snapshot;
    rest->nodes = NULL;
    rest->node_count = 0;
    *snapshot = (struct snapshot){.nodes = snapshot->nodes, .node_count = snapshot->node_count};
}

/* Room for as many rows, and a copy of the nodes and functions; false without memory. */
static inline bool
snapshot_init(struct snapshot *snapshot, const struct stack_table *stacks,
              const struct function_table *functions, uint32_t rows, uint32_t columns)
{
    *snapshot = (struct snapshot){
        .nodes = malloc(stacks->count * sizeof *snapshot->nodes),
        .functions = malloc(functions->count * sizeof *snapshot->functions),
        .text = malloc(functions->text_bytes + 1),
        .rows = malloc(rows * sizeof *snapshot->rows + 1),
        .node_count = stacks->count,
        .function_count = functions->count,
        .row_count = rows,
        .columns = columns,
    };
    if (snapshot->nodes == NULL || snapshot->functions == NULL || snapshot->text == NULL
        || snapshot->rows == NULL) {
        snapshot_free(snapshot);
        return false;
    }
    memcpy(snapshot->nodes, stacks->nodes, stacks->count * sizeof *snapshot->nodes);
    memcpy(snapshot->functions, functions->functions,
           functions->count * sizeof *snapshot->functions);
    memcpy(snapshot->text, functions->text, functions->text_bytes);
    return true;
}

#endif
