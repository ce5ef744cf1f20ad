/* The book of the heap in a forked child, when another thread was in the middle of a change. */
#include "heap_book.c"

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

/* What it has of CPython; there is no thread state here. */
PyTypeObject PyCode_Type;

void
_Py_Dealloc(PyObject *Py_UNUSED(object))
{
}

PyThreadState *
PyGILState_GetThisThreadState(void)
{
    return NULL;
}

PyThreadState *
#if PY_VERSION_HEX >= 0x030d0000
PyThreadState_GetUnchecked(void)
#else
_PyThreadState_UncheckedGet(void)
#endif
{
    return NULL;
}

static int taken[2];
static int done[2];
static char blocks[2][100];

static void *
change(void *Py_UNUSED(unused))
{
    char byte = 0;
    fork_lock_take(&lock);
    CHECK(write(taken[1], &byte, 1) == 1 && read(done[0], &byte, 1) == 1);
    fork_lock_give(&lock);
    return NULL;
}

/* In a child: what is alive, and what was dropped; the book goes on. */
static void
check_child(uint64_t live, uint64_t dropped)
{
    pid_t child = fork();
    if (child == 0) {
        heap_book_in_child();
        struct heap_stats stats = heap_book_stats();
        CHECK(stats.live == live && stats.dropped == dropped);
        heap_book_allocated(blocks[1], sizeof blocks[1]);
        CHECK(heap_book_stats().live == live + 1);
        heap_book_free(blocks[0]); /* is not there any more, or is */
        heap_book_free(blocks[1]);
        CHECK(heap_book_stats().live == 0);
        CHECK(heap_book_looks_back());
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int
main(void)
{
    CHECK(pipe(taken) == 0 && pipe(done) == 0);
    CHECK(heap_book_open(1.0, 4, 60, true));
    heap_book_allocated(blocks[0], sizeof blocks[0]);
    check_child(1, 0);

    pthread_t thread;
    char byte;
    CHECK(pthread_create(&thread, NULL, change, NULL) == 0);
    CHECK(read(taken[0], &byte, 1) == 1);
    check_child(0, 1);
    CHECK(write(done[1], &byte, 1) == 1 && pthread_join(thread, NULL) == 0);
    heap_book_before_fork();
    check_child(1, 0);
    puts("done");
    return 0;
}
