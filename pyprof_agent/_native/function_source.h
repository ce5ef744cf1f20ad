/* What a code object says of its function, read without calling Python. */
#ifndef PYPROF_FUNCTION_SOURCE_H
#define PYPROF_FUNCTION_SOURCE_H

#include "address.h"
#include "function_table.h"

/* Copies memory; false if it is not there. guarded_copy() is one. */
typedef bool (*function_reader)(struct address from, void *to, size_t bytes);

/* One for what is known to be there: an object that lives, with the GIL held. */
bool function_source_direct(struct address from, void *to, size_t bytes);

/* Room for what is read. */
struct function_source {
    char name[FUNCTION_TEXT_BYTES];
    char file[FUNCTION_TEXT_BYTES];
};

/* The facts of a code object, with texts in `source`. False if something is not there, or not what a
   code object has. */
bool function_source_facts(struct function_source *source, function_reader read,
                           struct address code, struct function_facts *facts);

/* The line of an instruction, given by its offset in bytes; the first line if it has none. False if
   something is not there. */
bool function_source_line(function_reader read, struct address code, int32_t instruction,
                          int32_t *line);

#endif
