#include "stack_book.h"

#include "fork_lock.h"
#include "function_source.h"
#include "guarded.h"
#include "look_back.h"
#include "stack_move.h"

#include <string.h>

/* A thread loses its number to one that has burned more than so many times as much: two busy ones do not take it
   from each other in turns. */
#define FAR_LESS 8u

/* From one time at which room is made to the next, at least: it takes 10 to 30 ms. */
#define ROOM_INTERVAL_NS INT64_C(1000000000)

static struct fork_lock lock = FORK_LOCK_INITIALIZER;
static _Atomic bool newcomers; /* threads were given numbers since stack_book_threads() was called */

/* Counters of one stack of one thread; each only grows. */
struct row {
    uint64_t ticks;
    uint64_t wall; /* ns */
    uint64_t hits; /* of the ticks: those at which the thread was running */
    uint64_t seen; /* at which tick, last */
    uint32_t node;
    uint32_t thread;
    uint32_t saved; /* for look_back_save */
};

/* A number may be given to one thread after another. Its clock goes on then, as the look-back has it by number:
   what the threads before have burned is `base`, and part of what STACK_THREAD_OTHERS has. */
struct thread {
    struct stack_thread facts; /* `cpu` is of all that have had the number */
    uint64_t base;
    uint64_t recent; /* recent CPU time in ns; halved every STACK_COOLING_NS */
    uint64_t ended;  /* at which tick */
    uint32_t row;    /* where it is, plus one; 0 is nowhere */
    int64_t since;   /* until when its time is booked */
    uint64_t ticks;  /* until which tick */
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
    uint32_t next_label;
    int64_t cooled;   /* when the recent CPU time of threads was last halved */
    int64_t room_due; /* when room is made next, at the earliest */
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

/* Of rows with the same thread and stack the last one is found. */
static void
index_rows(void)
{
    memset(book.index, 0, book.slots * sizeof *book.index);
    for (uint32_t i = 0; i < book.row_count; i++) {
        book.index[slot_of(book.rows[i].thread, book.rows[i].node)] = i + 1;
    }
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
    index_rows();
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
    newcomers = false;
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
    book.next_label = STACK_FIRST_LABEL;
    book.started = book.now = book.before = book.cooled = now;
    /* What stands for others is there from the beginning, in this order, so that each node has the number of
       its marker: the tables may be full when it is needed. */
    for (enum stack_marker marker = MARKER_CUT; book.open && marker < MARKER_COUNT; marker++) {
        stack_table_marker(&book.stacks, marker);
    }
    book.open = book.open && overflow_row() != NULL;
    for (uint32_t number = STACK_THREAD_YOUNG; number < STACK_FIRST_THREAD; number++) {
        book.threads[number].facts = (struct stack_thread){.label = number};
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
            row->seen = book.stats.ticks;
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
    if (now - book.cooled >= STACK_COOLING_NS) {
        book.cooled = now;
        for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
            book.threads[number].recent /= 2;
        }
    }
    fork_lock_give(&lock);
}

/* A number to give again: that of the thread that ended first, of those that had burned little. Where there are none,
   a thread that has burned little itself gets no number. Else it is that of the thread with the least recent CPU time:
   one that has ended, or lives and has burned far less than `burned`. STACK_THREAD_OTHERS if there is none. */
static uint32_t
find_number(uint64_t burned)
{
    const struct thread *threads = book.threads;
    uint32_t first = STACK_THREAD_OTHERS; /* that had burned little */
    uint32_t ended = STACK_THREAD_OTHERS; /* with the least recent CPU time, of the others */
    uint32_t idle = STACK_THREAD_OTHERS;
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        const struct thread *thread = &threads[number];
        if (!thread->facts.alive && thread->recent < STACK_CLAIM_NS) {
            if (first == STACK_THREAD_OTHERS || thread->ended < threads[first].ended) {
                first = number;
            }
            continue;
        }
        uint32_t *least = thread->facts.alive ? &idle : &ended;
        if (*least == STACK_THREAD_OTHERS || thread->recent < threads[*least].recent) {
            *least = number;
        }
    }
    if (first != STACK_THREAD_OTHERS || burned < STACK_CLAIM_NS) {
        return first;
    }
    if (idle == STACK_THREAD_OTHERS || threads[idle].recent >= burned / FAR_LESS) {
        return ended;
    }
    return ended != STACK_THREAD_OTHERS && threads[ended].recent < threads[idle].recent ? ended : idle;
}

/* Give what a number has booked to STACK_THREAD_OTHERS. A row whose stack these have already stays as it is
   under their number, as the look-back may have its values; in a profile the two are added up. To go through
   all rows takes up to a millisecond: threads that ended in the first half of the time since this one did, and
   had burned little, are done with it. */
static void
hand_over(uint32_t number)
{
    bool lives = book.threads[number].facts.alive;
    uint64_t last = lives ? 0 : (book.threads[number].ended + book.stats.ticks) / 2;
    bool over[STACK_MAX_THREADS] = {false};
    for (uint32_t each = STACK_FIRST_THREAD; each < book.thread_count; each++) {
        struct thread *thread = &book.threads[each];
        bool done = !thread->facts.alive && thread->recent < STACK_CLAIM_NS && thread->ended <= last;
        if (each == number || done) {
            over[each] = true;
            thread->facts.alive = false;
            thread->facts.label = 0;
            thread->base = thread->facts.cpu;
            thread->row = 0;
            thread->recent = 0;
            thread->ended = 0;
        }
    }
    for (uint32_t i = 0; i < book.row_count; i++) {
        if (over[book.rows[i].thread]) {
            book.rows[i].thread = STACK_THREAD_OTHERS;
        }
    }
    index_rows();
}

uint32_t
stack_book_thread(uint64_t ident, uint64_t native_id, uint64_t burned)
{
    fork_lock_take(&lock);
    uint32_t number = book.thread_count < STACK_MAX_THREADS ? book.thread_count++ : find_number(burned);
    if (number != STACK_THREAD_OTHERS) {
        struct thread *thread = &book.threads[number];
        if (thread->facts.label != 0) {
            book_time(thread, book.before, book.stats.ticks - 1);
            hand_over(number);
        }
        thread->facts = (struct stack_thread){
            .ident = ident,
            .native_id = native_id,
            .cpu = thread->facts.cpu,
            .label = book.next_label++,
            .alive = true,
        };
        thread->since = book.before;
        thread->ticks = book.stats.ticks - 1;
        thread->recent = burned;
        newcomers = true;
    }
    fork_lock_give(&lock);
    return number;
}

/* Making room. It is made without the lock: the sampling thread, which does it, is the only one that changes
   rows, stacks and the look-back, as a copy for which times are booked waits for the end of its look. */

struct aged {
    uint64_t seen;
    uint32_t row;
};

struct room {
    struct stack_move move;
    struct aged *order; /* of the old rows */
    struct row *rows;
    uint32_t row_count;
    uint32_t *row_of;                      /* new rows by old */
    uint64_t (*values)[LOOK_BACK_VALUES]; /* of the old rows */
    struct number_index index;             /* of the new ones, by thread and node */
    struct look_back history;
    uint32_t folded;
};

static bool
is_nearly_full(void)
{
    return book.stacks.count > STACK_MAX_NODES / 8 * 7 || book.row_count > STACK_MAX_ROWS / 8 * 7
           || book.functions.count > STACK_MAX_CODES / 8 * 7
           || book.functions.text_bytes > STACK_MAX_TEXT / 8 * 7
           || book.codes.count > STACK_MAX_CODES / 8 * 7;
}

/* Whether the new tables are half full. */
static bool
is_half_full(const struct room *room)
{
    return room->move.stacks.count > STACK_MAX_NODES / 2 || room->row_count > STACK_MAX_ROWS / 2
           || room->move.functions.count > STACK_MAX_CODES / 2
           || room->move.functions.text_bytes > STACK_MAX_TEXT / 2;
}

/* What was seen last comes first. */
static int
compare_ages(const void *left, const void *right)
{
    uint64_t a = ((const struct aged *)left)->seen;
    uint64_t b = ((const struct aged *)right)->seen;
    return (a < b) - (a > b);
}

static void
order_rows(struct room *room)
{
    for (uint32_t i = 0; i < book.row_count; i++) {
        room->order[i] = (struct aged){book.rows[i].seen, i};
    }
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        if (book.threads[number].row != 0) { /* it is there still, however long ago it was looked at */
            room->order[book.threads[number].row - 1].seen = UINT64_MAX;
        }
    }
    qsort(room->order, book.row_count, sizeof *room->order, compare_ages);
}

/* The new row of a thread at a new node. */
static bool
find_new_row(struct room *room, uint32_t thread, uint32_t node, uint32_t *found)
{
    uint64_t key = (uint64_t)thread << 32 | node;
    size_t cursor = 0;
    *found = number_index_next(&room->index, key, &cursor);
    if (*found != NUMBER_INDEX_NONE) {
        return true;
    }
    *found = room->row_count;
    room->rows[room->row_count++] = (struct row){.thread = thread, .node = node};
    return number_index_put(&room->index, key, *found);
}

static bool
move_rows(struct room *room)
{
    order_rows(room);
    for (uint32_t i = 0; i < book.row_count; i++) {
        uint32_t old = room->order[i].row;
        const struct row *from = &book.rows[old];
        uint32_t node = is_half_full(room) ? STACK_NONE : stack_move_node(&room->move, from->node);
        if (node == STACK_NONE) {
            room->folded += from->node != MARKER_OVERFLOW;
            node = MARKER_OVERFLOW;
        }
        if (!find_new_row(room, from->thread, node, &room->row_of[old])) {
            return false;
        }
        struct row *to = &room->rows[room->row_of[old]];
        to->ticks += from->ticks;
        to->wall += from->wall;
        to->hits += from->hits;
        to->seen = from->seen > to->seen ? from->seen : to->seen;
        to->saved = from->saved > to->saved ? from->saved : to->saved;
        const uint64_t values[LOOK_BACK_VALUES] = {from->ticks, from->wall, from->hits};
        memcpy(room->values[old], values, sizeof values);
    }
    return look_back_renumber(&room->history, &book.history, room->row_of, book.row_count,
                              room->row_count, (const uint64_t (*)[LOOK_BACK_VALUES])room->values);
}

static void
adopt(struct room *room)
{
    stack_move_swap(&room->move, &book.stacks, &book.functions);
    struct row *old_rows = book.rows;
    book.rows = room->rows;
    room->rows = old_rows;
    book.row_count = room->row_count;
    index_rows();
    struct look_back old_history = book.history;
    book.history = room->history;
    room->history = old_history;
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        struct thread *thread = &book.threads[number];
        thread->row = thread->row == 0 ? 0 : room->row_of[thread->row - 1] + 1;
    }
    code_table_clear(&book.codes); /* functions have other numbers */
    book.stats.folded += room->folded;
    book.stats.run++;
}

void
stack_book_make_room(stack_book_moved moved)
{
    fork_lock_take(&lock);
    bool wanted = book.open && is_nearly_full() && book.now >= book.room_due;
    fork_lock_give(&lock);
    if (!wanted) {
        return;
    }
    book.room_due = book.now + ROOM_INTERVAL_NS; /* also if there is no memory for it */
    struct room room = {
        .order = malloc(book.row_count * sizeof *room.order),
        .rows = malloc(book.row_capacity * sizeof *room.rows), /* each is made of one or several */
        .row_of = malloc(book.row_count * sizeof *room.row_of),
        .values = malloc(book.row_count * sizeof *room.values),
    };
    bool made = room.order != NULL && room.rows != NULL && room.row_of != NULL && room.values != NULL
                && stack_move_begin(&room.move, &book.stacks, &book.functions) && move_rows(&room);
    if (made) {
        fork_lock_take(&lock);
        adopt(&room);
        fork_lock_give(&lock);
        moved(room.move.node_of);
    }
    stack_move_free(&room.move);
    number_index_free(&room.index);
    look_back_free(&room.history);
    free(room.order);
    free(room.rows);
    free(room.row_of);
    free(room.values);
}

void
stack_book_seen(uint32_t number, uint32_t node, bool running)
{
    fork_lock_take(&lock);
    struct thread *thread = &book.threads[number];
    book_time(thread, book.before, book.stats.ticks - 1);
    struct row *row = row_or_overflow(number, node);
    thread->row = (uint32_t)(row - book.rows) + 1;
    row->seen = book.stats.ticks;
    if (running) {
        save_row(row);
        row->hits++;
    }
    fork_lock_give(&lock);
}

void
stack_book_seen_once(uint32_t number, uint32_t node, bool running, bool again)
{
    fork_lock_take(&lock);
    struct row *row = row_or_overflow(number, node);
    save_row(row);
    row->seen = book.stats.ticks;
    if (!again) {
        row->ticks++;
        row->wall += (uint64_t)(book.now - book.before);
    }
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
    thread->ended = book.stats.ticks;
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
    thread->recent += cpu;
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
            .thread = book.threads[row->thread].facts.label,
        };
    }
    snapshot->thread_count = 0;
    for (uint32_t number = STACK_THREAD_YOUNG; number < book.thread_count; number++) {
        snapshot->threads[snapshot->thread_count++] = book.threads[number].facts;
    }
    return true;
}

/* Let each thread have what it has burned itself: what others have burned that had its number before goes to
   those that stand for them. Numbers that nobody has are left out. */
static void
divide_clocks(struct stack_snapshot *snapshot)
{
    struct stack_thread *others = &snapshot->threads[STACK_THREAD_OTHERS - STACK_THREAD_YOUNG];
    uint32_t count = STACK_FIRST_THREAD - STACK_THREAD_YOUNG;
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        struct stack_thread thread = snapshot->threads[number - STACK_THREAD_YOUNG];
        uint64_t base = book.threads[number].base;
        uint64_t before = thread.cpu < base ? thread.cpu : base;
        thread.cpu -= before;
        others->cpu += before;
        if (thread.label != 0) {
            snapshot->threads[count++] = thread;
        }
    }
    snapshot->thread_count = count;
}

bool
stack_book_copy(struct stack_snapshot *snapshot, int64_t now, struct stack_clocks clocks)
{
    fork_lock_take(&lock);
    book_time_of_all(now);
    bool copied = copy(snapshot);
    if (copied) {
        divide_clocks(snapshot);
    }
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
        divide_clocks(snapshot);
    }
    fork_lock_give(&lock);
    return copied;
}

bool
stack_book_newcomers(void)
{
    return newcomers;
}

uint32_t
stack_book_threads(struct stack_thread *threads)
{
    uint32_t count = 0;
    fork_lock_take(&lock);
    newcomers = false;
    for (uint32_t number = STACK_FIRST_THREAD; number < book.thread_count; number++) {
        if (book.threads[number].facts.label != 0) {
            threads[count] = book.threads[number].facts;
            threads[count++].cpu = 0;
        }
    }
    fork_lock_give(&lock);
    return count;
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
