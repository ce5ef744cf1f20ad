/* Sums of the rows of a profile by the innermost location, without the rows of one library: what the rest of
   the program has. Calls nothing of Python. */
#ifndef PYPROF_ROW_LINES_H
#define PYPROF_ROW_LINES_H

#include "pprof_locations.h"

#define ROW_LINES_MOST_AROUND 4

/* Which stacks are the library's: those with a function whose name begins with `own`. A function whose name
   begins with one of `around` makes its stack one of them only if it is the innermost: it calls functions of
   the program. */
struct row_lines_owner {
    struct pprof_text own;
    struct pprof_text around[ROW_LINES_MOST_AROUND];
    uint32_t around_count;
};

/* Zeros are an empty one. */
struct row_lines {
    struct pprof_locations locations;
    int64_t (*sums)[PPROF_MAX_COLUMNS]; /* by location */
};

/* Reads nodes, functions, rows and the number of columns. */
enum pprof_result row_lines_add_up(struct row_lines *lines, const struct pprof_input *input,
                                   const struct row_lines_owner *owner);

void row_lines_free(struct row_lines *lines);

#endif
