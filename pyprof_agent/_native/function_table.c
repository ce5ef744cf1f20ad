#include "function_table.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_FUNCTIONS 256u
#define FIRST_TEXT_BYTES 16384u

/* Before the characters of each text; its size is what these are aligned to. */
struct text_head {
    uint32_t length;
    uint32_t kind;
};

/* FNV-1a (Fowler, Noll and Vo), by words and with the mixing of SplitMix64, as the low bits of FNV's
   are weak. */
uint64_t
function_hash(uint64_t before, const void *bytes, size_t count)
{
    uint64_t hash = before ^ (uint64_t)count;
    for (size_t done = 0; done < count; done += sizeof hash) {
        uint64_t word = 0;
        memcpy(&word, (const char *)bytes + done,
               count - done < sizeof word ? count - done : sizeof word);
        hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
        hash ^= hash >> 27;
    }
    return hash * UINT64_C(0x94d049bb133111eb);
}

bool
function_table_init(struct function_table *table, uint32_t limit, uint32_t text_limit)
{
    *table = (struct function_table){.limit = limit, .text_limit = text_limit, .count = 1};
    table->functions = calloc(FIRST_FUNCTIONS, sizeof *table->functions);
    table->text = malloc(FIRST_TEXT_BYTES);
    table->capacity = FIRST_FUNCTIONS;
    table->text_capacity = FIRST_TEXT_BYTES;
    if (table->functions == NULL || table->text == NULL) {
        function_table_free(table);
        return false;
    }
    return true;
}

void
function_table_free(struct function_table *table)
{
    free(table->functions);
    free(table->text);
    number_index_free(&table->by_hash);
    number_index_free(&table->texts);
    *table = (struct function_table){0};
}

struct function_text
function_text_at(const char *text, uint32_t begin)
{
    struct text_head head;
    memcpy(&head, text + begin, sizeof head);
    return (struct function_text){text + begin + sizeof head, head.length, head.kind};
}

static size_t
bytes_of(const struct function_text *text)
{
    return (size_t)text->length * text->kind;
}

static bool
is_at(const struct function_table *table, uint32_t begin, const struct function_text *text)
{
    struct function_text known = function_text_at(table->text, begin);
    return known.length == text->length && known.kind == text->kind
           && memcmp(known.data, text->data, bytes_of(text)) == 0;
}

/* Room for so many bytes more of text; false if there is none. */
static bool
make_room(struct function_table *table, size_t bytes)
{
    if (bytes > table->text_limit - table->text_bytes) {
        return false;
    }
    uint32_t capacity = table->text_capacity;
    while (capacity - table->text_bytes < bytes) {
        capacity *= 2; /* less than twice the limit, which is less than 2^31 */
    }
    if (capacity > table->text_capacity) {
        char *larger = realloc(table->text, capacity);
        if (larger == NULL) {
            return false;
        }
        table->text = larger;
        table->text_capacity = capacity;
    }
    return true;
}

/* Where a text begins, put there if it is new; UINT32_MAX if that cannot be. */
static uint32_t
text_of(struct function_table *table, const struct function_text *text)
{
    uint64_t hash = function_hash(text->kind, text->data, bytes_of(text));
    size_t cursor = 0;
    uint32_t begin;
    while ((begin = number_index_next(&table->texts, hash, &cursor)) != NUMBER_INDEX_NONE) {
        if (is_at(table, begin, text)) {
            return begin;
        }
    }
    struct text_head head = {text->length, text->kind};
    size_t needed = (sizeof head + bytes_of(text) + sizeof head - 1) / sizeof head * sizeof head;
    begin = table->text_bytes;
    if (!make_room(table, needed)
        || !number_index_put(&table->texts, hash, begin)) {
        return UINT32_MAX;
    }
    memcpy(table->text + begin, &head, sizeof head);
    memcpy(table->text + begin + sizeof head, text->data, bytes_of(text));
    table->text_bytes += (uint32_t)needed;
    return begin;
}

static bool
grow(struct function_table *table)
{
    uint32_t capacity = table->capacity * 2;
    struct function *larger = realloc(table->functions, capacity * sizeof *larger);
    if (larger == NULL) {
        return false;
    }
    table->functions = larger;
    table->capacity = capacity;
    return true;
}

uint32_t
function_table_intern(struct function_table *table, const struct function_facts *facts)
{
    uint32_t name = text_of(table, &facts->name);
    uint32_t file = text_of(table, &facts->file);
    if (name == UINT32_MAX || file == UINT32_MAX) {
        return FUNCTION_NONE;
    }
    struct function function = {facts->lines, name, file, facts->first_line};
    const uint64_t words[] = {function.lines, (uint64_t)name << 32 | file,
                              (uint32_t)function.first_line};
    uint64_t hash = function_hash(0, words, sizeof words);
    size_t cursor = 0;
    uint32_t number;
    while ((number = number_index_next(&table->by_hash, hash, &cursor)) != NUMBER_INDEX_NONE) {
        const struct function *known = &table->functions[number];
        if (known->lines == function.lines && known->name == name && known->file == file
            && known->first_line == function.first_line) {
            return number;
        }
    }
    number = table->count;
    if (number >= table->limit || (number == table->capacity && !grow(table))
        || !number_index_put(&table->by_hash, hash, number)) {
        return FUNCTION_NONE;
    }
    table->functions[number] = function;
    table->count++;
    return number;
}

size_t
function_table_bytes(const struct function_table *table)
{
    return table->capacity * sizeof *table->functions + table->text_capacity
           + number_index_bytes(&table->by_hash) + number_index_bytes(&table->texts);
}
