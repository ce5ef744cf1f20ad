/* The samplers' tables against models that are too simple to be wrong, under random use.
   Its argument is a seed. */

#include "function_table.h"
#include "live_set.h"
#include "look_back.h"
#include "number_index.h"
#include "stack_table.h"

#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint32_t
below(uint32_t limit)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % limit;
}

/* Addresses as malloc's: near each other, so that they collide; and any. */
#define ADDRESSES 6000u

static void
test_live_set(uint32_t stride)
{
    static struct live_block model[ADDRESSES];
    struct live_set set;
    size_t count = 0;
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        model[i].address = 0;
    }
    CHECK(live_set_init(&set));
    for (int step = 0; step < 200000; step++) {
        /* Full and empty by turns, so that it grows and that it has long runs. */
        uint32_t used = step / 20000 % 2 ? ADDRESSES / 50 : ADDRESSES;
        uint32_t i = below(used);
        uintptr_t address = (uintptr_t)(i + 1) * stride;
        struct live_block block = {0};
        bool taken = live_set_take(&set, (void *)address, &block);
        CHECK(taken == (model[i].address != 0));
        if (taken) {
            CHECK(block.address == address && block.size == model[i].size);
            CHECK(block.bucket == model[i].bucket && block.run == model[i].run);
            model[i].address = 0;
            count--;
        }
        else {
            model[i] = (struct live_block){address, below(1u << 30), below(1000), below(10)};
            CHECK(live_set_add(&set, model[i]));
            count++;
        }
        CHECK(!live_set_take(&set, NULL, &block)); /* which looks like an empty slot */
        CHECK(set.count == count);
    }
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        struct live_block block;
        CHECK(live_set_take(&set, (void *)((uintptr_t)(i + 1) * stride), &block)
              == (model[i].address != 0));
    }
    CHECK(set.count == 0);
    CHECK(live_set_bytes(&set) <= 2 * ADDRESSES / 3 * 4 * sizeof(struct live_block));
    live_set_free(&set);
}

#define LIMIT 3000u

static void
test_stack_table(void)
{
    static struct stack_node model[LIMIT];
    struct stack_table table;
    uint32_t count = 1; /* the root */
    CHECK(stack_table_init(&table, LIMIT));
    for (int step = 0; step < 30000; step++) {
        uint32_t parent = below(count);
        uint32_t function = below(20) ? below(50) : 0;
        int32_t instruction = (int32_t)below(4) - 1;
        uint32_t known = 0;
        for (uint32_t id = 1; id < count && known == 0; id++) {
            if (model[id].parent == parent && model[id].function == function
                && model[id].instruction == instruction) {
                known = id;
            }
        }
        uint32_t id = stack_table_intern(&table, parent, function, instruction);
        if (known != 0) {
            CHECK(id == known);
        }
        else if (count == LIMIT) {
            CHECK(id == STACK_NONE);
        }
        else {
            CHECK(id == count && table.nodes[id].line == STACK_LINE_UNKNOWN);
            model[count++] = (struct stack_node){function, instruction, parent, 0};
        }
        CHECK(table.count == count);
    }
    CHECK(count == LIMIT);
    for (uint32_t id = 1; id < count; id++) {
        CHECK(table.nodes[id].function == model[id].function);
        CHECK(table.nodes[id].parent == model[id].parent && model[id].parent < id);
        CHECK(table.nodes[id].instruction == model[id].instruction);
    }
    stack_table_free(&table);
    CHECK(stack_table_bytes(&table) == 0);
}

#define COUNTERS 40u
#define SECONDS 120u
#define SLICES (SECONDS / 10 + 1)

struct counters {
    uint64_t values[COUNTERS][LOOK_BACK_VALUES];
};

static void
restore(void *context, const struct look_back_record *record)
{
    struct counters *counters = context;
    memcpy(counters->values[record->index], record->values, sizeof record->values);
}

/* The model keeps a copy of all counters at the beginning of every slice. */
static void
test_look_back(uint32_t limit)
{
    static struct counters model[SLICES];
    static int64_t began[SLICES];
    static struct counters counters;
    uint32_t saved[COUNTERS] = {0};
    struct look_back history;
    int64_t now = 1000;
    uint32_t slices = 1; /* of the model */
    memset(&counters, 0, sizeof counters);
    CHECK(look_back_init(&history, SECONDS, limit, now));
    model[0] = counters;
    began[0] = now;
    for (int step = 0; step < 20000; step++) {
        if (below(2000) == 0) {
            look_back_forget(&history, now);
            slices = 1;
            model[0] = counters;
            began[0] = now;
        }
        /* Mostly a moment later, at times after several slices, or hours. */
        now += below(10) ? below(1000000000) : (int64_t)below(60) * 1000000000;
        now += below(1000) ? 0 : INT64_C(7200000000000);
        while (now - began[slices - 1] >= LOOK_BACK_SLICE_NS) {
            int64_t next = began[slices - 1] + LOOK_BACK_SLICE_NS;
            int64_t oldest = now - (int64_t)SLICES * LOOK_BACK_SLICE_NS;
            if (slices == SLICES) {
                memmove(model, model + 1, sizeof model - sizeof *model);
                memmove(began, began + 1, sizeof began - sizeof *began);
                slices--;
            }
            model[slices] = counters;
            began[slices++] = next > oldest ? next : oldest;
        }
        uint32_t changed = below(COUNTERS);
        look_back_catch_up(&history, now);
        look_back_save(&history, changed, &saved[changed], counters.values[changed]);
        counters.values[changed][below(LOOK_BACK_VALUES)] += below(100);

        struct counters then = counters;
        int64_t moment = now - (int64_t)below(150) * 1000000000;
        int64_t taken = look_back_rewind(&history, moment, restore, &then);
        uint32_t slice = slices - 1;
        while (slice > 0 && began[slice] > moment) {
            slice--;
        }
        while (began[slice] < taken) {
            slice++; /* the limit made it forget more than the model does */
        }
        CHECK(slice < slices && began[slice] == taken);
        CHECK(memcmp(&then, &model[slice], sizeof then) == 0);
        CHECK(limit < 1000 || taken <= moment || slice == 0);
        CHECK(history.records <= limit + COUNTERS);
    }
    look_back_free(&history);
    CHECK(look_back_init(&history, 0, limit, now));
    look_back_catch_up(&history, now + INT64_C(60000000000));
    look_back_forget(&history, now);
    look_back_turn(&history, now); /* as when it was given up in the middle of a slice's end */
    look_back_save(&history, 0, &saved[0], counters.values[0]);
    CHECK(look_back_rewind(&history, now, restore, &counters) == INT64_MAX);
    CHECK(look_back_bytes(&history) == 0);
}

/* Few numbers and many positions of each, so that runs are long and grow while they are filled. */
#define POSITIONS 5000u

static void
test_number_index(uint32_t numbers)
{
    static uint64_t model[POSITIONS];
    struct number_index index = {0};
    size_t cursor = 0;
    CHECK(number_index_next(&index, 1, &cursor) == NUMBER_INDEX_NONE);
    for (int round = 0; round < 3; round++) {
        uint32_t put = POSITIONS >> round;
        for (uint32_t i = 0; i < put; i++) {
            model[i] = below(numbers) * UINT64_C(0x100000001);
            CHECK(number_index_put(&index, model[i], i));
        }
        for (uint32_t number = 0; number < numbers; number++) {
            uint64_t wanted = number * UINT64_C(0x100000001);
            cursor = 0;
            for (uint32_t i = 0; i < put; i++) {
                if (model[i] == wanted) {
                    CHECK(number_index_next(&index, wanted, &cursor) == i);
                }
            }
            CHECK(number_index_next(&index, wanted, &cursor) == NUMBER_INDEX_NONE);
        }
        CHECK(number_index_bytes(&index) >= POSITIONS * 16);
        number_index_clear(&index);
        cursor = 0;
        CHECK(number_index_next(&index, model[0], &cursor) == NUMBER_INDEX_NONE);
    }
    number_index_free(&index);
    CHECK(number_index_bytes(&index) == 0);
}

/* Numbers of one each, that come and go. */
static void
test_number_index_without_some(uint32_t numbers, uint64_t stride)
{
    static uint32_t model[POSITIONS];
    struct number_index index = {0};
    for (uint32_t i = 0; i < numbers; i++) {
        model[i] = NUMBER_INDEX_NONE;
    }
    for (int step = 0; step < 100000; step++) {
        uint32_t i = below(step / 10000 % 2 ? numbers / 20 : numbers);
        size_t cursor = 0;
        CHECK(number_index_next(&index, i * stride, &cursor) == model[i]);
        CHECK(number_index_take(&index, i * stride) == model[i]);
        if (model[i] == NUMBER_INDEX_NONE) {
            model[i] = below(1000);
            CHECK(number_index_put(&index, i * stride, model[i]));
        }
        else {
            model[i] = NUMBER_INDEX_NONE;
        }
    }
    number_index_free(&index);
}

static struct function_text
text_of(const char *characters, uint32_t kind)
{
    return (struct function_text){characters, (uint32_t)strlen(characters) / kind, kind};
}

static void
test_function_table(void)
{
    struct function_table table;
    CHECK(function_table_init(&table, 400, 40000));
    char name[100];
    char file[100];
    uint32_t numbers[500];
    for (int pass = 0; pass < 2; pass++) { /* made again they have the same numbers */
        for (uint32_t i = 0; i < 300; i++) {
            snprintf(name, sizeof name, "Shop%u.add", i / 3);
            snprintf(file, sizeof file, "/srv/shop/%u.py", i % 2);
            struct function_facts facts = {text_of(name, 1), text_of(file, 1), (int32_t)i % 5, i % 7};
            uint32_t number = function_table_intern(&table, &facts);
            CHECK(number == (pass == 0 ? i + 1 : numbers[i]));
            numbers[i] = number;
            const struct function *function = &table.functions[number];
            struct function_text known = function_text_at(table.text, function->name);
            CHECK(known.length == strlen(name) && memcmp(known.data, name, strlen(name)) == 0);
            known = function_text_at(table.text, function->file);
            CHECK(known.length == strlen(file) && memcmp(known.data, file, strlen(file)) == 0);
            CHECK(function->first_line == (int32_t)i % 5 && function->lines == i % 7);
        }
    }
    struct function_facts wide = {text_of("abcd", 1), text_of("ab", 1), 1, 1};
    uint32_t narrow = function_table_intern(&table, &wide);
    wide.name = text_of("abcd", 2); /* other characters in the same bytes */
    CHECK(function_table_intern(&table, &wide) == narrow + 1);
    for (uint32_t i = 0; i < 200; i++) {
        wide.lines = 1000 + i;
        uint32_t number = function_table_intern(&table, &wide);
        CHECK(number == (narrow + 2 + i < 400 ? narrow + 2 + i : FUNCTION_NONE));
    }
    function_table_free(&table);
    CHECK(function_table_bytes(&table) == 0);

    CHECK(function_table_init(&table, 400, 20000)); /* there is no room for more text */
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    uint32_t number = 1;
    for (uint32_t i = 0; i < 300 && number != FUNCTION_NONE; i++) {
        snprintf(file, sizeof file, "%u", i);
        memcpy(name, file, strlen(file));
        struct function_facts facts = {text_of(name, 1), text_of("file", 1), 1, 1};
        number = function_table_intern(&table, &facts);
    }
    CHECK(number == FUNCTION_NONE && table.text_bytes <= 20000 && table.text_bytes > 19800);
    function_table_free(&table);
}

int
main(int count, char **arguments)
{
    state = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    test_live_set(16);
    test_live_set(4096);
    test_live_set(2654435769u);
    test_stack_table();
    test_look_back(100);
    test_look_back(1u << 16);
    test_number_index(7);
    test_number_index(4000);
    test_number_index_without_some(5000, 16);
    test_number_index_without_some(5000, UINT64_C(0x9e3779b97f4a7c15));
    test_function_table();
    puts("done");
    return 0;
}
