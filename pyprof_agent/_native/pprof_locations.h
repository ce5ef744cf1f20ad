/* The places in functions at which the stacks of a profile are. Calls nothing of Python. */
#ifndef PYPROF_PPROF_LOCATIONS_H
#define PYPROF_PPROF_LOCATIONS_H

#include "number_index.h"
#include "pprof_encoder.h"

#define PPROF_NO_FUNCTION UINT32_MAX

/* A line of a function, or a marker. */
struct pprof_location {
    uint32_t function; /* PPROF_NO_FUNCTION for a marker */
    uint32_t marker;
    int64_t line;
};

/* Zeros are an empty one. */
struct pprof_locations {
    struct pprof_location *all; /* no two equal */
    uint32_t count;
    uint32_t *of_node; /* by node, plus one; 0 for a node that is in no row's stack, and for the root */
    struct number_index index;
};

/* Of the stacks of all rows. Reads no texts. */
enum pprof_result pprof_locations_find(struct pprof_locations *locations, const struct pprof_input *input);

void pprof_locations_free(struct pprof_locations *locations);

static inline const struct pprof_function *
pprof_location_function(const struct pprof_input *input, const struct pprof_location *location)
{
    uint32_t number = location->function;
    return number == PPROF_NO_FUNCTION ? &input->markers[location->marker]
                                       : &input->functions[number / PPROF_SEGMENT][number % PPROF_SEGMENT];
}

#endif
