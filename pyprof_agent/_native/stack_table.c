#include "stack_table.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 1024u

static uint32_t
slot_of(const struct stack_table *table, uint32_t parent, uint32_t function, int32_t instruction)
{
    uint64_t hash = function * UINT64_C(0x94d049bb133111eb);
    hash = (hash ^ ((uint64_t)parent << 32 | (uint32_t)instruction)) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(hash >> 32) & (table->slots - 1);
}

/* Twice the room, for nodes and for the index, which stays at most half full. */
static bool
grow(struct stack_table *table)
{
    uint32_t capacity = table->capacity ? table->capacity * 2 : FIRST_CAPACITY;
    uint32_t *index = calloc((size_t)capacity * 2, sizeof *index);
    struct stack_node *nodes = realloc(table->nodes, (size_t)capacity * sizeof *nodes);
    if (nodes != NULL) {
        table->nodes = nodes;
    }
    if (index == NULL || nodes == NULL) {
        free(index);
        return false;
    }
    free(table->index);
    table->index = index;
    table->capacity = capacity;
    table->slots = capacity * 2;
    for (uint32_t id = 1; id < table->count; id++) {
        const struct stack_node *node = &nodes[id];
        uint32_t slot = slot_of(table, node->parent, node->function, node->instruction);
        while (index[slot] != 0) {
            slot = (slot + 1) & (table->slots - 1);
        }
        index[slot] = id;
    }
    return true;
}

bool
stack_table_init(struct stack_table *table, uint32_t limit)
{
    memset(table, 0, sizeof *table);
    table->limit = limit;
    if (!grow(table)) {
        stack_table_free(table);
        return false;
    }
    table->nodes[STACK_ROOT] = (struct stack_node){0};
    table->count = 1;
    return true;
}

void
stack_table_free(struct stack_table *table)
{
    free(table->nodes);
    free(table->index);
    memset(table, 0, sizeof *table);
}

uint32_t
stack_table_intern(struct stack_table *table, uint32_t parent, uint32_t function,
                   int32_t instruction)
{
    uint32_t slot = slot_of(table, parent, function, instruction);
    for (uint32_t id; (id = table->index[slot]) != 0; slot = (slot + 1) & (table->slots - 1)) {
        const struct stack_node *node = &table->nodes[id];
        if (node->function == function && node->parent == parent && node->instruction == instruction) {
            return id;
        }
    }
    if (table->count >= table->limit) {
        return STACK_NONE;
    }
    if (table->count == table->capacity) {
        if (!grow(table)) {
            return STACK_NONE;
        }
        slot = slot_of(table, parent, function, instruction);
        while (table->index[slot] != 0) {
            slot = (slot + 1) & (table->slots - 1);
        }
    }
    uint32_t id = table->count++;
    table->nodes[id] = (struct stack_node){function, instruction, parent, STACK_LINE_UNKNOWN};
    table->index[slot] = id;
    return id;
}

uint32_t
stack_table_marker(struct stack_table *table, enum stack_marker marker)
{
    return stack_table_intern(table, STACK_ROOT, 0, (int32_t)marker);
}

size_t
stack_table_bytes(const struct stack_table *table)
{
    return table->capacity * sizeof *table->nodes + table->slots * sizeof *table->index;
}
