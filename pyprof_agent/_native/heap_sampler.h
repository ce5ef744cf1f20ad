/* Samples the allocations of CPython's three allocator domains into the book. */
#ifndef PYPROF_HEAP_SAMPLER_H
#define PYPROF_HEAP_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

/* With more a gap between two samples might not fit into its integer. */
#define HEAP_MAX_MEAN 0x1p40

/* All of these are called with the GIL held, and never give it up. */

/* Start from zero, with this mean number of bytes between two samples (1 to HEAP_MAX_MEAN), at
   most `max_frames` (1 to HEAP_MAX_FRAMES) of a stack, and so many seconds to look back. NULL, or
   the reason why it cannot. Not while it runs. */
const char *heap_sampler_start(double mean, int max_frames, uint32_t look_back_seconds);

/* Stop and forget everything. Hooks that somebody has wrapped stay, and let all pass. */
void heap_sampler_stop(void);

bool heap_sampler_running(void);

/* If it runs, make sure that the hooks are still there. If somebody has removed them, frees were missed: what
   was alive is booked as freed, the hooks come back, and the result is true. */
bool heap_sampler_repair(void);

/* Allocations that were not sampled though it was their turn: made in a subinterpreter, or
   because hooks had been removed. On 3.11 a large block of a subinterpreter's counts as made
   without the GIL, where its thread is one of the main interpreter's. */
uint64_t heap_sampler_skipped(void);
uint64_t heap_sampler_missed(void);

#endif
