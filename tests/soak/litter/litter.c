/* Garbage on the C stack, where the sampling thread may look for a frame: on CPython up to 3.12 the way
   from a thread to its top frame leads through there. Called through ctypes, which keeps the GIL. */
#include "frames.h"

#include <stdlib.h>

#define WORDS 1024 /* 8 KiB: deeper than the C frames that a call to Python takes */

/* What a stale word may be: small, just below 2^64, or near something that is there. */
static uintptr_t
garbage(const uintptr_t near[4], unsigned number)
{
    uintptr_t step = (uintptr_t)((int)(number / 8 % 33) - 16);
    switch (number % 8) {
    case 0:
        return step;
    case 1:
    case 2:
        return step * 4; /* from -64 to 64 */
    case 3:
        return step * sizeof(void *);
    default:
        return near[number % 4] + step * 8;
    }
}

/* Fills its frame, and returns. */
__attribute__((noinline)) static void
litter(const uintptr_t near[4], unsigned seed)
{
    volatile uintptr_t words[WORDS];
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = garbage(near, seed + i);
    }
}

/* Call a function so often from C, and leave garbage where the interpreter was. NULL if it raises. */
PyObject *
litter_calls(PyObject *function, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        PyThreadState *state = PyThreadState_Get();
        const uintptr_t near[4] = {
            (uintptr_t)frames_top(state),
            (uintptr_t)state->datastack_chunk,
            (uintptr_t)state->datastack_limit,
            (uintptr_t)function,
        };
        PyObject *result = PyObject_CallNoArgs(function);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
        litter(near, (unsigned)rand());
    }
    Py_RETURN_NONE;
}
