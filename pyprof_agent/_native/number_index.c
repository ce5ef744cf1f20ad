#include "number_index.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 64u

struct number_slot {
    uint64_t number;
    uint64_t position; /* plus one; 0 is an empty slot */
};

/* Fibonacci hashing (Knuth, TAOCP 6.4); the upper bits are good. */
static size_t
home(const struct number_index *index, uint64_t number)
{
    return (size_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (index->size - 1);
}

static void
insert(struct number_index *index, struct number_slot entry)
{
    size_t slot = home(index, entry.number);
    while (index->slots[slot].position != 0) {
        slot = (slot + 1) & (index->size - 1);
    }
    index->slots[slot] = entry;
    index->used++;
}

static bool
grow(struct number_index *index)
{
    struct number_index larger = {.size = index->size ? index->size * 2 : FIRST_SIZE};
    larger.slots = calloc(larger.size, sizeof *larger.slots);
    if (larger.slots == NULL) {
        return false;
    }
    /* From behind an empty slot on, so that those of one number stay in order. */
    size_t begin = 0;
    while (begin < index->size && index->slots[begin].position != 0) {
        begin++;
    }
    for (size_t i = 0; i < index->size; i++) {
        const struct number_slot *entry = &index->slots[(begin + i) & (index->size - 1)];
        if (entry->position != 0) {
            insert(&larger, *entry);
        }
    }
    free(index->slots);
    *index = larger;
    return true;
}

void
number_index_clear(struct number_index *index)
{
    if (index->used > 0) {
        memset(index->slots, 0, index->size * sizeof *index->slots);
        index->used = 0;
    }
}

void
number_index_free(struct number_index *index)
{
    free(index->slots);
    *index = (struct number_index){0};
}

bool
number_index_put(struct number_index *index, uint64_t number, uint32_t position)
{
    if (index->used * 2 >= index->size && !grow(index)) {
        return false;
    }
    insert(index, (struct number_slot){number, (uint64_t)position + 1});
    return true;
}

uint32_t
number_index_next(const struct number_index *index, uint64_t number, size_t *cursor)
{
    while (*cursor < index->size) {
        const struct number_slot *entry =
            &index->slots[(home(index, number) + (*cursor)++) & (index->size - 1)];
        if (entry->position == 0) {
            break;
        }
        if (entry->number == number) {
            return (uint32_t)(entry->position - 1);
        }
    }
    return NUMBER_INDEX_NONE;
}

/* Knuth, TAOCP 6.4, algorithm R: those behind the gap that would not be found any more move up. */
static void
remove_slot(struct number_index *index, size_t gap)
{
    size_t mask = index->size - 1;
    for (size_t slot = (gap + 1) & mask; index->slots[slot].position != 0; slot = (slot + 1) & mask) {
        size_t away = (slot - home(index, index->slots[slot].number)) & mask;
        if (away >= ((slot - gap) & mask)) {
            index->slots[gap] = index->slots[slot];
            gap = slot;
        }
    }
    index->slots[gap] = (struct number_slot){0};
    index->used--;
}

uint32_t
number_index_take(struct number_index *index, uint64_t number)
{
    size_t cursor = 0;
    uint32_t position = number_index_next(index, number, &cursor);
    if (position != NUMBER_INDEX_NONE) {
        remove_slot(index, (home(index, number) + cursor - 1) & (index->size - 1));
    }
    return position;
}

size_t
number_index_bytes(const struct number_index *index)
{
    return index->size * sizeof *index->slots;
}
