/* Encodes the profile that stands on standard input as numbers, and writes it to standard output. With an
   argument, every allocation fails once before: none may be lost then, and no bytes be written. */
#include "pprof_encoder.h"
#include "row_lines.h"

#include <inttypes.h>
#include <stdio.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);

static long alive;
static long until_failure = -1; /* none fails */

static bool
fails(void)
{
    return until_failure >= 0 && until_failure-- == 0;
}

void *
__wrap_malloc(size_t bytes)
{
    void *block = fails() ? NULL : __real_malloc(bytes);
    alive += block != NULL;
    return block;
}

void *
__wrap_calloc(size_t count, size_t bytes)
{
    void *block = fails() ? NULL : __real_calloc(count, bytes);
    alive += block != NULL;
    return block;
}

void *
__wrap_realloc(void *block, size_t bytes)
{
    if (fails()) {
        return NULL;
    }
    alive += block == NULL;
    return __real_realloc(block, bytes);
}

void
__wrap_free(void *block)
{
    alive -= block != NULL;
    __real_free(block);
}

static int64_t
number(void)
{
    int64_t read = 0;
    if (scanf("%" SCNd64, &read) != 1) {
        fputs("a number is missing\n", stderr);
        exit(2);
    }
    return read;
}

static uint32_t
count(void)
{
    return (uint32_t)number();
}

static void *
room(size_t elements, size_t bytes)
{
    void *made = __real_calloc(elements + 1, bytes);
    if (made == NULL) {
        exit(2);
    }
    return made;
}

/* A text of this program, with a number in it. */
static struct pprof_text
text(const char *format, int64_t number)
{
    char *bytes = room(64, 1);
    int length = snprintf(bytes, 64, format, (int)number);
    return (struct pprof_text){bytes, (size_t)length};
}

static struct pprof_function
function(int64_t i)
{
    struct pprof_function made = {text("m.f%d", i), text("/f%d.py", i), {0}, i};
    char *identity = room(128, 1);
    made.identity.count = (size_t)snprintf(identity, 128, "/f%d.py%cm.f%d%c%d%c", (int)i, 0, (int)i, 0,
                                           (int)i, 0);
    made.identity.bytes = identity;
    return made;
}

static struct pprof_function
marker(int64_t i)
{
    return (struct pprof_function){.name = text("<marker %d>", i), .identity = text("marker %d", i)};
}

/* Numbers of labels have gaps: threads have come and gone. */
static uint32_t
label(uint32_t i)
{
    return 7 * i + 3;
}

static void
read_input(struct pprof_input *input)
{
    input->columns = count();
    input->default_column = count();
    uint32_t functions = count();
    input->next_number = count();
    input->marker_count = count();
    input->node_count = count();
    input->row_count = count();
    uint32_t sets = count();
    input->label_count = count();
    struct pprof_function *named = room(functions, sizeof *named);
    struct pprof_function *markers = room(input->marker_count, sizeof *markers);
    uint32_t *function_of = room(input->next_number, sizeof *function_of);
    struct stack_node *nodes = room(input->node_count, sizeof *nodes);
    struct pprof_row *rows = room(input->row_count, sizeof *rows);
    struct pprof_labels *labels = room(sets, sizeof *labels);
    uint32_t *set_of = room(input->label_count, sizeof *set_of);
    uint32_t *numbers = room(input->label_count, sizeof *numbers);
    for (uint32_t i = 0; i < functions; i++) {
        named[i] = function(i);
    }
    for (uint32_t i = 0; i < input->marker_count; i++) {
        markers[i] = marker(i);
    }
    for (uint32_t i = 0; i < input->next_number; i++) {
        function_of[i] = count();
    }
    for (uint32_t i = 0; i < input->node_count; i++) {
        nodes[i].parent = count();
        nodes[i].function = count();
        nodes[i].instruction = (int32_t)number();
        nodes[i].line = (int32_t)number();
    }
    for (uint32_t i = 0; i < input->row_count; i++) {
        rows[i].node = count();
        rows[i].labels = label(count());
        for (uint32_t column = 0; column < input->columns; column++) {
            rows[i].values[column] = number();
        }
    }
    for (uint32_t i = 0; i < sets; i++) {
        struct pprof_label *set = room(2, sizeof *set);
        set[0] = (struct pprof_label){.key = text("thread", 0), .text = text("t%d", i)};
        set[1] = (struct pprof_label){.key = text("bytes", 0), .number = i - 1, .unit = text("b", 0)};
        labels[i] = (struct pprof_labels){set, i == 0 ? 0 : 1 + i % 2}; /* none, one or both */
    }
    for (uint32_t i = 0; i < input->label_count; i++) {
        numbers[i] = label(i);
        set_of[i] = count();
    }
    for (uint32_t column = 0; column < input->columns; column++) {
        input->sample_types[column] = (struct pprof_value_type){text("type%d", column), text("u", 0)};
    }
    struct pprof_text *comments = room(2, sizeof *comments);
    comments[0] = text("comment %d", 1);
    comments[1] = text("", 0);
    const struct pprof_function **function_segments = room(1, sizeof *function_segments);
    const uint32_t **number_segments = room(1, sizeof *number_segments);
    function_segments[0] = named; /* there are less than PPROF_SEGMENT */
    number_segments[0] = function_of;
    input->functions = function_segments;
    input->function_of = number_segments;
    input->markers = markers;
    input->nodes = nodes;
    input->rows = rows;
    input->sets = labels;
    input->set_of = set_of;
    input->labels = numbers;
    input->comments = comments;
    input->comment_count = 2;
    input->period_type = (struct pprof_value_type){text("space", 0), text("bytes", 0)};
    input->period = 8192;
    input->time_nanos = INT64_C(1700000000000000000);
    input->mapping = text("program", 0);
}

static bool
is_same(const struct bytes_buffer *left, const struct bytes_buffer *right)
{
    return left->count == right->count && memcmp(left->bytes, right->bytes, left->count) == 0;
}

/* Every allocation fails once, one after the other; false if something was lost or came out wrong. */
static bool
survives(const struct pprof_input *input)
{
    const struct row_lines_owner owner = {.own = {"m.f1", 4}, .around = {{"m.f11", 5}}, .around_count = 1};
    struct bytes_buffer right = {0};
    if (pprof_encode(input, &right) != PPROF_DONE) {
        return false;
    }
    long before = alive, failures = 0;
    bool none_failed = false, well = true;
    for (long i = 0; well && !none_failed; i++) {
        struct bytes_buffer output = {0};
        struct row_lines lines = {0};
        until_failure = i;
        enum pprof_result encoded = pprof_encode(input, &output);
        enum pprof_result added = row_lines_add_up(&lines, input, &owner);
        none_failed = until_failure >= 0;
        until_failure = -1;
        failures += encoded == PPROF_NO_MEMORY || added == PPROF_NO_MEMORY;
        well = (encoded == PPROF_NO_MEMORY || (encoded == PPROF_DONE && is_same(&output, &right)))
               && (added == PPROF_NO_MEMORY || added == PPROF_DONE);
        bytes_buffer_free(&output);
        row_lines_free(&lines);
        well = well && alive == before;
        if (!well) {
            fprintf(stderr, "failure %ld: %d %d, %ld blocks lost\n", i, encoded, added, alive - before);
        }
    }
    return well && failures > 10; /* to make an array smaller may fail without harm */
}

int
main(int argc, char **argv)
{
    (void)argv;
    struct pprof_input input = {0};
    read_input(&input);
    if (argc > 1) {
        return survives(&input) ? 0 : 1;
    }
    struct bytes_buffer output = {0};
    enum pprof_result result = pprof_encode(&input, &output);
    if (output.count > 0) {
        fwrite(output.bytes, 1, output.count, stdout);
    }
    bytes_buffer_free(&output);
    fprintf(stderr, "%d", result);
    return alive != 0;
}
