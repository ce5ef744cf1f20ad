#include "stack_move.h"

#include <stdlib.h>

void
stack_move_free(struct stack_move *move)
{
    stack_table_free(&move->stacks);
    function_table_free(&move->functions);
    free(move->node_of);
    free(move->function_of);
    free(move->path);
    *move = (struct stack_move){0};
}

bool
stack_move_begin(struct stack_move *move, const struct stack_table *stacks,
                 const struct function_table *functions)
{
    *move = (struct stack_move){
        .from_stacks = stacks,
        .from_functions = functions,
        .node_of = calloc(stacks->count, sizeof *move->node_of),
        .function_of = calloc(functions->count, sizeof *move->function_of),
        .path = malloc(stacks->count * sizeof *move->path), /* what is not used has no pages */
    };
    bool begun = move->node_of != NULL && move->function_of != NULL && move->path != NULL
                 && stack_table_init(&move->stacks, stacks->limit)
                 && function_table_init(&move->functions, functions->limit, functions->text_limit);
    for (uint32_t node = 1; begun && node < stacks->count && stacks->nodes[node].function == 0
                            && stacks->nodes[node].parent == STACK_ROOT;
         node++) {
        begun = stack_move_node(move, node) == node;
    }
    return begun;
}

/* FUNCTION_NONE without memory. */
static uint32_t
move_function(struct stack_move *move, uint32_t function)
{
    if (move->function_of[function] == 0) {
        const struct function *from = &move->from_functions->functions[function];
        const struct function_facts facts = {
            .name = function_text_at(move->from_functions->text, from->name),
            .file = function_text_at(move->from_functions->text, from->file),
            .first_line = from->first_line,
            .lines = from->lines,
        };
        move->function_of[function] = function_table_intern(&move->functions, &facts);
    }
    return move->function_of[function];
}

uint32_t
stack_move_node(struct stack_move *move, uint32_t node)
{
    const struct stack_node *nodes = move->from_stacks->nodes;
    uint32_t depth = 0;
    for (; node != STACK_ROOT && move->node_of[node] == 0; node = nodes[node].parent) {
        move->path[depth++] = node;
    }
    uint32_t moved = move->node_of[node]; /* of the root: 0, which is the root */
    while (depth > 0 && moved != STACK_NONE) {
        uint32_t old = move->path[--depth];
        const struct stack_node *from = &nodes[old];
        uint32_t function = from->function == 0 ? 0 : move_function(move, from->function);
        bool room = from->function == 0 || function != FUNCTION_NONE;
        moved = room ? stack_table_intern(&move->stacks, moved, function, from->instruction)
                     : STACK_NONE;
        if (moved != STACK_NONE) {
            move->stacks.nodes[moved].line = from->line;
            move->node_of[old] = moved;
        }
    }
    return moved;
}

void
stack_move_swap(struct stack_move *move, struct stack_table *stacks, struct function_table *functions)
{
    struct stack_table old_stacks = *stacks;
    struct function_table old_functions = *functions;
    *stacks = move->stacks;
    *functions = move->functions;
    move->stacks = old_stacks;
    move->functions = old_functions;
}
