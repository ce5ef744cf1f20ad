/* The sampling thread: looks at all threads' stacks, without the GIL and without a signal. */
#ifndef PYPROF_STACK_SAMPLER_H
#define PYPROF_STACK_SAMPLER_H

#include "stack_book.h"

struct stack_settings {
    double hz;      /* looks a second; fewer if they would cost more than max_cpu */
    double max_cpu; /* of one core, as a share */
    int max_frames;
    uint32_t look_back_seconds;
};

/* All of these are called with the GIL held, and never give it up: so one after the other. */

/* Why it cannot be started; NULL if it is. */
const char *stack_sampler_start(const struct stack_settings *settings);
void stack_sampler_stop(void);
bool stack_sampler_running(void);

/* Before a fork: end the sampling thread and keep the counters. Returns the native id of the last sampling
   thread, which the kernel may still list for a moment; 0 if there was none. After the fork: start it
   again; returns why it cannot be started, or NULL. */
uint64_t stack_sampler_pause(void);
const char *stack_sampler_resume(void);

/* A copy of what was counted up to now. With the GIL held, which is given away while a look is under way. */
bool stack_sampler_copy(struct stack_snapshot *snapshot);

/* The frames of the calling thread, leaf first, at most `limit`, read as those of others are: to see
   whether it works. Their number; 0 if they cannot be read. */
int stack_sampler_own(struct position *positions, int limit);

struct stack_cost {
    uint64_t cpu;    /* ns that the sampling thread has burned */
    uint64_t period; /* ns between two looks, on average, of late */
    bool slowed;     /* they would cost more than max_cpu otherwise */
    uint64_t bytes;  /* what is kept of the threads */
};

struct stack_cost stack_sampler_cost(void);

#endif
