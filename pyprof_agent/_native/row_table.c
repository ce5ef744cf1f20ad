#include "row_table.h"

#include "number_index.h"

#include <math.h>

void
row_table_free(struct row_table *table)
{
    free(table->rows);
    *table = (struct row_table){0};
}

bool
row_table_add(struct row_table *table, struct pprof_row row)
{
    if (table->count == table->capacity) {
        uint32_t capacity = table->capacity ? table->capacity * 2 : 256;
        struct pprof_row *larger = realloc(table->rows, capacity * sizeof *larger);
        if (larger == NULL) {
            return false;
        }
        table->rows = larger;
        table->capacity = capacity;
    }
    table->rows[table->count++] = row;
    return true;
}

bool
row_table_of_snapshot(struct row_table *table, const struct snapshot *snapshot)
{
    table->columns = snapshot->columns;
    for (uint32_t i = 0; i < snapshot->row_count; i++) {
        const struct snapshot_row *from = &snapshot->rows[i];
        struct pprof_row row = {.node = from->node, .labels = from->thread};
        for (uint32_t column = 0; column < snapshot->columns; column++) {
            row.values[column] = (int64_t)from->values[column];
        }
        if (!row_table_add(table, row)) {
            return false;
        }
    }
    return true;
}

bool
row_table_only(struct row_table *table, const struct row_table *from, unsigned columns)
{
    table->columns = from->columns;
    bool done = true;
    for (uint32_t i = 0; done && i < from->count; i++) {
        struct pprof_row row = from->rows[i];
        for (uint32_t column = 0; column < from->columns; column++) {
            row.values[column] = columns >> column & 1 ? row.values[column] : 0;
        }
        done = row_table_add(table, row);
    }
    return done;
}

static uint64_t
key_of(const struct pprof_row *row)
{
    return (uint64_t)row->node << 32 | row->labels;
}

static int
compare_labels(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

uint32_t *
row_table_labels(const struct row_table *table, uint32_t *count)
{
    struct number_index seen = {0};
    uint32_t capacity = 0;
    uint32_t *labels = calloc(1, sizeof *labels);
    bool done = labels != NULL;
    *count = 0;
    for (uint32_t i = 0; done && i < table->count; i++) {
        uint32_t label = table->rows[i].labels;
        size_t cursor = 0;
        if ((i > 0 && label == table->rows[i - 1].labels)
            || number_index_next(&seen, label, &cursor) != NUMBER_INDEX_NONE) {
            continue;
        }
        if (*count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            uint32_t *larger = realloc(labels, capacity * sizeof *larger);
            done = larger != NULL;
            labels = done ? larger : labels;
        }
        done = done && number_index_put(&seen, label, *count);
        if (done) {
            labels[(*count)++] = label;
        }
    }
    number_index_free(&seen);
    if (!done) {
        free(labels);
        return NULL;
    }
    qsort(labels, *count, sizeof *labels, compare_labels);
    return labels;
}

/* Add the values of a row, times `sign`, to the row of the same node and these labels. */
static bool
add_to(struct row_table *table, struct number_index *index, const struct pprof_row *from, uint32_t labels,
       int sign)
{
    struct pprof_row row = {.node = from->node, .labels = labels};
    size_t cursor = 0;
    uint32_t at = number_index_next(index, key_of(&row), &cursor);
    if (at == NUMBER_INDEX_NONE) {
        at = table->count;
        if (!row_table_add(table, row) || !number_index_put(index, key_of(&row), at)) {
            return false;
        }
    }
    for (uint32_t column = 0; column < table->columns; column++) {
        table->rows[at].values[column] += sign * from->values[column];
    }
    return true;
}

bool
row_table_subtract(struct row_table *table, const struct row_table *later,
                   const struct row_table *earlier, uint32_t gone)
{
    struct number_index index = {0};
    uint32_t known_count;
    uint32_t *known = row_table_labels(later, &known_count);
    table->columns = later->columns;
    bool done = known != NULL;
    for (uint32_t i = 0; done && i < later->count; i++) {
        done = add_to(table, &index, &later->rows[i], later->rows[i].labels, 1);
    }
    for (uint32_t i = 0; done && i < earlier->count; i++) {
        uint32_t labels = earlier->rows[i].labels;
        if (gone != PPROF_NO_LABELS
            && pprof_label_place(known, known_count, labels) == PPROF_NO_LABELS) {
            labels = gone;
        }
        done = add_to(table, &index, &earlier->rows[i], labels, -1);
    }
    number_index_free(&index);
    free(known);
    return done;
}

/* Of all rows of one set of labels. */
struct thread_sums {
    double hits;
    double cpu;
};

static int64_t
positive(int64_t value)
{
    return value > 0 ? value : 0;
}

bool
row_table_cpu(struct row_table *table, const struct row_table *counters)
{
    uint32_t count;
    uint32_t *labels = row_table_labels(counters, &count);
    struct thread_sums *sums = calloc(labels == NULL ? 1 : (size_t)count + 1, sizeof *sums);
    bool done = labels != NULL && sums != NULL;
    table->columns = 2;
    for (uint32_t i = 0; done && i < counters->count; i++) {
        const struct pprof_row *row = &counters->rows[i];
        struct thread_sums *sum = &sums[pprof_label_place(labels, count, row->labels)];
        sum->hits += (double)positive(row->values[COLUMN_HITS]);
        sum->cpu += (double)positive(row->values[COLUMN_CPU]);
    }
    for (uint32_t i = 0; done && i < counters->count; i++) {
        const struct pprof_row *row = &counters->rows[i];
        const struct thread_sums *sum = &sums[pprof_label_place(labels, count, row->labels)];
        int64_t hits = positive(row->values[COLUMN_HITS]);
        double share = sum->hits > 0 ? sum->cpu * (double)hits / sum->hits
                                     : (double)positive(row->values[COLUMN_CPU]);
        if (share > 0) {
            struct pprof_row made = {.node = row->node, .labels = row->labels};
            made.values[0] = hits;
            made.values[1] = (int64_t)nearbyint(share);
            done = row_table_add(table, made);
        }
    }
    free(sums);
    free(labels);
    return done;
}

/* The part of a row in which the thread was in a state. */
static bool
add_state(struct row_table *table, const struct pprof_row *row, enum wall_state state, int64_t ticks,
          int64_t wall)
{
    struct pprof_row made = {.node = row->node, .labels = row->labels * WALL_STATES + state};
    made.values[0] = ticks;
    made.values[1] = wall;
    return ticks <= 0 || row_table_add(table, made);
}

bool
row_table_wall(struct row_table *table, const struct row_table *counters)
{
    bool done = true;
    table->columns = 2;
    for (uint32_t i = 0; done && i < counters->count; i++) {
        const struct pprof_row *row = &counters->rows[i];
        int64_t ticks = row->values[COLUMN_TICKS];
        if (ticks <= 0) {
            continue;
        }
        int64_t hits = positive(row->values[COLUMN_HITS]);
        hits = hits < ticks ? hits : ticks;
        int64_t wall = positive(row->values[COLUMN_WALL]);
        int64_t running = (int64_t)nearbyint((double)wall * (double)hits / (double)ticks);
        done = add_state(table, row, WALL_RUNNING, hits, running)
               && add_state(table, row, WALL_WAITING, ticks - hits, wall - running);
    }
    return done;
}
