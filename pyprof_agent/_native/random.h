/* Gaps between samples: exponentially distributed numbers of bytes. */
#ifndef PYPROF_RANDOM_H
#define PYPROF_RANDOM_H

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <sys/random.h>
#include <time.h>

struct random {
    uint64_t state;
};

/* SplitMix64 (Steele, Lea and Flood, 2014): one word of state, passes BigCrush. */
static inline uint64_t
random_bits(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Another sequence for every caller: workers that fork from one master must not sample in step. */
static inline void
random_seed(struct random *random)
{
    int error = errno;
    if (getrandom(&random->state, sizeof random->state, GRND_NONBLOCK)
            != (ssize_t)sizeof random->state) {
        struct timespec now; /* entropy is not ready at boot; the time and the thread are */
        clock_gettime(CLOCK_MONOTONIC, &now);
        random->state = (uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 32)
                        ^ (uint64_t)(uintptr_t)random;
    }
    errno = error;
}

/* A number in (0, 1). */
static inline double
random_uniform(struct random *random)
{
    return ((double)(random_bits(random) >> 11) + 0.5) * 0x1p-53;
}

/* A gap with this mean. A block of S bytes contains its end with probability 1 - exp(-S / mean):
   the gap is rounded down, and S is whole. */
static inline int64_t
random_gap(struct random *random, double mean)
{
    return (int64_t)(-log(random_uniform(random)) * mean);
}

#endif
