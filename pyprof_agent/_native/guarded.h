/* Memory of this process that may be gone or changing, read without the risk of a fault. */
#ifndef PYPROF_GUARDED_H
#define PYPROF_GUARDED_H

#include "address.h"

struct guarded_range {
    struct address from;
    void *to;
    size_t bytes;
};

#define GUARDED_MAX_RANGES 8

/* Copy the ranges, as close together as can be; how many of them, from the first on, are whole. At
   most GUARDED_MAX_RANGES. Leaves errno as it was. Begins with guarded_notice_filter(). */
int guarded_read(const struct guarded_range *ranges, int count);

/* The same for one; whether it is whole. Does not begin so. */
bool guarded_copy(struct address from, void *to, size_t bytes);

/* Any thread may have installed a filter of system calls for all threads, which ends the process where it
   reads as before. If there is one, it is tried in another process. One that comes on top of another is
   not noticed. Takes 0.2 us. */
void guarded_notice_filter(void);

/* Find out how it can be done here; why it cannot; NULL if it can. */
const char *guarded_problem(void);

/* Whether it still can be done: a filter may have it fail. */
bool guarded_works(void);

/* How it is done, for people. */
const char *guarded_way(void);

/* In a forked child. */
void guarded_in_child(void);

#endif
