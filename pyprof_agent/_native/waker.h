/* Waits of the agent's threads, during which the garbage collector may start.

   In C, as between the moment from which on collections may start and the one at which the GIL is given
   away nothing may be allocated: a collection would start right there, in the agent's thread. Python's own waits
   make tuples and exceptions.

   A waker is an object of Python's. One thread waits at it; any may wake that, in signal handlers too. */
#ifndef PYPROF_WAKER_H
#define PYPROF_WAKER_H

#include <Python.h>

/* Wait for so many seconds, or less, without the GIL. */
void waker_sleep(double seconds);

/* Functions of the module:
   waker(newcomers) returns a waker; with newcomers a wait for it also ends when names of threads should be looked up
   (see stack_book_newcomers()), within half a second;
   waker_wait(waker, seconds) waits for waker_wake(waker), and returns whether it was called since the last
   wait ended;
   pause(seconds) and wait_readable(descriptor, seconds) return early if a signal comes.
   Less than zero seconds are no limit. */
PyObject *waker_new(PyObject *module, PyObject *newcomers);
PyObject *waker_wait(PyObject *module, PyObject *args);
PyObject *waker_wake(PyObject *module, PyObject *waker);
PyObject *waker_pause(PyObject *module, PyObject *seconds);
PyObject *waker_wait_readable(PyObject *module, PyObject *args);

#endif
