/* Positions in an array by a number of its elements; several may have the same. No lock, no Python. */
#ifndef PYPROF_NUMBER_INDEX_H
#define PYPROF_NUMBER_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_INDEX_NONE UINT32_MAX

/* Zeros are an empty one. */
struct number_index {
    struct number_slot *slots; /* hash table, linear probing */
    size_t size;               /* a power of two, or 0 */
    size_t used;
};

void number_index_clear(struct number_index *index);
void number_index_free(struct number_index *index);

/* False without memory. */
bool number_index_put(struct number_index *index, uint64_t number, uint32_t position);

/* The next position of that number, in the order in which they were put; NUMBER_INDEX_NONE at the end.
   `*cursor` is 0 before the first. */
uint32_t number_index_next(const struct number_index *index, uint64_t number, size_t *cursor);

/* Remove what was put first with that number; its position, or NUMBER_INDEX_NONE. */
uint32_t number_index_take(struct number_index *index, uint64_t number);

size_t number_index_bytes(const struct number_index *index);

#endif
