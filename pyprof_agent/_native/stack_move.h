/* Moves some of the stacks of a table, with the functions in them, to new tables: what is not moved makes
   room. Nodes and functions get other numbers. No lock, no Python. */
#ifndef PYPROF_STACK_MOVE_H
#define PYPROF_STACK_MOVE_H

#include "function_table.h"
#include "stack_table.h"

/* Zeros are an empty one. */
struct stack_move {
    const struct stack_table *from_stacks;
    const struct function_table *from_functions;
    struct stack_table stacks; /* the new ones */
    struct function_table functions;
    uint32_t *node_of;     /* new numbers by old; 0: not moved */
    uint32_t *function_of; /* likewise */
    uint32_t *path;
};

/* New tables with the limits of the old ones, and all markers in them with the numbers that they have there;
   false without memory. The old ones must not change until the end. */
bool stack_move_begin(struct stack_move *move, const struct stack_table *stacks,
                      const struct function_table *functions);

/* The new number of a node; STACK_NONE without memory. */
uint32_t stack_move_node(struct stack_move *move, uint32_t node);

/* Put the new tables in the place of the old ones, and the old ones in theirs. */
void stack_move_swap(struct stack_move *move, struct stack_table *stacks, struct function_table *functions);

void stack_move_free(struct stack_move *move);

#endif
