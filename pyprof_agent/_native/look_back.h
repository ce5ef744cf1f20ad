/* What counters were some time ago: slices of time, each with the values from before it. */
#ifndef PYPROF_LOOK_BACK_H
#define PYPROF_LOOK_BACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOK_BACK_SLICE_NS INT64_C(10000000000)
#define LOOK_BACK_VALUES 4
#define LOOK_BACK_MAX_SECONDS 86400u

/* Of a counter that changed in a slice: its values when the slice began. */
struct look_back_record {
    uint64_t values[LOOK_BACK_VALUES];
    uint32_t index; /* whose it is: the owner's business */
};

struct look_back_slice {
    int64_t began; /* CLOCK_MONOTONIC, in nanoseconds */
    struct look_back_record *records;
    uint32_t count;
    uint32_t capacity;
};

/* Not thread-safe: its owner has a lock. */
struct look_back {
    struct look_back_slice *slices; /* a ring */
    uint32_t length;  /* 0: nothing is kept */
    uint32_t number;  /* of the current slice; the first is 1 */
    uint32_t oldest;  /* the first that is kept */
    uint32_t records; /* in all slices */
    uint32_t limit;   /* for these: the oldest slices go first */
};

/* Keep so many seconds, 0 to keep nothing, and at most `limit` records, which must be more than
   there are counters. False without memory. */
bool look_back_init(struct look_back *history, uint32_t seconds, uint32_t limit, int64_t now);
void look_back_free(struct look_back *history);

/* Whether the current slice is over. */
bool look_back_is_over(const struct look_back *history, int64_t now);

/* Begin another slice. */
void look_back_turn(struct look_back *history, int64_t now);

/* Begin as many slices, each where the one before is over, as there should have been by now: for who
   does not come by in each. */
void look_back_catch_up(struct look_back *history, int64_t now);

/* The same history with other indices, so that counters may be put together: those below `count` are `to` theirs,
   which are less than `to_count`, and others stay as they are. `values`: what they are now, by the old indices.
   The note of a new counter is the largest of the old ones. False without memory. */
bool look_back_renumber(struct look_back *made, const struct look_back *history, const uint32_t *to,
                        uint32_t count, uint32_t to_count, const uint64_t (*values)[LOOK_BACK_VALUES]);

/* Forget all that was, as counters have other indices from now on. */
void look_back_forget(struct look_back *history, int64_t now);

/* Before a counter changes: keep its values, unless that was done in this slice. `*saved` is the
   owner's note for this counter; it is 0 at first. */
void look_back_save(struct look_back *history, uint32_t index, uint32_t *saved,
                    const uint64_t values[LOOK_BACK_VALUES]);

typedef void (*look_back_restore)(void *context, const struct look_back_record *record);

/* Call `restore` for all that must be undone to be at the beginning of the newest slice that began
   at `moment` or before, else of the oldest there is; when that was. INT64_MAX, and no call, if
   nothing is kept. */
int64_t look_back_rewind(const struct look_back *history, int64_t moment,
                         look_back_restore restore, void *context);

size_t look_back_bytes(const struct look_back *history);

#endif
