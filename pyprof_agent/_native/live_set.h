/* The sampled blocks that are alive, by address. */
#ifndef PYPROF_LIVE_SET_H
#define PYPROF_LIVE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_block {
    uintptr_t address; /* 0: an empty slot */
    size_t size;       /* as it was asked for */
    uint32_t bucket;
    uint32_t run; /* of the sampler: buckets of another run are others */
};

/* Not thread-safe: its owner has a lock. */
struct live_set {
    struct live_block *blocks; /* hash table, linear probing */
    size_t count;
    size_t slots; /* a power of two */
};

bool live_set_init(struct live_set *set);
void live_set_free(struct live_set *set);

/* Add a block whose address is not there; false without memory. */
bool live_set_add(struct live_set *set, struct live_block block);

/* Take a block out, into `*block`; false if it is not there. */
bool live_set_take(struct live_set *set, const void *address, struct live_block *block);

size_t live_set_bytes(const struct live_set *set);

/* Fibonacci hashing (Knuth, TAOCP 6.4); the upper bits are good. */
static inline uint64_t
live_set_hash(uintptr_t address)
{
    return (uint64_t)address * UINT64_C(0x9e3779b97f4a7c15);
}

#endif
