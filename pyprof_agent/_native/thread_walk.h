/* The frames of a thread that goes on running, read without the GIL and without stopping it.

   What is read may be anything: the memory of a frame is used again at once, and on CPython up to
   3.12 the way to the top frame leads through the C stack, where any number may be. So nothing of
   the thread is read but by guarded_read(), no address that was read is dereferenced or reckoned
   with but by address.h, and every loop ends. */
#ifndef PYPROF_THREAD_WALK_H
#define PYPROF_THREAD_WALK_H

#include "code_table.h"

/* Generators and coroutines that are copied at once with the data stack. */
#define WALK_GENERATORS 4

/* Links between a thread state and its top frame that are copied so, up to CPython 3.12. */
#define WALK_LINKS 2

/* How often a walk may be made again until it holds together. Those up to WALK_STRICT_ATTEMPTS hold only if
   all that they found is of one moment; those after them as long as a frame may have called the next. */
#define WALK_ATTEMPTS 16
#define WALK_STRICT_ATTEMPTS 12

/* Where a thread's memory was when it was last walked: what is copied first, and at once. */
struct walk_memory {
    struct address links[WALK_LINKS];
    struct address_range stack; /* the part of the data stack with its frames */
    struct address resumer;     /* the frame on it that the generators were resumed from; 0: none */
    struct address generators[WALK_GENERATORS]; /* their frames, from the leaf on; 0: none */
    unsigned unseen[WALK_GENERATORS];           /* walks since each was seen */
    int64_t fastest;                            /* copy of late, in nanoseconds */
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
    bool sure;       /* it was there at the moment when the thread state was copied */
    bool ran;        /* a generator that ran before that moment, as far as it was copied */
    bool runs;       /* and after it */
    struct address end; /* where a frame above it would begin; 0 if that is not known */
};

/* A copy of a part of a data stack. */
struct walk_window {
    char *bytes;
    struct address_range range;
};

/* A copy of a generator's frame, and of the bytes before it. */
struct walk_generator {
    unsigned char before[FRAMES_GENERATOR_BYTES];
    struct _PyInterpreterFrame frame;
};

/* Room for a walk, of one sampling thread. */
struct walk {
    struct walk_frame *frames; /* leaf first */
    int count;
    int capacity;
    bool strict;               /* a walk that holds only if all that it found is of one moment */
    bool cut;                  /* there were more frames than there is room for */
    int dropped;               /* frames that had been left by the time they were read */
    int generators_seen;       /* so far */
    struct address told;       /* the code of the generator next to the leaf, in the first attempt that found one */
    struct address stack_top;  /* the end of the data stack */
    /* Copied in this order, around the thread state: */
    struct address generators[WALK_GENERATORS];
    struct walk_generator earlier_generators[WALK_GENERATORS];
    struct walk_window earlier; /* a part of `top`, down from the frame that resumed them */
    struct walk_generator later_generators[WALK_GENERATORS];
    struct walk_window top;
    struct walk_window deeper; /* copied by itself */
};

enum walk_end {
    WALK_WHOLE,
    WALK_TORN, /* what was read does not fit together: the thread moved on, or it is no frame */
    WALK_GONE, /* the thread state is another thread's by now */
};

/* limit: frames to be told apart, the interpreter's own included. False without memory. */
bool walk_init(struct walk *walk, int limit);
void walk_free(struct walk *walk);

/* A walk of a thread begins; `attempt` of WALK_ATTEMPTS, from 0 on. */
void walk_begin(struct walk *walk, unsigned attempt);

/* Copy the top of the stack of the thread with that state and that id. */
enum walk_end walk_copy(struct walk *walk, struct address thread, uint64_t id,
                        struct walk_memory *memory);

/* The frames as they were at the moment when the thread state was copied. Code objects in a frame's way are
   taken into `codes`, which had seen `destroyed` of them destroyed before the copy was made. */
enum walk_end walk_frames(struct walk *walk, struct code_table *codes, uint64_t destroyed);

/* Have the generators of this walk, torn or not, copied at once the next time. */
void walk_remember(const struct walk *walk, struct walk_memory *memory);

#endif
