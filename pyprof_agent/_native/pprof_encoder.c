#include "pprof_encoder.h"

#include "blake2b.h"
#include "function_table.h"
#include "pprof_locations.h"

#define ID_BYTES 5 /* of a number with 32 bits, as a varint, at most */

#define LISTS 33 /* 2**32 nodes, and one for what is carried */

/* Fields of messages. */
enum profile_field {
    SAMPLE_TYPE = 1,
    SAMPLE = 2,
    MAPPING = 3,
    LOCATION = 4,
    FUNCTION = 5,
    STRING_TABLE = 6,
    TIME_NANOS = 9,
    DURATION_NANOS = 10,
    PERIOD_TYPE = 11,
    PERIOD = 12,
    COMMENT = 13,
    DEFAULT_SAMPLE_TYPE = 14,
};

/* A location in the profile: its id is its place in the order of addresses, from 1 on. */
struct numbered {
    uint64_t address;
    uint32_t location;
};

struct encoder {
    const struct pprof_input *input;
    struct bytes_buffer *output;
    struct bytes_buffer scratch; /* a message within another one */
    struct bytes_buffer inner;   /* a message within that */
    /* The tree, by node, and 0 for none; the root is node 0. Callees of one caller are in the order of their
       locations, rows of one stack in the order of their labels. */
    uint32_t *callee; /* the first */
    uint32_t *sibling;
    uint32_t *row; /* the first, plus one */
    uint32_t *next_row; /* by row plus one, which is how lists have them */
    uint32_t *set;      /* of labels; likewise */
    struct pprof_locations locations;
    struct numbered *in_order; /* by address */
    uint32_t *id_of; /* by location */
    struct number_index string_index; /* by hash */
    struct pprof_text *strings;
    uint32_t string_count;
    uint32_t string_capacity;
    bool failed;
};

/* The stack at which a walk through the tree is. The ids of its locations are written from the end of the
   room to its beginning, as profiles have the leaf first. */
struct walk {
    uint32_t *nodes;
    size_t depth;
    unsigned char *room;
    size_t begin;
    size_t end;
};

static void
free_all(struct encoder *encoder)
{
    bytes_buffer_free(&encoder->scratch);
    bytes_buffer_free(&encoder->inner);
    pprof_locations_free(&encoder->locations);
    free(encoder->callee);
    free(encoder->sibling);
    free(encoder->row);
    free(encoder->next_row);
    free(encoder->set);
    free(encoder->in_order);
    free(encoder->id_of);
    free(encoder->strings);
    number_index_free(&encoder->string_index);
}

/* Strings: equal ones have one number; 0 is the empty one. */

static uint32_t
string(struct encoder *encoder, struct pprof_text text)
{
    uint64_t hash = function_hash(0, text.bytes, text.count);
    size_t cursor = 0;
    uint32_t number;
    while ((number = number_index_next(&encoder->string_index, hash, &cursor))
           != NUMBER_INDEX_NONE) {
        const struct pprof_text *known = &encoder->strings[number];
        if (known->count == text.count
            && (text.count == 0 || memcmp(known->bytes, text.bytes, text.count) == 0)) {
            return number;
        }
    }
    if (encoder->string_count == encoder->string_capacity) {
        uint32_t capacity = encoder->string_capacity ? encoder->string_capacity * 2 : 256;
        struct pprof_text *larger = realloc(encoder->strings, capacity * sizeof *larger);
        if (larger == NULL) {
            encoder->failed = true;
            return 0;
        }
        encoder->strings = larger;
        encoder->string_capacity = capacity;
    }
    if (!number_index_put(&encoder->string_index, hash, encoder->string_count)) {
        encoder->failed = true;
        return 0;
    }
    encoder->strings[encoder->string_count] = text;
    return encoder->string_count++;
}

/* pprof reads default_sample_type as the index of a string, speedscope as that of a column: with that
   string at the position of its column both are right. */
static void
place_default_type(struct encoder *encoder)
{
    const struct pprof_input *input = encoder->input;
    string(encoder, (struct pprof_text){"", 0});
    if (input->default_column >= input->columns) {
        return;
    }
    uint32_t placed = 1;
    for (uint32_t i = 0; placed < input->default_column; i++) {
        if (i != input->default_column) {
            string(encoder, input->sample_types[i].type);
            placed++;
        }
    }
    string(encoder, input->sample_types[input->default_column].type);
}

/* Locations. */

/* False without memory. */
static bool
find_address(struct encoder *encoder, const struct pprof_location *location, uint64_t *address)
{
    const struct pprof_function *function = pprof_location_function(encoder->input, location);
    struct bytes_buffer *identity = &encoder->scratch;
    identity->count = 0;
    bytes_buffer_add(identity, function->identity.bytes, function->identity.count);
    char digits[24];
    size_t count = sizeof digits;
    uint64_t rest = (uint64_t)location->line;
    do {
        digits[--count] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    bytes_buffer_add(identity, digits + count, sizeof digits - count);
    if (identity->failed) {
        return false;
    }
    *address = blake2b_64(identity->bytes, identity->count) >> 1;
    *address = *address != 0 ? *address : 1;
    return true;
}

static int
compare_addresses(const void *left, const void *right)
{
    uint64_t a = ((const struct numbered *)left)->address;
    uint64_t b = ((const struct numbered *)right)->address;
    return (a > b) - (a < b);
}

static bool
number_locations(struct encoder *encoder)
{
    uint32_t count = encoder->locations.count;
    encoder->in_order = malloc(((size_t)count + 1) * sizeof *encoder->in_order);
    encoder->id_of = malloc(((size_t)count + 1) * sizeof *encoder->id_of);
    bool numbered = encoder->in_order != NULL && encoder->id_of != NULL;
    for (uint32_t i = 0; numbered && i < count; i++) {
        encoder->in_order[i].location = i;
        numbered = find_address(encoder, &encoder->locations.all[i], &encoder->in_order[i].address);
    }
    if (numbered) {
        qsort(encoder->in_order, count, sizeof *encoder->in_order, compare_addresses);
        for (uint32_t i = 0; i < count; i++) {
            encoder->id_of[encoder->in_order[i].location] = i + 1;
        }
    }
    return numbered;
}

/* The id of a node's location, which is in the stack of some row. */
static uint32_t
id_at(const struct encoder *encoder, uint32_t node)
{
    return encoder->id_of[encoder->locations.of_node[node] - 1];
}

/* The tree. */

/* The set of labels of a row, which is given plus one. */
static uint32_t
set_at(const struct encoder *encoder, uint32_t row)
{
    return encoder->set[row];
}

/* Give each stack the list of its rows; false if a row has labels that there are not. */
static bool
link_rows(struct encoder *encoder)
{
    const struct pprof_input *input = encoder->input;
    for (uint32_t row = 1; row <= input->row_count; row++) {
        uint32_t place =
            pprof_label_place(input->labels, input->label_count, input->rows[row - 1].labels);
        if (place == PPROF_NO_LABELS) {
            return false;
        }
        encoder->set[row] = input->set_of[place];
        uint32_t *link = &encoder->row[input->rows[row - 1].node];
        while (*link != 0 && set_at(encoder, *link) < set_at(encoder, row)) {
            link = &encoder->next_row[*link];
        }
        encoder->next_row[row] = *link;
        *link = row;
    }
    return true;
}

/* Give each caller the list of its callees: nodes are sorted by location, by counting, and put at the
   beginning of the lists from the last to the first. */
static bool
link_callees(struct encoder *encoder)
{
    uint32_t nodes = encoder->input->node_count;
    const uint32_t *location_of = encoder->locations.of_node;
    uint32_t *begins = calloc((size_t)encoder->locations.count + 2, sizeof *begins);
    uint32_t *sorted = malloc(((size_t)nodes + 1) * sizeof *sorted);
    bool linked = begins != NULL && sorted != NULL;
    uint32_t count = 0;
    for (uint32_t node = 1; linked && node < nodes; node++) {
        if (location_of[node] != 0) {
            begins[id_at(encoder, node) + 1]++;
            count++;
        }
    }
    for (uint32_t id = 1; linked && id < encoder->locations.count + 2; id++) {
        begins[id] += begins[id - 1];
    }
    for (uint32_t node = 1; linked && node < nodes; node++) {
        if (location_of[node] != 0) {
            sorted[begins[id_at(encoder, node)]++] = node;
        }
    }
    while (linked && count > 0) {
        uint32_t node = sorted[--count];
        uint32_t caller = encoder->input->nodes[node].parent;
        encoder->sibling[node] = encoder->callee[caller];
        encoder->callee[caller] = node;
    }
    free(begins);
    free(sorted);
    return linked;
}

static enum pprof_result
grow_tree(struct encoder *encoder)
{
    size_t nodes = (size_t)encoder->input->node_count + 1;
    encoder->callee = calloc(nodes, sizeof *encoder->callee);
    encoder->sibling = calloc(nodes, sizeof *encoder->sibling);
    encoder->row = calloc(nodes, sizeof *encoder->row);
    size_t rows = (size_t)encoder->input->row_count + 1;
    encoder->next_row = malloc(rows * sizeof *encoder->next_row);
    encoder->set = malloc(rows * sizeof *encoder->set);
    if (encoder->callee == NULL || encoder->sibling == NULL || encoder->row == NULL
        || encoder->next_row == NULL || encoder->set == NULL) {
        return PPROF_NO_MEMORY;
    }
    enum pprof_result result = pprof_locations_find(&encoder->locations, encoder->input);
    if (result == PPROF_DONE && !link_rows(encoder)) {
        result = PPROF_NO_NAME;
    }
    if (result == PPROF_DONE && (!number_locations(encoder) || !link_callees(encoder))) {
        result = PPROF_NO_MEMORY;
    }
    return result;
}

/* Two lists as one, in the order of what `key` gives of their elements; 0 is the end of a list. */
static uint32_t
merged(const struct encoder *encoder, uint32_t *next,
       uint32_t (*key)(const struct encoder *, uint32_t), uint32_t left, uint32_t right)
{
    uint32_t first = 0;
    uint32_t *link = &first;
    while (left != 0 && right != 0) {
        uint32_t *taken = key(encoder, left) <= key(encoder, right) ? &left : &right;
        *link = *taken;
        link = &next[*taken];
        *taken = *link;
    }
    *link = left != 0 ? left : right;
    return first;
}

/* Lists to be merged: the one at place i is of about 2**i, so that no list is gone through more often than
   there are places, however many they are. */
struct lists {
    uint32_t *next;
    uint32_t (*key)(const struct encoder *, uint32_t);
    uint32_t lists[LISTS];
};

static void
lists_add(const struct encoder *encoder, struct lists *lists, uint32_t list)
{
    uint32_t place = 0;
    for (; list != 0 && lists->lists[place] != 0; place++) {
        list = merged(encoder, lists->next, lists->key, lists->lists[place], list);
        lists->lists[place] = 0;
    }
    if (list != 0) {
        lists->lists[place] = list;
    }
}

static uint32_t
lists_merged(const struct encoder *encoder, const struct lists *lists)
{
    uint32_t list = 0;
    for (uint32_t place = 0; place < LISTS; place++) {
        list = merged(encoder, lists->next, lists->key, lists->lists[place], list);
    }
    return list;
}

/* Nodes that differ in the instruction alone, or in functions of one name, are one stack: make the siblings that
   are at the same location part of the first of them. */
static void
absorb_equals(struct encoder *encoder, uint32_t node)
{
    uint32_t other = encoder->sibling[node];
    if (other == 0 || id_at(encoder, other) != id_at(encoder, node)) {
        return;
    }
    struct lists callees = {.next = encoder->sibling, .key = id_at};
    struct lists rows = {.next = encoder->next_row, .key = set_at};
    lists_add(encoder, &callees, encoder->callee[node]);
    lists_add(encoder, &rows, encoder->row[node]);
    for (; other != 0 && id_at(encoder, other) == id_at(encoder, node);
         other = encoder->sibling[other]) {
        lists_add(encoder, &callees, encoder->callee[other]);
        lists_add(encoder, &rows, encoder->row[other]);
    }
    encoder->sibling[node] = other;
    encoder->callee[node] = lists_merged(encoder, &callees);
    encoder->row[node] = lists_merged(encoder, &rows);
}

/* Messages. */

static void
add_value_type(struct encoder *encoder, enum profile_field field, const struct pprof_value_type *type)
{
    struct bytes_buffer *message = &encoder->scratch;
    message->count = 0;
    bytes_buffer_number(message, 1, string(encoder, type->type));
    bytes_buffer_number(message, 2, string(encoder, type->unit));
    bytes_buffer_field(encoder->output, field, message->bytes, message->count);
}

static void
add_labels(struct encoder *encoder, struct bytes_buffer *sample, const struct pprof_labels *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct pprof_label *label = &set->labels[i];
        struct bytes_buffer *message = &encoder->inner;
        message->count = 0;
        bytes_buffer_number(message, 1, string(encoder, label->key));
        if (label->text.count > 0) {
            bytes_buffer_number(message, 2, string(encoder, label->text));
        }
        else {
            bytes_buffer_number(message, 3, (uint64_t)label->number);
            bytes_buffer_number(message, 4, string(encoder, label->unit));
        }
        bytes_buffer_field(sample, 3, message->bytes, message->count);
    }
}

static void
add_sample(struct encoder *encoder, const struct walk *walk, const int64_t *sums, uint32_t set)
{
    const struct pprof_input *input = encoder->input;
    struct bytes_buffer *sample = &encoder->scratch;
    sample->count = 0;
    if (walk->depth > 0) {
        bytes_buffer_field(sample, 1, walk->room + walk->begin, walk->end - walk->begin);
    }
    unsigned char values[PPROF_MAX_COLUMNS * VARINT_BYTES];
    size_t count = 0;
    for (uint32_t column = 0; column < input->columns; column++) {
        count += varint_write(values + count, (uint64_t)sums[column]);
    }
    bytes_buffer_field(sample, 2, values, count);
    add_labels(encoder, sample, &input->sets[set]);
    bytes_buffer_field(encoder->output, SAMPLE, sample->bytes, sample->count);
}

/* The sums of the rows of one stack, for each set of labels. */
static void
add_samples(struct encoder *encoder, const struct walk *walk, uint32_t node)
{
    const struct pprof_input *input = encoder->input;
    uint32_t next = encoder->row[node];
    while (next != 0) {
        int64_t sums[PPROF_MAX_COLUMNS] = {0};
        uint32_t set = set_at(encoder, next);
        for (; next != 0 && set_at(encoder, next) == set; next = encoder->next_row[next]) {
            for (uint32_t column = 0; column < input->columns; column++) {
                sums[column] += input->rows[next - 1].values[column];
            }
        }
        if (!pprof_is_zero(sums, input->columns)) {
            add_sample(encoder, walk, sums, set);
        }
    }
}

static void
enter(struct encoder *encoder, struct walk *walk, uint32_t node)
{
    absorb_equals(encoder, node);
    unsigned char id[VARINT_BYTES];
    size_t count = varint_write(id, id_at(encoder, node));
    walk->begin -= count;
    memcpy(walk->room + walk->begin, id, count);
    walk->nodes[walk->depth++] = node;
    add_samples(encoder, walk, node);
}

/* The node that was left. */
static uint32_t
leave(const struct encoder *encoder, struct walk *walk)
{
    uint32_t node = walk->nodes[--walk->depth];
    unsigned char id[VARINT_BYTES];
    walk->begin += varint_write(id, id_at(encoder, node));
    return node;
}

/* Through the tree, callers before their callees. */
static bool
add_all_samples(struct encoder *encoder)
{
    size_t nodes = encoder->input->node_count;
    struct walk walk = {.end = nodes * ID_BYTES, .begin = nodes * ID_BYTES};
    walk.nodes = malloc((nodes + 1) * sizeof *walk.nodes); /* what is not used has no pages */
    walk.room = malloc(walk.end + 1);
    bool walked = walk.nodes != NULL && walk.room != NULL;
    if (walked) {
        add_samples(encoder, &walk, STACK_ROOT);
        uint32_t node = encoder->callee[STACK_ROOT];
        while (node != 0) {
            enter(encoder, &walk, node);
            node = encoder->callee[node];
            while (node == 0 && walk.depth > 0) {
                node = encoder->sibling[leave(encoder, &walk)];
            }
        }
    }
    free(walk.nodes);
    free(walk.room);
    return walked;
}

static void
add_mapping(struct encoder *encoder)
{
    struct bytes_buffer *message = &encoder->scratch;
    message->count = 0;
    bytes_buffer_number(message, 1, 1);
    bytes_buffer_number(message, 5, string(encoder, encoder->input->mapping));
    for (unsigned field = 7; field <= 9; field++) { /* it has functions, file names, line numbers */
        bytes_buffer_number(message, field, 1);
    }
    bytes_buffer_field(encoder->output, MAPPING, message->bytes, message->count);
}

/* Locations, and functions in the order in which these have them. */
static void
add_places(struct encoder *encoder)
{
    struct bytes_buffer functions = {0};
    struct number_index ids = {0};
    uint32_t id = 0;
    for (uint32_t i = 0; i < encoder->locations.count && !encoder->failed; i++) {
        const struct numbered *numbered = &encoder->in_order[i];
        const struct pprof_location *location = &encoder->locations.all[numbered->location];
        const struct pprof_function *function = pprof_location_function(encoder->input, location);
        uint64_t key = (uint64_t)(uintptr_t)function;
        size_t cursor = 0;
        uint32_t known = number_index_next(&ids, key, &cursor);
        struct bytes_buffer *message = &encoder->scratch;
        if (known == NUMBER_INDEX_NONE) {
            known = ++id;
            encoder->failed = encoder->failed || !number_index_put(&ids, key, known);
            message->count = 0;
            bytes_buffer_number(message, 1, known);
            bytes_buffer_number(message, 2, string(encoder, function->name));
            bytes_buffer_number(message, 4, string(encoder, function->file));
            bytes_buffer_number(message, 5, (uint64_t)function->first_line);
            bytes_buffer_field(&functions, FUNCTION, message->bytes, message->count);
        }
        unsigned char line[4 * VARINT_BYTES];
        size_t count = 0;
        line[count++] = 1 << 3;
        count += varint_write(line + count, known);
        if (location->line != 0) {
            line[count++] = 2 << 3;
            count += varint_write(line + count, (uint64_t)location->line);
        }
        message->count = 0;
        bytes_buffer_number(message, 1, i + 1);
        bytes_buffer_number(message, 2, 1);
        bytes_buffer_number(message, 3, numbered->address);
        bytes_buffer_field(message, 4, line, count);
        bytes_buffer_field(encoder->output, LOCATION, message->bytes, message->count);
    }
    bytes_buffer_add(encoder->output, functions.bytes, functions.count);
    encoder->failed = encoder->failed || functions.failed;
    bytes_buffer_free(&functions);
    number_index_free(&ids);
}

static void
add_end(struct encoder *encoder)
{
    const struct pprof_input *input = encoder->input;
    struct bytes_buffer *output = encoder->output;
    bytes_buffer_number(output, TIME_NANOS, (uint64_t)input->time_nanos);
    bytes_buffer_number(output, DURATION_NANOS, (uint64_t)input->duration_nanos);
    add_value_type(encoder, PERIOD_TYPE, &input->period_type);
    bytes_buffer_number(output, PERIOD, (uint64_t)input->period);
    for (uint32_t i = 0; i < input->comment_count; i++) {
        /* Written though it be 0: comments are packed or not, and all count. */
        bytes_buffer_varint(output, COMMENT << 3);
        bytes_buffer_varint(output, string(encoder, input->comments[i]));
    }
    if (input->default_column < input->columns) {
        bytes_buffer_number(output, DEFAULT_SAMPLE_TYPE,
                            string(encoder, input->sample_types[input->default_column].type));
    }
    for (uint32_t i = 0; i < encoder->string_count; i++) {
        bytes_buffer_field(output, STRING_TABLE, encoder->strings[i].bytes, encoder->strings[i].count);
    }
}

enum pprof_result
pprof_encode(const struct pprof_input *input, struct bytes_buffer *output)
{
    struct encoder encoder = {.input = input, .output = output};
    place_default_type(&encoder);
    enum pprof_result result = grow_tree(&encoder);
    if (result == PPROF_DONE) {
        for (uint32_t column = 0; column < input->columns; column++) {
            add_value_type(&encoder, SAMPLE_TYPE, &input->sample_types[column]);
        }
        bool walked = add_all_samples(&encoder);
        add_mapping(&encoder);
        add_places(&encoder);
        add_end(&encoder);
        if (!walked || encoder.failed || encoder.scratch.failed || encoder.inner.failed
            || output->failed) {
            result = PPROF_NO_MEMORY;
        }
    }
    free_all(&encoder);
    return result;
}
