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

#define ALIGNED(address) ((address) % sizeof(void *) == 0)
#define UNIT ((int32_t)sizeof(_Py_CODEUNIT))

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
has_header(const struct walk_window *window, uintptr_t address)
{
    return address >= window->low && address + FRAMES_HEADER_BYTES <= window->high;
}

/* What is copied of a thread at once, besides the window. */
struct thread_copy {
    PyThreadState state; /* its first FRAMES_THREAD_BYTES */
    _Alignas(void *) char link[FRAMES_LINK_BYTES + 1];
};

/* Copy thread state, link, a part of the data stack and the frames of generators as `memory` has
   them; how many of the first three. */
static int
copy_at_once(struct walk *walk, const PyThreadState *thread, const struct walk_memory *memory,
             struct thread_copy *copy)
{
    struct walk_window *window = &walk->top;
    struct guarded_range ranges[3 + WALK_GENERATORS];
    int count = 0;
    ranges[count++] = (struct guarded_range){thread, &copy->state, FRAMES_THREAD_BYTES};
    if (FRAMES_LINK_BYTES > 0) {
        ranges[count++] = (struct guarded_range){memory->link, copy->link, FRAMES_LINK_BYTES};
    }
    window->low = memory->low;
    window->high = memory->high;
    ranges[count++] = (struct guarded_range){(const void *)memory->low, window->bytes,
                                             memory->high - memory->low};
    int needed = count;
    for (int i = 0; i < WALK_GENERATORS && memory->generators[i] != 0; i++) {
        ranges[count++] = (struct guarded_range){(const void *)memory->generators[i],
                                                 &walk->generator_frames[i], FRAMES_HEADER_BYTES};
    }
    int whole = guarded_read(ranges, count);
    for (int i = 0; i < WALK_GENERATORS; i++) {
        walk->generators[i] = needed + i < whole ? memory->generators[i] : 0;
    }
    if (whole < needed) {
        window->high = window->low;
    }
    return whole < needed ? whole : needed;
}

/* The part of the data stack to copy for a top frame there, down to the lowest frame if that fits.
   Of a top frame that is a generator's, for those below it. */
static void
aim(struct walk_memory *memory, uintptr_t top, const PyThreadState *state)
{
    uintptr_t chunk = (uintptr_t)state->datastack_chunk;
    uintptr_t limit = (uintptr_t)state->datastack_limit;
    if (chunk == 0 || limit <= chunk) {
        return; /* nothing was called yet */
    }
    if (top <= chunk || top + FRAMES_HEADER_BYTES > limit) {
        top = (uintptr_t)state->datastack_top;
    }
    uintptr_t high = top + FRAMES_HEADER_BYTES + SLACK_BYTES;
    if (top < chunk || high > limit) {
        high = limit;
    }
    memory->high = high;
    memory->low = high - chunk > WINDOW_BYTES ? high - WINDOW_BYTES : chunk;
}

static void
add_frame(struct walk *walk, uintptr_t address)
{
    walk->frames[walk->count++] = (struct walk_frame){.address = address};
}

enum walk_end
walk_copy(struct walk *walk, const PyThreadState *thread, uint64_t id, struct walk_memory *memory)
{
    struct thread_copy copy;
    walk->count = 0;
    walk->cut = false;
    walk->dropped = 0;
    walk->deeper.low = walk->deeper.high = 0;
    for (int attempt = 0; attempt < 4; attempt++) {
        int whole = copy_at_once(walk, thread, memory, &copy);
        const PyThreadState *state = &copy.state;
        if (whole == 0 || state->id != id) {
            return WALK_GONE;
        }
        if (frames_link(state) != memory->link || (FRAMES_LINK_BYTES > 0 && whole == 1)) {
            memory->link = frames_link(state);
            continue;
        }
        uintptr_t top = (uintptr_t)frames_top_of_copy(state, copy.link);
        struct walk_memory before = *memory;
        if (top != 0 && !has_header(&walk->top, top)) {
            aim(memory, top, state);
        }
        if (before.low == memory->low && before.high == memory->high) {
            if (top != 0) {
                add_frame(walk, top);
            }
            return WALK_WHOLE;
        }
    }
    return WALK_TORN;
}

/* Deeper stacks have several chunks. Copy as much of one as there is below a frame's end. */
static void
go_deeper(struct walk *walk, uintptr_t address)
{
    struct walk_window *window = &walk->deeper;
    uintptr_t high = address + FRAMES_HEADER_BYTES;
    uintptr_t low = high - WINDOW_BYTES;
    char byte;
    /* What is below the chunk may not be there: pages are tried from the frame's on down. */
    uintptr_t page = address & ~(uintptr_t)4095;
    while (page > low && guarded_copy((const void *)(page - 4096), &byte, 1)) {
        page -= 4096;
    }
    window->low = page > low ? page : low;
    window->high = high;
    if (!guarded_copy((const void *)window->low, window->bytes, high - window->low)) {
        window->low = window->high = 0;
    }
}

static bool
read_header(struct walk *walk, uintptr_t address, struct _PyInterpreterFrame *header)
{
    const struct walk_window *window =
        has_header(&walk->top, address) ? &walk->top : &walk->deeper;
    if (has_header(window, address)) {
        memcpy(header, window->bytes + (address - window->low), FRAMES_HEADER_BYTES);
        return true;
    }
    for (int i = 0; i < WALK_GENERATORS; i++) {
        if (walk->generators[i] == address) {
            memcpy(header, &walk->generator_frames[i], FRAMES_HEADER_BYTES);
            return true;
        }
    }
    return guarded_copy((const void *)address, header, FRAMES_HEADER_BYTES);
}

static bool
in_windows(const struct walk *walk, uintptr_t address)
{
    return has_header(&walk->top, address) || has_header(&walk->deeper, address);
}

/* What a frame's header says, as far as it can be true. */
static bool
describe(struct walk *walk, struct walk_frame *frame, struct _PyInterpreterFrame *header,
         struct code_table *codes, uint64_t destroyed)
{
    if (!ALIGNED(frame->address) || !read_header(walk, frame->address, header)
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
    frame->code = frames_executable(header);
    if (frame->code == NULL) {
        return FRAMES_LEFT_ARE_EMPTY;
    }
    if (frame->code == Py_None) {
        return true;
    }
    const struct known_code *known =
        ALIGNED((uintptr_t)frame->code) ? code_table_get(codes, frame->code, destroyed) : NULL;
    if (known == NULL) {
        return false;
    }
    frame->instruction = frames_instruction(header, frame->code);
    if (frame->instruction >= known->facts.length * UNIT) {
        return false;
    }
    int32_t first = known->facts.first_traceable * UNIT;
    frame->part = frame->generator || frame->instruction >= first ? WALK_SHOWN : WALK_STARTING;
    if (frame->on_data_stack) {
        frame->end = frame->address + (uintptr_t)known->facts.frame_bytes;
    }
    /* One that has just been made in the place of another has not come to a call yet. But what the
       interpreter puts between a class and its __init__ has no instruction to come to. */
    bool come_to_a_call = frame->generator || frame->instruction > first
                          || known->facts.first_traceable >= known->facts.length;
    frame->has_called = come_to_a_call && frames_has_stack_pointer(header)
                        && !frames_is_leaving(frame->code, frame->instruction);
    return true;
}

/* A chunk of the data stack begins with its header, on a page of its own; the very first one leaves
   out a word more. */
static bool
may_begin_chunk(uintptr_t address)
{
    uintptr_t offset = address % 4096 - offsetof(_PyStackChunk, data);
    return offset == 0 || offset == sizeof(void *);
}

/* Whether two frames, one of which says that the other has called it, can be so. */
static bool
link_holds(const struct walk_frame *callee, const struct walk_frame *caller)
{
    if (callee->on_data_stack && caller->end != 0 && callee->address != caller->end
        && !may_begin_chunk(callee->address)) {
        return false; /* on the data stack there is no gap between them */
    }
    return callee->from_c || caller->part == WALK_HIDDEN
           || (caller->has_called && callee->code != NULL);
}

/* From the root up, the frames that hold; those above have been left by now. */
static void
drop_left(struct walk *walk)
{
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
            || (uintptr_t)header.previous != leaf->address || called.from_c || called.generator
            || called.part == WALK_HIDDEN) {
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
    uintptr_t address = walk->frames[0].address;
    uintptr_t above = UINTPTR_MAX; /* the last frame seen in the top window */
    walk->count = 0;
    while (address != 0) {
        if (walk->count == walk->capacity) {
            walk->cut = true;
            break;
        }
        struct _PyInterpreterFrame header;
        add_frame(walk, address);
        struct walk_frame *frame = &walk->frames[walk->count - 1];
        if (!describe(walk, frame, &header, codes, destroyed)) {
            return WALK_TORN;
        }
        if (has_header(&walk->top, address)) {
            if (address >= above) {
                return WALK_TORN; /* callers are below */
            }
            above = address;
        }
        if (frames_is_shim(&header) && walk->count > 1) {
            frame[-1].from_c = true;
        }
        address = (uintptr_t)header.previous;
        if (address == 0 && frame->generator) {
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
        memory->generators[known] = 0;
    }
}
