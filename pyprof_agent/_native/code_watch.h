/* Calls listeners before a code object is freed. */
#ifndef PYPROF_CODE_WATCH_H
#define PYPROF_CODE_WATCH_H

#include <Python.h>

/* Called with the GIL held, in the middle of anything, before anything of the code object is gone. It
   must not call Python. */
typedef void (*code_listener)(PyObject *code);

/* Both are called with the GIL held, by the main interpreter; several may listen. Why it cannot be done;
   NULL if it is. */
const char *code_watch_begin(code_listener listener);
void code_watch_end(code_listener listener);

#endif
