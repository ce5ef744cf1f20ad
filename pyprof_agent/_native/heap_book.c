#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "heap_book.h"

#include "clock.h"
#include "fork_lock.h"
#include "function_source.h"
#include "look_back.h"
#include "stack_move.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Atomic uint8_t heap_filter[1u << HEAP_FILTER_BITS];

static struct fork_lock lock = FORK_LOCK_INITIALIZER;

/* All of it is guarded by `lock`. Under it only memory and the clock are read, and memory is written. */
static struct {
    bool open;
    uint32_t run;
    double mean;
    int max_frames;
    uint32_t look_back_seconds;
    bool watched; /* heap_book_code_dying() is called */
    struct stack_table stacks;
    struct function_table functions;
    struct number_index codes;     /* functions by the addresses of code objects that live */
    struct function_source source; /* room to read one */
    struct live_set live;
    struct look_back history;
    struct heap_bucket *buckets;
    uint32_t bucket_count;
    uint32_t bucket_capacity;
    uint32_t *bucket_of; /* by node; plus one, as 0 is none */
    uint32_t bucket_of_capacity;
    uint32_t overflow_node;
    uint64_t samples;
    uint64_t dropped;
    uint64_t overflowed;
    uint64_t folded;
    uint32_t taken; /* blocks taken out that are neither freed nor put back yet */
    struct position positions[HEAP_MAX_FRAMES];
} book;

static void
clear_filter(void)
{
    for (size_t slot = 0; slot < sizeof heap_filter / sizeof *heap_filter; slot++) {
        atomic_store_explicit(&heap_filter[slot], 0, memory_order_relaxed);
    }
}

static void
release(void)
{
    stack_table_free(&book.stacks);
    function_table_free(&book.functions);
    number_index_free(&book.codes);
    live_set_free(&book.live);
    look_back_free(&book.history);
    free(book.buckets);
    free(book.bucket_of);
    uint32_t run = book.run;
    memset(&book, 0, sizeof book);
    book.run = run;
    clear_filter();
}

/* Coarse: it costs 5 ns, and slices are ten seconds long. */
static int64_t
monotonic(void)
{
    return clock_ns(CLOCK_MONOTONIC_COARSE);
}

bool
heap_book_open(double mean, int max_frames, uint32_t look_back_seconds, bool watched)
{
    fork_lock_take(&lock);
    book.open = stack_table_init(&book.stacks, HEAP_MAX_NODES) && live_set_init(&book.live)
                && function_table_init(&book.functions, HEAP_MAX_FUNCTIONS, HEAP_MAX_TEXT)
                && look_back_init(&book.history, look_back_seconds, HEAP_MAX_HISTORY, monotonic());
    if (book.open) {
        book.run++;
        book.watched = watched;
        book.mean = mean;
        book.max_frames = max_frames;
        book.look_back_seconds = look_back_seconds;
        book.overflow_node = stack_table_marker(&book.stacks, MARKER_OVERFLOW);
    }
    else {
        release();
    }
    bool open = book.open;
    fork_lock_give(&lock);
    return open;
}

void
heap_book_before_fork(void)
{
    fork_lock_pass(&lock);
}

void
heap_book_in_child(void)
{
    bool torn = fork_lock_renew(&lock);
    book.taken = 0; /* by threads that are not in this process */
    if (!torn || !book.open) {
        return;
    }
    uint64_t lost = book.live.count;
    double mean = book.mean;
    int max_frames = book.max_frames;
    uint32_t look_back_seconds = book.look_back_seconds;
    uint32_t run = book.run;
    bool watched = book.watched;
    memset(&book, 0, sizeof book); /* not freed: what is half changed may point anywhere */
    book.run = run;
    clear_filter();
    if (heap_book_open(mean, max_frames, look_back_seconds, watched)) {
        book.dropped = lost;
    }
}

void
heap_book_close(void)
{
    fork_lock_take(&lock);
    release();
    fork_lock_give(&lock);
}

void
heap_book_code_dying(PyObject *code)
{
    fork_lock_take(&lock);
    number_index_take(&book.codes, (uint64_t)(uintptr_t)code);
    fork_lock_give(&lock);
}

/* The function of a code object that lives, which the GIL is held for; FUNCTION_NONE if there is no room. */
static uint32_t
function_of(const PyObject *code)
{
    uint64_t number = (uint64_t)(uintptr_t)code;
    size_t cursor = 0;
    uint32_t function = number_index_next(&book.codes, number, &cursor);
    struct function_facts facts;
    if (function != NUMBER_INDEX_NONE) {
        return function;
    }
    if (!function_source_facts(&book.source, function_source_direct, address_of(code), &facts)) {
        return FUNCTION_NONE;
    }
    function = function_table_intern(&book.functions, &facts);
    if (book.watched && function != FUNCTION_NONE) {
        number_index_put(&book.codes, number, function); /* without memory it is read again */
    }
    return function;
}

/* The node of the calling thread's stack; STACK_NONE if there is no room. */
static uint32_t
own_node(void)
{
    const PyThreadState *thread = frames_own_thread();
    if (thread == NULL) {
        return stack_table_marker(&book.stacks, MARKER_NO_GIL);
    }
    bool cut;
    int count = frames_collect(thread, book.positions, book.max_frames, &cut);
    if (count == 0) {
        return stack_table_marker(&book.stacks, MARKER_NO_FRAME);
    }
    uint32_t node = cut ? stack_table_marker(&book.stacks, MARKER_CUT) : STACK_ROOT;
    while (count > 0 && node != STACK_NONE) {
        const struct position *position = &book.positions[--count];
        uint32_t function = function_of(position->code);
        if (function == FUNCTION_NONE) {
            return STACK_NONE;
        }
        node = stack_table_intern(&book.stacks, node, function, position->instruction);
        if (node != STACK_NONE && book.stacks.nodes[node].line == STACK_LINE_UNKNOWN) {
            function_source_line(function_source_direct, address_of(position->code),
                                 position->instruction, &book.stacks.nodes[node].line);
        }
    }
    return node;
}

/* The bucket of a node, as an index; STACK_NONE without memory. */
static uint32_t
bucket_of(uint32_t node)
{
    if (book.bucket_of_capacity < book.stacks.capacity) {
        uint32_t *larger = realloc(book.bucket_of, book.stacks.capacity * sizeof *larger);
        if (larger == NULL) {
            return STACK_NONE;
        }
        uint32_t added = book.stacks.capacity - book.bucket_of_capacity;
        memset(larger + book.bucket_of_capacity, 0, added * sizeof *larger);
        book.bucket_of = larger;
        book.bucket_of_capacity = book.stacks.capacity;
    }
    if (book.bucket_of[node] == 0) {
        if (book.bucket_count == book.bucket_capacity) {
            uint32_t capacity = book.bucket_capacity ? book.bucket_capacity * 2 : 256;
            struct heap_bucket *larger = realloc(book.buckets, capacity * sizeof *larger);
            if (larger == NULL) {
                return STACK_NONE;
            }
            book.buckets = larger;
            book.bucket_capacity = capacity;
        }
        book.buckets[book.bucket_count] = (struct heap_bucket){.node = node};
        book.bucket_of[node] = ++book.bucket_count;
    }
    return book.bucket_of[node] - 1;
}

/* A block of S bytes is sampled with probability 1 - exp(-S / mean), so it stands for the
   inverse of that many blocks: as in Go, runtime/pprof scaleHeapSample. */
static void
add_weight(size_t size, uint64_t *objects, uint64_t *bytes)
{
    double weight = -1 / expm1(-(double)size / book.mean);
    *objects += (uint64_t)llround(weight * HEAP_OBJECT_UNIT);
    *bytes += (uint64_t)llround(weight * (double)size * HEAP_BYTE_UNIT);
}

/* A bucket that is about to change. */
static struct heap_bucket *
changing(uint32_t number)
{
    struct heap_bucket *bucket = &book.buckets[number];
    const uint64_t values[LOOK_BACK_VALUES] = {bucket->alloc_objects, bucket->alloc_bytes,
                                               bucket->free_objects, bucket->free_bytes};
    look_back_catch_up(&book.history, monotonic());
    look_back_save(&book.history, number, &bucket->saved, values);
    return bucket;
}

static bool
add_live(struct live_block block)
{
    if (!live_set_add(&book.live, block)) {
        return false;
    }
    _Atomic uint8_t *filter = heap_filter_of((void *)block.address);
    uint8_t value = atomic_load_explicit(filter, memory_order_relaxed);
    if (value < UINT8_MAX) {
        atomic_store_explicit(filter, value + 1, memory_order_relaxed);
    }
    return true;
}

static void
count_freed(struct live_block block)
{
    struct heap_bucket *bucket = changing(block.bucket);
    add_weight(block.size, &bucket->free_objects, &bucket->free_bytes);
}

static bool
take_live(void *address, struct live_block *block)
{
    if (!book.open || !live_set_take(&book.live, address, block)) {
        return false;
    }
    _Atomic uint8_t *filter = heap_filter_of(address);
    uint8_t value = atomic_load_explicit(filter, memory_order_relaxed);
    if (value < UINT8_MAX) {
        atomic_store_explicit(filter, value - 1, memory_order_relaxed);
    }
    return true;
}

void
heap_book_allocated(void *address, size_t size)
{
    fork_lock_take(&lock);
    if (book.open) {
        uint32_t node = own_node();
        if (node == STACK_NONE) {
            node = book.overflow_node;
            book.overflowed++;
        }
        struct live_block stale;
        if (heap_book_may_have(address) && take_live(address, &stale)) {
            count_freed(stale); /* by free() of the C library, or while our hooks were away */
        }
        uint32_t bucket = bucket_of(node);
        struct live_block block = {(uintptr_t)address, size, bucket, book.run};
        if (bucket != STACK_NONE && add_live(block)) {
            struct heap_bucket *changed = changing(bucket);
            book.samples++;
            add_weight(size, &changed->alloc_objects, &changed->alloc_bytes);
        }
        else {
            book.dropped++;
        }
    }
    fork_lock_give(&lock);
}

void
heap_book_free(void *address)
{
    struct live_block block;
    fork_lock_take(&lock);
    if (take_live(address, &block)) {
        count_freed(block);
    }
    fork_lock_give(&lock);
}

bool
heap_book_take(void *address, struct live_block *block)
{
    fork_lock_take(&lock);
    bool taken = take_live(address, block);
    book.taken += taken;
    fork_lock_give(&lock);
    return taken;
}

void
heap_book_freed(struct live_block block)
{
    fork_lock_take(&lock);
    if (book.open && block.run == book.run) {
        book.taken--;
        count_freed(block);
    }
    fork_lock_give(&lock);
}

void
heap_book_put_back(struct live_block block)
{
    fork_lock_take(&lock);
    if (book.open && block.run == book.run) {
        book.taken--;
        if (!add_live(block)) {
            count_freed(block);
            book.dropped++;
        }
    }
    fork_lock_give(&lock);
}

void
heap_book_free_all(void)
{
    fork_lock_take(&lock);
    for (size_t slot = 0; slot < book.live.slots; slot++) {
        if (book.live.blocks[slot].address != 0) {
            count_freed(book.live.blocks[slot]);
            book.live.blocks[slot].address = 0;
        }
    }
    book.live.count = 0;
    clear_filter();
    fork_lock_give(&lock);
}

static void
show(struct snapshot_row *row, uint64_t alloc_objects, uint64_t alloc_bytes, uint64_t free_objects,
     uint64_t free_bytes)
{
    row->values[0] = alloc_objects / HEAP_OBJECT_UNIT;
    row->values[1] = alloc_bytes / HEAP_BYTE_UNIT;
    row->values[2] = (alloc_objects - free_objects) / HEAP_OBJECT_UNIT;
    row->values[3] = (alloc_bytes - free_bytes) / HEAP_BYTE_UNIT;
}

/* Without the lock, which the caller has. */
static bool
copy(struct snapshot *snapshot)
{
    bool copied = snapshot_init(snapshot, &book.stacks, &book.functions, book.bucket_count, 4);
    for (uint32_t i = 0; copied && i < book.bucket_count; i++) {
        const struct heap_bucket *bucket = &book.buckets[i];
        snapshot->rows[i] = (struct snapshot_row){.node = bucket->node};
        show(&snapshot->rows[i], bucket->alloc_objects, bucket->alloc_bytes, bucket->free_objects,
             bucket->free_bytes);
    }
    return copied;
}

bool
heap_book_copy(struct snapshot *snapshot)
{
    fork_lock_take(&lock);
    bool copied = copy(snapshot);
    fork_lock_give(&lock);
    return copied;
}

static void
restore(void *context, const struct look_back_record *record)
{
    struct snapshot *snapshot = context;
    const uint64_t *values = record->values;
    show(&snapshot->rows[record->index], values[0], values[1], values[2], values[3]);
}

bool
heap_book_copy_of(struct snapshot *snapshot, int64_t moment, int64_t *taken)
{
    fork_lock_take(&lock);
    bool copied = book.history.length > 0 && copy(snapshot);
    if (copied) {
        look_back_catch_up(&book.history, monotonic());
        *taken = look_back_rewind(&book.history, moment, restore, snapshot);
    }
    fork_lock_give(&lock);
    return copied;
}

bool
heap_book_looks_back(void)
{
    fork_lock_take(&lock);
    bool kept = book.history.length > 0;
    fork_lock_give(&lock);
    return kept;
}

/* What becomes of the book when stacks with nothing alive make room for others. */
struct compaction {
    struct stack_move move;
    struct heap_bucket *buckets;
    uint32_t bucket_count;
    uint32_t *bucket_of; /* new buckets by old */
};

static void
compaction_free(struct compaction *to)
{
    stack_move_free(&to->move);
    free(to->buckets);
    free(to->bucket_of);
}

static bool
compaction_init(struct compaction *to)
{
    size_t buckets = book.bucket_count + 1; /* one may be made, for what is folded */
    *to = (struct compaction){
        .buckets = malloc(buckets * sizeof *to->buckets),
        .bucket_of = malloc(buckets * sizeof *to->bucket_of),
    };
    return to->buckets != NULL && to->bucket_of != NULL
           && stack_move_begin(&to->move, &book.stacks, &book.functions);
}

static bool
move_buckets(struct compaction *to)
{
    struct heap_bucket overflow = {.node = stack_move_node(&to->move, book.overflow_node)};
    to->bucket_count = 1; /* the overflow's is the first */
    for (uint32_t i = 0; i < book.bucket_count; i++) {
        const struct heap_bucket *from = &book.buckets[i];
        bool alive = from->alloc_objects != from->free_objects;
        if (alive && from->node != book.overflow_node) {
            uint32_t node = stack_move_node(&to->move, from->node);
            if (node == STACK_NONE) {
                return false;
            }
            to->bucket_of[i] = to->bucket_count;
            to->buckets[to->bucket_count] = *from;
            to->buckets[to->bucket_count++].node = node;
        }
        else {
            overflow.alloc_objects += from->alloc_objects;
            overflow.alloc_bytes += from->alloc_bytes;
            overflow.free_objects += from->free_objects;
            overflow.free_bytes += from->free_bytes;
            to->bucket_of[i] = 0;
        }
    }
    to->buckets[0] = overflow;
    return true;
}

/* Put the new tables in the place of the old ones, which go to `*to`. */
static bool
adopt(struct compaction *to)
{
    uint32_t *bucket_of = calloc(to->move.stacks.capacity, sizeof *bucket_of);
    if (bucket_of == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < to->bucket_count; i++) {
        bucket_of[to->buckets[i].node] = i + 1;
    }
    for (size_t slot = 0; slot < book.live.slots; slot++) {
        if (book.live.blocks[slot].address != 0) {
            book.live.blocks[slot].bucket = to->bucket_of[book.live.blocks[slot].bucket];
        }
    }
    book.folded += book.bucket_count + 1 - to->bucket_count;
    stack_move_swap(&to->move, &book.stacks, &book.functions);
    number_index_clear(&book.codes); /* they have other numbers now */
    free(book.bucket_of);
    book.bucket_of = bucket_of;
    book.bucket_of_capacity = book.stacks.capacity;
    free(book.buckets);
    book.buckets = to->buckets;
    book.bucket_capacity = book.bucket_count + 1;
    book.bucket_count = to->bucket_count;
    to->buckets = NULL;
    book.overflow_node = book.buckets[0].node;
    look_back_forget(&book.history, monotonic());
    return true;
}

/* Whether a table is nearly full, and most of it for nothing. */
static bool
worth_compacting(void)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < book.bucket_count; i++) {
        alive += book.buckets[i].alloc_objects != book.buckets[i].free_objects;
    }
    bool full = book.stacks.count > HEAP_MAX_NODES / 8 * 7
                || book.functions.count > HEAP_MAX_FUNCTIONS / 8 * 7
                || book.functions.text_bytes > HEAP_MAX_TEXT / 8 * 7;
    return full && alive < book.bucket_count / 2;
}

bool
heap_book_compact(void)
{
    struct compaction to = {0};
    fork_lock_take(&lock);
    /* Not while a thread that reallocates has a block in its hands, with its bucket's number. */
    bool done = book.open && book.taken == 0 && worth_compacting() && compaction_init(&to)
                && move_buckets(&to) && adopt(&to);
    fork_lock_give(&lock);
    compaction_free(&to);
    return done;
}

struct heap_stats
heap_book_stats(void)
{
    fork_lock_take(&lock);
    struct heap_stats stats = {
        .run = book.run,
        .samples = book.samples,
        .live = book.live.count,
        .dropped = book.dropped,
        .overflowed = book.overflowed,
        .folded = book.folded,
        .stacks = book.bucket_count,
        .nodes = book.stacks.count,
        .bytes = sizeof book + sizeof heap_filter + stack_table_bytes(&book.stacks)
                 + function_table_bytes(&book.functions) + number_index_bytes(&book.codes)
                 + live_set_bytes(&book.live) + look_back_bytes(&book.history)
                 + book.bucket_capacity * sizeof *book.buckets
                 + book.bucket_of_capacity * sizeof *book.bucket_of,
    };
    fork_lock_give(&lock);
    return stats;
}
