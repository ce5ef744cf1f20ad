/* Keeps the garbage collector from starting in a thread of the agent, where it would run finalizers and
   callbacks of the program.

   A collection starts when an object is made or, from 3.12 on, at the next bytecode, once more objects
   have been made than a threshold says. While a thread of the agent runs Python the counts of these
   objects are half a million less than they should be. So no collection starts in other threads either; they
   start when the agent's thread waits, or is done. gc.collect() works at any time. What a program sets
   stays: gc.enable() and gc.disable(), and the thresholds. gc.get_count() shows the counts, and
   gc.callbacks a function that subtracts them again after a collection.

   If the agent's thread is stuck for two seconds, collections start again: at the next allocation that is
   sampled, and at the latest once half a million objects have been made.

   CPython 3.14.0 to 3.14.4 use these counts in another way, and are left alone.

   All is called with the GIL held, by threads of the main interpreter. */
#ifndef PYPROF_COLLECTOR_HOLD_H
#define PYPROF_COLLECTOR_HOLD_H

#include <Python.h>
#include <stdbool.h>

/* When the module is imported; false with an error. */
bool collector_hold_init(void);

/* Call a function as a thread of the agent; its result, or NULL with an error. */
PyObject *collector_hold_call(PyObject *function);

/* Within such a call, around a wait without the GIL, in which collections may start. Nothing may be
   allocated between collector_hold_leave() and the moment at which the GIL is released. Where that returns
   false, as the thread is none of the agent's, collector_hold_enter() must not be called. */
bool collector_hold_leave(void);
void collector_hold_enter(void);

/* Within such a call, before many objects are made: begin with the whole half million. Elsewhere it does
   nothing. */
void collector_hold_again(void);

/* Called now and then by threads of the program: lets collections start where a thread of the agent is
   stuck. Calls nothing of Python. */
void collector_hold_check(void);

/* In a forked child, which has no thread of the agent. */
void collector_hold_in_child(void);

#endif
