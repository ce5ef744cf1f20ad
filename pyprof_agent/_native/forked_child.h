/* Children that were forked by whatever means: by C code too, without CPython's hooks.

   A pthread_atfork() child handler detects the fork. It takes no lock and runs no Python code: CPython has
   not initialized its own locks again yet, or never does, if PyOS_AfterFork_Child() is not called. In that
   case the states of the parent's other threads stay in CPython's list. Up to 3.12 their frames are found
   through the stacks of these threads; new threads reuse that memory, and sys._current_frames() crashes.
   So the handler removes these frames, unless CPython's own fork hooks ran. It always initializes the GIL
   again: child handlers of other libraries may run Python before CPython does so. */
#ifndef PYPROF_FORKED_CHILD_H
#define PYPROF_FORKED_CHILD_H

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* From now on notice forks; `go_on` is what forked_child_remind() has called. With the GIL held; false
   without memory. */
bool forked_child_follow(PyObject *go_on);

/* Before a fork of CPython's own, and after it in the parent: its child is CPython's to put in order. In
   the thread that forks. */
void forked_child_announce(bool begins);

/* Whether this process is a child in which nobody has called forked_child_told() yet; that one says
   whether it is the first to. */
bool forked_child_untold(void);
bool forked_child_told(void);

/* With the GIL held, at any moment: in such a child, a second after the fork and then once a second,
   have the main thread call `go_on` between two bytecodes. A second, as CPython's hooks come first
   where there are any; a minute, where they were announced. In other processes it costs one read. */
void forked_child_remind(void);

/* In a child: the thread that has forked and so is the only one there at first, as threading.get_ident()
   has it; 0 in a process that was not forked since forked_child_follow(). */
uint64_t forked_child_thread(void);

#endif
