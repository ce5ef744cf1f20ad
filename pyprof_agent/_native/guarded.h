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
   most GUARDED_MAX_RANGES. Leaves errno as it was. */
int guarded_read(const struct guarded_range *ranges, int count);

/* The same for one; whether it is whole. */
bool guarded_copy(struct address from, void *to, size_t bytes);

/* Why it cannot be done here; NULL if it can. */
const char *guarded_problem(void);

#endif
