/* The code objects that sampled frames run, and what of them is needed to judge frames. */
#ifndef PYPROF_CODE_TABLE_H
#define PYPROF_CODE_TABLE_H

#include "frames.h"

struct known_code {
    PyObject *code; /* NULL: an empty slot */
    struct code_facts facts;
    uint8_t *leaving; /* a bit for each instruction by which a frame may be left; NULL: too many */
    bool owned; /* we have a reference */
    bool lost;  /* it was none, or none any more, when a reference was to be taken */
};

#define CODES_DESTROYED 256u

/* Not thread-safe: its owner has a lock. A code object that is in it does not die: at its last
   moment it is given a reference. */
struct code_table {
    struct known_code *codes;
    uint32_t count;
    uint32_t slots; /* a power of two */
    uint32_t limit;
    uint32_t lost;
    size_t leaving_bytes;
    uint64_t refused;   /* times that there was no room */
    uint64_t destroyed; /* code objects that died without having been in it */
    const PyObject *last_destroyed[CODES_DESTROYED];
};

bool code_table_init(struct code_table *table, uint32_t limit);

/* Called with the GIL held, and not under a lock: gives the references back. */
void code_table_free(struct code_table *table);

/* What is known of a code object that a frame named, at a time when `destroyed` was not less
   than `since`; it is taken in if it is new. NULL if it may be dead or is none, or there is no room.
   Reads nothing of it but by guarded_read(). */
const struct known_code *code_table_get(struct code_table *table, struct address code,
                                        uint64_t since);

/* Whether the instruction at that offset, less than its length, is one by which a frame is left. */
bool code_table_leaves(const struct known_code *known, int32_t instruction);

/* A code object is about to die. Called with the GIL held. True if it must not: it has a
   reference of ours now. */
bool code_table_dying(struct code_table *table, PyObject *code);

/* Take a reference to every code object in it that is still one. Called with the GIL held. */
void code_table_own(struct code_table *table);

/* Whether a code object in it turned out to be none. */
bool code_table_is_lost(const struct code_table *table, const PyObject *code);

size_t code_table_bytes(const struct code_table *table);

#endif
