/* The books of the stack sampler: how long each thread was seen at each stack. */
#ifndef PYPROF_STACK_BOOK_H
#define PYPROF_STACK_BOOK_H

#include "thread_walk.h" /* first, as Python.h sets what the system's headers show */

#include "snapshot.h"

#define STACK_MAX_FRAMES 1024
#define STACK_MAX_NODES (1u << 18)
#define STACK_MAX_CODES (1u << 16)
#define STACK_MAX_TEXT (1u << 23) /* bytes of names */
#define STACK_MAX_ROWS (1u << 16)
#define STACK_MAX_HISTORY (1u << 18) /* records: 10 MB */

/* Threads that are told apart, by number. These stand for several. */
#define STACK_MAX_THREADS 258u
#define STACK_THREAD_YOUNG 1u  /* that have not been there for long, or never were */
#define STACK_THREAD_OTHERS 2u /* that have no number, or no longer: another thread has it now */
#define STACK_FIRST_THREAD 3u

/* Recent CPU time from which on a thread without a number may take that of an idle one. */
#define STACK_CLAIM_NS UINT64_C(50000000)
/* The recent CPU time of each thread is halved this often. */
#define STACK_COOLING_NS INT64_C(10000000000)

/* The label of a thread, by which Python knows it. No two threads of a book have the same label, even if one has
   the number that another one had. A number that stands for several threads is also their label. Two labels are
   for CPU time that has no thread in the book: of the sampling thread, and of threads without Python. */
#define STACK_LABEL_SAMPLER 3u
#define STACK_LABEL_NATIVE 4u
#define STACK_FIRST_LABEL 5u

struct stack_thread {
    uint64_t ident; /* as threading has it */
    uint64_t native_id;
    uint64_t cpu; /* ns that it has burned */
    uint32_t label;
    bool alive;
};

/* CPU time that is no single thread's of Python, in nanoseconds. */
struct stack_clocks {
    uint64_t process; /* all of it */
    uint64_t sampler; /* of the sampling thread */
};

struct stack_snapshot {
    struct snapshot books; /* values: ticks, ns, hits */
    struct stack_thread threads[STACK_MAX_THREADS];
    uint32_t thread_count;
    int64_t started; /* CLOCK_MONOTONIC, ns */
    int64_t taken;
    struct stack_clocks clocks;
};

struct stack_stats {
    uint64_t ticks;
    uint64_t unreadable; /* stacks that were not read at any attempt */
    uint64_t retried;    /* attempts that failed */
    uint64_t overflowed; /* seen, but booked on MARKER_OVERFLOW */
    uint64_t folded;     /* rows that have gone there, to make room */
    uint64_t run;        /* another number once nodes and functions have others */
    uint64_t rows;
    uint64_t nodes;
    uint64_t bytes;
};

/* Open an empty book; false without memory. Called with the GIL held. */
bool stack_book_open(int max_frames, uint32_t look_back_seconds, int64_t now);

/* Forget everything. */
void stack_book_close(void);

/* A code object is about to die. Called with the GIL held. */
void stack_book_code_dying(PyObject *code);

/* For the sampling thread. */

/* To be had before a walk, for stack_book_intern(). */
uint64_t stack_book_codes_destroyed(void);

/* The node of the stack whose top was copied; STACK_NONE if the thread moved on too fast. */
uint32_t stack_book_intern(struct walk *walk, uint64_t codes_destroyed);

/* The node of a marker. */
uint32_t stack_book_marker(enum stack_marker marker);

/* All threads are looked at now. */
void stack_book_tick(int64_t now, struct stack_clocks clocks);

/* If the tables are nearly full: make room, for which stacks that were not seen for the longest time go to
   MARKER_OVERFLOW. `moved` is called if nodes have other numbers then, with these by the old ones; 0: it is not
   there any more. */
typedef void (*stack_book_moved)(const uint32_t *node_of);
void stack_book_make_room(stack_book_moved moved);

/* Give a thread a number. `burned`: its recent CPU time in ns. It is a new number, else that of a thread that has
   ended or of an idle thread, which loses it. Rows and CPU time booked for a number that is given again go
   to STACK_THREAD_OTHERS. Returns STACK_THREAD_OTHERS if there is no number for it. */
uint32_t stack_book_thread(uint64_t ident, uint64_t native_id, uint64_t burned);

/* Since the last tick that thread is at this stack, and stays there until it is said otherwise. */
void stack_book_seen(uint32_t thread, uint32_t node, bool running);

/* It is nowhere any more. */
void stack_book_gone(uint32_t thread);

/* For threads without a number of their own: they were at this stack for the last tick. `again`: that was said
   already, and only whether it was running is new. */
void stack_book_seen_once(uint32_t thread, uint32_t node, bool running, bool again);

/* It has burned so much more, in nanoseconds. */
void stack_book_burned(uint32_t thread, uint64_t cpu);

/* So many attempts at one walk have failed, and maybe all. */
void stack_book_failed(unsigned attempts, bool unreadable);

/* With the GIL held. */

/* A copy of everything as it was at `moment` (CLOCK_MONOTONIC, ns), or a little before: a slice
   of the look-back at most. False without memory, or where nothing is kept. */
bool stack_book_copy_of(struct stack_snapshot *snapshot, int64_t moment);

/* A copy of everything as it is now. False without memory. */
bool stack_book_copy(struct stack_snapshot *snapshot, int64_t now, struct stack_clocks clocks);

/* The threads that there are, without what they have burned; how many. */
uint32_t stack_book_threads(struct stack_thread *threads);

/* Whether threads were given numbers since that was called last. Takes no lock, and needs no GIL. */
bool stack_book_newcomers(void);

/* Whether anything is kept for that. */
bool stack_book_looks_back(void);

struct stack_stats stack_book_stats(void);

/* Before a fork, and in the child, as fork_lock.h has it. The child's book is empty if it was half
   changed, and is to be opened anew in any case: its threads are others. */
void stack_book_before_fork(void);
void stack_book_in_child(void);

#endif
