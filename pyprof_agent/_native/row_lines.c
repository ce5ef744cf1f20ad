#include "row_lines.h"

enum { OTHERS, AROUND_OTHERS, OWN };

void
row_lines_free(struct row_lines *lines)
{
    pprof_locations_free(&lines->locations);
    free(lines->sums);
    *lines = (struct row_lines){0};
}

static bool
begins_with(const struct pprof_text *text, const struct pprof_text *prefix)
{
    return text->count >= prefix->count && memcmp(text->bytes, prefix->bytes, prefix->count) == 0;
}

static uint8_t
owner_of(const struct pprof_text *name, const struct row_lines_owner *owner)
{
    if (!begins_with(name, &owner->own)) {
        return OTHERS;
    }
    bool around = false;
    for (uint32_t i = 0; i < owner->around_count; i++) {
        around = around || begins_with(name, &owner->around[i]);
    }
    return around ? AROUND_OTHERS : OWN;
}

/* `owners` is by location; `in_own` by node, of zeros. */
static void
add_up(struct row_lines *lines, const struct pprof_input *input, const uint8_t *owners, bool *in_own)
{
    const uint32_t *location_of = lines->locations.of_node;
    for (uint32_t node = 1; node < input->node_count; node++) {
        if (location_of[node] != 0) {
            in_own[node] =
                in_own[input->nodes[node].parent] || owners[location_of[node] - 1] == OWN;
        }
    }
    for (uint32_t i = 0; i < input->row_count; i++) {
        const struct pprof_row *row = &input->rows[i];
        uint32_t location = location_of[row->node]; /* 0: the empty stack */
        if (location == 0 || in_own[row->node] || owners[location - 1] != OTHERS) {
            continue;
        }
        for (uint32_t column = 0; column < input->columns; column++) {
            lines->sums[location - 1][column] += row->values[column];
        }
    }
}

enum pprof_result
row_lines_add_up(struct row_lines *lines, const struct pprof_input *input,
                 const struct row_lines_owner *owner)
{
    enum pprof_result result = pprof_locations_find(&lines->locations, input);
    if (result != PPROF_DONE) {
        return result;
    }
    size_t count = (size_t)lines->locations.count + 1;
    lines->sums = calloc(count, sizeof *lines->sums);
    uint8_t *owners = calloc(count, sizeof *owners);
    bool *in_own = calloc((size_t)input->node_count + 1, sizeof *in_own);
    if (lines->sums == NULL || owners == NULL || in_own == NULL) {
        result = PPROF_NO_MEMORY;
    }
    else {
        for (uint32_t i = 0; i < lines->locations.count; i++) {
            const struct pprof_location *location = &lines->locations.all[i];
            if (location->function != PPROF_NO_FUNCTION) {
                owners[i] = owner_of(&pprof_location_function(input, location)->name, owner);
            }
        }
        add_up(lines, input, owners, in_own);
    }
    free(owners);
    free(in_own);
    return result;
}
