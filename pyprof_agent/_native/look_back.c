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
