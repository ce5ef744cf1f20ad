/* Functions by what their code objects say of them. Code objects come and go; a function that was seen
   keeps its number, and one that is made again as it was, of a module that is reloaded, has it too. */
#ifndef PYPROF_FUNCTION_TABLE_H
#define PYPROF_FUNCTION_TABLE_H

#include "number_index.h"

#define FUNCTION_NONE 0u /* no room, or no memory */

/* Of a name or a path; what is longer is cut. */
#define FUNCTION_TEXT_BYTES 4096u

/* As PyUnicode_FromKindAndData() has it. */
struct function_text {
    const void *data;
    uint32_t length; /* characters */
    uint32_t kind;   /* bytes of each: 1, 2 or 4 */
};

struct function_facts {
    struct function_text name; /* co_qualname */
    struct function_text file; /* co_filename */
    int32_t first_line;
    uint64_t lines; /* a hash of where its lines are */
};

struct function {
    uint64_t lines;
    uint32_t name; /* where its text begins */
    uint32_t file;
    int32_t first_line;
};

/* Not thread-safe: its owner has a lock. Functions are never removed or changed. */
struct function_table {
    struct function *functions; /* by their number, from 1 on */
    uint32_t count;             /* of the numbers, 0 included */
    uint32_t capacity;
    uint32_t limit;
    char *text;
    uint32_t text_bytes;
    uint32_t text_capacity;
    uint32_t text_limit;
    struct number_index by_hash;
    struct number_index texts; /* where each begins, by its hash */
};

/* An empty one, of less than `limit` functions and up to so many bytes of text; false without memory. */
bool function_table_init(struct function_table *table, uint32_t limit, uint32_t text_limit);
void function_table_free(struct function_table *table);

/* The number of a function, taken in if it is new. */
uint32_t function_table_intern(struct function_table *table, const struct function_facts *facts);

/* The text that begins there; of the table or of a copy of its text. */
struct function_text function_text_at(const char *text, uint32_t begin);

size_t function_table_bytes(const struct function_table *table);

/* 64 bits that depend on all of some bytes, and on a hash of what was before them. */
uint64_t function_hash(uint64_t before, const void *bytes, size_t count);

#endif
