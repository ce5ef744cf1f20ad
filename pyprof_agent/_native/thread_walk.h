/* The frames of a thread that goes on running, read without the GIL and without stopping it. */
#ifndef PYPROF_THREAD_WALK_H
#define PYPROF_THREAD_WALK_H

#include "frames.h"

/* Where a thread's memory was when it was last walked: what is copied first, and at once. */
struct walk_memory {
    const void *link;
    uintptr_t low; /* the part of the data stack with its frames */
    uintptr_t high;
};

struct walk_frame {
    uintptr_t address;
    PyObject *code; /* as the frame says; NULL for a shim, or a frame that has been left */
    int32_t instruction;
    bool generator;
    bool on_data_stack;
    /* For who judges the walk: */
    bool shown;    /* a function's, and past the making of its frame */
    int32_t bytes; /* on the data stack; 0 if that is not known */
};

enum walk_end {
    WALK_WHOLE, /* down to the base */
    WALK_CUT,   /* there were more frames than asked for */
    WALK_TORN,  /* the thread moved on in the middle: what was read does not fit together */
    WALK_GONE,  /* the thread state is another thread's by now */
};

/* Room for a walk, of one sampling thread. */
struct walk {
    struct walk_frame *frames; /* leaf first */
    int count;
    int capacity;
    char *window; /* a copy of a part of the data stack */
    uintptr_t low;
    uintptr_t high;
};

/* limit: frames to be told apart, shims and unfinished ones included. False without memory. */
bool walk_init(struct walk *walk, int limit);
void walk_free(struct walk *walk);

/* Read the frames of the thread with that state and that id. */
enum walk_end walk_thread(struct walk *walk, const PyThreadState *thread, uint64_t id,
                          struct walk_memory *memory);

#endif
