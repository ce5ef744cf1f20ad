#include "live_set.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024u

static size_t
home(const struct live_set *set, uintptr_t address)
{
    return (size_t)(live_set_hash(address) >> 32) & (set->slots - 1);
}

static void
place(struct live_set *set, struct live_block block)
{
    size_t slot = home(set, block.address);
    while (set->blocks[slot].address != 0) {
        slot = (slot + 1) & (set->slots - 1);
    }
    set->blocks[slot] = block;
}

bool
live_set_init(struct live_set *set)
{
    memset(set, 0, sizeof *set);
    set->blocks = calloc(FIRST_SLOTS, sizeof *set->blocks);
    set->slots = set->blocks == NULL ? 0 : FIRST_SLOTS;
    return set->blocks != NULL;
}

void
live_set_free(struct live_set *set)
{
    free(set->blocks);
    memset(set, 0, sizeof *set);
}

static bool
grow(struct live_set *set)
{
    struct live_set larger = {.slots = set->slots * 2, .count = set->count};
    larger.blocks = calloc(larger.slots, sizeof *larger.blocks);
    if (larger.blocks == NULL) {
        return false;
    }
    for (size_t slot = 0; slot < set->slots; slot++) {
        if (set->blocks[slot].address != 0) {
            place(&larger, set->blocks[slot]);
        }
    }
    free(set->blocks);
    *set = larger;
    return true;
}

bool
live_set_add(struct live_set *set, struct live_block block)
{
    /* At most three quarters full; beyond, a longer search is better than no sample. */
    if ((set->count + 1) * 4 > set->slots * 3 && !grow(set) && set->count + 1 >= set->slots) {
        return false;
    }
    place(set, block);
    set->count++;
    return true;
}

bool
live_set_take(struct live_set *set, const void *address, struct live_block *block)
{
    size_t mask = set->slots - 1;
    size_t slot = home(set, (uintptr_t)address);
    /* An empty slot ends the search first: NULL, which anybody may free, looks like one. */
    while (set->blocks[slot].address != 0 && set->blocks[slot].address != (uintptr_t)address) {
        slot = (slot + 1) & mask;
    }
    if (set->blocks[slot].address == 0) {
        return false;
    }
    *block = set->blocks[slot];
    set->count--;
    /* Move those after it back (Knuth, TAOCP 6.4, algorithm R), so that no search ends early. */
    for (size_t next = slot;;) {
        next = (next + 1) & mask;
        if (set->blocks[next].address == 0) {
            break;
        }
        size_t distance = (next - home(set, set->blocks[next].address)) & mask;
        if (distance >= ((next - slot) & mask)) {
            set->blocks[slot] = set->blocks[next];
            slot = next;
        }
    }
    set->blocks[slot].address = 0;
    return true;
}

size_t
live_set_bytes(const struct live_set *set)
{
    return set->slots * sizeof *set->blocks;
}
