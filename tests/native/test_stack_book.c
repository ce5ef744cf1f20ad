/* The book of stacks beside a model, with tables so small that they are full all the time: threads come, burn CPU
   and go; nothing that was counted is lost, and what a window shows is what was counted in it. */
#include "stack_book.h"

#undef STACK_MAX_NODES
#undef STACK_MAX_ROWS
#undef STACK_MAX_THREADS
#define STACK_MAX_NODES 128u
#define STACK_MAX_ROWS 1024u
#define STACK_MAX_THREADS 11u /* eight with numbers */
#include "stack_book.c"

#include "check.h"

#include <stdlib.h>

/* What it has of CPython; no code object is read here. */
PyTypeObject PyCode_Type;

#define PLACES 40    /* threads alive at once */
#define LABELS 20000 /* that may be given in a run */
#define SLICES 6     /* that are looked back at */
#define MILLISECOND INT64_C(1000000)

/* Of a thread with a label, and of all others together, which are the first. */
struct sums {
    uint64_t hits;
    uint64_t ticks;
    uint64_t cpu;
};

struct place {
    bool alive;
    uint32_t number;
    uint32_t label;
    uint64_t age;
    uint64_t cpu;
    uint64_t asked;  /* what that was when it asked for a number */
    uint64_t recent; /* CPU burned of late */
    uint32_t node;
};

static struct place places[PLACES];
static struct sums now_sums[LABELS];
/* What it was when slices of the look-back began. */
static struct past {
    int64_t began;
    uint64_t rooms; /* that were made up to then */
    struct sums sums[LABELS];
} past[SLICES];
static uint32_t slices;
static uint32_t labels_given;
static int64_t now;
static uint64_t rooms_made;
static uint64_t others_claimed;
static uint64_t rewound_rooms; /* looks back at what was before a room was made */

/* Small numbers are far more frequent: some stacks are seen all the time. */
static uint32_t
skewed(uint32_t limit)
{
    return (uint32_t)random() % ((uint32_t)random() % limit + 1);
}

static uint32_t
function(uint32_t number)
{
    char name[16];
    int length = snprintf(name, sizeof name, "f%u", number);
    const struct function_facts facts = {
        .name = {name, (uint32_t)length, 1}, .file = {"file", 4, 1}, .first_line = (int32_t)number};
    return function_table_intern(&book.functions, &facts);
}

/* The node of a stack of up to three frames, as stack_book_intern() finds it. */
static uint32_t
some_stack(void)
{
    uint32_t node = STACK_ROOT;
    for (uint32_t depth = 1 + skewed(3); depth > 0 && node != STACK_NONE; depth--) {
        uint32_t number = function(skewed(60));
        node = number == FUNCTION_NONE ? STACK_NONE
                                       : stack_table_intern(&book.stacks, node, number, (int32_t)depth);
    }
    return node == STACK_NONE ? overflow() : node;
}

static struct sums *
sums_of(const struct place *place)
{
    return &now_sums[place->number < STACK_FIRST_THREAD ? place->number : place->label];
}

/* The label is no longer there: what it has is that of others. */
static void
hand_over_model(struct sums *sums, uint32_t label)
{
    sums[STACK_THREAD_OTHERS].hits += sums[label].hits;
    sums[STACK_THREAD_OTHERS].ticks += sums[label].ticks;
    sums[STACK_THREAD_OTHERS].cpu += sums[label].cpu;
    sums[label] = (struct sums){0};
}

static bool
has_label(uint32_t label)
{
    for (uint32_t number = STACK_THREAD_YOUNG; number < book.thread_count; number++) {
        if (book.threads[number].facts.label == label) {
            return true;
        }
    }
    return false;
}

static void
ask_for_number(struct place *place)
{
    uint32_t before[STACK_MAX_THREADS];
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        before[number] = book.threads[number].facts.label;
    }
    uint32_t count = book.thread_count;
    place->number = stack_book_thread((uint64_t)(place - places), 7, place->recent);
    place->asked = place->cpu;
    for (uint32_t number = STACK_FIRST_THREAD; number < count; number++) {
        if (before[number] != 0 && !has_label(before[number])) {
            hand_over_model(now_sums, before[number]);
            for (int i = 0; i < SLICES; i++) {
                hand_over_model(past[i].sums, before[number]);
            }
            for (int i = 0; i < PLACES; i++) {
                if (places[i].label == before[number] && places[i].alive && &places[i] != place) {
                    places[i].number = STACK_THREAD_OTHERS; /* as the sampler does */
                    places[i].label = 0;
                    places[i].asked = places[i].cpu;
                    others_claimed++;
                    if (&places[i] < place && places[i].node != STACK_NONE) {
                        stack_book_seen_once(STACK_THREAD_OTHERS, places[i].node, false, false);
                        now_sums[STACK_THREAD_OTHERS].ticks++;
                    }
                }
            }
        }
    }
    if (place->number >= STACK_FIRST_THREAD) {
        place->label = book.threads[place->number].facts.label;
        CHECK(place->label < LABELS);
        labels_given++;
        if (place->node != STACK_NONE) {
            stack_book_seen(place->number, place->node, false);
        }
    }
}

static void
burn(struct place *place, uint64_t cpu)
{
    stack_book_burned(place->number, cpu);
    place->cpu += cpu;
    place->recent += cpu;
    sums_of(place)->cpu += cpu;
}

static void
look_at(struct place *place)
{
    if (place->node == STACK_NONE || random() % (place - places < 3 ? 300 : 3) == 0) {
        bool running = random() % 2;
        place->node = some_stack();
        if (place->number >= STACK_FIRST_THREAD) {
            stack_book_seen(place->number, place->node, running);
            sums_of(place)->hits += running;
        }
    }
    if (place->number < STACK_FIRST_THREAD) {
        bool running = random() % 2;
        stack_book_seen_once(place->number, place->node, running, false);
        sums_of(place)->ticks++;
        sums_of(place)->hits += running;
        if (random() % 3 == 0) { /* a census */
            stack_book_seen_once(place->number, place->node, true, true);
            sums_of(place)->hits++;
        }
    }
    if (random() % 4 == 0) {
        burn(place, (uint64_t)(random() % 20000000));
    }
}

static void
renumber(const uint32_t *node_of)
{
    for (int i = 0; i < PLACES; i++) {
        uint32_t node = places[i].node == STACK_NONE ? 0 : node_of[places[i].node];
        places[i].node = node == 0 ? STACK_NONE : node;
    }
    rooms_made++;
}

/* Its function and what called it, whatever their numbers are. */
static uint64_t
leaf_of(const struct place *place)
{
    uint64_t lines = 0;
    for (uint32_t node = place->node == STACK_NONE ? 0 : place->node; node != STACK_ROOT;
         node = book.stacks.nodes[node].parent) {
        const struct stack_node *at = &book.stacks.nodes[node];
        lines = lines * 1000 + (uint64_t)book.functions.functions[at->function].first_line * 10
                + (uint64_t)at->instruction;
    }
    return lines;
}

/* Make room, if it is time; where threads are now is told apart as before. */
static void
make_room(void)
{
    bool known[STACK_MAX_THREADS] = {false};
    uint64_t leaves[PLACES];
    for (int i = 0; i < PLACES; i++) {
        leaves[i] = leaf_of(&places[i]);
    }
    uint64_t made_before = rooms_made;
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        uint32_t row = book.threads[number].row;
        known[number] = row != 0 && book.rows[row - 1].node != MARKER_OVERFLOW;
    }
    stack_book_make_room(renumber);
    if (rooms_made == made_before) {
        return;
    }
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        uint32_t row = book.threads[number].row;
        CHECK(!known[number]
              || (book.rows[row - 1].node != MARKER_OVERFLOW && book.rows[row - 1].thread == number));
    }
    for (int i = 0; i < PLACES; i++) {
        CHECK(places[i].node == STACK_NONE || leaf_of(&places[i]) == leaves[i]);
    }
    CHECK(some_stack() != MARKER_OVERFLOW);
}

/* One look of a sampler. */
static void
look(void)
{
    now += 50 * MILLISECOND;
    make_room();
    if (look_back_is_over(&book.history, now)) {
        struct past *slice = &past[slices++ % SLICES];
        slice->began = now;
        slice->rooms = rooms_made;
        memcpy(slice->sums, now_sums, sizeof slice->sums);
    }
    stack_book_tick(now, (struct stack_clocks){0});
    for (int i = 0; i < PLACES; i++) {
        struct place *place = &places[i];
        if (!place->alive && random() % 50 == 0) {
            *place = (struct place){.alive = true, .number = STACK_THREAD_YOUNG, .node = STACK_NONE};
        }
        if (!place->alive) {
            continue;
        }
        if (place->age++ == 4
            || (place->number == STACK_THREAD_OTHERS && place->cpu - place->asked >= STACK_CLAIM_NS)) {
            ask_for_number(place);
        }
        look_at(place);
        if (random() % (i < 4 ? 2000 : 100) == 0) {
            if (place->number >= STACK_FIRST_THREAD) {
                stack_book_gone(place->number);
            }
            place->alive = false;
        }
    }
    for (int i = 0; i < PLACES; i++) {
        now_sums[places[i].label].ticks += places[i].alive && places[i].number >= STACK_FIRST_THREAD;
        places[i].recent /= book.cooled == now ? 2 : 1;
    }
}

/* Whether a profile has these sums by label. */
static void
check(const struct stack_snapshot *snapshot, const struct sums *expected)
{
    static struct sums found[LABELS];
    memset(found, 0, sizeof found);
    struct sums all = {0};
    struct sums wanted = {0};
    for (uint32_t i = 0; i < snapshot->books.row_count; i++) {
        const struct snapshot_row *row = &snapshot->books.rows[i];
        CHECK(row->node < snapshot->books.node_count && row->thread != 0);
        CHECK(row->values[1] == row->values[0] * 50 * MILLISECOND);
        found[row->thread].ticks += row->values[0];
        found[row->thread].hits += row->values[2];
        all.ticks += row->values[0];
        all.hits += row->values[2];
    }
    for (uint32_t i = 0; i < snapshot->thread_count; i++) {
        const struct stack_thread *thread = &snapshot->threads[i];
        CHECK(thread->label != 0 && has_label(thread->label) && found[thread->label].cpu == 0);
        found[thread->label].cpu = thread->cpu;
        all.cpu += thread->cpu;
        for (uint32_t other = 0; other < i; other++) {
            CHECK(snapshot->threads[other].label != thread->label);
        }
    }
    for (uint32_t label = 0; label < LABELS; label++) {
        CHECK(found[label].cpu == expected[label].cpu);
        /* Where there was no room for a row, it is the others'. */
        CHECK(found[label].ticks <= expected[label].ticks || label == STACK_THREAD_OTHERS);
        CHECK(found[label].hits <= expected[label].hits || label == STACK_THREAD_OTHERS);
        wanted.ticks += expected[label].ticks;
        wanted.hits += expected[label].hits;
        wanted.cpu += expected[label].cpu;
    }
    CHECK(all.ticks == wanted.ticks && all.hits == wanted.hits && all.cpu == wanted.cpu);
}

int
main(int count, char **arguments)
{
    srandom(count > 1 ? (unsigned)atoi(arguments[1]) : 0);
    static struct stack_snapshot snapshot;
    CHECK(stack_book_open(64, 60, 0));
    for (int i = 0; i < 20000; i++) {
        look();
        if (i % 97 == 0) {
            CHECK(stack_book_copy(&snapshot, now, (struct stack_clocks){0}));
            check(&snapshot, now_sums);
            snapshot_free(&snapshot.books);
        }
        if (i % 11 == 0 && slices >= SLICES) {
            const struct past *slice = &past[random() % SLICES];
            rewound_rooms += slice->rooms < rooms_made;
            CHECK(stack_book_copy_of(&snapshot, slice->began));
            CHECK(snapshot.taken == slice->began);
            check(&snapshot, slice->sums);
            snapshot_free(&snapshot.books);
        }
    }
    struct stack_stats stats = stack_book_stats();
    CHECK(rooms_made > 10 && stats.run == rooms_made && stats.folded > 0);
    CHECK(others_claimed > 10 && labels_given > 200 && rewound_rooms > 10);
    stack_book_close();
    puts("done");
    return 0;
}
