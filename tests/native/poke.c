/* Words of the calling thread's state and frames, set to garbage while somebody else looks at them
   and put right again. Called through ctypes with the GIL held; runs no Python code meanwhile. */
#include "frames.h"

#include <time.h>

#define MOST_FRAMES 4

/* The address of word `number` that a walk of the calling thread's stack reads, and its name; NULL
   after the last. The first is the one that led to its top frame when this library was written. */
void *
poke_place(int number, const char **name)
{
    PyThreadState *state = PyThreadState_Get();
    struct place {
        void *at;
        const char *name;
    } places[] = {
#if PY_VERSION_HEX >= 0x030d0000
        {&state->current_frame, "current_frame"},
#else
        {&state->cframe->current_frame, "current_frame"},
        {&state->cframe, "cframe"},
#endif
        {&state->datastack_chunk, "datastack_chunk"},
        {&state->datastack_top, "datastack_top"},
        {&state->datastack_limit, "datastack_limit"},
        {&state->next, "next"},
        {&state->native_thread_id, "native_thread_id"},
    };
    int count = (int)(sizeof places / sizeof *places);
    if (number < count) {
        *name = places[number].name;
        return places[number].at;
    }
    int words = (int)(FRAMES_HEADER_BYTES / sizeof(void *));
    struct _PyInterpreterFrame *frame = frames_top(state);
    for (int depth = (number - count) / words; depth > 0 && frame != NULL; depth--) {
        frame = frame->previous;
    }
    if (frame == NULL || (number - count) / words >= MOST_FRAMES) {
        return NULL;
    }
    *name = "a word of a frame";
    return (char *)frame + (number - count) % words * (int)sizeof(void *);
}

/* Have a function of one argument, made in C, called meanwhile. */
PyObject *
poke_call(uintptr_t *place, uintptr_t garbage, PyObject *function, PyObject *argument)
{
    uintptr_t right = *place;
    *(volatile uintptr_t *)place = garbage;
    PyObject *result = PyObject_CallOneArg(function, argument);
    *(volatile uintptr_t *)place = right;
    return result;
}

/* Compute meanwhile, so that a sampling thread has something to see. */
void
poke_hold(uintptr_t *place, uintptr_t garbage, double seconds)
{
    struct timespec begin;
    struct timespec now;
    uintptr_t right = *place;
    *(volatile uintptr_t *)place = garbage;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9
             < seconds);
    *(volatile uintptr_t *)place = right;
}

/* Other code that hooks what frees code objects, and stays. */
static destructor below;

static void
theirs(PyObject *code)
{
    below(code);
}

void
poke_dealloc(void)
{
    below = PyCode_Type.tp_dealloc;
    PyCode_Type.tp_dealloc = theirs;
}
