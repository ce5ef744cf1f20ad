/* The code objects that sampled frames run, and what of them is needed to judge frames. */
#ifndef PYPROF_CODE_TABLE_H
#define PYPROF_CODE_TABLE_H

#include "frames.h"
#include "number_index.h"

struct known_code {
    const PyObject *code;
    struct code_facts facts;
    uint8_t *leaving;  /* a bit for each instruction by which a frame may be left; NULL: too many */
    uint32_t function; /* a note of the owner's; 0 at first */
    bool checked;
};

#define CODES_DESTROYED 256u

/* Not thread-safe: its owner has a lock. It has no reference to a code object. Its owner calls
   code_table_dying() before one is freed, so all that are in the table live. */
struct code_table {
    struct known_code *codes;
    uint32_t count;
    uint32_t capacity;
    uint32_t limit;
    struct number_index by_address;
    size_t leaving_bytes;
    uint64_t refused;   /* times that there was no room */
    uint64_t destroyed; /* code objects that have died */
    const PyObject *last_destroyed[CODES_DESTROYED];
};

/* An empty one; it takes no memory before it has something to keep. */
void code_table_init(struct code_table *table, uint32_t limit);
void code_table_free(struct code_table *table);

/* What is known of a code object that a frame named, at a time when `destroyed` was not less
   than `since`; it is taken in if it is new, and may be changed by the next call. NULL if it may be
   dead or is none, or there is no room. Reads nothing of it but by guarded_read(). */
struct known_code *code_table_get(struct code_table *table, struct address code, uint64_t since);

/* Whether the instruction at that offset, less than its length, is one by which a frame is left. */
bool code_table_leaves(const struct known_code *known, int32_t instruction);

/* Forget all that live; which were destroyed stays known. */
void code_table_clear(struct code_table *table);

/* A code object is about to die. */
void code_table_dying(struct code_table *table, const PyObject *code);

/* Look again at what was taken in since the last time: it may have been none. Called with the GIL held. */
void code_table_check(struct code_table *table);

size_t code_table_bytes(const struct code_table *table);

#endif
