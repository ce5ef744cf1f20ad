/* Rows of a profile by the nodes of a snapshot, and what is made of them: differences, CPU and wall time.
   Calls nothing of Python. */
#ifndef PYPROF_ROW_TABLE_H
#define PYPROF_ROW_TABLE_H

#include "pprof_encoder.h"
#include "snapshot.h"

/* Columns of the rows of a stack sampler. `ticks`, `wall` and `hits` as in a stack_book; `cpu` is that of
   the thread, and stands on a row of its own. */
enum stack_column { COLUMN_TICKS, COLUMN_WALL, COLUMN_HITS, COLUMN_CPU, STACK_COLUMNS };

/* Of the rows of wall time: the state of the thread is in the number of their labels. */
#define WALL_STATES 2u
enum wall_state { WALL_RUNNING, WALL_WAITING };

/* Zeros are an empty one. */
struct row_table {
    struct pprof_row *rows;
    uint32_t count;
    uint32_t capacity;
    uint32_t columns;
};

void row_table_free(struct row_table *table);

/* False without memory. */
bool row_table_add(struct row_table *table, struct pprof_row row);

/* The rows of a snapshot, with a thread's number for their labels. */
bool row_table_of_snapshot(struct row_table *table, const struct snapshot *snapshot);

/* The same rows with zeros in the columns that have no bit in `columns`. */
bool row_table_only(struct row_table *table, const struct row_table *from, unsigned columns);

/* What has changed in each column. Both are of the same tables of stacks. Rows of the earlier one whose labels
   the later one has nowhere count as rows with the labels `gone`, unless that is PPROF_NO_LABELS. */
bool row_table_subtract(struct row_table *table, const struct row_table *later,
                        const struct row_table *earlier, uint32_t gone);

/* The labels of all rows, each once, in order: an array to be freed; NULL without memory. */
uint32_t *row_table_labels(const struct row_table *table, uint32_t *count);

/* Hits and CPU time, of rows with the columns of a stack sampler: the time of each thread is divided among
   its stacks in proportion to their hits, or stays where it is if there are none. */
bool row_table_cpu(struct row_table *table, const struct row_table *counters);

/* Ticks and elapsed time, of such rows: the time of a row is divided between the two states in proportion to
   its hits and its other ticks, for each instruction by itself. Labels are `labels * WALL_STATES + state`. */
bool row_table_wall(struct row_table *table, const struct row_table *counters);

#endif
