#include "code_table.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024u

#define UNIT ((int32_t)sizeof(_Py_CODEUNIT))

/* Code of more bytes than that has no note of its instructions, which would take a sixteenth of it. */
#define MOST_NOTED_BYTES (1 << 20)

#define PIECE_BYTES 4096

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
        free(codes[i].leaving);
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

/* What memory that may be a code object says of itself. */
static bool
read_header(struct address code, PyCodeObject *copy, struct code_facts *facts)
{
    return guarded_copy(code, copy, FRAMES_CODE_BYTES) && frames_code_facts(copy, facts);
}

/* Whether a type, or what a word of garbage says is one, is of a kind. */
static bool
is_of_kind(struct address type, unsigned long subclass)
{
    struct address at;
    unsigned long flags;
    return address_after(type, offsetof(PyTypeObject, tp_flags), &at)
           && guarded_copy(at, &flags, sizeof flags) && (flags & subclass) != 0;
}

/* Whether a code object with that header has what every one has. */
static bool
has_its_parts(const PyCodeObject *header)
{
    struct code_part parts[FRAMES_CODE_PARTS];
    PyObject copies[FRAMES_CODE_PARTS];
    struct guarded_range ranges[FRAMES_CODE_PARTS];
    frames_code_parts(header, parts);
    for (int i = 0; i < FRAMES_CODE_PARTS; i++) {
        ranges[i] = (struct guarded_range){parts[i].object, &copies[i], sizeof copies[i]};
    }
    bool whole = guarded_read(ranges, FRAMES_CODE_PARTS) == FRAMES_CODE_PARTS;
    for (int i = 0; whole && i < FRAMES_CODE_PARTS; i++) {
        whole = frames_is_living(&copies[i])
                && (copies[i].ob_type == parts[i].type
                    || is_of_kind(address_of(copies[i].ob_type), parts[i].subclass));
    }
    return whole;
}

static size_t
leaving_bytes(const struct code_facts *facts)
{
    return facts->length > MOST_NOTED_BYTES ? 0 : (size_t)(facts->length / UNIT / 8 + 1);
}

/* Note the instructions by which frames are left; false if these cannot be read. */
static bool
note_leaving(struct address code, struct known_code *known)
{
    size_t bytes = leaving_bytes(&known->facts);
    struct address at;
    char last;
    if (bytes == 0) {
        return frames_code_start(code, &at)
               && address_after(at, (size_t)known->facts.length - 1, &at)
               && guarded_copy(at, &last, sizeof last);
    }
    known->leaving = calloc(bytes, 1);
    bool read = known->leaving != NULL && frames_code_start(code, &at);
    unsigned char piece[PIECE_BYTES];
    for (int32_t done = 0; read && done < known->facts.length; done += PIECE_BYTES) {
        int32_t rest = known->facts.length - done;
        int32_t length = rest < PIECE_BYTES ? rest : PIECE_BYTES;
        read = guarded_copy(at, piece, (size_t)length)
               && address_after(at, (size_t)length, &at);
        for (int32_t offset = 0; read && offset < length; offset += UNIT) {
            int32_t number = (done + offset) / UNIT;
            known->leaving[number / 8] |=
                (uint8_t)(frames_may_be_leaving(piece + offset) << number % 8);
        }
    }
    if (!read) {
        free(known->leaving);
        known->leaving = NULL;
    }
    return read;
}

const struct known_code *
code_table_get(struct code_table *table, struct address address, uint64_t since)
{
    PyObject *code = (PyObject *)address_pointer(address);
    struct known_code *known = &table->codes[slot_of(table, code)];
    if (known->code != NULL) {
        return known->lost ? NULL : known;
    }
    if (table->count >= table->limit) {
        table->refused++;
        return NULL;
    }
    PyCodeObject header;
    struct known_code found = {.code = code};
    if (code == NULL || !address_is_aligned(address) || destroyed_since(table, code, since)
        || !read_header(address, &header, &found.facts) || !has_its_parts(&header)) {
        return NULL;
    }
    if (table->count * 2 >= table->slots) {
        if (!grow(table)) {
            table->refused++;
            return NULL;
        }
        known = &table->codes[slot_of(table, code)];
    }
    if (!note_leaving(address, &found)) {
        return NULL;
    }
    *known = found;
    table->count++;
    table->leaving_bytes += leaving_bytes(&found.facts);
    return known;
}

bool
code_table_leaves(const struct known_code *known, int32_t instruction)
{
    int32_t number = instruction / UNIT;
    if (instruction < 0 || known->leaving == NULL || !(known->leaving[number / 8] >> number % 8 & 1)) {
        return false;
    }
    /* What was noted may have been the interpreter's cache of a call, which looked like one. */
    int32_t before = number < FRAMES_CACHES_OF_CALL ? number : FRAMES_CACHES_OF_CALL;
    unsigned char units[(FRAMES_CACHES_OF_CALL + 1) * sizeof(_Py_CODEUNIT)];
    const unsigned char *last = units + (size_t)before * sizeof(_Py_CODEUNIT);
    struct address at;
    return frames_code_start(address_of(known->code), &at)
           && address_after(at, (size_t)(number - before) * UNIT, &at)
           && guarded_copy(at, units, (size_t)(before + 1) * sizeof(_Py_CODEUNIT))
           && frames_is_leaving(last) && !frames_ends_call(units, before + 1);
}

bool
code_table_dying(struct code_table *table, PyObject *code)
{
    struct known_code *known = &table->codes[slot_of(table, code)];
    if (known->code == NULL || known->lost) {
        table->last_destroyed[table->destroyed % CODES_DESTROYED] = code;
        table->destroyed++;
        return false;
    }
    known->owned = true;
    return true;
}

/* A code object in the table lives, as it is given a reference before it dies. Should one have been
   taken for living that was not, or was only being made (memory that looked like it to the last
   detail), a count of references must not be written where it was: so it is looked at again, now
   that the GIL is held. Facts that were read too early are read again. */
static bool
is_still_one(struct code_table *table, struct known_code *known)
{
    struct address code = address_of(known->code);
    struct known_code found = {.code = known->code};
    PyCodeObject header;
    if (!read_header(code, &header, &found.facts)) {
        return false;
    }
    if (memcmp(&found.facts, &known->facts, sizeof found.facts) == 0) {
        return true;
    }
    if (!has_its_parts(&header) || !note_leaving(code, &found)) {
        return false;
    }
    table->leaving_bytes += leaving_bytes(&found.facts) - leaving_bytes(&known->facts);
    free(known->leaving);
    *known = found;
    return true;
}

void
code_table_own(struct code_table *table)
{
    for (uint32_t i = 0; i < table->slots; i++) {
        struct known_code *known = &table->codes[i];
        if (known->code == NULL || known->owned || known->lost) {
            continue;
        }
        if (is_still_one(table, known)) {
            Py_INCREF(known->code);
            known->owned = true;
        }
        else {
            known->lost = true;
            table->lost++;
        }
    }
}

bool
code_table_is_lost(const struct code_table *table, const PyObject *code)
{
    return table->lost > 0 && table->codes[slot_of(table, code)].lost;
}

size_t
code_table_bytes(const struct code_table *table)
{
    return table->slots * sizeof *table->codes + table->leaving_bytes;
}
