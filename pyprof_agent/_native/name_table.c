#include "name_table.h"

#include "function_table.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_BLOCK_BYTES 32768u

struct text_block {
    struct text_block *before;
    size_t used;
    size_t size;
    char bytes[];
};

void
name_table_free(struct name_table *table)
{
    for (uint32_t i = 0; i < NAME_TABLE_SEGMENTS; i++) {
        free(table->functions[i]);
        free(table->parts[i]);
        free(table->function_of[i]);
    }
    while (table->text != NULL) {
        struct text_block *block = table->text;
        table->text = block->before;
        free(block);
    }
    number_index_free(&table->by_identity);
    *table = (struct name_table){0};
}

/* NULL without memory. It is put in its place once only: others read that at any time. */
static void *
new_segment(struct name_table *table, size_t size)
{
    void *made = calloc(PPROF_SEGMENT, size);
    table->bytes += made == NULL ? 0 : PPROF_SEGMENT * size;
    return made;
}

/* Room for a text that stays where it is; NULL without memory. */
static char *
text_room(struct name_table *table, size_t count)
{
    struct text_block *block = table->text;
    if (block == NULL || block->size - block->used < count) {
        size_t size = count > TEXT_BLOCK_BYTES ? count : TEXT_BLOCK_BYTES;
        block = malloc(sizeof *block + size);
        if (block == NULL) {
            return NULL;
        }
        *block = (struct text_block){.before = table->text, .size = size};
        table->text = block;
        table->bytes += sizeof *block + size;
    }
    char *room = block->bytes + block->used;
    block->used += count;
    return room;
}

/* A copy of a text; the one it is equal to, if that is there. */
static struct pprof_text
text_copy(struct name_table *table, struct pprof_text text, struct pprof_text same)
{
    if (text.count == same.count && memcmp(text.bytes, same.bytes, text.count) == 0) {
        return same;
    }
    char *room = text_room(table, text.count);
    if (room != NULL) {
        memcpy(room, text.bytes, text.count);
    }
    return (struct pprof_text){room, text.count};
}

/* The index of a function with the same identity; NUMBER_INDEX_NONE if there is none. */
static uint32_t
find(const struct name_table *table, struct pprof_text identity, uint64_t hash)
{
    size_t cursor = 0;
    uint32_t known;
    while ((known = number_index_next(&table->by_identity, hash, &cursor)) != NUMBER_INDEX_NONE) {
        const struct pprof_function *other =
            &table->functions[known / PPROF_SEGMENT][known % PPROF_SEGMENT];
        if (other->identity.count == identity.count
            && memcmp(other->identity.bytes, identity.bytes, identity.count) == 0) {
            break;
        }
    }
    return known;
}

static uint32_t
add(struct name_table *table, const struct pprof_function *function, size_t file_bytes,
    size_t name_bytes, uint64_t hash)
{
    uint32_t index = table->count;
    uint32_t place = index / PPROF_SEGMENT;
    if (table->functions[place] == NULL) {
        table->functions[place] = new_segment(table, sizeof **table->functions);
    }
    if (table->parts[place] == NULL) {
        table->parts[place] = new_segment(table, sizeof **table->parts);
    }
    if (table->functions[place] == NULL || table->parts[place] == NULL) {
        return NUMBER_INDEX_NONE;
    }
    char *identity = text_room(table, function->identity.count);
    if (identity == NULL) {
        return NUMBER_INDEX_NONE;
    }
    memcpy(identity, function->identity.bytes, function->identity.count);
    struct name_parts own = {
        .name = {identity + file_bytes + 1, name_bytes},
        .file = {identity, file_bytes},
    };
    struct pprof_function added = {
        .name = text_copy(table, function->name, own.name),
        .file = text_copy(table, function->file, own.file),
        .identity = {identity, function->identity.count},
        .first_line = function->first_line,
    };
    if (added.name.bytes == NULL || added.file.bytes == NULL
        || !number_index_put(&table->by_identity, hash, index)) {
        return NUMBER_INDEX_NONE;
    }
    table->functions[place][index % PPROF_SEGMENT] = added;
    table->parts[place][index % PPROF_SEGMENT] = own;
    table->count++;
    return index;
}

bool
name_table_add(struct name_table *table, uint32_t number, const struct pprof_function *function,
               size_t file_bytes, size_t name_bytes)
{
    if (number < name_table_next(table)) {
        return true;
    }
    uint32_t place = number / PPROF_SEGMENT;
    if (number > name_table_next(table) || place >= NAME_TABLE_SEGMENTS) {
        return false;
    }
    if (table->function_of[place] == NULL) {
        table->function_of[place] = new_segment(table, sizeof **table->function_of);
    }
    if (table->function_of[place] == NULL) {
        return false;
    }
    uint64_t hash = function_hash(0, function->identity.bytes, function->identity.count);
    uint32_t named = find(table, function->identity, hash);
    if (named == NUMBER_INDEX_NONE) {
        named = add(table, function, file_bytes, name_bytes, hash);
    }
    if (named == NUMBER_INDEX_NONE) {
        return false;
    }
    table->function_of[place][number % PPROF_SEGMENT] = named;
    table->last_number = number;
    return true;
}

void
name_table_input(const struct name_table *table, struct pprof_input *input)
{
    input->functions = (const struct pprof_function *const *)table->functions;
    input->function_of = (const uint32_t *const *)table->function_of;
    input->next_number = name_table_next(table);
}

size_t
name_table_bytes(const struct name_table *table)
{
    return sizeof *table + table->bytes + number_index_bytes(&table->by_identity);
}
