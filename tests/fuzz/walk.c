/* The walk of a thread's frames over memory that holds anything: recorded from real threads, then
   changed. For libFuzzer, or with -DALONE as a program that draws its own inputs.

   An input is a number of a recording, flags, and patches of 12 bytes: after how many reads, what to
   do, to which word, and a value. So a short input says what memory of 50 KB looks like, and when
   it changes under the walk. What the walk may read is what was recorded; all else is not there. */
#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "guarded.h"
#include "stack_book.h"
#include "thread_list.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* What the walk knows of the interpreter: addresses of types to compare with. */
PyTypeObject PyCode_Type;
PyTypeObject PyTuple_Type;
PyTypeObject PyBytes_Type;
PyObject _Py_NoneStruct;

void
_Py_Dealloc(PyObject *Py_UNUSED(object))
{
    abort(); /* nobody has a reference here */
}

#define MAGIC UINT64_C(0x314345524b4c4157)
#define PATCH_BYTES 12
#define MOST_PATCHES 24
#define MOST_FRAMES 400
#define MOST_READS 20000

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "walk.c:%d: not so: %s\n", __LINE__, #condition);                      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct segment {
    uint64_t address;
    uint64_t length;
    uint64_t *words; /* its bytes */
    bool gone;
};

struct recording {
    uint64_t state;
    uint64_t id;
    uint64_t newest;
    uint64_t steady; /* it was the same throughout the walk, which found so many */
    uint64_t frames;
    uint64_t segment_count;
    struct segment *segments;
    uint64_t **words; /* of all segments; first those that a walk looks at one by one */
    uint32_t word_count;
    uint32_t hot_count;
};

static struct recording *recordings;
static uint64_t recording_count;
static uint64_t interpreter;

struct patch {
    uint8_t after; /* reads */
    uint8_t what;
    uint16_t where;
    uint64_t value;
};

/* The walk that is going on. */
static struct {
    struct recording *recording;
    struct patch patches[MOST_PATCHES];
    int patch_count;
    unsigned reads;
    struct {
        uint64_t *word;
        uint64_t before;
    } undo[MOST_PATCHES];
    int undo_count;
} now;

static const uint64_t edges[] = {
    0, 1, 7, 8, 16, 72, 80, 88, 4096, 16384, 1 << 20, INT32_MAX, UINT32_MAX, UINT64_C(1) << 47,
    UINT64_C(1) << 63, (uint64_t)-1, (uint64_t)-8, (uint64_t)-16, (uint64_t)-72, (uint64_t)-80,
    (uint64_t)-88, (uint64_t)-4096, (uint64_t)-16384, (uint64_t)INT64_MAX - 7,
};
#define EDGES (sizeof edges / sizeof *edges)

static uint64_t *
word_at(const struct recording *recording, uint16_t where)
{
    /* The upper bit chooses among those that matter most. */
    uint32_t count = where & 0x8000 && recording->hot_count ? recording->hot_count
                                                            : recording->word_count;
    return recording->words[(where & 0x7fff) % count];
}

static uint64_t
patched(const struct patch *patch, uint64_t before)
{
    const struct recording *recording = now.recording;
    uint64_t value = patch->value;
    unsigned shift = (unsigned)(value >> 8 & 7) * 8;
    switch (patch->what % 8) {
    case 0:
        return value;
    case 1:
        return before + (uint64_t)(int64_t)(int16_t)value;
    case 2: /* another word, or nearly */
        return *word_at(recording, (uint16_t)value) + (uint64_t)(int64_t)(int8_t)(value >> 16);
    case 3:
        return (before & ~(UINT64_C(0xff) << shift)) | (value & 0xff) << shift;
    case 4:
        return (before & ~(uint64_t)UINT32_MAX) | (uint32_t)value;
    case 5:
        return (before & UINT32_MAX) | value << 32;
    case 6: /* in a segment, or at its end */
    {
        const struct segment *segment = &recording->segments[value % recording->segment_count];
        return segment->address + (value >> 16 & 1 ? segment->length : 0)
               + (uint64_t)(int64_t)(int8_t)(value >> 24) * 8;
    }
    default:
        return edges[value % EDGES] + (uint64_t)(int64_t)(int8_t)(value >> 8) * (value >> 16 & 8);
    }
}

static void
apply(const struct patch *patch)
{
    if (patch->what >= 0xf0) {
        now.recording->segments[patch->where % now.recording->segment_count].gone = true;
        return;
    }
    uint64_t *word = word_at(now.recording, patch->where);
    now.undo[now.undo_count].word = word;
    now.undo[now.undo_count++].before = *word;
    *word = patched(patch, *word);
}

static void
undo_all(void)
{
    while (now.undo_count > 0) {
        now.undo_count--;
        *now.undo[now.undo_count].word = now.undo[now.undo_count].before;
    }
    for (uint64_t i = 0; i < now.recording->segment_count; i++) {
        now.recording->segments[i].gone = false;
    }
}

/* The part of the recorded memory that begins at an address; NULL if nothing does. */
static const struct segment *
segment_with(const struct recording *recording, uint64_t address)
{
    uint64_t low = 0;
    uint64_t high = recording->segment_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const struct segment *segment = &recording->segments[middle];
        if (address < segment->address) {
            high = middle;
        }
        else if (address - segment->address >= segment->length) {
            low = middle + 1;
        }
        else {
            return segment->gone ? NULL : segment;
        }
    }
    return NULL;
}

static bool
read_one(const struct guarded_range *range)
{
    uint64_t address = (uint64_t)(uintptr_t)address_pointer(range->from);
    const struct segment *segment = range->bytes ? segment_with(now.recording, address) : NULL;
    if (segment == NULL || segment->length - (address - segment->address) < range->bytes) {
        return range->bytes == 0;
    }
    memcpy(range->to, (const char *)segment->words + (address - segment->address), range->bytes);
    return true;
}

int
guarded_read(const struct guarded_range *ranges, int count)
{
    CHECK(count >= 0 && count <= GUARDED_MAX_RANGES);
    CHECK(now.reads < MOST_READS); /* a walk ends */
    for (int i = 0; i < now.patch_count; i++) {
        if (now.patches[i].after == (now.reads < UINT8_MAX ? now.reads : UINT8_MAX)) {
            apply(&now.patches[i]);
            now.patches[i] = now.patches[--now.patch_count];
            i--;
        }
    }
    now.reads++;
    int whole = 0;
    while (whole < count && read_one(&ranges[whole])) {
        whole++;
    }
    return whole;
}

void
guarded_notice_filter(void)
{
}

bool
guarded_copy(struct address from, void *to, size_t bytes)
{
    const struct guarded_range range = {from, to, bytes};
    return guarded_read(&range, 1) == 1;
}

/* What holds of every walk, whatever was read. */
static void
check(const struct walk *walk, const struct code_table *codes)
{
    CHECK(walk->count >= 0 && walk->count <= walk->capacity && walk->dropped >= 0);
    for (int i = 0; i < walk->count; i++) {
        const struct walk_frame *frame = &walk->frames[i];
        CHECK(address_is_aligned(frame->address) && !address_is_null(frame->address));
        CHECK(frame->part != WALK_SHOWN || !address_is_null(frame->code));
    }
    for (uint32_t i = 0; i < codes->count; i++) {
        const struct code_facts *facts = &codes->codes[i].facts;
        CHECK(facts->first_traceable >= 0 && facts->length >= 0 && facts->frame >= 0);
    }
}

static uint64_t named; /* functions that got names */
static uint64_t seen[4][3]; /* how walks ended; in the last row those whose frames were cut */

/* What the sampling thread does in two looks; how the first ended. */
static enum walk_end
look_twice(struct walk *walk, struct code_table *codes)
{
    const struct recording *recording = now.recording;
    struct address state = address_of((void *)(uintptr_t)recording->state);
    struct walk_memory memory = {0};
    enum walk_end first = WALK_WHOLE;
    for (int look = 0; look < 2; look++) {
        enum walk_end end = walk_copy(walk, state, recording->id, &memory);
        if (end == WALK_WHOLE) {
            end = walk_frames(walk, codes, 0);
        }
        if (end == WALK_WHOLE) {
            check(walk, codes);
            seen[3][look] += walk->cut;
        }
        seen[look][end]++;
        walk_remember(walk, &memory);
        first = look == 0 ? end : first;
    }
    return first;
}

/* What Python can make strings of; how many functions there are. */
static uint64_t
check_names(void)
{
    static struct stack_snapshot snapshot;
    CHECK(stack_book_copy(&snapshot, 2, (struct stack_clocks){0}));
    const struct snapshot *books = &snapshot.books;
    for (uint32_t number = 1; number < books->function_count; number++) {
        const uint32_t begins[] = {books->functions[number].name, books->functions[number].file};
        for (int i = 0; i < 2; i++) {
            struct function_text text = function_text_at(books->text, begins[i]);
            CHECK(text.kind == 1 || text.kind == 2 || text.kind == 4);
            CHECK((uint64_t)text.length * text.kind <= FUNCTION_TEXT_BYTES);
            for (uint32_t at = 0; text.kind == 4 && at < text.length; at++) {
                uint32_t character;
                memcpy(&character, (const char *)text.data + (size_t)at * 4, sizeof character);
                CHECK(character <= 0x10ffff);
            }
        }
    }
    for (uint32_t id = 1; id < books->node_count; id++) {
        CHECK(books->nodes[id].line >= STACK_LINE_UNKNOWN);
    }
    uint64_t count = books->function_count - 1;
    snapshot_free(&snapshot.books);
    return count;
}

/* The same by way of the book, which is opened and closed with the process's one agent. */
static void
look_by_the_book(struct walk *walk)
{
    const struct recording *recording = now.recording;
    struct walk_memory memory = {0};
    CHECK(stack_book_open(64, 10, 0));
    if (walk_copy(walk, address_of((void *)(uintptr_t)recording->state), recording->id, &memory)
        == WALK_WHOLE) {
        uint32_t node = stack_book_intern(walk, stack_book_codes_destroyed());
        if (node != STACK_NONE) {
            stack_book_tick(1, (struct stack_clocks){0});
            stack_book_seen(stack_book_thread(1, 1, 0), node, true);
        }
    }
    named += check_names();
    stack_book_close();
}

static void
list_threads(void)
{
    struct thread_list list =
        thread_list_from(address_of((void *)(uintptr_t)now.recording->newest),
                         (PyInterpreterState *)(uintptr_t)interpreter);
    struct address state;
    PyThreadState copy;
    uint32_t count = 0;
    while (thread_list_next(&list, &state, &copy)) {
        count++;
    }
    CHECK(count == list.count && count < 1000);
}

static void
begin(struct recording *recording)
{
    now.recording = recording;
    now.patch_count = 0;
    now.undo_count = 0;
    now.reads = 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct walk walk;
    if (walk.frames == NULL) {
        CHECK(walk_init(&walk, MOST_FRAMES));
    }
    if (size < 2) {
        return 0;
    }
    begin(&recordings[data[0] % recording_count]);
    for (size_t at = 2; at + PATCH_BYTES <= size && now.patch_count < MOST_PATCHES;
         at += PATCH_BYTES) {
        struct patch *patch = &now.patches[now.patch_count++];
        patch->after = data[at];
        patch->what = data[at + 1];
        memcpy(&patch->where, data + at + 2, sizeof patch->where);
        memcpy(&patch->value, data + at + 4, sizeof patch->value);
    }
    walk.capacity = data[1] & 1 ? 20 : MOST_FRAMES;
    if (data[1] & 2) {
        list_threads();
    }
    if (data[1] & 4) {
        look_by_the_book(&walk);
    }
    else {
        struct code_table codes;
        code_table_init(&codes, data[1] & 8 ? 3 : 1000);
        look_twice(&walk, &codes);
        code_table_free(&codes);
    }
    undo_all();
    return 0;
}

/* Recordings. */

static uint64_t *file_words;

static uint64_t
relocated(uint64_t word, const uint64_t facts[4])
{
    const void *here[] = {&PyCode_Type, &PyTuple_Type, &PyBytes_Type, &_Py_NoneStruct};
    for (int i = 0; i < 4; i++) {
        if (word == facts[i]) {
            return (uint64_t)(uintptr_t)here[i];
        }
    }
    return word;
}

/* The words of what is read by itself, and of the headers of the frames that an unchanged walk finds. */
static void
find_words(struct recording *recording)
{
    size_t all = 0;
    for (uint64_t i = 0; i < recording->segment_count; i++) {
        all += (size_t)recording->segments[i].length / 8;
    }
    CHECK(all > 0);
    recording->words = calloc(all, sizeof *recording->words);
    struct walk walk;
    struct code_table codes;
    CHECK(recording->words != NULL && walk_init(&walk, MOST_FRAMES));
    code_table_init(&codes, 1000);
    begin(recording);
    enum walk_end end = look_twice(&walk, &codes);
    CHECK(!recording->steady
          || (end == WALK_WHOLE && (uint64_t)walk.count == recording->frames));
    for (int pass = 0; pass < 2; pass++) {
        size_t number = 0;
        for (uint64_t i = 0; i < recording->segment_count; i++) {
            struct segment *segment = &recording->segments[i];
            for (uint64_t word = 0; word < segment->length / 8; word++, number++) {
                uint64_t address = segment->address + word * 8;
                bool of_frame = false;
                for (int frame = 0; frame < walk.count && !of_frame; frame++) {
                    uint64_t at =
                        (uint64_t)(uintptr_t)address_pointer(walk.frames[frame].address);
                    of_frame = address >= at && address - at < FRAMES_HEADER_BYTES;
                }
                if ((segment->length <= 1024 || of_frame) == (pass == 0)) {
                    recording->words[recording->word_count++] = &segment->words[word];
                    recording->hot_count += pass == 0;
                }
            }
        }
    }
    walk_free(&walk);
    code_table_free(&codes);
}

static void
load(const char *path)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    rewind(file);
    file_words = malloc((size_t)size);
    CHECK(file_words != NULL && fread(file_words, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    uint64_t *word = file_words;
    CHECK(*word++ == MAGIC && *word++ == PY_VERSION_HEX >> 16);
    const uint64_t *facts = word;
    interpreter = facts[4];
    word += 5;
    recording_count = *word++;
    CHECK(recording_count > 0);
    recordings = calloc(recording_count, sizeof *recordings);
    for (uint64_t i = 0; i < recording_count; i++) {
        struct recording *recording = &recordings[i];
        recording->state = *word++;
        recording->id = *word++;
        recording->newest = *word++;
        recording->steady = *word++;
        recording->frames = *word++;
        recording->segment_count = *word++;
        recording->segments = calloc(recording->segment_count, sizeof *recording->segments);
        for (uint64_t j = 0; j < recording->segment_count; j++) {
            struct segment *segment = &recording->segments[j];
            segment->address = *word++;
            segment->length = *word++;
            segment->words = word;
            for (uint64_t k = 0; k < (segment->length + 7) / 8; k++, word++) {
                *word = relocated(*word, facts);
            }
        }
        find_words(recording);
    }
    memset(seen, 0, sizeof seen);
}

int
LLVMFuzzerInitialize(int *Py_UNUSED(argc), char ***Py_UNUSED(argv))
{
    const char *path = getenv("WALK_RECORDINGS");
    CHECK(path != NULL);
    load(path);
    return 0;
}

#ifdef ALONE

#  include <sanitizer/common_interface_defs.h>

static uint64_t random_state;

static uint64_t
draw(uint64_t below)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

#define MOST_BYTES (2 + PATCH_BYTES * MOST_PATCHES)

static size_t
draw_input(uint8_t data[MOST_BYTES])
{
    size_t size = 2;
    data[0] = (uint8_t)draw(256);
    data[1] = draw(4) ? 0 : (uint8_t)draw(16);
    uint64_t patches = draw(8) ? 1 + draw(3) : draw(MOST_PATCHES + 1);
    for (uint64_t i = 0; i < patches; i++, size += PATCH_BYTES) {
        uint8_t *patch = data + size;
        uint16_t where = (uint16_t)(draw(65536) | (draw(8) ? 0x8000 : 0));
        uint64_t value = draw(UINT64_MAX) >> draw(64);
        patch[0] = draw(4) ? 0 : (uint8_t)draw(40);
        patch[1] = draw(32) ? (uint8_t)draw(8) : 0xf0;
        memcpy(patch + 2, &where, sizeof where);
        memcpy(patch + 4, &value, sizeof value);
    }
    return size;
}

/* One that was found to lead somewhere, with some of its bytes changed. */
static size_t
change(uint8_t data[MOST_BYTES], const uint8_t *from, size_t size)
{
    memcpy(data, from, size);
    for (uint64_t changes = draw(4); changes > 0; changes--) {
        data[draw(size)] ^= (uint8_t)(1 << draw(8));
    }
    uint8_t other[MOST_BYTES];
    size_t drawn = draw(2) ? draw_input(other) : 0;
    if (drawn > 2 && size + PATCH_BYTES <= MOST_BYTES) {
        memcpy(data + size, other + 2, PATCH_BYTES);
        size += PATCH_BYTES;
    }
    return size;
}

static uint8_t (*corpus)[MOST_BYTES];
static size_t *corpus_sizes;
static size_t corpus_count;

/* Lines of hexadecimal digits. */
static void
load_corpus(const char *path)
{
    char line[2 * MOST_BYTES + 2];
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        size_t size = strcspn(line, "\n") / 2;
        corpus = realloc(corpus, (corpus_count + 1) * sizeof *corpus);
        corpus_sizes = realloc(corpus_sizes, (corpus_count + 1) * sizeof *corpus_sizes);
        CHECK(corpus != NULL && corpus_sizes != NULL && size >= 2 && size <= MOST_BYTES);
        for (size_t i = 0; i < size; i++) {
            unsigned byte;
            CHECK(sscanf(line + 2 * i, "%2x", &byte) == 1);
            corpus[corpus_count][i] = (uint8_t)byte;
        }
        corpus_sizes[corpus_count++] = size;
    }
    fclose(file);
}

static const uint8_t *current;
static size_t current_size;

/* Before the process ends by a report. */
static void
print_input(void)
{
    fputs("input: ", stderr);
    for (size_t i = 0; i < current_size; i++) {
        fprintf(stderr, "%02x", current[i]);
    }
    fputs("\n", stderr);
}

static void
on_abort(int Py_UNUSED(signal))
{
    print_input();
}

static void
run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size); /* of its exact size, for the sanitizer */
    CHECK(copy != NULL);
    memcpy(copy, data, size);
    current = copy;
    current_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Arguments: recordings, corpus, seconds, most walks, seed. */
int
main(int argc, char **argv)
{
    CHECK(argc == 6);
    signal(SIGABRT, on_abort);
    __sanitizer_set_death_callback(print_input);
    load(argv[1]);
    load_corpus(argv[2]);
    time_t end = time(NULL) + atoi(argv[3]);
    unsigned long long most = strtoull(argv[4], NULL, 10);
    random_state = strtoull(argv[5], NULL, 10);
    for (size_t i = 0; i < corpus_count; i++) {
        run(corpus[i], corpus_sizes[i]);
    }
    unsigned long long inputs = 0;
    for (; inputs < most && (inputs % 256 != 0 || time(NULL) < end); inputs++) {
        uint8_t data[MOST_BYTES];
        size_t size;
        if (corpus_count > 0 && draw(2)) {
            size_t chosen = (size_t)draw(corpus_count);
            size = change(data, corpus[chosen], corpus_sizes[chosen]);
        }
        else {
            size = draw_input(data);
        }
        run(data, size);
    }
    printf("%llu inputs of %llu recordings, and %zu of the corpus: no report\n", inputs,
           (unsigned long long)recording_count, corpus_count);
    for (int look = 0; look < 2; look++) {
        printf("look %d: %llu walks whole, %llu of them cut, %llu torn, %llu gone\n", look + 1,
               (unsigned long long)seen[look][WALK_WHOLE], (unsigned long long)seen[3][look],
               (unsigned long long)seen[look][WALK_TORN], (unsigned long long)seen[look][WALK_GONE]);
    }
    printf("%llu functions named\n", (unsigned long long)named);
    return 0;
}

#endif
