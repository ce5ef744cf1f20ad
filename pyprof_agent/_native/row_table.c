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

bool
row_table_subtract(struct row_table *table, const struct row_table *later,
                   const struct row_table *earlier)
{
    struct number_index index = {0};
    table->columns = later->columns;
    bool done = true;
    for (uint32_t i = 0; done && i < later->count; i++) {
        done = row_table_add(table, later->rows[i])
               && number_index_put(&index, key_of(&later->rows[i]), i);
    }
    for (uint32_t i = 0; done && i < earlier->count; i++) {
        size_t cursor = 0;
        uint32_t at = number_index_next(&index, key_of(&earlier->rows[i]), &cursor);
        if (at == NUMBER_INDEX_NONE) {
            at = table->count;
            done = row_table_add(table, (struct pprof_row){.node = earlier->rows[i].node,
                                                           .labels = earlier->rows[i].labels});
        }
        for (uint32_t column = 0; done && column < table->columns; column++) {
            table->rows[at].values[column] -= earlier->rows[i].values[column];
        }
    }
    number_index_free(&index);
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

static uint32_t
label_count(const struct row_table *table)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < table->count; i++) {
        count = table->rows[i].labels >= count ? table->rows[i].labels + 1 : count;
    }
    return count;
}

bool
row_table_cpu(struct row_table *table, const struct row_table *counters)
{
    struct thread_sums *sums = calloc(label_count(counters), sizeof *sums);
    bool done = sums != NULL;
    table->columns = 2;
    for (uint32_t i = 0; done && i < counters->count; i++) {
        const struct pprof_row *row = &counters->rows[i];
        sums[row->labels].hits += (double)positive(row->values[COLUMN_HITS]);
        sums[row->labels].cpu += (double)positive(row->values[COLUMN_CPU]);
    }
    for (uint32_t i = 0; done && i < counters->count; i++) {
        const struct pprof_row *row = &counters->rows[i];
        const struct thread_sums *sum = &sums[row->labels];
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
