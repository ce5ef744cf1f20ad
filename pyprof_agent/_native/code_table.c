#include "code_table.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024u

static uint32_t
slot_of(const struct code_table *table, const PyObject *code)
{
    uint64_t hash = (uint64_t)(uintptr_t)code * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t slot = (uint32_t)(hash >> 32) & (table->slots - 1);
    while (table->codes[slot].code != NULL && table->codes[slot].code != code) {
        slot = (slot + 1) & (table->slots - 1);
    }
    return slot;
}

/* Twice the slots; at most half of them are used. */
static bool
grow(struct code_table *table)
{
    uint32_t slots = table->slots ? table->slots * 2 : FIRST_SLOTS;
    struct known_code *codes = calloc(slots, sizeof *codes);
    if (codes == NULL) {
        return false;
    }
    struct known_code *before = table->codes;
    uint32_t slots_before = table->slots;
    table->codes = codes;
    table->slots = slots;
    for (uint32_t i = 0; i < slots_before; i++) {
        if (before[i].code != NULL) {
            codes[slot_of(table, before[i].code)] = before[i];
        }
    }
    free(before);
    return true;
}

bool
code_table_init(struct code_table *table, uint32_t limit)
{
    memset(table, 0, sizeof *table);
    table->limit = limit;
    return grow(table);
}

void
code_table_free(struct code_table *table)
{
    struct known_code *codes = table->codes;
    uint32_t slots = table->slots;
    memset(table, 0, sizeof *table);
    for (uint32_t i = 0; i < slots; i++) {
        if (codes[i].owned) {
            Py_DECREF(codes[i].code);
        }
    }
    free(codes);
}

/* A frame that ran the code object was there when `destroyed` was `since`, and had a reference to
   it. So it lives, unless it was destroyed after that. */
static bool
destroyed_since(const struct code_table *table, const PyObject *code, uint64_t since)
{
    if (table->destroyed - since > CODES_DESTROYED) {
        return true; /* not known any more */
    }
    for (uint64_t i = since; i < table->destroyed; i++) {
        if (table->last_destroyed[i % CODES_DESTROYED] == code) {
            return true;
        }
    }
    return false;
}

const struct known_code *
code_table_get(struct code_table *table, PyObject *code, uint64_t since)
{
    struct known_code *known = &table->codes[slot_of(table, code)];
    if (known->code != NULL) {
        return known;
    }
    if (table->count >= table->limit) {
        table->refused++;
        return NULL;
    }
    PyCodeObject copy; /* of its header */
    struct code_facts facts;
    if (destroyed_since(table, code, since)
        || !guarded_copy(code, &copy, FRAMES_CODE_BYTES) || !frames_code_facts(&copy, &facts)) {
        return NULL;
    }
    if (table->count * 2 >= table->slots) {
        if (!grow(table)) {
            table->refused++;
            return NULL;
        }
        known = &table->codes[slot_of(table, code)];
    }
    *known = (struct known_code){code, facts, false};
    table->count++;
    return known;
}

bool
code_table_dying(struct code_table *table, PyObject *code)
{
    struct known_code *known = &table->codes[slot_of(table, code)];
    if (known->code == NULL) {
        table->last_destroyed[table->destroyed % CODES_DESTROYED] = code;
        table->destroyed++;
        return false;
    }
    known->owned = true;
    return true;
}

void
code_table_own(struct code_table *table)
{
    for (uint32_t i = 0; i < table->slots; i++) {
        if (table->codes[i].code != NULL && !table->codes[i].owned) {
            Py_INCREF(table->codes[i].code);
            table->codes[i].owned = true;
        }
    }
}

size_t
code_table_bytes(const struct code_table *table)
{
    return table->slots * sizeof *table->codes;
}
