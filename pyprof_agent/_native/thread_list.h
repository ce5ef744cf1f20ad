/* The thread states of an interpreter, read without the GIL while threads come and go. */
#ifndef PYPROF_THREAD_LIST_H
#define PYPROF_THREAD_LIST_H

#include "frames.h"

/* A list that goes on for longer is taken for torn. */
#define THREAD_LIST_MAX 100000u

struct thread_list {
    const PyInterpreterState *interpreter;
    struct address next;
    struct address passed; /* one that was passed, for the list may have become a ring */
    uint32_t count;
    bool torn; /* those behind are unknown */
};

struct thread_list thread_list_from(struct address newest, const PyInterpreterState *interpreter);

/* Go on to the next, which is at `*state`; of `copy` as much is set as FRAMES_THREAD_BYTES. False at
   the end, and where the list is torn: a thread of it went in the middle. */
bool thread_list_next(struct thread_list *list, struct address *state, PyThreadState *copy);

#endif
