/* Samples the allocations of CPython's three allocator domains into the book. */
#ifndef PYPROF_HEAP_SAMPLER_H
#define PYPROF_HEAP_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

/* All of these are called with the GIL held, and never give it up. */

/* Start from zero, with this mean number of bytes between two samples and at most `max_frames`
   (1 to HEAP_MAX_FRAMES) of a stack. NULL, or the reason why it cannot. Not while it runs. */
const char *heap_sampler_start(double mean, int max_frames);

/* Stop and forget everything. Hooks that somebody has wrapped stay, and let all pass. */
void heap_sampler_stop(void);

bool heap_sampler_running(void);

/* Make sure that the hooks are still there. If somebody has removed them, frees were missed: what
   was alive is booked as freed, the hooks come back, and the result is true. */
bool heap_sampler_repair(void);

/* Allocations that were not sampled though it was their turn: made in a subinterpreter, or
   because hooks had been removed. */
uint64_t heap_sampler_skipped(void);
uint64_t heap_sampler_missed(void);

#endif
