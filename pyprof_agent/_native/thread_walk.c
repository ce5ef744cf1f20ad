#include "thread_walk.h"

#include "guarded.h"

#include <stdlib.h>
#include <string.h>

/* The frames of one thread are copied in one call, thread state first: two calls in a row leave
   the thread 2 us to move on between its top frame's address and the frame, one call a tenth. */
#define WINDOW_BYTES 16384 /* as much as a chunk of the data stack mostly has */

/* Copied above the top frame, as the next top may be that of some calls more. */
#define SLACK_BYTES 512

#define ALIGNED(address) ((address) % sizeof(void *) == 0)

bool
walk_init(struct walk *walk, int limit)
{
    *walk = (struct walk){
        .frames = malloc((size_t)limit * sizeof *walk->frames),
        .capacity = limit,
        .window = malloc(WINDOW_BYTES),
    };
    if (walk->frames == NULL || walk->window == NULL) {
        walk_free(walk);
        return false;
    }
    return true;
}

void
walk_free(struct walk *walk)
{
    free(walk->frames);
    free(walk->window);
    *walk = (struct walk){0};
}

/* What is copied of a thread at once. */
struct thread_copy {
    PyThreadState state; /* its first FRAMES_THREAD_BYTES */
    _Alignas(void *) char link[FRAMES_LINK_BYTES + 1];
};

static bool
in_window(const struct walk *walk, uintptr_t address)
{
    return address >= walk->low && address + FRAMES_HEADER_BYTES <= walk->high;
}

/* Copy thread state, link and a part of the data stack as `memory` has them; how many of these. */
static int
copy_at_once(struct walk *walk, const PyThreadState *thread, const struct walk_memory *memory,
             struct thread_copy *copy)
{
    struct guarded_range ranges[3];
    int count = 0;
    ranges[count++] = (struct guarded_range){thread, &copy->state, FRAMES_THREAD_BYTES};
    if (FRAMES_LINK_BYTES > 0) {
        ranges[count++] = (struct guarded_range){memory->link, copy->link, FRAMES_LINK_BYTES};
    }
    walk->low = memory->low;
    walk->high = memory->high;
    ranges[count++] =
        (struct guarded_range){(const void *)memory->low, walk->window, memory->high - memory->low};
    int whole = guarded_read(ranges, count);
    if (whole < count) {
        walk->high = walk->low;
    }
    return whole;
}

/* The part of the data stack to copy for a top frame there, down to the lowest frame if that fits. */
static void
aim(struct walk_memory *memory, uintptr_t top, const PyThreadState *state)
{
    uintptr_t chunk = (uintptr_t)state->datastack_chunk;
    uintptr_t limit = (uintptr_t)state->datastack_limit;
    if (top <= chunk || top + FRAMES_HEADER_BYTES > limit || limit - chunk > PTRDIFF_MAX) {
        return; /* the top frame is a generator's or in another chunk */
    }
    uintptr_t high = top + FRAMES_HEADER_BYTES + SLACK_BYTES;
    memory->high = high < limit ? high : limit;
    memory->low = memory->high - chunk > WINDOW_BYTES ? memory->high - WINDOW_BYTES : chunk;
}

/* Copy what belongs together of a thread; the address of its top frame in `*top`. */
static enum walk_end
copy_thread(struct walk *walk, const PyThreadState *thread, uint64_t id, struct walk_memory *memory,
            uintptr_t *top)
{
    struct thread_copy copy;
    for (int attempt = 0; attempt < 3; attempt++) {
        int whole = copy_at_once(walk, thread, memory, &copy);
        const PyThreadState *state = &copy.state;
        if (whole == 0 || state->id != id) {
            return WALK_GONE;
        }
        if (frames_link(state) != memory->link || (FRAMES_LINK_BYTES > 0 && whole == 1)) {
            memory->link = frames_link(state);
            continue;
        }
        *top = (uintptr_t)frames_top_of_copy(state, copy.link);
        if (*top == 0 || in_window(walk, *top)) {
            return WALK_WHOLE;
        }
        struct walk_memory before = *memory;
        aim(memory, *top, state);
        if (before.low == memory->low && before.high == memory->high) {
            return WALK_WHOLE; /* off the chunk: it is read singly */
        }
    }
    return WALK_TORN;
}

/* The header of a frame. Where it is not in the window, the window is moved to end with it. */
static bool
read_header(struct walk *walk, uintptr_t address, struct _PyInterpreterFrame *header)
{
    if (in_window(walk, address)) {
        memcpy(header, walk->window + (address - walk->low), FRAMES_HEADER_BYTES);
        return true;
    }
    return guarded_copy((const void *)address, header, FRAMES_HEADER_BYTES);
}

/* Deeper stacks have several chunks, of a size that is mostly WINDOW_BYTES. */
static void
move_window(struct walk *walk, uintptr_t address)
{
    uintptr_t high = address + FRAMES_HEADER_BYTES;
    uintptr_t page = high & ~(uintptr_t)4095;
    uintptr_t low = high - page < FRAMES_HEADER_BYTES ? address : page;
    while (low > 4096 && high - (low - 4096) <= WINDOW_BYTES
           && guarded_copy((const void *)(low - 4096), walk->window, 1)) {
        low -= 4096;
    }
    if (guarded_copy((const void *)low, walk->window, high - low)) {
        walk->low = low;
        walk->high = high;
    }
    else {
        walk->high = walk->low;
    }
}

enum walk_end
walk_thread(struct walk *walk, const PyThreadState *thread, uint64_t id, struct walk_memory *memory)
{
    uintptr_t address = 0;
    walk->count = 0;
    enum walk_end copied = copy_thread(walk, thread, id, memory, &address);
    if (copied != WALK_WHOLE) {
        return copied;
    }
    uintptr_t above = UINTPTR_MAX; /* the last frame seen in the window */
    while (address != 0) {
        if (walk->count == walk->capacity) {
            return WALK_CUT;
        }
        struct _PyInterpreterFrame header;
        if (!ALIGNED(address) || !read_header(walk, address, &header)
            || !frames_owner_is_sane(&header)) {
            return WALK_TORN;
        }
        bool shim = frames_is_shim(&header);
        bool generator = !shim && header.owner == FRAME_OWNED_BY_GENERATOR;
        if (!shim && !generator && !in_window(walk, address)) {
            move_window(walk, address);
            above = UINTPTR_MAX;
        }
        bool on_data_stack = !shim && !generator && in_window(walk, address);
        if (on_data_stack) {
            if (address >= above) {
                return WALK_TORN; /* callers are below */
            }
            above = address;
        }
        PyObject *code = shim ? NULL : frames_executable(&header);
        if (!shim && (!ALIGNED((uintptr_t)code) || (code == NULL && !FRAMES_TOP_LAGS))) {
            return WALK_TORN;
        }
        walk->frames[walk->count++] = (struct walk_frame){
            .address = address,
            .code = code,
            .instruction = code == NULL ? -1 : frames_instruction(&header, code),
            .generator = generator,
            .on_data_stack = on_data_stack,
        };
        address = (uintptr_t)header.previous;
    }
    return WALK_WHOLE;
}
