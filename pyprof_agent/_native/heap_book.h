/* The books of the heap sampler: which sampled blocks are alive, and four counters a stack. */
#ifndef PYPROF_HEAP_BOOK_H
#define PYPROF_HEAP_BOOK_H

#include <Python.h>

#include "live_set.h"
#include "snapshot.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_MAX_FRAMES 1024
#define HEAP_MAX_NODES (1u << 19)   /* 36 MB in all when full, at most */
#define HEAP_MAX_FUNCTIONS (1u << 17)
#define HEAP_MAX_TEXT (1u << 24) /* bytes of names */
#define HEAP_MAX_HISTORY (1u << 18) /* records: 10 MB */

/* Counters are fixed-point: sums are exact, so what has all been freed is zero in use, in
   whatever order. Room for 2^52 objects and 2^59 bytes: 10 GB/s for a year is 2^58. */
#define HEAP_OBJECT_UNIT 4096
#define HEAP_BYTE_UNIT 32

/* What the sampled blocks of a stack stand for; each only grows. */
struct heap_bucket {
    uint64_t alloc_objects; /* in 1/HEAP_OBJECT_UNIT */
    uint64_t alloc_bytes;   /* in 1/HEAP_BYTE_UNIT */
    uint64_t free_objects;
    uint64_t free_bytes;
    uint32_t node;
    uint32_t saved; /* for look_back_save */
};

struct heap_stats {
    uint32_t run;        /* which book it is: another number once it has begun anew */
    uint64_t samples;    /* blocks sampled */
    uint64_t live;       /* of them alive */
    uint64_t dropped;    /* not booked: no memory */
    uint64_t overflowed; /* booked on MARKER_OVERFLOW */
    uint64_t folded;     /* stacks whose counters went there */
    uint64_t stacks;
    uint64_t nodes;
    uint64_t bytes;      /* memory of the book itself */
};

/* Open an empty book; false without memory. Called with the GIL held.
   mean: bytes between two samples; max_frames: 1 to HEAP_MAX_FRAMES; look_back_seconds: that can be
   gone back, 0 for none; watched: heap_book_code_dying() is called */
bool heap_book_open(double mean, int max_frames, uint32_t look_back_seconds, bool watched);

/* Forget everything. */
void heap_book_close(void);

/* A code object is about to die. Called with the GIL held. */
void heap_book_code_dying(PyObject *code);

/* Book a block at the calling thread's stack. Does nothing if the book is closed. */
void heap_book_allocated(void *address, size_t size);

/* Book that a block is about to be freed, if it is ours. */
void heap_book_free(void *address);

/* The same in two steps, for a block that is about to be reallocated, which may fail: take it
   out (false if it is none of ours), then book it as freed or put it back. */
bool heap_book_take(void *address, struct live_block *block);
void heap_book_freed(struct live_block block);
void heap_book_put_back(struct live_block block);

/* Book all that is alive as freed. */
void heap_book_free_all(void);

/* If the table is nearly full and most stacks have nothing alive, these give up their places: what
   they have counted goes to MARKER_OVERFLOW. True if so; all nodes and buckets have other
   numbers then. Called with the GIL held, for some 100 ms. */
bool heap_book_compact(void);

/* A copy of everything; false without memory. Values: objects and bytes, allocated and in use, rounded
   down, once and at the end, as Go does. */
bool heap_book_copy(struct snapshot *snapshot);

/* What that would have given at a moment of CLOCK_MONOTONIC, or up to ten seconds before; `*taken` is
   when. Where less is kept it is the oldest there is. */
bool heap_book_copy_of(struct snapshot *snapshot, int64_t moment, int64_t *taken);

/* Whether anything is kept to look back at. */
bool heap_book_looks_back(void);

struct heap_stats heap_book_stats(void);

/* Before a fork: wait until no other thread is in the middle of a change. Nothing is held afterwards,
   as handlers that were registered before ours run then, and may allocate. */
void heap_book_before_fork(void);

/* In the child: if a thread that it does not have is in the middle of a change all the same, the
   book begins anew, and what was alive counts as dropped. */
void heap_book_in_child(void);

/* How many live blocks hash here, up to 255, which stays: a byte that nearly always is zero, and
   then the block of that address is not ours. */
#define HEAP_FILTER_BITS 17
extern _Atomic uint8_t heap_filter[1u << HEAP_FILTER_BITS];

static inline _Atomic uint8_t *
heap_filter_of(const void *address)
{
    return &heap_filter[live_set_hash((uintptr_t)address) >> (64 - HEAP_FILTER_BITS)];
}

/* May be true for a block that is not sampled, never false for one that is. No fence is needed:
   who frees a block has synchronised with who allocated it. */
static inline bool
heap_book_may_have(const void *address)
{
    return atomic_load_explicit(heap_filter_of(address), memory_order_relaxed) != 0;
}

#endif
