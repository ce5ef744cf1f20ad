/* The samplers' tables against models that are too simple to be wrong, under random use.
   Its argument is a seed. */

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
    static char codes[50];
    static struct stack_node model[LIMIT];
    struct stack_table table;
    uint32_t count = 1; /* the root */
    CHECK(stack_table_init(&table, LIMIT));
    for (int step = 0; step < 30000; step++) {
        uint32_t parent = below(count);
        void *code = below(20) ? &codes[below(sizeof codes)] : NULL;
        int32_t instruction = (int32_t)below(4) - 1;
        uint32_t known = 0;
        for (uint32_t id = 1; id < count && known == 0; id++) {
            if (model[id].parent == parent && model[id].code == code
                && model[id].instruction == instruction) {
                known = id;
            }
        }
        bool made;
        uint32_t id = stack_table_intern(&table, parent, code, instruction, &made);
        if (known != 0) {
            CHECK(id == known && !made);
        }
        else if (count == LIMIT) {
            CHECK(id == STACK_NONE && !made);
        }
        else {
            CHECK(id == count && made);
            model[count++] = (struct stack_node){code, instruction, parent};
        }
        CHECK(table.count == count);
    }
    CHECK(count == LIMIT);
    for (uint32_t id = 1; id < count; id++) {
        CHECK(table.nodes[id].code == model[id].code && table.nodes[id].parent == model[id].parent);
        CHECK(table.nodes[id].instruction == model[id].instruction && model[id].parent < id);
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
    puts("done");
    return 0;
}
