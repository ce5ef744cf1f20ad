/* How a CPython version lays its frames out; the only file that knows versions.

   Each build is for the minor version it was compiled against, with that version's headers. What
   is given an object or a frame reads it, so it must be there; what is given a `copy` reads that
   only, and takes every number in it for one that may be wrong. */
#ifndef PYPROF_FRAMES_H
#define PYPROF_FRAMES_H

#include <Python.h>

#include "address.h"

#include <opcode.h>
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
#if PY_VERSION_HEX < 0x030c0000
#  include <internal/pycore_runtime.h> /* has the GIL */
#endif
#if PY_VERSION_HEX >= 0x030d0000
#  include <internal/pycore_ceval.h>
#  include <internal/pycore_parking_lot.h>
#endif
#if PY_VERSION_HEX >= 0x030e0000
#  include <internal/pycore_interpframe_structs.h>
#endif
#include <internal/pycore_frame.h>
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

/* In a forked child: the state in which the calling thread, whose id is `ident`, holds the GIL; NULL if it
   does not hold it. From 3.12 on the current state is thread-local. On 3.11 it is the state of whichever
   thread holds the GIL, so it is compared with the calling thread's own state and id. Ids alone do not
   suffice: a state has the id of the thread that created it, and embedders may run it in another. If the
   calling thread has no state of its own, the GIL is left as it is. */
static inline PyThreadState *
frames_survivor(uint64_t ident)
{
    PyThreadState *holder = frames_holder();
#if PY_VERSION_HEX < 0x030c0000
    const PyThreadState *mine = PyGILState_GetThisThreadState();
    if (holder != NULL && mine != NULL && holder != mine && holder->thread_id != ident) {
        return NULL;
    }
#endif
    (void)ident;
    return holder;
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

/* Take the frames from the state of a thread that is not there any more. */
static inline void
frames_forget(PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030f0000
    thread->current_frame = thread->base_frame;
#elif PY_VERSION_HEX >= 0x030d0000
    thread->current_frame = NULL;
#else
    thread->cframe = &thread->root_cframe; /* the other one was on its stack */
    thread->root_cframe.current_frame = NULL;
#endif
}

/* In a forked child: empty CPython's table of threads that wait for a lock. Its entries, from 3.13 on, are
   on the stacks of the parent's threads. PyOS_AfterFork_Child() does the same. */
static inline void
frames_forget_waiting(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    _PyParkingLot_AfterFork();
#endif
}

static inline struct _gil_runtime_state *
frames_gil(PyInterpreterState *interpreter)
{
#if PY_VERSION_HEX >= 0x030c0000
    return interpreter->ceval.gil;
#else
    return &interpreter->runtime->ceval.gil;
#endif
}

/* In a forked child: initialize an interpreter's GIL again, as PyOS_AfterFork_Child() does. `own` is the
   state in which the calling thread holds the GIL, or NULL. Without this, a thread of the parent that held
   the GIL would hold it for ever, and one that had requested it would be waited for at the next release. */
static inline void
frames_renew_gil(PyInterpreterState *interpreter, const PyThreadState *own)
{
    struct _gil_runtime_state *gil = frames_gil(interpreter);
    if (gil == NULL) {
        return; /* the interpreter is only beginning */
    }
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC); /* as in thread_pthread.h of CPython */
    pthread_mutex_init(&gil->mutex, NULL);
    pthread_cond_init(&gil->cond, &clock);
    pthread_mutex_init(&gil->switch_mutex, NULL);
    pthread_cond_init(&gil->switch_cond, &clock);
    pthread_condattr_destroy(&clock);
    bool held = own != NULL && frames_gil(own->interp) == gil;
#if PY_VERSION_HEX >= 0x030d0000
    if (!held && gil->locked > 0) {
        gil->last_holder = NULL;
        gil->locked = 0;
    }
    PyThreadState *state = PyInterpreterState_ThreadHead(interpreter);
    for (; state != NULL; state = PyThreadState_Next(state)) {
        if (_Py_atomic_load_uintptr_relaxed(&state->eval_breaker) & _PY_GIL_DROP_REQUEST_BIT) {
            _Py_atomic_and_uintptr(&state->eval_breaker, ~(uintptr_t)_PY_GIL_DROP_REQUEST_BIT);
        }
    }
#else
    if (!held && _Py_atomic_load_relaxed(&gil->locked) > 0) {
        _Py_atomic_store_relaxed(&gil->last_holder, 0);
        _Py_atomic_store_relaxed(&gil->locked, 0);
#  if PY_VERSION_HEX < 0x030c0000
        _Py_atomic_store_relaxed(&interpreter->runtime->gilstate.tstate_current, 0);
#  endif
    }
    _Py_atomic_store_relaxed(&interpreter->ceval.gil_drop_request, 0);
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

/* Where the instructions of a code object are. Reads nothing; false if it cannot be a code object. */
static inline bool
frames_code_start(struct address code, struct address *start)
{
    return address_after(code, offsetof(PyCodeObject, co_code_adaptive), start);
}

/* The instruction that a frame is at, given where those of its code object are: -1 for one that is
   before them, INT32_MAX for one that is further behind than any can be. Reads the frame only. */
static inline int32_t
frames_instruction(const struct _PyInterpreterFrame *frame, struct address start)
{
#if PY_VERSION_HEX >= 0x030d0000
    struct address at = address_of(frame->instr_ptr);
#else
    struct address at = address_of(frame->prev_instr);
#endif
    size_t offset;
    if (!address_distance(start, at, &offset)) {
        return -1;
    }
    return offset < INT32_MAX ? (int32_t)offset : INT32_MAX;
}

/* Whether a function has not come to its first line yet: its frame is still being made. */
static inline bool
frames_incomplete(const struct _PyInterpreterFrame *frame, PyObject *code, int32_t instruction)
{
    return frame->owner != FRAME_OWNED_BY_GENERATOR
           && instruction < ((PyCodeObject *)code)->_co_firsttraceable * (int)sizeof(_Py_CODEUNIT);
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
        struct address start;
        if (code == NULL || !frames_code_start(address_of(code), &start)) {
            continue;
        }
        int32_t instruction = frames_instruction(frame, start);
        if (frames_incomplete(frame, code, instruction)) {
            continue;
        }
        if (count == limit) {
            *cut = true;
            break;
        }
        positions[count].code = code;
        positions[count].instruction = instruction;
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
struct frames_link {
    char unused;
};
#else
#  define FRAMES_LINK_BYTES sizeof(struct frames_link)
struct frames_link {
    _PyCFrame frame;
};
#endif

static inline struct address
frames_link(const PyThreadState *copy)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)copy;
    return address_of(NULL);
#else
    return address_of(copy->cframe);
#endif
}

/* link: a copy of it */
static inline struct address
frames_top_of_copy(const PyThreadState *copy, const struct frames_link *link)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)link;
    return address_of(copy->current_frame);
#else
    (void)copy;
    return address_of(link->frame.current_frame);
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

/* Whether an instruction is one by which a frame is left. `unit`: a copy of it; what it is replaced
   by while somebody traces or monitors is taken for the same. */
static inline bool
frames_is_leaving(const unsigned char unit[sizeof(_Py_CODEUNIT)])
{
    switch (unit[0]) {
    case RETURN_VALUE:
    case YIELD_VALUE:
    case RETURN_GENERATOR:
#ifdef RETURN_CONST
    case RETURN_CONST:
#endif
#ifdef INSTRUMENTED_RETURN_VALUE
    case INSTRUMENTED_RETURN_VALUE:
    case INSTRUMENTED_YIELD_VALUE:
#endif
#ifdef INSTRUMENTED_RETURN_CONST
    case INSTRUMENTED_RETURN_CONST:
#endif
        return true;
    default:
        return false;
    }
}

/* Up to 3.12 a frame that has called waits at the last unit of the instruction, and that is not code
   but one of the numbers that the interpreter keeps behind it, which may be that of an instruction
   too. This many units stand behind an instruction that calls a Python function; 0: it does not. */
static inline int
frames_caches_of_call(unsigned char instruction)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)instruction; /* it waits at the instruction */
    return 0;
#else
    switch (instruction) {
    case CALL:
    case CALL_PY_EXACT_ARGS:
    case CALL_PY_WITH_DEFAULTS:
#  if PY_VERSION_HEX >= 0x030c0000
    case CALL_BOUND_METHOD_EXACT_ARGS:
    case INSTRUMENTED_CALL:
#  else
    case CALL_ADAPTIVE:
#  endif
        return INLINE_CACHE_ENTRIES_CALL;
    case BINARY_SUBSCR_GETITEM:
        return INLINE_CACHE_ENTRIES_BINARY_SUBSCR;
#  if PY_VERSION_HEX >= 0x030c0000
    case LOAD_ATTR_PROPERTY:
    case LOAD_ATTR_GETATTRIBUTE_OVERRIDDEN:
        return INLINE_CACHE_ENTRIES_LOAD_ATTR;
    case FOR_ITER_GEN:
        return INLINE_CACHE_ENTRIES_FOR_ITER;
    case SEND_GEN:
        return INLINE_CACHE_ENTRIES_SEND;
#  endif
    default:
        return 0;
    }
#endif
}

/* The most that it gives. */
#define FRAMES_CACHES_OF_CALL 9

/* Whether the last of some units is what stands behind an instruction that calls a Python function. */
static inline bool
frames_ends_call(const unsigned char *units, int count)
{
    for (int caches = 1; caches <= FRAMES_CACHES_OF_CALL && caches < count; caches++) {
        int instruction = count - 1 - caches;
        if (frames_caches_of_call(units[instruction * (int)sizeof(_Py_CODEUNIT)]) == caches) {
            return true;
        }
    }
    return false;
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
    unsigned char byte; /* any number, where a bool may be 0 and 1 only */
    memcpy(&byte, &copy->is_entry, sizeof byte);
    return byte != 0;
#endif
}

/* How far behind the instruction that yields, in bytes, a generator stands that has yielded. */
#if PY_VERSION_HEX >= 0x030d0000
#  define FRAMES_BEHIND_YIELD ((int)sizeof(_Py_CODEUNIT))
#else
#  define FRAMES_BEHIND_YIELD 0
#endif

/* Whether a frame object is all that is left of a frame, and has its locals then. With the GIL held. */
static inline bool
frames_is_over(const PyFrameObject *frame)
{
    return frame->f_frame->owner == FRAME_OWNED_BY_FRAME_OBJECT;
}

/* Whether a frame has no code any more once it has been left. */
#define FRAMES_LEFT_ARE_EMPTY (PY_VERSION_HEX >= 0x030e0000)

/* The same for one that is noted for good: while lines or instructions are monitored what stands there
   does not tell, so it may be. */
static inline bool
frames_may_be_leaving(const unsigned char unit[sizeof(_Py_CODEUNIT)])
{
#ifdef INSTRUMENTED_LINE
    if (unit[0] == INSTRUMENTED_LINE || unit[0] == INSTRUMENTED_INSTRUCTION) {
        return true;
    }
#endif
    return frames_is_leaving(unit);
}

/* What must be known of a code object to judge frames that say they run it; bytes, 0 or more. */
struct code_facts {
    int32_t first_traceable; /* like `length`, of the instructions */
    int32_t length;
    int32_t frame; /* of each of its frames that is on the data stack */
};

/* Whether a copy of an object's first bytes may be of one that lives. */
static inline bool
frames_is_living(const PyObject *copy)
{
    /* The first word of what has been freed is a link of the allocator's, an address, or what the
       last reference has left, 0. A count of references has none of an address's upper bits; bit 32
       is of what lives for ever, counted on by code that was compiled for CPython 3.11. */
    uint64_t first_word;
    memcpy(&first_word, copy, sizeof first_word);
    return (first_word & UINT64_C(0x1ffffffff)) != 0 && (first_word >> 33 & 0x7fff) == 0;
}

/* False if there is no living code object in the copy, or one whose numbers cannot be. */
static inline bool
frames_code_facts(const PyCodeObject *copy, struct code_facts *facts)
{
    int64_t locals = copy->co_nlocalsplus;
    int64_t slots = locals + copy->co_stacksize + (int64_t)(FRAMES_HEADER_BYTES / sizeof(PyObject *));
#if PY_VERSION_HEX >= 0x030c0000
    if (copy->co_framesize != slots) {
        return false;
    }
#endif
    return copy->ob_base.ob_base.ob_type == &PyCode_Type && frames_is_living(&copy->ob_base.ob_base)
           && locals >= 0 && copy->co_stacksize >= 0
           && address_product(copy->_co_firsttraceable, sizeof(_Py_CODEUNIT), &facts->first_traceable)
           && address_product(copy->ob_base.ob_size, sizeof(_Py_CODEUNIT), &facts->length)
           && address_product(slots, sizeof(PyObject *), &facts->frame);
}

/* Objects that a code object has from when it is made until it dies, and their types or what these
   are subclasses of: memory that was one and has been used again in part does not have them all. */
#define FRAMES_CODE_PARTS 5

struct code_part {
    struct address object;
    const PyTypeObject *type;
    unsigned long subclass; /* in the flags of such a type */
};

static inline void
frames_code_parts(const PyCodeObject *copy, struct code_part parts[FRAMES_CODE_PARTS])
{
    const PyObject *tuples[] = {copy->co_consts, copy->co_names, copy->co_localsplusnames};
    const PyObject *bytes[] = {copy->co_exceptiontable, copy->co_linetable};
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct code_part){address_of(tuples[i]), &PyTuple_Type,
                                      Py_TPFLAGS_TUPLE_SUBCLASS};
    }
    for (int i = 0; i < 2; i++) {
        parts[3 + i] = (struct code_part){address_of(bytes[i]), &PyBytes_Type,
                                          Py_TPFLAGS_BYTES_SUBCLASS};
    }
}

/* What names a function, and says where its lines are. */
struct code_names {
    struct address name; /* strings */
    struct address file;
    struct address lines; /* bytes */
    int32_t first_line;
};

static inline struct code_names
frames_code_names(const PyCodeObject *copy)
{
    return (struct code_names){address_of(copy->co_qualname), address_of(copy->co_filename),
                               address_of(copy->co_linetable), copy->co_firstlineno};
}

/* Where the characters of a string are. */
struct string_facts {
    struct address data;
    bool indirect; /* there is their address */
    uint32_t length;
    uint32_t kind; /* bytes of each */
};

/* copy: of its first bytes. False if it can be none. */
static inline bool
frames_string_facts(struct address string, const PyASCIIObject *copy, struct string_facts *facts)
{
    facts->kind = copy->state.kind;
    facts->indirect = !copy->state.compact;
    size_t header = facts->indirect        ? offsetof(PyUnicodeObject, data)
                    : copy->state.ascii ? sizeof(PyASCIIObject)
                                        : sizeof(PyCompactUnicodeObject);
    facts->length = (uint32_t)copy->length;
    return copy->length >= 0 && copy->length <= INT32_MAX
           && (facts->kind == 1 || facts->kind == 2 || facts->kind == 4)
           && address_after(string, header, &facts->data);
}

/* Where the bytes of a bytes object are. copy: of its header. */
static inline bool
frames_bytes_facts(struct address bytes, const PyVarObject *copy, struct address *data, size_t *count)
{
    *count = (size_t)copy->ob_size;
    return copy->ob_size >= 0 && address_after(bytes, offsetof(PyBytesObject, ob_sval), data);
}

/* What the garbage collector counts, and what it compares that with, youngest first. Not by its name,
   which was another one in the first versions of 3.14. With the GIL held. */
#define FRAMES_GENERATIONS 3

static inline struct gc_generation *
frames_generations(PyInterpreterState *interpreter)
{
    size_t before = offsetof(struct _gc_runtime_state, debug) + sizeof interpreter->gc.debug;
    size_t alignment = _Alignof(struct gc_generation);
    size_t offset = (before + alignment - 1) / alignment * alignment;
    return (struct gc_generation *)(void *)((char *)&interpreter->gc + offset);
}

/* Whether a collection starts by these counts alone. Up to 3.14.4 the collector of 3.14 computes
   with them how much is to be done; so may versions before 3.15.0. */
static inline bool
frames_collects_by_counts(void)
{
    return Py_Version < 0x030e0000 || (Py_Version >= 0x030e0500 && Py_Version < 0x030f0000)
           || Py_Version >= 0x030f00f0;
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
