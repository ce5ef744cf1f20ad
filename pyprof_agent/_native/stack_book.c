#include "stack_book.h"

#include "fork_lock.h"
#include "function_source.h"
#include "guarded.h"
#include "look_back.h"

#include <string.h>

static struct fork_lock lock = FORK_LOCK_INITIALIZER;

/* Counters of one stack of one thread; each only grows. */
struct row {
    uint64_t ticks;
    uint64_t wall; /* ns */
    uint64_t hits; /* of the ticks: those at which the thread was running */
    uint32_t node;
    uint32_t thread;
    uint32_t saved; /* for look_back_save */
};

struct thread {
    struct stack_thread facts;
    uint32_t row;   /* where it is, plus one; 0 is nowhere */
    int64_t since;  /* until when its time is booked */
    uint64_t ticks; /* until which tick */
    uint32_t saved;
};

/* Records of the look-back that are no row's. */
#define CLOCKS_INDEX UINT32_MAX
#define THREAD_INDEX(number) (UINT32_MAX - 1 - (number)) /* beyond any row's */

/* All of it is guarded by `lock`. Under it only memory is read and written; code objects are read by
   system calls. */
static struct {
    bool open;
    int max_frames;
    struct stack_table stacks;
    struct code_table codes;
    struct function_table functions;
    struct function_source source; /* room to read one */
    struct look_back history;
    struct row *rows;
    uint32_t row_count;
    uint32_t row_capacity;
    uint32_t *index; /* hash table of row numbers plus one */
    uint32_t slots;  /* a power of two */
    struct thread threads[STACK_MAX_THREADS];
    uint32_t thread_count; /* numbers given out so far */
    struct stack_clocks clocks;
    uint32_t clocks_saved;
    int64_t started;
    int64_t now;    /* of the tick */
    int64_t before; /* of the one before */
    struct stack_stats stats;
} book;

static uint32_t
slot_of(uint32_t thread, uint32_t node)
{
    uint64_t hash = ((uint64_t)thread << 32 | node) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t slot = (uint32_t)(hash >> 32) & (book.slots - 1);
    while (book.index[slot] != 0) {
        const struct row *row = &book.rows[book.index[slot] - 1];
        if (row->thread == thread && row->node == node) {
            break;
        }
        slot = (slot + 1) & (book.slots - 1);
    }
    return slot;
}

/* Twice the rows, and the index at most half full. */
static bool
grow_rows(void)
{
    uint32_t capacity = book.row_capacity ? book.row_capacity * 2 : 512;
    struct row *rows = realloc(book.rows, capacity * sizeof *rows);
    if (rows == NULL) {
        return false;
    }
    book.rows = rows;
    uint32_t *index = calloc(capacity * 2, sizeof *index);
    if (index == NULL) {
        return false;
    }
    free(book.index);
    book.row_capacity = capacity;
    book.index = index;
    book.slots = capacity * 2;
    for (uint32_t i = 0; i < book.row_count; i++) {
        index[slot_of(rows[i].thread, rows[i].node)] = i + 1;
    }
    return true;
}

/* The row of a thread at a stack; NULL if there is no room. */
static struct row *
row_of(uint32_t thread, uint32_t node)
{
    uint32_t slot = slot_of(thread, node);
    if (book.index[slot] == 0) {
        if (book.row_count == book.row_capacity
            && (book.row_count >= STACK_MAX_ROWS || !grow_rows())) {
            return NULL;
        }
        slot = slot_of(thread, node);
        book.rows[book.row_count] = (struct row){.thread = thread, .node = node};
        book.index[slot] = ++book.row_count;
    }
    return &book.rows[book.index[slot] - 1];
}

/* The row for all that found none. */
static struct row *
overflow_row(void)
{
    return row_of(STACK_THREAD_OTHERS, stack_table_marker(&book.stacks, MARKER_OVERFLOW));
}

static void
release(void)
{
    stack_table_free(&book.stacks);
    code_table_free(&book.codes);
    function_table_free(&book.functions);
    look_back_free(&book.history);
    free(book.rows);
    free(book.index);
    memset(&book, 0, sizeof book);
}

bool
stack_book_open(int max_frames, uint32_t look_back_seconds, int64_t now)
{
    fork_lock_take(&lock);
    book.slots = 1024;
    book.index = calloc(book.slots, sizeof *book.index);
    book.open = book.index != NULL && stack_table_init(&book.stacks, STACK_MAX_NODES)
                && function_table_init(&book.functions, STACK_MAX_CODES, STACK_MAX_TEXT)
                && look_back_init(&book.history, look_back_seconds, STACK_MAX_HISTORY, now);
    code_table_init(&book.codes, STACK_MAX_CODES);
    book.max_frames = max_frames;
    book.thread_count = STACK_FIRST_THREAD;
    book.started = book.now = book.before = now;
    /* What stands for others is there from the beginning, in this order, so that each node has the number of
       its marker: the tables may be full when it is needed. */
    for (enum stack_marker marker = MARKER_CUT; book.open && marker < MARKER_COUNT; marker++) {
        stack_table_marker(&book.stacks, marker);
    }
    book.open = book.open && overflow_row() != NULL;
    for (uint32_t number = STACK_THREAD_YOUNG; number < STACK_FIRST_THREAD; number++) {
        book.threads[number].facts = (struct stack_thread){.number = number};
    }
    bool open = book.open;
    fork_lock_give(&lock);
    if (!open) {
        stack_book_close();
    }
    return open;
}

void
stack_book_close(void)
{
    fork_lock_take(&lock);
    release();
    fork_lock_give(&lock);
}

void
stack_book_before_fork(void)
{
    fork_lock_pass(&lock);
}

void
stack_book_in_child(void)
{
    if (fork_lock_renew(&lock)) {
        memset(&book, 0, sizeof book); /* not freed: what is half changed may point anywhere */
    }
}

void
stack_book_code_dying(PyObject *code)
{
    fork_lock_take(&lock);
    if (book.open) {
        code_table_dying(&book.codes, code);
    }
    fork_lock_give(&lock);
}

uint64_t
stack_book_codes_destroyed(void)
{
    fork_lock_take(&lock);
    uint64_t destroyed = book.codes.destroyed;
    fork_lock_give(&lock);
    return destroyed;
}

uint32_t
stack_book_marker(enum stack_marker marker)
{
    fork_lock_take(&lock);
    uint32_t node = stack_table_marker(&book.stacks, marker);
    fork_lock_give(&lock);
    return node;
}

static uint32_t
overflow(void)
{
    book.stats.overflowed++;
    return stack_table_marker(&book.stacks, MARKER_OVERFLOW);
}

/* The node of a frame below its caller's. STACK_NONE if it cannot be read, or there is no room: then
   `*full` is set. */
static uint32_t
node_of(uint32_t caller, const struct walk_frame *frame, uint64_t destroyed, bool *full)
{
    struct known_code *known = code_table_get(&book.codes, frame->code, destroyed);
    if (known == NULL) {
        return STACK_NONE;
    }
    if (known->function == FUNCTION_NONE) {
        struct function_facts facts;
        if (!function_source_facts(&book.source, guarded_copy, frame->code, &facts)) {
            return STACK_NONE;
        }
        known->function = function_table_intern(&book.functions, &facts);
    }
    uint32_t node = known->function == FUNCTION_NONE
                        ? STACK_NONE
                        : stack_table_intern(&book.stacks, caller, known->function,
                                             frame->instruction);
    *full = node == STACK_NONE;
    if (*full) {
        return STACK_NONE;
    }
    int32_t *line = &book.stacks.nodes[node].line;
    if (*line == STACK_LINE_UNKNOWN
        && !function_source_line(guarded_copy, frame->code, frame->instruction, line)) {
        *line = 0;
    }
    return node;
}

static uint32_t
intern(const struct walk *walk, uint64_t destroyed)
{
    int shown = 0;
    int count = 0; /* of the frames, from the leaf on, that make a stack of at most max_frames */
    for (; count < walk->count; count++) {
        if (walk->frames[count].part == WALK_SHOWN && shown++ == book.max_frames) {
            break;
        }
    }
    if (walk->cut && walk->dropped > 0 && shown < book.max_frames) {
        return STACK_NONE; /* in the place of those there are others, which were not read */
    }
    bool cut = walk->cut || count < walk->count;
    bool full = false;
    uint32_t node = cut ? stack_table_marker(&book.stacks, MARKER_CUT) : STACK_ROOT;
    while (count-- > 0 && node != STACK_NONE) {
        const struct walk_frame *frame = &walk->frames[count];
        if (frame->part == WALK_SHOWN) {
            node = node_of(node, frame, destroyed, &full);
        }
    }
    if (node == STACK_NONE) {
        return full ? overflow() : STACK_NONE;
    }
    return node == STACK_ROOT ? stack_table_marker(&book.stacks, MARKER_NO_FRAME) : node;
}

uint32_t
stack_book_intern(struct walk *walk, uint64_t codes_destroyed)
{
    fork_lock_take(&lock);
    uint32_t node = STACK_NONE;
    uint64_t refused = book.codes.refused;
    if (walk_frames(walk, &book.codes, codes_destroyed) == WALK_WHOLE) {
        node = intern(walk, codes_destroyed);
    }
    else if (book.codes.refused != refused) {
        node = overflow();
    }
    fork_lock_give(&lock);
    return node;
}

static struct row *
row_or_overflow(uint32_t thread, uint32_t node)
{
    struct row *row = row_of(thread, node);
    if (row == NULL) {
        book.stats.overflowed++;
        row = overflow_row();
    }
    return row;
}

static void
save_row(struct row *row)
{
    const uint64_t values[LOOK_BACK_VALUES] = {row->ticks, row->wall, row->hits};
    look_back_save(&book.history, (uint32_t)(row - book.rows), &row->saved, values);
}

/* Book where a thread has been up to a moment and a tick. */
static void
book_time(struct thread *thread, int64_t moment, uint64_t ticks)
{
    if (thread->row != 0) {
        struct row *row = &book.rows[thread->row - 1];
        if (moment > thread->since || ticks > thread->ticks) {
            save_row(row);
            row->wall += moment > thread->since ? (uint64_t)(moment - thread->since) : 0;
            row->ticks += ticks > thread->ticks ? ticks - thread->ticks : 0;
        }
    }
    thread->since = moment > thread->since ? moment : thread->since;
    thread->ticks = ticks > thread->ticks ? ticks : thread->ticks;
}

static void
book_time_of_all(int64_t moment)
{
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        book_time(&book.threads[number], moment, book.stats.ticks);
    }
}

void
stack_book_tick(int64_t now, struct stack_clocks clocks)
{
    fork_lock_take(&lock);
    if (look_back_is_over(&book.history, now)) {
        book_time_of_all(book.now); /* what is not booked belongs to the slice that ends */
        look_back_turn(&book.history, now);
    }
    const uint64_t values[LOOK_BACK_VALUES] = {book.clocks.process, book.clocks.sampler};
    look_back_save(&book.history, CLOCKS_INDEX, &book.clocks_saved, values);
    book.clocks = clocks;
    book.before = book.now;
    book.now = now;
    book.stats.ticks++;
    fork_lock_give(&lock);
}

uint32_t
stack_book_thread(uint64_t ident, uint64_t native_id)
{
    fork_lock_take(&lock);
    uint32_t number = STACK_THREAD_OTHERS;
    if (book.thread_count < STACK_MAX_THREADS) {
        number = book.thread_count++;
        book.threads[number] = (struct thread){
            .facts = {.ident = ident, .native_id = native_id, .number = number, .alive = true},
            .since = book.before,
            .ticks = book.stats.ticks,
        };
    }
    fork_lock_give(&lock);
    return number;
}

void
stack_book_seen(uint32_t number, uint32_t node, bool running)
{
    fork_lock_take(&lock);
    struct thread *thread = &book.threads[number];
    book_time(thread, book.before, book.stats.ticks - 1);
    struct row *row = row_or_overflow(number, node);
    thread->row = (uint32_t)(row - book.rows) + 1;
    if (running) {
        save_row(row);
        row->hits++;
    }
    fork_lock_give(&lock);
}

void
stack_book_seen_once(uint32_t number, uint32_t node, bool running)
{
    fork_lock_take(&lock);
    struct row *row = row_or_overflow(number, node);
    save_row(row);
    row->ticks++;
    row->wall += (uint64_t)(book.now - book.before);
    row->hits += running;
    fork_lock_give(&lock);
}

void
stack_book_gone(uint32_t number)
{
    fork_lock_take(&lock);
    struct thread *thread = &book.threads[number];
    book_time(thread, book.before, book.stats.ticks - 1);
    thread->row = 0;
    thread->facts.alive = false;
    fork_lock_give(&lock);
}

void
stack_book_burned(uint32_t number, uint64_t cpu)
{
    fork_lock_take(&lock);
    struct thread *thread = &book.threads[number];
    const uint64_t values[LOOK_BACK_VALUES] = {thread->facts.cpu};
    look_back_save(&book.history, THREAD_INDEX(number), &thread->saved, values);
    thread->facts.cpu += cpu;
    fork_lock_give(&lock);
}

void
stack_book_failed(unsigned attempts, bool unreadable)
{
    fork_lock_take(&lock);
    book.stats.retried += attempts;
    book.stats.unreadable += unreadable;
    fork_lock_give(&lock);
}

/* A copy of everything; without the lock, which the caller has. */
static bool
copy(struct stack_snapshot *snapshot)
{
    if (!book.open
        || !snapshot_init(&snapshot->books, &book.stacks, &book.functions, book.row_count, 3)) {
        return false;
    }
    guarded_notice_filter();
    code_table_check(&book.codes);
    snapshot->started = book.started;
    for (uint32_t i = 0; i < book.row_count; i++) {
        const struct row *row = &book.rows[i];
        snapshot->books.rows[i] = (struct snapshot_row){
            .values = {row->ticks, row->wall, row->hits},
            .node = row->node,
            .thread = row->thread,
        };
    }
    snapshot->thread_count = 0;
    for (uint32_t number = STACK_THREAD_YOUNG; number < book.thread_count; number++) {
        snapshot->threads[snapshot->thread_count++] = book.threads[number].facts;
    }
    return true;
}

bool
stack_book_copy(struct stack_snapshot *snapshot, int64_t now, struct stack_clocks clocks)
{
    fork_lock_take(&lock);
    book_time_of_all(now);
    bool copied = copy(snapshot);
    snapshot->taken = now;
    snapshot->clocks = clocks;
    fork_lock_give(&lock);
    return copied;
}

static void
restore(void *context, const struct look_back_record *record)
{
    struct stack_snapshot *snapshot = context;
    if (record->index == CLOCKS_INDEX) {
        snapshot->clocks = (struct stack_clocks){record->values[0], record->values[1]};
    }
    else if (record->index > THREAD_INDEX(STACK_MAX_THREADS)) {
        uint32_t number = THREAD_INDEX(0) - record->index;
        snapshot->threads[number - STACK_THREAD_YOUNG].cpu = record->values[0];
    }
    else {
        memcpy(snapshot->books.rows[record->index].values, record->values,
               sizeof record->values);
    }
}

bool
stack_book_copy_of(struct stack_snapshot *snapshot, int64_t moment)
{
    fork_lock_take(&lock);
    snapshot->clocks = book.clocks;
    bool copied = book.history.length > 0 && copy(snapshot);
    if (copied) {
        snapshot->taken = look_back_rewind(&book.history, moment, restore, snapshot);
    }
    fork_lock_give(&lock);
    return copied;
}

bool
stack_book_looks_back(void)
{
    fork_lock_take(&lock);
    bool kept = book.history.length > 0;
    fork_lock_give(&lock);
    return kept;
}

struct stack_stats
stack_book_stats(void)
{
    fork_lock_take(&lock);
    struct stack_stats stats = book.stats;
    stats.rows = book.row_count;
    stats.nodes = book.stacks.count;
    stats.bytes = sizeof book + stack_table_bytes(&book.stacks) + code_table_bytes(&book.codes)
                  + function_table_bytes(&book.functions)
                  + look_back_bytes(&book.history) + book.row_capacity * sizeof *book.rows
                  + book.slots * sizeof *book.index;
    fork_lock_give(&lock);
    return stats;
}
