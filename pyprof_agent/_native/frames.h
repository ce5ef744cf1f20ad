/* How a CPython version lays its frames out; the only file that knows versions.

   Each build is for the minor version it was compiled against, with that version's headers. */
#ifndef PYPROF_FRAMES_H
#define PYPROF_FRAMES_H

#include <Python.h>

#include <opcode.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef Py_GIL_DISABLED
#  error "free-threaded builds of CPython are not supported"
#endif
#if PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x03100000 || defined(PYPY_VERSION)
#  error "this interpreter's frames are not known; CPython 3.11 to 3.15 are"
#endif

#undef _PyGC_FINALIZED /* pycore_gc.h, which comes with pycore_interp.h, has its own */
#define Py_BUILD_CORE 1
#include <internal/pycore_interp.h>
#if PY_VERSION_HEX >= 0x030e0000
#  include <internal/pycore_interpframe_structs.h>
#else
#  include <internal/pycore_frame.h>
#endif
#undef Py_BUILD_CORE

/* Where a frame is. */
struct position {
    PyObject *code;      /* borrowed */
    int32_t instruction; /* offset in bytes, as f_lasti; -1 before the first */
};

/* The state of the calling thread if it holds the GIL, else NULL. */
static inline PyThreadState *
frames_own_thread(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked();
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyThreadState_UncheckedGet();
#else
    /* On 3.11 this is the state of whoever holds the GIL. */
    PyThreadState *holder = _PyThreadState_UncheckedGet();
    return holder != NULL && holder == PyGILState_GetThisThreadState() ? holder : NULL;
#endif
}

/* The state that the GIL's holder runs in, for a caller that is the holder. On 3.11 the function
   above does not know a thread that has gone into a subinterpreter; this one does. */
static inline PyThreadState *
frames_holder(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

static inline struct _PyInterpreterFrame *
frames_top(const PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030d0000
    return thread->current_frame;
#else
    return thread->cframe->current_frame;
#endif
}

/* Whether the interpreter has put a frame there for itself, to go between C and Python. */
static inline bool
frames_is_shim(const struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030e0000
    return frame->owner >= FRAME_OWNED_BY_INTERPRETER;
#elif PY_VERSION_HEX >= 0x030c0000
    return frame->owner == FRAME_OWNED_BY_CSTACK;
#else
    (void)frame;
    return false;
#endif
}

/* What a frame that is no shim runs: a code object, or on its way in or out NULL or None. */
static inline PyObject *
frames_executable(const struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030e0000
    return (PyObject *)(frame->f_executable.bits & ~(uintptr_t)3); /* tags */
#elif PY_VERSION_HEX >= 0x030d0000
    return frame->f_executable;
#else
    return (PyObject *)frame->f_code;
#endif
}

/* The code object that a frame runs; NULL for a frame that is none of a Python function. */
static inline PyObject *
frames_code(const struct _PyInterpreterFrame *frame)
{
    PyObject *code = frames_is_shim(frame) ? NULL : frames_executable(frame);
    if (code == NULL || !Py_IS_TYPE(code, &PyCode_Type)) {
        return NULL;
    }
    /* 3.11.0 and 3.11.1 clear a frame before they unlink it: a finalizer of the code that the
       frame had the last reference to still finds it there, and must not bring it back. */
    return Py_REFCNT(code) > 0 ? code : NULL;
}

static inline int32_t
frames_instruction(const struct _PyInterpreterFrame *frame, PyObject *code)
{
#if PY_VERSION_HEX >= 0x030d0000
    const char *at = (const char *)frame->instr_ptr;
#else
    const char *at = (const char *)frame->prev_instr;
#endif
    ptrdiff_t offset = at - ((PyCodeObject *)code)->co_code_adaptive; /* reads nothing of it */
    return offset < 0 || offset > INT32_MAX ? -1 : (int32_t)offset;
}

/* Whether a function has not come to its first line yet: its frame is still being made. */
static inline bool
frames_incomplete(const struct _PyInterpreterFrame *frame, PyObject *code)
{
    return frame->owner != FRAME_OWNED_BY_GENERATOR
           && frames_instruction(frame, code)
                  < ((PyCodeObject *)code)->_co_firsttraceable * (int)sizeof(_Py_CODEUNIT);
}

/* The frames of a thread, leaf first, at most `limit`; their number. For the calling thread
   while it holds the GIL. Sets `cut` if there were more. Allocates nothing, takes no reference. */
static inline int
frames_collect(const PyThreadState *thread, struct position *positions, int limit, bool *cut)
{
    int count = 0;
    *cut = false;
    const struct _PyInterpreterFrame *frame = frames_top(thread);
    for (; frame != NULL; frame = frame->previous) {
        PyObject *code = frames_code(frame);
        if (code == NULL || frames_incomplete(frame, code)) {
            continue;
        }
        if (count == limit) {
            *cut = true;
            break;
        }
        positions[count].code = code;
        positions[count].instruction = frames_instruction(frame, code);
        count++;
    }
    return count;
}

/* For the frames of a thread that goes on running, in copies of its memory. Addresses in a copy
   are of the original, and nothing says that what is there is whole. */

/* As much of a thread state as is needed, from its beginning. */
#define FRAMES_THREAD_BYTES (offsetof(PyThreadState, datastack_limit) + sizeof(PyObject **))
#define FRAMES_HEADER_BYTES offsetof(struct _PyInterpreterFrame, localsplus)
#define FRAMES_CODE_BYTES offsetof(PyCodeObject, co_code_adaptive)

/* What stands between a thread state and its top frame, up to 3.12: a struct on the C stack. */
#if PY_VERSION_HEX >= 0x030d0000
#  define FRAMES_LINK_BYTES 0
#else
#  define FRAMES_LINK_BYTES sizeof(_PyCFrame)
#endif

static inline const void *
frames_link(const PyThreadState *copy)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)copy;
    return NULL;
#else
    return copy->cframe;
#endif
}

static inline const struct _PyInterpreterFrame *
frames_top_of_copy(const PyThreadState *copy, const void *link)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)link;
    return copy->current_frame;
#else
    (void)copy;
    return ((const _PyCFrame *)link)->current_frame;
#endif
}

/* Whether a frame in a copy could be one that runs. */
static inline bool
frames_owner_is_sane(const struct _PyInterpreterFrame *copy)
{
    return copy->owner == FRAME_OWNED_BY_THREAD || copy->owner == FRAME_OWNED_BY_GENERATOR
           || (frames_is_shim(copy) && copy->owner >= 0 && copy->owner <= 4);
}

/* Whether a frame may wait for one that it has called: it has put its stack pointer away for that.
   From 3.14 on it is there always. */
static inline bool
frames_has_stack_pointer(const struct _PyInterpreterFrame *copy)
{
#if PY_VERSION_HEX >= 0x030e0000
    return copy->stackpointer != NULL;
#else
    return copy->stacktop >= 0;
#endif
}

/* Whether the instruction that a frame is at is one by which it is left. The code object must live. */
static inline bool
frames_is_leaving(PyObject *code, int32_t instruction)
{
    if (instruction < 0) {
        return false;
    }
    unsigned char opcode = (unsigned char)((PyCodeObject *)code)->co_code_adaptive[instruction];
    switch (opcode) {
    case RETURN_VALUE:
    case YIELD_VALUE:
    case RETURN_GENERATOR:
#ifdef RETURN_CONST
    case RETURN_CONST:
#endif
        return true;
    default:
        return false;
    }
}

/* Whether a frame was entered from C: then what is below has called C and not a Python function.
   From 3.12 on there is a shim in between. */
static inline bool
frames_is_entry(const struct _PyInterpreterFrame *copy)
{
#if PY_VERSION_HEX >= 0x030c0000
    (void)copy;
    return false;
#else
    return copy->is_entry;
#endif
}

/* Whether a frame has no code any more once it has been left. */
#define FRAMES_LEFT_ARE_EMPTY (PY_VERSION_HEX >= 0x030e0000)

/* What must be known of a code object to judge frames that say they run it. */
struct code_facts {
    int32_t first_traceable; /* in instructions, like the next */
    int32_t length;
    int32_t frame_bytes; /* of each of its frames that is on the data stack */
};

/* False if there is no living code object in the copy. */
static inline bool
frames_code_facts(const PyCodeObject *copy, struct code_facts *facts)
{
    /* The first word of what has been freed is a link of the allocator's, an address. No count of
       references has any of these bits, not even of what lives for ever. */
    uint64_t first_word;
    memcpy(&first_word, copy, sizeof first_word);
    if (copy->ob_base.ob_base.ob_type != &PyCode_Type || (first_word & UINT32_MAX) == 0
        || (first_word >> 32 & UINT16_MAX) != 0) {
        return false;
    }
    facts->first_traceable = copy->_co_firsttraceable;
    facts->length = (int32_t)copy->ob_base.ob_size;
#if PY_VERSION_HEX >= 0x030c0000
    facts->frame_bytes = copy->co_framesize * (int)sizeof(PyObject *);
#else
    facts->frame_bytes = (copy->co_nlocalsplus + copy->co_stacksize + (int)FRAME_SPECIALS_SIZE)
                         * (int)sizeof(PyObject *);
#endif
    return true;
}

/* The newest thread state of an interpreter, and a number that grows with each that is made. Read
   without a lock, and so maybe no longer true. */
static inline PyThreadState *
frames_newest_thread(PyInterpreterState *interpreter)
{
    return __atomic_load_n(&interpreter->threads.head, __ATOMIC_ACQUIRE);
}

static inline uint64_t
frames_threads_made(PyInterpreterState *interpreter)
{
    return __atomic_load_n(&interpreter->threads.next_unique_id, __ATOMIC_ACQUIRE);
}

#endif
