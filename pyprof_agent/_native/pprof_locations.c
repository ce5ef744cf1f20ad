#include "pprof_locations.h"

#define WANTED UINT32_MAX /* the node is to get a location */

void
pprof_locations_free(struct pprof_locations *locations)
{
    free(locations->all);
    free(locations->of_node);
    number_index_free(&locations->index);
    *locations = (struct pprof_locations){0};
}

static enum pprof_result
find(struct pprof_locations *locations, const struct pprof_input *input, uint32_t number)
{
    const struct stack_node *node = &input->nodes[number];
    struct pprof_location made = {.function = PPROF_NO_FUNCTION, .marker = (uint32_t)node->instruction};
    uint64_t key = made.marker;
    if (node->function == 0 ? made.marker >= input->marker_count
                            : node->function >= input->next_number) {
        return PPROF_NO_NAME;
    }
    if (node->function != 0) {
        made = (struct pprof_location){
            .function = input->function_of[node->function / PPROF_SEGMENT][node->function % PPROF_SEGMENT],
            .line = node->line > 0 ? node->line : 0,
        };
        key = ((uint64_t)made.function + 1) << 32 | (uint64_t)made.line; /* not that of a marker */
    }
    size_t cursor = 0;
    uint32_t found = number_index_next(&locations->index, key, &cursor);
    if (found == NUMBER_INDEX_NONE) {
        found = locations->count;
        if (!number_index_put(&locations->index, key, found)) {
            return PPROF_NO_MEMORY;
        }
        locations->all[locations->count++] = made;
    }
    locations->of_node[number] = found + 1;
    return PPROF_DONE;
}

enum pprof_result
pprof_locations_find(struct pprof_locations *locations, const struct pprof_input *input)
{
    size_t nodes = (size_t)input->node_count + 1;
    uint32_t *of_node = calloc(nodes, sizeof *of_node);
    locations->of_node = of_node;
    locations->all = malloc(nodes * sizeof *locations->all); /* what is not used has no pages */
    if (of_node == NULL || locations->all == NULL) {
        return PPROF_NO_MEMORY;
    }
    of_node[STACK_ROOT] = WANTED;
    for (uint32_t i = 0; i < input->row_count; i++) {
        for (uint32_t node = input->rows[i].node; of_node[node] == 0;
             node = input->nodes[node].parent) {
            of_node[node] = WANTED;
        }
    }
    enum pprof_result result = PPROF_DONE;
    for (uint32_t node = 1; result == PPROF_DONE && node < input->node_count; node++) {
        if (of_node[node] == WANTED) {
            result = find(locations, input, node);
        }
    }
    of_node[STACK_ROOT] = 0;
    struct pprof_location *smaller =
        realloc(locations->all, ((size_t)locations->count + 1) * sizeof *smaller);
    locations->all = smaller != NULL ? smaller : locations->all;
    return result;
}
