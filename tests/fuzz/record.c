/* A walk of another thread, with all that it read: for recordings to fuzz with. A library for
   ctypes.CDLL, which calls it without the GIL, so that the thread goes on meanwhile. */
#define guarded_read real_read
#define guarded_copy real_copy
#include "guarded.c"
#undef guarded_read
#undef guarded_copy

#include "function_source.h"
#include "thread_list.h"
#include "thread_walk.h"

static unsigned char *log_start;
static unsigned char *log_end;
static size_t log_room;

static void
append(const void *bytes, size_t count)
{
    if (count <= log_room) {
        memcpy(log_end, bytes, count);
        log_end += count;
        log_room -= count;
    }
}

/* Each range that was read: address, length, bytes. */
int
guarded_read(const struct guarded_range *ranges, int count)
{
    int whole = real_read(ranges, count);
    for (int i = 0; i < whole; i++) {
        uint64_t head[2] = {(uint64_t)(uintptr_t)address_pointer(ranges[i].from), ranges[i].bytes};
        append(head, sizeof head);
        append(ranges[i].to, ranges[i].bytes);
    }
    return whole;
}

bool
guarded_copy(struct address from, void *to, size_t bytes)
{
    const struct guarded_range range = {from, to, bytes};
    return guarded_read(&range, 1) == 1;
}

/* What a recording has to say besides memory. Called with the GIL held, so by ctypes.pythonapi's
   kind of library. */
void
record_facts(uint64_t facts[6])
{
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    facts[0] = (uint64_t)(uintptr_t)&PyCode_Type;
    facts[1] = (uint64_t)(uintptr_t)&PyTuple_Type;
    facts[2] = (uint64_t)(uintptr_t)&PyBytes_Type;
    facts[3] = (uint64_t)(uintptr_t)Py_None;
    facts[4] = (uint64_t)(uintptr_t)interpreter;
    facts[5] = (uint64_t)(uintptr_t)frames_newest_thread(interpreter);
}

/* Read what the functions of a walk's frames are called, and their lines, as the book does. */
static bool
read_names(const struct walk *walk)
{
    static struct function_source source;
    struct function_facts facts;
    int32_t line;
    for (int i = 0; i < walk->count; i++) {
        const struct walk_frame *frame = &walk->frames[i];
        if (frame->part == WALK_SHOWN
            && (!function_source_facts(&source, guarded_copy, frame->code, &facts)
                || !function_source_line(guarded_copy, frame->code, frame->instruction, &line))) {
            return false;
        }
    }
    return true;
}

/* Walk the thread with that native id until a walk ends as wanted (enum walk_end), at most as often as
   `attempts` says; whether one did. Sets `result` to the thread's state, its id, the number of its
   frames, and the bytes that this walk has logged. */
bool
record_walk(uint64_t newest, uint64_t interpreter, uint64_t native_id, int wanted, int attempts,
            unsigned char *buffer, size_t room, uint64_t result[4])
{
    struct walk walk;
    bool done = false;
    if (!walk_init(&walk, 400)) {
        return false;
    }
    for (; attempts > 0 && !done; attempts--) {
        log_start = log_end = buffer;
        log_room = room;
        struct thread_list list = thread_list_from(address_of((void *)(uintptr_t)newest),
                                                   (PyInterpreterState *)(uintptr_t)interpreter);
        PyThreadState copy;
        struct address state;
        struct address found = address_of(NULL);
        uint64_t id = 0;
        while (thread_list_next(&list, &state, &copy)) {
            if (copy.native_thread_id == native_id) {
                found = state;
                id = copy.id;
            }
        }
        struct walk_memory memory = {0};
        struct code_table codes;
        if (address_is_null(found)) {
            break;
        }
        code_table_init(&codes, 1000);
        enum walk_end end = walk_copy(&walk, found, id, &memory);
        if (end == WALK_WHOLE) {
            end = walk_frames(&walk, &codes, 0);
        }
        code_table_free(&codes);
        done = (int)end == wanted && (end != WALK_WHOLE || read_names(&walk));
        result[0] = (uint64_t)(uintptr_t)address_pointer(found);
        result[1] = id;
        result[2] = (uint64_t)walk.count;
        result[3] = (uint64_t)(log_end - log_start);
    }
    walk_free(&walk);
    return done;
}
