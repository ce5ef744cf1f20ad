/* What profiles call the functions of a function_table: module and qualified name, path, first line. What it
   has does not move and goes with it alone, so one may read it without the GIL, up to a number that was taken
   with the GIL, while others add to it. */
#ifndef PYPROF_NAME_TABLE_H
#define PYPROF_NAME_TABLE_H

#include "number_index.h"
#include "pprof_encoder.h"

#define NAME_TABLE_SEGMENTS 256u /* of PPROF_SEGMENT each: twice what a function_table has */

struct text_block;

/* The texts of a function, as Python has them: they need not be UTF-8. */
struct name_parts {
    struct pprof_text name;
    struct pprof_text file;
};

/* Changes need the GIL. Zeros are an empty one. */
struct name_table {
    struct pprof_function *functions[NAME_TABLE_SEGMENTS]; /* no two equal */
    struct name_parts *parts[NAME_TABLE_SEGMENTS];         /* in their identities */
    uint32_t count;
    uint32_t *function_of[NAME_TABLE_SEGMENTS]; /* by number of the function_table; 0 is no function */
    uint32_t last_number;
    struct text_block *text; /* the latest */
    size_t bytes;
    struct number_index by_identity;
};

void name_table_free(struct name_table *table);

/* The number of the function to be named next. */
static inline uint32_t
name_table_next(const struct name_table *table)
{
    return table->last_number + 1;
}

/* Name the function with that number; nothing happens if it has a name. False without memory, or if it is not
   the next. Its identity is file, 0, name, 0, first line, 0, of which `file_bytes` and `name_bytes` say where
   the first two are. */
bool name_table_add(struct name_table *table, uint32_t number, const struct pprof_function *function,
                    size_t file_bytes, size_t name_bytes);

/* The parts of a function, by its index in the table. */
static inline const struct name_parts *
name_table_parts(const struct name_table *table, uint32_t function)
{
    return &table->parts[function / PPROF_SEGMENT][function % PPROF_SEGMENT];
}

/* Set what an encoder reads of the table. */
void name_table_input(const struct name_table *table, struct pprof_input *input);

size_t name_table_bytes(const struct name_table *table);

#endif
