/* How a CPython version lays its frames out; the only file that knows versions.

   Each build is for the minor version it was compiled against, with that version's headers. */
#ifndef PYPROF_FRAMES_H
#define PYPROF_FRAMES_H

#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#  error "free-threaded builds of CPython are not supported"
#endif
#if PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x03100000 || defined(PYPY_VERSION)
#  error "this interpreter's frames are not known; CPython 3.11 to 3.15 are"
#endif

#define Py_BUILD_CORE 1
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

/* The code object that a frame runs; NULL for a frame that is none of a Python function. */
static inline PyObject *
frames_code(const struct _PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030e0000
    if (frame->owner >= FRAME_OWNED_BY_INTERPRETER) {
        return NULL;
    }
    PyObject *code = (PyObject *)(frame->f_executable.bits & ~(uintptr_t)3); /* tags */
#elif PY_VERSION_HEX >= 0x030d0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK) {
        return NULL;
    }
    PyObject *code = frame->f_executable;
#elif PY_VERSION_HEX >= 0x030c0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK) {
        return NULL;
    }
    PyObject *code = (PyObject *)frame->f_code;
#else
    PyObject *code = (PyObject *)frame->f_code;
#endif
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
    ptrdiff_t offset = at - ((PyCodeObject *)code)->co_code_adaptive;
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

#endif
