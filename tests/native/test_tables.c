/* The sampler's two tables against models that are too simple to be wrong, under random use.
   Its argument is a seed. */

#include "live_set.h"
#include "stack_table.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state;

static uint32_t
below(uint32_t limit)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % limit;
}

/* Not assert(), which a build may leave out. */
#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                     \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

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

int
main(int count, char **arguments)
{
    state = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    test_live_set(16);
    test_live_set(4096);
    test_live_set(2654435769u);
    test_stack_table();
    puts("done");
    return 0;
}
