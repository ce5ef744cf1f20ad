#include "thread_walk.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>

/* The top of a stack is copied in one call, thread state first: two calls in a row leave the thread
   2 us to move on between its top frame's address and the frame, one call a tenth. */
#define WINDOW_BYTES 16384 /* as much as a chunk of the data stack mostly has */

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
        .deeper = {.bytes = malloc(WINDOW_BYTES)},
    };
    if (walk->frames == NULL || walk->top.bytes == NULL || walk->deeper.bytes == NULL) {
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

/* What is copied of a thread at once, besides the window. */
struct thread_copy {
    PyThreadState state; /* its first FRAMES_THREAD_BYTES */
    struct frames_link link;
};

/* Copy thread state, link, a part of the data stack and the frames of generators as `memory` has
   them; how many of the first three. */
static int
copy_at_once(struct walk *walk, struct address thread, const struct walk_memory *memory,
             struct thread_copy *copy)
{
    struct walk_window *window = &walk->top;
    struct guarded_range ranges[3 + WALK_GENERATORS];
    int count = 0;
    ranges[count++] = (struct guarded_range){thread, &copy->state, FRAMES_THREAD_BYTES};
    if (FRAMES_LINK_BYTES > 0) {
        ranges[count++] = (struct guarded_range){memory->link, &copy->link, FRAMES_LINK_BYTES};
    }
    window->range = address_range_last(memory->stack, WINDOW_BYTES);
    ranges[count++] = (struct guarded_range){window->range.low, window->bytes,
                                             address_range_bytes(window->range)};
    int needed = count;
    for (int i = 0; i < WALK_GENERATORS && !address_is_null(memory->generators[i]); i++) {
        ranges[count++] = (struct guarded_range){memory->generators[i], &walk->generator_frames[i],
                                                 FRAMES_HEADER_BYTES};
    }
    int whole = guarded_read(ranges, count);
    for (int i = 0; i < WALK_GENERATORS; i++) {
        walk->generators[i] = needed + i < whole ? memory->generators[i] : address_of(NULL);
    }
    if (whole < needed) {
        forget(window);
    }
    return whole < needed ? whole : needed;
}

/* The part of the data stack to copy for a top frame there, down to the lowest frame if that fits.
   Of a top frame that is a generator's, for those below it. */
static void
aim(struct walk_memory *memory, struct address top, const PyThreadState *state)
{
    struct address_range chunk;
    if (state->datastack_chunk == NULL
        || !address_range_between(address_of(state->datastack_chunk),
                                  address_of(state->datastack_limit), &chunk)) {
        return; /* nothing was called yet */
    }
    if (!address_range_has(chunk, top, FRAMES_HEADER_BYTES)) {
        top = address_of(state->datastack_top);
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

enum walk_end
walk_copy(struct walk *walk, struct address thread, uint64_t id, struct walk_memory *memory)
{
    struct thread_copy copy;
    walk->count = 0;
    walk->cut = false;
    walk->dropped = 0;
    forget(&walk->deeper);
    for (int attempt = 0; attempt < 4; attempt++) {
        int whole = copy_at_once(walk, thread, memory, &copy);
        const PyThreadState *state = &copy.state;
        if (whole == 0 || state->id != id) {
            return WALK_GONE;
        }
        if (!address_same(frames_link(state), memory->link)
            || (FRAMES_LINK_BYTES > 0 && whole == 1)) {
            memory->link = frames_link(state);
            continue;
        }
        struct address top = frames_top_of_copy(state, &copy.link);
        struct address_range before = memory->stack;
        if (!address_is_null(top) && !has_header(&walk->top, top)) {
            aim(memory, top, state);
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

static bool
read_header(struct walk *walk, struct address address, struct _PyInterpreterFrame *header)
{
    if (header_in(&walk->top, address, header) || header_in(&walk->deeper, address, header)) {
        return true;
    }
    for (int i = 0; i < WALK_GENERATORS; i++) {
        if (address_same(walk->generators[i], address)) {
            memcpy(header, &walk->generator_frames[i], FRAMES_HEADER_BYTES);
            return true;
        }
    }
    return guarded_copy(address, header, FRAMES_HEADER_BYTES);
}

static bool
in_windows(const struct walk *walk, struct address address)
{
    return has_header(&walk->top, address) || has_header(&walk->deeper, address);
}

/* What a frame's header says, as far as it can be true. */
static bool
describe(struct walk *walk, struct walk_frame *frame, struct _PyInterpreterFrame *header,
         struct code_table *codes, uint64_t destroyed)
{
    if (!address_is_aligned(frame->address) || !read_header(walk, frame->address, header)
        || !frames_owner_is_sane(header)) {
        return false;
    }
    if (frames_is_shim(header)) {
        frame->from_c = true; /* it stands for a call from C */
        return true;
    }
    frame->generator = header->owner == FRAME_OWNED_BY_GENERATOR;
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
    const struct code_facts *facts = &known->facts;
    frame->instruction = frames_instruction(header, start);
    if (frame->instruction >= facts->length
        || (frame->instruction > 0 && frame->instruction % (int32_t)sizeof(_Py_CODEUNIT) != 0)) {
        return false;
    }
    frame->part = frame->generator || frame->instruction >= facts->first_traceable ? WALK_SHOWN
                                                                                   : WALK_STARTING;
    if (frame->on_data_stack
        && !address_after(frame->address, (size_t)facts->frame, &frame->end)) {
        return false;
    }
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

/* From the root up, the frames that hold; those above have been left by now. */
static void
drop_left(struct walk *walk)
{
    find_those_that_pass_on(walk);
    int leaf = walk->count - 1;
    while (leaf > 0 && link_holds(&walk->frames[leaf - 1], &walk->frames[leaf])) {
        leaf--;
    }
    walk->dropped = leaf;
    walk->count -= leaf;
    memmove(walk->frames, walk->frames + leaf, (size_t)walk->count * sizeof *walk->frames);
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

enum walk_end
walk_frames(struct walk *walk, struct code_table *codes, uint64_t destroyed)
{
    if (walk->count == 0) {
        return WALK_WHOLE;
    }
    struct address address = walk->frames[0].address;
    struct address above = address_of(NULL);  /* the last frame seen in the top window, if any */
    struct address passed = address_of(NULL); /* one that was passed: no frame comes twice */
    walk->count = 0;
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
        if (!describe(walk, frame, &header, codes, destroyed)) {
            return WALK_TORN;
        }
        if (has_header(&walk->top, address)) {
            if (!address_is_null(above) && !address_below(address, above)) {
                return WALK_TORN; /* callers are below */
            }
            above = address;
        }
        if (frames_is_shim(&header) && walk->count > 1) {
            frame[-1].from_c = true;
        }
        address = address_of(header.previous);
        if (address_is_null(address) && frame->generator) {
            return WALK_TORN; /* it was left before it was read */
        }
    }
    drop_left(walk);
    add_called(walk, codes, destroyed);
    return WALK_WHOLE;
}

void
walk_remember(const struct walk *walk, struct walk_memory *memory)
{
    int known = 0;
    for (int i = 0; i < walk->count && known < WALK_GENERATORS; i++) {
        if (walk->frames[i].generator) {
            memory->generators[known++] = walk->frames[i].address;
        }
    }
    if (known > 0 && known < WALK_GENERATORS) {
        memory->generators[known] = address_of(NULL);
    }
}
