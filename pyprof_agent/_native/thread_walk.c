#include "thread_walk.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a walk begins with is copied in one call: two calls in a row leave the thread 2 us to move on between
   its top frame's address and the frame, one call a tenth.

   The stack is the one of the moment when the thread state was copied. What a function calls stays on the data
   stack while it runs, but a generator is left and resumed from elsewhere in half a microsecond, and its memory
   is another one's soon after. So generators, and the frame that resumed them with some of those below it, are
   copied before the thread state and after it: what both copies have was there in between. */
#define WINDOW_BYTES 16384 /* as much as a chunk of the data stack mostly has */

/* Of the frame that resumed a generator and those below it: two that look the same may have been called by different
   ones. */
#define EARLIER_BYTES 4096

/* A copy that took so many times as long as the fastest of late: the kernel had another thread run in between. */
#define FAR_LONGER 3

/* Copied above the top frame: the thread may have called on when the data stack is copied. */
#define SLACK_BYTES 1024

/* As many calls on. */
#define MOST_CALLED_ON 8

bool
walk_init(struct walk *walk, int limit)
{
    *walk = (struct walk){
        .frames = malloc((size_t)limit * sizeof *walk->frames),
        .capacity = limit,
        .top = {.bytes = malloc(WINDOW_BYTES)},
        .earlier = {.bytes = malloc(EARLIER_BYTES)},
        .deeper = {.bytes = malloc(WINDOW_BYTES)},
    };
    if (walk->frames == NULL || walk->top.bytes == NULL || walk->earlier.bytes == NULL
        || walk->deeper.bytes == NULL) {
        walk_free(walk);
        return false;
    }
    return true;
}

void
walk_free(struct walk *walk)
{
    free(walk->frames);
    free(walk->top.bytes);
    free(walk->earlier.bytes);
    free(walk->deeper.bytes);
    *walk = (struct walk){0};
}

static bool
has_header(const struct walk_window *window, struct address address)
{
    return address_range_has(window->range, address, FRAMES_HEADER_BYTES);
}

static void
forget(struct walk_window *window)
{
    window->range = (struct address_range){0};
}

/* What is copied of a thread at once, besides windows and generators. */
struct thread_copy {
    PyThreadState state; /* its first FRAMES_THREAD_BYTES */
    struct frames_link links[WALK_LINKS];
};

static_assert(offsetof(struct walk_generator, frame) == FRAMES_GENERATOR_BYTES,
              "a generator is copied in one range");
static_assert(2 * WALK_GENERATORS + WALK_LINKS + 3 <= GUARDED_MAX_RANGES, "all is copied at once");

/* Ranges to be copied at once. */
struct ranges {
    struct guarded_range all[GUARDED_MAX_RANGES];
    int count;
};

static void
add_range(struct ranges *ranges, struct address from, void *to, size_t bytes)
{
    ranges->all[ranges->count++] = (struct guarded_range){from, to, bytes};
}

static void
add_generators(struct ranges *ranges, const struct walk *walk,
               struct walk_generator copies[WALK_GENERATORS])
{
    for (int i = 0; i < WALK_GENERATORS; i++) {
        struct address from;
        if (address_before(walk->generators[i], FRAMES_GENERATOR_BYTES, &from)) {
            add_range(ranges, from, &copies[i], FRAMES_GENERATOR_BYTES + FRAMES_HEADER_BYTES);
        }
    }
}

/* The part of the top window that is copied before the thread state. */
static void
aim_earlier(struct walk *walk, struct address resumer)
{
    struct address end;
    struct address_range below;
    forget(&walk->earlier);
    if (has_header(&walk->top, resumer) && address_after(resumer, FRAMES_HEADER_BYTES, &end)
        && address_range_between(walk->top.range.low, end, &below)) {
        walk->earlier.range = address_range_last(below, EARLIER_BYTES);
    }
}

static void
add_window(struct ranges *ranges, const struct walk_window *window)
{
    if (address_range_bytes(window->range) > 0) {
        add_range(ranges, window->range.low, window->bytes, address_range_bytes(window->range));
    }
}

enum copied {
    COPIED,
    COPIED_LATE, /* all of it, and something else went on in between */
    COPIED_NO_THREAD,
    COPIED_NO_LINK,
    COPIED_NO_GENERATOR, /* nor, maybe, the part of the data stack from which they were resumed */
    COPIED_NO_WINDOW,
};

static int64_t
monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether a copy took far longer than the fastest of late, which is forgotten little by little. */
static bool
is_late(struct walk_memory *memory, int64_t took)
{
    bool late = memory->fastest > 0 && took > FAR_LONGER * memory->fastest;
    bool faster = memory->fastest == 0 || took < memory->fastest;
    memory->fastest += faster ? took - memory->fastest : memory->fastest / 32;
    return late;
}

/* Copy what `memory` has; what was not there. */
static enum copied
copy_at_once(struct walk *walk, struct address thread, struct walk_memory *memory,
             struct thread_copy *copy)
{
    struct ranges ranges = {.count = 0};
    memcpy(walk->generators, memory->generators, sizeof walk->generators);
    walk->top.range = address_range_last(memory->stack, WINDOW_BYTES);
    aim_earlier(walk, memory->resumer);
    add_generators(&ranges, walk, walk->earlier_generators);
    add_window(&ranges, &walk->earlier);
    int to_thread = ranges.count;
    add_range(&ranges, thread, &copy->state, FRAMES_THREAD_BYTES);
    for (int i = 0; FRAMES_LINK_BYTES > 0 && i < WALK_LINKS; i++) {
        if (!address_is_null(memory->links[i])) {
            add_range(&ranges, memory->links[i], &copy->links[i], FRAMES_LINK_BYTES);
        }
    }
    int to_window = ranges.count;
    add_window(&ranges, &walk->top);
    int to_generators = ranges.count;
    add_generators(&ranges, walk, walk->later_generators);
    int64_t began = monotonic();
    int whole = guarded_read(ranges.all, ranges.count);
    int64_t took = monotonic() - began;
    if (whole == ranges.count) {
        return to_generators > to_window && is_late(memory, took) ? COPIED_LATE : COPIED;
    }
    return whole < to_thread       ? COPIED_NO_GENERATOR
           : whole == to_thread    ? COPIED_NO_THREAD
           : whole < to_window     ? COPIED_NO_LINK
           : whole < to_generators ? COPIED_NO_WINDOW
                                   : COPIED_NO_GENERATOR;
}

/* The copy of the link that a thread state has; NULL if it was not copied: the next time it is. */
static const struct frames_link *
link_in(const struct thread_copy *copy, struct walk_memory *memory)
{
    struct address link = frames_link(&copy->state);
    if (FRAMES_LINK_BYTES == 0) {
        return &copy->links[0];
    }
    for (int i = 0; i < WALK_LINKS; i++) {
        if (address_same(memory->links[i], link)) {
            return address_is_null(link) ? NULL : &copy->links[i];
        }
    }
    memmove(memory->links + 1, memory->links, (WALK_LINKS - 1) * sizeof *memory->links);
    memory->links[0] = link;
    return NULL;
}

/* The part of the data stack to copy for a top frame there, down to the lowest frame if that fits.
   Of a top frame that is a generator's, for those below it. */
static void
aim(const struct walk *walk, struct walk_memory *memory, struct address top,
    const PyThreadState *state)
{
    struct address_range chunk;
    if (state->datastack_chunk == NULL
        || !address_range_between(address_of(state->datastack_chunk),
                                  address_of(state->datastack_limit), &chunk)) {
        return; /* nothing was called yet */
    }
    if (!address_range_has(chunk, top, FRAMES_HEADER_BYTES)) {
        top = address_of(state->datastack_top);
        if (address_range_has(walk->top.range, top, 1)) {
            return; /* it has those below already */
        }
    }
    struct address_range used;
    struct address high;
    if (!address_range_has(chunk, top, FRAMES_HEADER_BYTES + SLACK_BYTES)
        || !address_after(top, FRAMES_HEADER_BYTES + SLACK_BYTES, &high)
        || !address_range_between(chunk.low, high, &used)) {
        used = chunk;
    }
    memory->stack = address_range_last(used, WINDOW_BYTES);
}

static void
add_frame(struct walk *walk, struct address address)
{
    walk->frames[walk->count++] = (struct walk_frame){.address = address};
}

void
walk_begin(struct walk *walk, unsigned attempt)
{
    walk->strict = attempt < WALK_STRICT_ATTEMPTS;
    if (attempt == 0) {
        walk->told = address_of(NULL);
    }
}

static void
forget_generators(struct walk_memory *memory)
{
    memset(memory->generators, 0, sizeof memory->generators);
    memory->resumer = address_of(NULL);
}

enum walk_end
walk_copy(struct walk *walk, struct address thread, uint64_t id, struct walk_memory *memory)
{
    struct thread_copy copy;
    walk->count = 0;
    walk->cut = false;
    walk->dropped = 0;
    forget(&walk->deeper);
    for (int attempt = 0; attempt < 4; attempt++) {
        enum copied copied = copy_at_once(walk, thread, memory, &copy);
        if (copied == COPIED_NO_GENERATOR) {
            forget_generators(memory);
            continue;
        }
        const PyThreadState *state = &copy.state;
        if (copied == COPIED_NO_THREAD || state->id != id) {
            return WALK_GONE;
        }
        if (copied == COPIED_LATE && walk->strict) {
            return WALK_TORN;
        }
        if (copied == COPIED_NO_LINK) {
            memset(memory->links, 0, sizeof memory->links);
        }
        const struct frames_link *link = link_in(&copy, memory);
        if (link == NULL) {
            if (address_is_null(frames_link(state)) && FRAMES_LINK_BYTES > 0) {
                return WALK_TORN;
            }
            continue;
        }
        if (copied == COPIED_NO_WINDOW) {
            forget(&walk->top);
            forget(&walk->earlier);
        }
        walk->stack_top = address_of(state->datastack_top);
        struct address top = frames_top_of_copy(state, link);
        struct address_range before = memory->stack;
        if (!address_is_null(top) && !has_header(&walk->top, top)) {
            aim(walk, memory, top, state);
        }
        if (address_range_same(before, memory->stack)) {
            if (!address_is_null(top)) {
                add_frame(walk, top);
            }
            return WALK_WHOLE;
        }
    }
    return WALK_TORN;
}

/* Deeper stacks have several chunks. Copy as much of one as there is below a frame's end. */
static void
go_deeper(struct walk *walk, struct address address)
{
    struct walk_window *window = &walk->deeper;
    struct address end;
    struct address_range below;
    forget(window);
    if (!address_after(address, FRAMES_HEADER_BYTES, &end)
        || !address_range_between(address_of(NULL), end, &below)) {
        return;
    }
    below = address_range_last(below, WINDOW_BYTES);
    /* What is below the chunk may not be there: pages are tried from the frame's on down. */
    struct address page;
    struct address lower;
    char byte;
    if (!address_before(address, address_in_page(address), &page)) {
        return;
    }
    while (address_below(below.low, page) && address_before(page, ADDRESS_PAGE_BYTES, &lower)
           && guarded_copy(lower, &byte, 1)) {
        page = lower;
    }
    if (address_below(below.low, page) && !address_range_between(page, end, &below)) {
        return;
    }
    if (guarded_copy(below.low, window->bytes, address_range_bytes(below))) {
        window->range = below;
    }
}

/* Copy the header of a frame out of a window, if it is there. */
static bool
header_in(const struct walk_window *window, struct address address,
          struct _PyInterpreterFrame *header)
{
    size_t offset;
    if (!has_header(window, address)
        || !address_distance(window->range.low, address, &offset)) {
        return false;
    }
    memcpy(header, window->bytes + offset, FRAMES_HEADER_BYTES);
    return true;
}

/* What is known of a frame: its header, and an earlier one of the same call. */
struct headers {
    struct _PyInterpreterFrame now;
    struct _PyInterpreterFrame earlier;
};

/* The header that a generator had at the moment of the thread state, by two copies. False if that is not known.
   `next_to_leaf`: no other one has been called by it */
static bool
header_of_generator(const struct walk_generator *earlier, const struct walk_generator *later,
                    bool next_to_leaf, struct walk_frame *frame, struct headers *headers)
{
    frame->ran = frames_generator_runs(earlier->before);
    frame->runs = frames_generator_runs(later->before);
    const struct walk_generator *running = frame->runs ? later : earlier;
    const struct walk_generator *other = frame->runs ? earlier : later;
    memcpy(&headers->now, &running->frame, FRAMES_HEADER_BYTES);
    memcpy(&headers->earlier, frame->ran ? &earlier->frame : &running->frame, FRAMES_HEADER_BYTES);
    if (frame->ran && frame->runs) {
        return frames_is_same_call(&earlier->frame, &later->frame);
    }
    if (!frame->ran && !frame->runs) {
        /* One that yields while somebody traces, up to 3.13. */
        return memcmp(earlier, later, FRAMES_GENERATOR_BYTES + FRAMES_HEADER_BYTES) == 0;
    }
    const PyObject *code = frames_executable(&other->frame);
    return code == frames_executable(&running->frame) || (code == NULL && next_to_leaf);
}

static int
find_generator(const struct walk *walk, struct address address)
{
    for (int i = 0; i < WALK_GENERATORS; i++) {
        if (!address_is_null(address) && address_same(walk->generators[i], address)) {
            return i;
        }
    }
    return -1;
}

/* What is read at a second attempt is the stack of another moment. To take that of whatever is read easily would
   show generators that run for long, and not those that are left soon: so it is noted which one is there first. */
static void
tell(struct walk *walk, struct address code)
{
    if (walk->generators_seen == 0 && address_is_null(walk->told)) {
        walk->told = code;
    }
}

/* False if it is not there, or is not known of the moment of the thread state. */
static bool
read_header(struct walk *walk, struct walk_frame *frame, struct headers *headers)
{
    struct address address = frame->address;
    if (header_in(&walk->top, address, &headers->now)) {
        frame->sure = walk->generators_seen > 0
                      && header_in(&walk->earlier, address, &headers->earlier);
        return !frame->sure || frames_is_same_call(&headers->earlier, &headers->now);
    }
    int i = find_generator(walk, address);
    if (i >= 0) {
        frame->generator = true;
        frame->sure =
            header_of_generator(&walk->earlier_generators[i], &walk->later_generators[i],
                                walk->generators_seen == 0, frame, headers);
        tell(walk, address_of(frames_executable(&headers->now)));
        return frame->sure;
    }
    return header_in(&walk->deeper, address, &headers->now)
           || guarded_copy(address, &headers->now, FRAMES_HEADER_BYTES);
}

static bool
in_windows(const struct walk *walk, struct address address)
{
    return has_header(&walk->top, address) || has_header(&walk->deeper, address);
}

/* Note the instruction that a frame is at, and what follows from it. False if it can be at none there. */
static bool
place(struct walk_frame *frame, const struct _PyInterpreterFrame *header,
      const struct known_code *known, struct address start)
{
    const struct code_facts *facts = &known->facts;
    frame->instruction = frames_instruction(header, start);
    if (frame->instruction >= facts->length
        || (frame->instruction > 0 && frame->instruction % (int32_t)sizeof(_Py_CODEUNIT) != 0)) {
        return false;
    }
    frame->part = frame->generator || frame->instruction >= facts->first_traceable ? WALK_SHOWN
                                                                                   : WALK_STARTING;
    /* One that has just been made in the place of another has not come to a call yet. But what the
       interpreter puts between a class and its __init__ has no instruction to come to. */
    bool come_to_a_call = frame->generator || frame->instruction > facts->first_traceable
                          || facts->first_traceable >= facts->length;
    frame->has_called = come_to_a_call && frames_has_stack_pointer(header)
                        && !code_table_leaves(known, frame->instruction);
    frame->suspended = frame->generator
                       && code_table_leaves(known, frame->instruction - FRAMES_BEHIND_YIELD);
    return true;
}

/* What a frame's header says, as far as it can be true. */
static bool
describe(struct walk *walk, struct walk_frame *frame, struct _PyInterpreterFrame *header,
         struct code_table *codes, uint64_t destroyed)
{
    struct headers headers;
    if (!address_is_aligned(frame->address) || !read_header(walk, frame, &headers)
        || !frames_owner_is_sane(&headers.now)) {
        return false;
    }
    memcpy(header, &headers.now, FRAMES_HEADER_BYTES);
    if (frames_is_shim(header)) {
        frame->from_c = true; /* it stands for a call from C */
        return true;
    }
    frame->generator =
        header->owner == FRAME_OWNED_BY_GENERATOR && !has_header(&walk->top, frame->address);
    if (frame->generator) {
        tell(walk, address_of(frames_executable(header)));
    }
    if (!frame->generator && !in_windows(walk, frame->address)) {
        go_deeper(walk, frame->address);
    }
    frame->on_data_stack = !frame->generator && in_windows(walk, frame->address);
    frame->from_c = frames_is_entry(header);
    frame->code = address_of(frames_executable(header));
    if (address_is_null(frame->code)) {
        return FRAMES_LEFT_ARE_EMPTY;
    }
    if (address_same(frame->code, address_of(Py_None))) {
        return true;
    }
    const struct known_code *known = code_table_get(codes, frame->code, destroyed);
    struct address start;
    if (known == NULL || !frames_code_start(frame->code, &start)) {
        return false;
    }
    if (frame->on_data_stack
        && !address_after(frame->address, (size_t)known->facts.frame, &frame->end)) {
        return false;
    }
    /* Where it waited for what it had called by then, and not where it has come to since. */
    bool waited =
        frame->sure && place(frame, &headers.earlier, known, start) && frame->has_called;
    return waited || place(frame, header, known, start);
}

/* A chunk of the data stack begins with its header, on a page of its own; the very first one leaves
   out a word more. */
static bool
may_begin_chunk(struct address address)
{
    size_t offset = address_in_page(address);
    return offset == offsetof(_PyStackChunk, data)
           || offset == offsetof(_PyStackChunk, data) + sizeof(void *);
}

/* Whether two frames, one of which says that the other has called it, can be so. */
static bool
link_holds(const struct walk_frame *callee, const struct walk_frame *caller)
{
    if (!callee->from_c && callee->on_data_stack && !address_is_null(caller->end)
        && !address_same(callee->address, caller->end) && !may_begin_chunk(callee->address)) {
        /* On the data stack there is no gap between them. What C has called may stand above one:
           a finalizer, above the frame that has just been left or is still being made. */
        return false;
    }
    return callee->from_c || callee->passes_on || caller->part == WALK_HIDDEN
           || (callee->generator && callee->sure && caller->sure)
           || (caller->has_called && !address_is_null(callee->code));
}

/* What is thrown into a coroutine goes to the innermost that it awaits: CPython puts those on the way there
   on the stack as they are, suspended, one above the other and below a call from C. */
static void
find_those_that_pass_on(struct walk *walk)
{
    for (int i = 1; i < walk->count; i++) {
        const struct walk_frame *above = &walk->frames[i - 1];
        walk->frames[i].passes_on = walk->frames[i].suspended && (above->from_c || above->passes_on);
    }
}

/* From the root up, the frames that hold; those above have been left by now. Whether a generator is among
   these. */
static bool
drop_left(struct walk *walk)
{
    find_those_that_pass_on(walk);
    int leaf = walk->count - 1;
    while (leaf > 0 && link_holds(&walk->frames[leaf - 1], &walk->frames[leaf])) {
        leaf--;
    }
    bool generator = false;
    for (int i = 0; i < leaf; i++) {
        generator = generator || walk->frames[i].generator;
    }
    walk->dropped = leaf;
    walk->count -= leaf;
    memmove(walk->frames, walk->frames + leaf, (size_t)walk->count * sizeof *walk->frames);
    return generator;
}

/* And those that the topmost of these has called since. */
static void
add_called(struct walk *walk, struct code_table *codes, uint64_t destroyed)
{
    for (int i = 0; i < MOST_CALLED_ON && walk->count > 0 && walk->count < walk->capacity; i++) {
        const struct walk_frame *leaf = &walk->frames[0];
        struct walk_frame called = {.address = leaf->end};
        struct _PyInterpreterFrame header;
        if (!leaf->has_called || !leaf->on_data_stack || !has_header(&walk->top, leaf->end)
            || !describe(walk, &called, &header, codes, destroyed)
            || !address_same(address_of(header.previous), leaf->address) || called.from_c
            || called.generator || called.part == WALK_HIDDEN) {
            return;
        }
        memmove(walk->frames + 1, walk->frames, (size_t)walk->count * sizeof *walk->frames);
        walk->frames[0] = called;
        walk->count++;
    }
}

/* Whether a generator fits those above it. `callee`: the last one that was read, if any */
static bool
generator_holds(const struct walk *walk, const struct walk_frame *frame,
                const struct walk_frame *callee)
{
    if (!frame->sure) {
        return walk->generators_seen > WALK_GENERATORS || !walk->strict; /* it is copied the next time */
    }
    if (callee == NULL) {
        return !walk->strict || address_same(frame->code, walk->told);
    }
    /* It ran whenever the one did that it had resumed. */
    return !callee->sure || ((frame->ran || !callee->ran) && (frame->runs || !callee->runs));
}

/* Whether a frame on the data stack can have resumed the generators above it. `above`: the last one on the data
   stack that was read, if any */
static bool
resumer_holds(const struct walk *walk, const struct walk_frame *frame,
              const struct walk_frame *above)
{
    if (!has_header(&walk->top, frame->address)) {
        return true;
    }
    if (!frame->sure) {
        /* What is below a frame that was there was there, too. */
        return address_below(frame->address, walk->earlier.range.low);
    }
    struct address next = above == NULL ? walk->stack_top : above->address;
    bool gap = !address_same(next, frame->end) && !may_begin_chunk(next)
               && (above == NULL || !above->from_c);
    return frame->part != WALK_STARTING && (!walk->strict || !gap || address_is_null(frame->end));
}

enum walk_end
walk_frames(struct walk *walk, struct code_table *codes, uint64_t destroyed)
{
    if (walk->count == 0) {
        return WALK_WHOLE;
    }
    struct address address = walk->frames[0].address;
    const struct walk_frame *above = NULL;    /* the last one seen in the top window, if any */
    const struct walk_frame *callee = NULL;   /* the last generator, if any */
    struct address passed = address_of(NULL); /* one that was passed: no frame comes twice */
    bool resumes = false;                     /* what comes has resumed a generator */
    bool holds = true;                        /* what was read of generators */
    walk->count = 0;
    walk->generators_seen = 0;
    while (!address_is_null(address)) {
        if (walk->count == walk->capacity) {
            walk->cut = true;
            break;
        }
        if (address_same(address, passed)) {
            return WALK_TORN;
        }
        if ((walk->count & (walk->count - 1)) == 0) {
            passed = address; /* at powers of two, as in thread_list.c */
        }
        struct _PyInterpreterFrame header;
        add_frame(walk, address);
        struct walk_frame *frame = &walk->frames[walk->count - 1];
        bool described = describe(walk, frame, &header, codes, destroyed);
        walk->generators_seen += frame->generator;
        if (!described) {
            return WALK_TORN;
        }
        if (frame->generator) {
            /* Those below are read all the same, to be copied at once the next time. */
            holds = holds && generator_holds(walk, frame, callee);
            callee = frame;
            resumes = true;
        }
        else if (frame->on_data_stack && resumes) {
            holds = holds && resumer_holds(walk, frame, above);
            resumes = false;
        }
        if (has_header(&walk->top, address)) {
            if (above != NULL && !address_below(address, above->address)) {
                return WALK_TORN; /* callers are below */
            }
            above = frame;
        }
        if (frames_is_shim(&header) && walk->count > 1) {
            frame[-1].from_c = true;
        }
        address = address_of(header.previous);
        if (address_is_null(address) && frame->generator) {
            return WALK_TORN; /* it was left before it was read */
        }
    }
    bool missing = walk->generators_seen == 0 && !address_is_null(walk->told);
    if (!holds || (walk->strict && missing)) {
        return WALK_TORN;
    }
    bool left = drop_left(walk);
    if (walk->strict && left) {
        return WALK_TORN;
    }
    add_called(walk, codes, destroyed);
    return WALK_WHOLE;
}

/* The place for a generator that is not copied yet: a free one, or that of the one unseen for longest. */
static int
place_for_generator(const struct walk_memory *memory)
{
    int place = 0;
    for (int i = 1; i < WALK_GENERATORS; i++) {
        if (!address_is_null(memory->generators[place])
            && (address_is_null(memory->generators[i])
                || memory->unseen[i] > memory->unseen[place])) {
            place = i;
        }
    }
    return place;
}

static void
remember_generator(struct walk_memory *memory, struct address address)
{
    int place = -1;
    for (int i = 0; i < WALK_GENERATORS; i++) {
        if (address_same(memory->generators[i], address)) {
            place = i;
        }
    }
    if (place < 0) {
        place = place_for_generator(memory);
    }
    memory->generators[place] = address;
    memory->unseen[place] = 0;
}

void
walk_remember(const struct walk *walk, struct walk_memory *memory)
{
    for (int i = 0; i < WALK_GENERATORS; i++) {
        memory->unseen[i]++;
    }
    int known = 0;
    bool resumed = false;
    for (int i = 0; i < walk->count; i++) {
        const struct walk_frame *frame = &walk->frames[i];
        if (frame->generator && known < WALK_GENERATORS) {
            remember_generator(memory, frame->address);
            known++;
        }
        else if (known > 0 && frame->on_data_stack && !resumed) {
            memory->resumer = frame->address;
            resumed = true;
        }
    }
}
