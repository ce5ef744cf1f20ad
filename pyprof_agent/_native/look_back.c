#include "look_back.h"

#include <stdlib.h>
#include <string.h>

static struct look_back_slice *
slice_of(const struct look_back *history, uint32_t number)
{
    return &history->slices[number % history->length];
}

static void
drop_oldest(struct look_back *history)
{
    struct look_back_slice *slice = slice_of(history, history->oldest++);
    history->records -= slice->count;
    free(slice->records);
    *slice = (struct look_back_slice){0};
}

void
look_back_turn(struct look_back *history, int64_t now)
{
    if (history->length == 0) {
        return; /* it was given up, maybe just now: look_back_save() found no memory */
    }
    struct look_back_slice *last = slice_of(history, history->number);
    if (last->count > 0 && last->count < last->capacity) {
        struct look_back_record *fitting =
            realloc(last->records, last->count * sizeof *last->records);
        if (fitting != NULL) {
            last->records = fitting;
            last->capacity = last->count;
        }
    }
    history->number++;
    if (history->number - history->oldest >= history->length) {
        drop_oldest(history);
    }
    slice_of(history, history->number)->began = now;
}

bool
look_back_init(struct look_back *history, uint32_t seconds, uint32_t limit, int64_t now)
{
    memset(history, 0, sizeof *history);
    if (seconds == 0) {
        return true;
    }
    /* One more, as the current one has only begun. */
    uint32_t length = (uint32_t)(seconds / (LOOK_BACK_SLICE_NS / 1000000000)) + 1;
    history->slices = calloc(length, sizeof *history->slices);
    if (history->slices == NULL) {
        return false;
    }
    history->length = length;
    history->limit = limit;
    history->oldest = 1;
    look_back_turn(history, now);
    return true;
}

void
look_back_free(struct look_back *history)
{
    for (uint32_t i = 0; i < history->length; i++) {
        free(history->slices[i].records);
    }
    free(history->slices);
    memset(history, 0, sizeof *history);
}

bool
look_back_is_over(const struct look_back *history, int64_t now)
{
    return history->length > 0
           && now - slice_of(history, history->number)->began >= LOOK_BACK_SLICE_NS;
}

void
look_back_catch_up(struct look_back *history, int64_t now)
{
    while (look_back_is_over(history, now)) {
        int64_t next = slice_of(history, history->number)->began + LOOK_BACK_SLICE_NS;
        int64_t oldest = now - (int64_t)history->length * LOOK_BACK_SLICE_NS;
        look_back_turn(history, next > oldest ? next : oldest);
    }
}

void
look_back_forget(struct look_back *history, int64_t now)
{
    if (history->length == 0) {
        return;
    }
    while (history->oldest <= history->number) {
        drop_oldest(history);
    }
    history->number++;
    slice_of(history, history->number)->began = now;
}

/* While slices are gone through from the newest to the oldest. */
struct renumbering {
    const uint32_t *to;
    uint32_t count;
    uint64_t (*was)[LOOK_BACK_VALUES];  /* by old index: at the beginning of the slice */
    uint64_t (*sums)[LOOK_BACK_VALUES]; /* by new index: likewise */
    uint32_t *done;                     /* by new index: the last slice with a record of it */
};

static void
renumber_slice(const struct renumbering *how, uint32_t number, const struct look_back_slice *from,
               struct look_back_slice *to)
{
    for (uint32_t i = 0; i < from->count; i++) {
        const struct look_back_record *record = &from->records[i];
        for (int value = 0; record->index < how->count && value < LOOK_BACK_VALUES; value++) {
            uint64_t *was = &how->was[record->index][value];
            how->sums[how->to[record->index]][value] += record->values[value] - *was;
            *was = record->values[value];
        }
    }
    for (uint32_t i = 0; i < from->count; i++) {
        struct look_back_record record = from->records[i];
        if (record.index < how->count) {
            record.index = how->to[record.index];
            if (how->done[record.index] == number) {
                continue;
            }
            how->done[record.index] = number;
            memcpy(record.values, how->sums[record.index], sizeof record.values);
        }
        to->records[to->count++] = record;
    }
}

bool
look_back_renumber(struct look_back *made, const struct look_back *history, const uint32_t *to,
                   uint32_t count, uint32_t to_count, const uint64_t (*values)[LOOK_BACK_VALUES])
{
    *made = *history;
    if (history->length == 0) {
        return true;
    }
    made->records = 0;
    made->slices = calloc(history->length, sizeof *made->slices);
    struct renumbering how = {
        .to = to,
        .count = count,
        .was = malloc(((size_t)count + 1) * sizeof *how.was),
        .sums = calloc((size_t)to_count + 1, sizeof *how.sums),
        .done = calloc((size_t)to_count + 1, sizeof *how.done),
    };
    bool renumbered = made->slices != NULL && how.was != NULL && how.sums != NULL && how.done != NULL;
    for (uint32_t i = 0; renumbered && i < count; i++) {
        memcpy(how.was[i], values[i], sizeof how.was[i]);
        for (int value = 0; value < LOOK_BACK_VALUES; value++) {
            how.sums[to[i]][value] += values[i][value];
        }
    }
    for (uint32_t number = history->number; renumbered && number >= history->oldest; number--) {
        const struct look_back_slice *from = slice_of(history, number);
        struct look_back_slice *slice = slice_of(made, number);
        slice->began = from->began;
        slice->records = from->count == 0 ? NULL : malloc(from->count * sizeof *slice->records);
        slice->capacity = from->count;
        renumbered = from->count == 0 || slice->records != NULL;
        if (renumbered) {
            renumber_slice(&how, number, from, slice);
            made->records += slice->count;
        }
    }
    free(how.was);
    free(how.sums);
    free(how.done);
    if (!renumbered) {
        made->length = made->slices == NULL ? 0 : made->length;
        look_back_free(made);
    }
    return renumbered;
}

void
look_back_save(struct look_back *history, uint32_t index, uint32_t *saved,
               const uint64_t values[LOOK_BACK_VALUES])
{
    if (history->length == 0 || *saved == history->number) {
        return;
    }
    while (history->records >= history->limit && history->oldest < history->number) {
        drop_oldest(history);
    }
    struct look_back_slice *slice = slice_of(history, history->number);
    if (slice->count == slice->capacity) {
        uint32_t capacity = slice->capacity ? slice->capacity * 2 : 64;
        struct look_back_record *larger = realloc(slice->records, capacity * sizeof *larger);
        if (larger == NULL) {
            look_back_free(history); /* what cannot be undone cannot be looked back at */
            return;
        }
        slice->records = larger;
        slice->capacity = capacity;
    }
    struct look_back_record *record = &slice->records[slice->count++];
    record->index = index;
    memcpy(record->values, values, sizeof record->values);
    history->records++;
    *saved = history->number;
}

int64_t
look_back_rewind(const struct look_back *history, int64_t moment, look_back_restore restore,
                 void *context)
{
    if (history->length == 0) {
        return INT64_MAX;
    }
    uint32_t number = history->number;
    for (;; number--) {
        const struct look_back_slice *slice = slice_of(history, number);
        for (uint32_t i = 0; i < slice->count; i++) {
            restore(context, &slice->records[i]);
        }
        if (slice->began <= moment || number == history->oldest) {
            return slice->began;
        }
    }
}

size_t
look_back_bytes(const struct look_back *history)
{
    size_t bytes = history->length * sizeof *history->slices;
    for (uint32_t i = 0; i < history->length; i++) {
        bytes += history->slices[i].capacity * sizeof *history->slices[i].records;
    }
    return bytes;
}
