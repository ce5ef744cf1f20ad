/* Is told of each code object that is about to die, and may have it live on. */
#ifndef PYPROF_CODE_WATCH_H
#define PYPROF_CODE_WATCH_H

#include <Python.h>

#include <stdbool.h>

/* Called with the GIL held, in the middle of anything. True: the code object has one reference
   now, which belongs to the one who was asked. It must not call Python. */
typedef bool (*code_keeper)(PyObject *code);

/* Both are called with the GIL held, by the main interpreter. Why it cannot be done; NULL if it is. */
const char *code_watch_begin(code_keeper keeper);
void code_watch_end(void);

#endif
