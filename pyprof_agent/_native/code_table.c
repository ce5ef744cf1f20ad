#include "code_table.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 512u

#define UNIT ((int32_t)sizeof(_Py_CODEUNIT))

/* Code of more bytes than that has no note of its instructions, which would take a sixteenth of it. */
#define MOST_NOTED_BYTES (1 << 20)

#define PIECE_BYTES 4096

void
code_table_init(struct code_table *table, uint32_t limit)
{
    *table = (struct code_table){.limit = limit};
}

void
code_table_free(struct code_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        free(table->codes[i].leaving);
    }
    free(table->codes);
    number_index_free(&table->by_address);
    *table = (struct code_table){0};
}

static uint64_t
number_of(const PyObject *code)
{
    return (uint64_t)(uintptr_t)code;
}

static struct known_code *
find(const struct code_table *table, const PyObject *code)
{
    size_t cursor = 0;
    uint32_t position = number_index_next(&table->by_address, number_of(code), &cursor);
    return position == NUMBER_INDEX_NONE ? NULL : &table->codes[position];
}

/* The place of one that is new; NULL if there is none, or no memory. */
static struct known_code *
add(struct code_table *table, const struct known_code *code)
{
    if (table->count == table->capacity) {
        uint32_t capacity = table->capacity ? table->capacity * 2 : FIRST_CAPACITY;
        struct known_code *larger = realloc(table->codes, capacity * sizeof *larger);
        if (larger == NULL) {
            return NULL;
        }
        table->codes = larger;
        table->capacity = capacity;
    }
    if (!number_index_put(&table->by_address, number_of(code->code), table->count)) {
        return NULL;
    }
    table->codes[table->count] = *code;
    return &table->codes[table->count++];
}

/* A frame that ran the code object was there when `destroyed` was `since`, and had a reference to
   it. So it lives, unless it was destroyed after that: then what is there now may be another one. */
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

struct known_code *
code_table_get(struct code_table *table, struct address address, uint64_t since)
{
    const PyObject *code = address_pointer(address);
    if (code == NULL || !address_is_aligned(address) || destroyed_since(table, code, since)) {
        return NULL;
    }
    struct known_code *known = find(table, code);
    if (known != NULL) {
        return known;
    }
    if (table->count >= table->limit) {
        table->refused++;
        return NULL;
    }
    PyCodeObject header;
    struct known_code found = {.code = code};
    if (!read_header(address, &header, &found.facts) || !has_its_parts(&header)
        || !note_leaving(address, &found)) {
        return NULL;
    }
    known = add(table, &found);
    if (known == NULL) {
        free(found.leaving);
        table->refused++;
        return NULL;
    }
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

/* Take one out; the last one takes its place. */
static void
drop(struct code_table *table, struct known_code *known)
{
    struct known_code *last = &table->codes[table->count - 1];
    uint32_t position = number_index_take(&table->by_address, number_of(known->code));
    table->leaving_bytes -= leaving_bytes(&known->facts);
    free(known->leaving);
    if (last != known) {
        *known = *last;
        number_index_take(&table->by_address, number_of(last->code));
        number_index_put(&table->by_address, number_of(last->code), position); /* there is room */
    }
    table->count--;
}

void
code_table_clear(struct code_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        free(table->codes[i].leaving);
    }
    number_index_clear(&table->by_address);
    table->count = 0;
    table->leaving_bytes = 0;
}

void
code_table_dying(struct code_table *table, const PyObject *code)
{
    table->last_destroyed[table->destroyed % CODES_DESTROYED] = code;
    table->destroyed++;
    struct known_code *known = find(table, code);
    if (known != NULL) {
        drop(table, known);
    }
}

/* Memory may look like a code object to the last detail and be none yet, or none any more. */
void
code_table_check(struct code_table *table)
{
    for (uint32_t i = table->count; i-- > 0;) {
        struct known_code *known = &table->codes[i];
        PyCodeObject header;
        struct code_facts facts;
        if (!known->checked
            && (!read_header(address_of(known->code), &header, &facts)
                || memcmp(&facts, &known->facts, sizeof facts) != 0)) {
            drop(table, known); /* the one that takes its place has been looked at */
        }
        else {
            known->checked = true;
        }
    }
}

size_t
code_table_bytes(const struct code_table *table)
{
    return table->capacity * sizeof *table->codes + number_index_bytes(&table->by_address)
           + table->leaving_bytes;
}
