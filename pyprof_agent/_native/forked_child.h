/* Children that were forked by whatever means: by C code too, without CPython's hooks.

   The handler of pthread_atfork() that notices them takes no lock and calls nothing of Python's: where
   CPython is told of the fork it is still to make its locks anew, and where not, nothing says who holds
   the GIL. There the states of the parent's other threads stay listed, on CPython up to 3.12 with frames
   that are found through the stacks of these threads. New threads are given that memory, and then
   sys._current_frames(), ours or the program's, would crash. So the handler takes these frames away,
   but in a fork that CPython's hooks have announced. And it makes the GIL anew: in each child handlers of
   others may run Python before CPython comes to it. */
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
