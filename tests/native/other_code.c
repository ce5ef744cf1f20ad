/* What other native code does in a process with the heap sampler. Loaded by ctypes; the
   declarations are CPython's, so that it builds without its headers. */

#include <pthread.h>
#include <stddef.h>

struct table {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *block, size_t size);
    void (*free)(void *ctx, void *block);
};

#define DOMAINS 3

extern void PyMem_GetAllocator(int domain, struct table *table);
extern void PyMem_SetAllocator(int domain, struct table *table);
extern void *PyMem_RawMalloc(size_t size);
extern void PyMem_RawFree(void *block);
extern void *PyMem_Malloc(size_t size);
extern void *PyMem_Realloc(void *block, size_t size);
extern void PyMem_Free(void *block);
extern void *PyObject_Calloc(size_t count, size_t size);
extern void PyObject_Free(void *block);
extern void *PyExc_KeyError;
extern void PyErr_SetString(void *type, const char *message);

/* Another profiler, whose hooks go on top of what is there and come down again. */

static struct table below[DOMAINS];
static _Atomic size_t calls;

static void *
count_malloc(void *ctx, size_t size)
{
    struct table *to = ctx;
    calls++;
    return to->malloc(to->ctx, size);
}

static void *
count_calloc(void *ctx, size_t count, size_t size)
{
    struct table *to = ctx;
    calls++;
    return to->calloc(to->ctx, count, size);
}

static void *
count_realloc(void *ctx, void *block, size_t size)
{
    struct table *to = ctx;
    calls++;
    return to->realloc(to->ctx, block, size);
}

static void
count_free(void *ctx, void *block)
{
    struct table *to = ctx;
    to->free(to->ctx, block);
}

void
wrap(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_GetAllocator(domain, &below[domain]);
        struct table ours = {&below[domain], count_malloc, count_calloc, count_realloc, count_free};
        PyMem_SetAllocator(domain, &ours);
    }
}

void
unwrap(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_SetAllocator(domain, &below[domain]);
    }
}

size_t
calls_so_far(void)
{
    return calls;
}

/* A thread that Python knows nothing of. */

static void *
allocate(void *held)
{
    void **blocks = held;
    for (size_t i = 0; i < 1000; i++) {
        PyMem_RawFree(PyMem_RawMalloc(i));
    }
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = PyMem_RawMalloc(10000);
    }
    return NULL;
}

int
allocate_in_foreign_thread(void **held)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, allocate, held) || pthread_join(thread, NULL);
}

/* Allocates in all domains while an error is set, and leaves it set. */
void
allocate_with_an_error(void)
{
    PyErr_SetString(PyExc_KeyError, "as it was");
    for (size_t size = 1; size < 1000; size += 7) {
        PyMem_RawFree(PyMem_RawMalloc(size));
        PyMem_Free(PyMem_Realloc(PyMem_Malloc(size), size * 2));
        PyObject_Free(PyObject_Calloc(3, size));
        PyMem_Free(PyMem_Malloc((size_t)1 << 62));
    }
}
