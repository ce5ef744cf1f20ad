/* The frames of a thread that goes on running, read without the GIL and without stopping it.

   What is read may be anything: the memory of a frame is used again at once, and on CPython up to
   3.12 the way to the top frame leads through the C stack, where any number may be. So nothing of
   the thread is read but by guarded_read(), no address that was read is dereferenced or reckoned
   with but by address.h, and every loop ends. */
#ifndef PYPROF_THREAD_WALK_H
#define PYPROF_THREAD_WALK_H

#include "code_table.h"

/* Frames of generators and coroutines that are copied at once with the data stack. */
#define WALK_GENERATORS 4

/* Where a thread's memory was when it was last walked: what is copied first, and at once. */
struct walk_memory {
    struct address link;
    struct address_range stack; /* the part of the data stack with its frames */
    struct address generators[WALK_GENERATORS]; /* their frames, from the leaf on; 0: none */
};

enum walk_part {
    WALK_HIDDEN,   /* none of a function, or one that has just been left */
    WALK_STARTING, /* a function that has not come to its first line */
    WALK_SHOWN,
};

struct walk_frame {
    struct address address;
    struct address code;
    int32_t instruction;
    enum walk_part part;
    bool on_data_stack;
    bool generator;
    bool from_c;     /* it may have been called by C */
    bool suspended;  /* a generator that has yielded and was not gone on with */
    bool passes_on;  /* what was thrown into it, to one that it awaits */
    bool has_called; /* it may be waiting for a Python function that it called */
    struct address end; /* where a frame above it would begin; 0 if that is not known */
};

/* A copy of a part of a data stack. */
struct walk_window {
    char *bytes;
    struct address_range range;
};

/* Room for a walk, of one sampling thread. */
struct walk {
    struct walk_frame *frames; /* leaf first */
    int count;
    int capacity;
    bool cut;                  /* there were more frames than there is room for */
    int dropped;               /* frames that had been left by the time they were read */
    struct walk_window top;    /* copied together with the address of the top frame, as are: */
    struct address generators[WALK_GENERATORS];
    struct _PyInterpreterFrame generator_frames[WALK_GENERATORS];
    struct walk_window deeper;
};

enum walk_end {
    WALK_WHOLE,
    WALK_TORN, /* what was read does not fit together: the thread moved on, or it is no frame */
    WALK_GONE, /* the thread state is another thread's by now */
};

/* limit: frames to be told apart, the interpreter's own included. False without memory. */
bool walk_init(struct walk *walk, int limit);
void walk_free(struct walk *walk);

/* Copy the top of the stack of the thread with that state and that id. */
enum walk_end walk_copy(struct walk *walk, struct address thread, uint64_t id,
                        struct walk_memory *memory);

/* The frames as they were at the moment when the top was copied. Code objects in a frame's way are
   taken into `codes`, which had seen `destroyed` of them destroyed before the copy was made. */
enum walk_end walk_frames(struct walk *walk, struct code_table *codes, uint64_t destroyed);

/* Have the generators of this walk copied at once the next time. */
void walk_remember(const struct walk *walk, struct walk_memory *memory);

#endif
