#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "heap_sampler.h"

#include "code_watch.h"
#include "collector_hold.h"
#include "forked_child.h"
#include "heap_book.h"
#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Each allocation takes its size from a budget of bytes; the one that exhausts it is sampled.

   pymalloc serves requests up to a limit itself, and passes larger ones on to the domain RAW. So
   in OBJ and MEM we hook the ways to get a small block, and in RAW all four functions. A small
   request that is to be sampled is raised to one byte above the limit: the block then comes
   from RAW, and so pymalloc brings its free and realloc to the hooks of RAW too. The free of an
   ordinary small object passes no hook of ours.

   Where OBJ and MEM do not work like that (PYTHONMALLOC=malloc), all their functions are hooked
   as those of RAW are. */

#define DOMAINS 3

/* Read where the budget is spent, by every allocation. Trivial, so that it may be used as late
   in the life of a thread as somebody frees; and at a fixed offset where the C library allows. */
#ifdef __GLIBC__
#  define FAST_TLS __attribute__((tls_model("initial-exec")))
#else
#  define FAST_TLS
#endif

static _Thread_local FAST_TLS struct {
    int64_t budget;
    int64_t rest;        /* of the gap to the next sample, beyond the budget; 0 or more */
    size_t pending;      /* RAW is to sample its next block, as one of this size */
    size_t paid;         /* the last malloc in OBJ or MEM; if large, on its way to RAW */
    const void *paid_for; /* the last block resized to a small size in OBJ or MEM */
    bool probing;        /* nothing is sampled, and these two say what came by: */
    unsigned probed;     /* domains, a bit each */
    size_t probed_size;  /* the last size in RAW */
    unsigned run;        /* of the sampler that the budget was drawn in; 0 before the first */
    struct random random;
} own;

/* While nothing is sampled a thread looks again after as many bytes whether that is still so. */
#define IDLE_BUDGET 65536

/* While it samples it looks after at most as many whether the sampler was started anew: a gap that
   was drawn with a larger mean could else keep the thread unsampled for good. */
#define LARGEST_BUDGET 262144

#define unlikely(condition) __builtin_expect(!!(condition), 0)
#define COLD __attribute__((noinline, cold))

static atomic_bool active;
static atomic_uint run = 0;
static _Atomic double mean_gap;
static atomic_uint_fast64_t skipped; /* made in a subinterpreter */
static atomic_uint_fast64_t missed;  /* to be sampled, but did not come to the hook that does it */
static atomic_size_t largest_small; /* request that pymalloc serves itself; 0: there is none */
static PyInterpreterState *main_interpreter;

/* What was there before our hooks. A value is never changed or freed, as a thread without the GIL
   may be on its way through a hook; one is made for each allocator that we come upon. */
static _Atomic(const PyMemAllocatorEx *) originals[DOMAINS];

/* The same, for hooks that are called with the GIL held. */
static PyMemAllocatorEx next[DOMAINS];

/* Also read without the GIL, by the hooks of RAW. */
static inline size_t
small_limit(void)
{
    return atomic_load_explicit(&largest_small, memory_order_relaxed);
}

static inline const PyMemAllocatorEx *
original(PyMemAllocatorDomain domain)
{
    return atomic_load_explicit(&originals[domain], memory_order_acquire);
}

static void
take_budget(void)
{
    own.budget = own.rest < LARGEST_BUDGET ? own.rest : LARGEST_BUDGET;
    own.rest -= own.budget;
}

static void
draw_budget(void)
{
    own.rest = random_gap(&own.random, atomic_load_explicit(&mean_gap, memory_order_relaxed));
    take_budget();
}

/* Whether the allocation that has exhausted the budget is to be sampled. Makes the next one. */
static bool
exhausted(PyMemAllocatorDomain domain, size_t size)
{
    if (own.probing) {
        own.probed |= 1u << domain;
        if (domain == PYMEM_DOMAIN_RAW) {
            own.probed_size = size;
        }
        return false;
    }
    if (!atomic_load_explicit(&active, memory_order_acquire)) {
        own.budget = IDLE_BUDGET;
        return false;
    }
    unsigned now = atomic_load_explicit(&run, memory_order_relaxed);
    if (own.run != now) {
        /* The budget is none of this run's. The distribution has no memory, so that this
           allocation is the first to be counted against a new one. */
        random_seed(&own.random);
        own.run = now;
        draw_budget();
        own.budget -= (int64_t)size;
    }
    own.rest += own.budget;
    if (own.rest >= 0) {
        take_budget();
        return false;
    }
    draw_budget();
    /* A subinterpreter has memory and code objects of its own, that go when it goes. */
    const PyThreadState *thread =
        domain == PYMEM_DOMAIN_RAW ? frames_own_thread() : frames_holder();
    if (thread != NULL && thread->interp != main_interpreter) {
        atomic_fetch_add_explicit(&skipped, 1, memory_order_relaxed);
        return false;
    }
    if (domain != PYMEM_DOMAIN_RAW) { /* with the GIL held */
        forked_child_remind();
        collector_hold_check();
    }
    return true;
}

static inline bool
spend(size_t size)
{
    own.budget = (int64_t)((uint64_t)own.budget - size);
    return unlikely(own.budget < 0);
}

/* Whether the block that a hook which looks at every block is about to ask for is to be sampled;
   `*size` becomes what the program asked for. */
static bool
chosen(PyMemAllocatorDomain domain, size_t *size)
{
    if (own.pending != 0) {
        *size = own.pending;
        own.pending = 0;
        draw_budget();
        return true;
    }
    return exhausted(domain, *size);
}

static void *
book(void *address, size_t size)
{
    if (address != NULL) {
        int error = errno;
        heap_book_allocated(address, size);
        errno = error;
    }
    return address;
}

/* Hooks that look at every block; what is rare is apart, so that the hooks need no stack. */

COLD static void *
picked_malloc(size_t size, PyMemAllocatorDomain domain)
{
    const PyMemAllocatorEx *to = original(domain);
    size_t asked = size;
    bool sample = chosen(domain, &asked);
    void *block = to->malloc(to->ctx, size);
    return sample ? book(block, asked) : block;
}

COLD static void *
picked_calloc(size_t count, size_t size, PyMemAllocatorDomain domain)
{
    const PyMemAllocatorEx *to = original(domain);
    size_t asked = count * size;
    bool sample = chosen(domain, &asked);
    void *block = to->calloc(to->ctx, count, size);
    return sample ? book(block, asked) : block;
}

COLD static void *
picked_realloc(void *block, size_t size, PyMemAllocatorDomain domain)
{
    const PyMemAllocatorEx *to = original(domain);
    size_t asked = size;
    bool sample = chosen(domain, &asked);
    void *moved = to->realloc(to->ctx, block, size);
    return sample ? book(moved, asked) : moved;
}

/* Of a block that may be sampled, or was paid for in OBJ or MEM. */
COLD static void *
known_realloc(void *block, size_t size, PyMemAllocatorDomain domain)
{
    const PyMemAllocatorEx *to = original(domain);
    size_t asked = size;
    bool paid_for = own.paid_for == block;
    own.paid_for = NULL;
    bool sample = (own.pending != 0 || !paid_for) && spend(size) && chosen(domain, &asked);
    struct live_block before;
    /* Before the call: once the block is free its address may be another thread's. */
    bool ours = heap_book_may_have(block) && heap_book_take(block, &before);
    void *moved = to->realloc(to->ctx, block, size);
    if (ours) {
        int error = errno;
        if (moved == NULL) {
            heap_book_put_back(before);
        }
        else {
            heap_book_freed(before);
        }
        errno = error;
    }
    return sample ? book(moved, asked) : moved;
}

COLD static void
known_free(void *block, PyMemAllocatorDomain domain)
{
    int error = errno;
    heap_book_free(block);
    errno = error;
    const PyMemAllocatorEx *to = original(domain);
    to->free(to->ctx, block);
}

/* In RAW. What pymalloc passes on was spent in OBJ or MEM, where it was also decided upon. */
static inline bool
spend_unless_paid(size_t size)
{
    if (own.paid > small_limit()) {
        own.paid = 0;
        return unlikely(own.pending != 0 || own.probing);
    }
    return spend(size);
}

static inline void *
tracked_malloc(void *Py_UNUSED(ctx), size_t size, PyMemAllocatorDomain domain)
{
    if (domain == PYMEM_DOMAIN_RAW ? spend_unless_paid(size) : spend(size)) {
        return picked_malloc(size, domain);
    }
    const PyMemAllocatorEx *to = original(domain);
    return to->malloc(to->ctx, size);
}

static inline void *
tracked_calloc(void *Py_UNUSED(ctx), size_t count, size_t size, PyMemAllocatorDomain domain)
{
    if (spend(count * size)) { /* PyMem_RawCalloc has made sure that it fits */
        return picked_calloc(count, size, domain);
    }
    const PyMemAllocatorEx *to = original(domain);
    return to->calloc(to->ctx, count, size);
}

static inline void *
tracked_realloc(void *Py_UNUSED(ctx), void *block, size_t size, PyMemAllocatorDomain domain)
{
    if (block != NULL && unlikely(own.paid_for == block || heap_book_may_have(block))) {
        return known_realloc(block, size, domain);
    }
    if (spend(size)) {
        return picked_realloc(block, size, domain);
    }
    const PyMemAllocatorEx *to = original(domain);
    return to->realloc(to->ctx, block, size);
}

static inline void
tracked_free(void *Py_UNUSED(ctx), void *block, PyMemAllocatorDomain domain)
{
    if (unlikely(heap_book_may_have(block))) {
        known_free(block, domain);
        return;
    }
    const PyMemAllocatorEx *to = original(domain);
    to->free(to->ctx, block);
}

/* Hooks for requests that pymalloc serves itself, up to small_limit. They are called with the GIL
   held, five instructions for a malloc that is not sampled; free is not hooked at all. A malloc is
   spent whatever its size, as a comparison would be a sixth: RAW is told not to do it again. */

static size_t
begin_raised(size_t size)
{
    own.pending = size;
    own.budget = -1; /* the hook of RAW will look */
    return size > small_limit() ? size : small_limit() + 1;
}

/* After a raised request: whether it has to be made again as it was. */
static bool
raised_in_vain(const void *block)
{
    if (own.pending != 0) { /* it never came to RAW */
        own.pending = 0;
        draw_budget();
        atomic_fetch_add_explicit(&missed, 1, memory_order_relaxed);
    }
    return block == NULL;
}

/* What happens when the budget is exhausted; apart, so that the hooks themselves need no stack. */

COLD static void *
exhausted_malloc(void *ctx, size_t size, PyMemAllocatorDomain domain)
{
    if (exhausted(domain, size)) {
        void *block = next[domain].malloc(ctx, begin_raised(size));
        if (!raised_in_vain(block) || size > small_limit()) {
            return block;
        }
    }
    return next[domain].malloc(ctx, size);
}

COLD static void *
exhausted_calloc(void *ctx, size_t count, size_t size, PyMemAllocatorDomain domain)
{
    if (exhausted(domain, count * size)) {
        void *block = next[domain].calloc(ctx, 1, begin_raised(count * size));
        if (!raised_in_vain(block)) {
            return block;
        }
    }
    return next[domain].calloc(ctx, count, size);
}

COLD static void *
exhausted_realloc(void *ctx, void *block, size_t size, PyMemAllocatorDomain domain)
{
    if (exhausted(domain, size)) {
        void *moved = next[domain].realloc(ctx, block, begin_raised(size));
        if (!raised_in_vain(moved)) {
            return moved;
        }
    }
    return next[domain].realloc(ctx, block, size);
}

static inline void *
small_malloc(void *ctx, size_t size, PyMemAllocatorDomain domain)
{
    own.paid = size;
    if (spend(size)) {
        return exhausted_malloc(ctx, size, domain);
    }
    return next[domain].malloc(ctx, size);
}

static inline void *
small_calloc(void *ctx, size_t count, size_t size, PyMemAllocatorDomain domain)
{
    if (count * size <= small_limit() && spend(count * size)) {
        return exhausted_calloc(ctx, count, size, domain);
    }
    return next[domain].calloc(ctx, count, size);
}

static inline void *
small_realloc(void *ctx, void *block, size_t size, PyMemAllocatorDomain domain)
{
    if (size <= small_limit()) {
        own.paid_for = block;
        if (spend(size)) {
            return exhausted_realloc(ctx, block, size, domain);
        }
    }
    return next[domain].realloc(ctx, block, size);
}

/* The functions that CPython calls, in tables. */

#define HOOKS(KIND, NAME, DOMAIN)                                                      \
    static void *KIND##_##NAME##_malloc(void *ctx, size_t size)                        \
    {                                                                                  \
        return KIND##_malloc(ctx, size, DOMAIN);                                       \
    }                                                                                  \
    static void *KIND##_##NAME##_calloc(void *ctx, size_t count, size_t size)          \
    {                                                                                  \
        return KIND##_calloc(ctx, count, size, DOMAIN);                                \
    }                                                                                  \
    static void *KIND##_##NAME##_realloc(void *ctx, void *block, size_t size)          \
    {                                                                                  \
        return KIND##_realloc(ctx, block, size, DOMAIN);                               \
    }

#define FREE_HOOK(NAME, DOMAIN)                                                        \
    static void tracked_##NAME##_free(void *ctx, void *block)                          \
    {                                                                                  \
        tracked_free(ctx, block, DOMAIN);                                              \
    }

HOOKS(tracked, raw, PYMEM_DOMAIN_RAW)
FREE_HOOK(raw, PYMEM_DOMAIN_RAW)
HOOKS(tracked, mem, PYMEM_DOMAIN_MEM)
FREE_HOOK(mem, PYMEM_DOMAIN_MEM)
HOOKS(tracked, obj, PYMEM_DOMAIN_OBJ)
FREE_HOOK(obj, PYMEM_DOMAIN_OBJ)
HOOKS(small, mem, PYMEM_DOMAIN_MEM)
HOOKS(small, obj, PYMEM_DOMAIN_OBJ)

#define TABLE(KIND, NAME, FREE)                                                        \
    {NULL, KIND##_##NAME##_malloc, KIND##_##NAME##_calloc, KIND##_##NAME##_realloc, FREE}

static const PyMemAllocatorEx tracked_hooks[DOMAINS] = {
    [PYMEM_DOMAIN_RAW] = TABLE(tracked, raw, tracked_raw_free),
    [PYMEM_DOMAIN_MEM] = TABLE(tracked, mem, tracked_mem_free),
    [PYMEM_DOMAIN_OBJ] = TABLE(tracked, obj, tracked_obj_free),
};
static const PyMemAllocatorEx small_hooks[DOMAINS] = {
    [PYMEM_DOMAIN_MEM] = TABLE(small, mem, NULL),
    [PYMEM_DOMAIN_OBJ] = TABLE(small, obj, NULL),
};

/* What an allocation of `size` in a domain passes: our hooks' domains, a bit each. */
static unsigned
probe(PyMemAllocatorDomain domain, size_t size)
{
    int64_t budget = own.budget;
    own.budget = INT64_MIN / 2; /* lasts for all that one request may allocate */
    own.probing = true;
    own.probed = 0;
    own.probed_size = 0;
    switch (domain) {
    case PYMEM_DOMAIN_RAW:
        PyMem_RawFree(PyMem_RawMalloc(size));
        break;
    case PYMEM_DOMAIN_MEM:
        PyMem_Free(PyMem_Malloc(size));
        break;
    case PYMEM_DOMAIN_OBJ:
        PyObject_Free(PyObject_Malloc(size));
        break;
    }
    own.probing = false;
    own.budget = budget;
    return own.probed;
}

/* Whether our hooks are in a domain, on top or below others. A sampler of this kind above may pick
   our probe and ask for a large block instead, which goes around the hooks of OBJ and MEM: to
   take them for lost then, and put them on top too, would have the two call each other for ever. */
static bool
hooked(PyMemAllocatorDomain domain)
{
    for (int attempt = 0; attempt < 4; attempt++) {
        if (probe(domain, 1) & 1u << domain) {
            return true;
        }
    }
    return false;
}

/* Whether a request in MEM or OBJ is passed on to RAW. The debug hooks add to its size; what
   pymalloc asks for itself, such as its table of arenas, is larger by more. */
static bool
reaches_raw(PyMemAllocatorDomain domain, size_t size)
{
    return probe(domain, size) & 1u << PYMEM_DOMAIN_RAW && own.probed_size >= size
           && own.probed_size <= size + 64;
}

static bool
same_functions(const PyMemAllocatorEx *a, const PyMemAllocatorEx *b)
{
    return a->ctx == b->ctx && a->malloc == b->malloc && a->calloc == b->calloc
           && a->realloc == b->realloc && a->free == b->free;
}

static const char *
install(PyMemAllocatorDomain domain, const PyMemAllocatorEx *hooks)
{
    if (hooked(domain)) {
        return NULL; /* left from before, below what others have put on top */
    }
    PyMemAllocatorEx found;
    PyMem_GetAllocator(domain, &found);
    const PyMemAllocatorEx *known = original(domain);
    if (known == NULL || !same_functions(known, &found)) {
        PyMemAllocatorEx *before = malloc(sizeof *before);
        if (before == NULL) {
            return "there is no memory";
        }
        *before = found;
        atomic_store_explicit(&originals[domain], before, memory_order_release);
        next[domain] = found;
    }
    /* With the ctx of the original: a thread without the GIL may see half of the change, and
       has to be right with either half. */
    PyMemAllocatorEx ours = *hooks;
    ours.ctx = found.ctx;
    if (ours.free == NULL) {
        ours.free = found.free;
    }
    PyMem_SetAllocator(domain, &ours);
    return hooked(domain) ? NULL : "another allocator refuses to be hooked";
}

static void
uninstall(PyMemAllocatorDomain domain)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator(domain, &now);
    if (now.malloc == tracked_hooks[domain].malloc || now.malloc == small_hooks[domain].malloc) {
        PyMemAllocatorEx before = *original(domain);
        PyMem_SetAllocator(domain, &before);
    }
}

static void
uninstall_all(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        uninstall((PyMemAllocatorDomain)domain);
    }
}

/* Find out how MEM and OBJ get their memory, once RAW is hooked. */
static const char *
find_small_limit(void)
{
    static const size_t sizes[] = {1, 513, 4096, 1 << 20};
    static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    size_t limits[2];
    for (int i = 0; i < 2; i++) {
        unsigned reaching = 0;
        for (int j = 0; j < 4; j++) {
            reaching |= (unsigned)reaches_raw(domains[i], sizes[j]) << j;
        }
        limits[i] = 0;
        if (reaching == 0xe) { /* pymalloc: all but the smallest */
            limits[i] = 512;
            while (limits[i] > 1 && reaches_raw(domains[i], limits[i])) {
                limits[i]--;
            }
        }
        else if (reaching != 0) {
            return "objects get their memory from an allocator that is not CPython's own";
        }
    }
    if (limits[0] != limits[1]) {
        return "the allocators of objects and of buffers differ";
    }
    atomic_store_explicit(&largest_small, limits[0], memory_order_relaxed);
    return NULL;
}

static const char *
install_all(void)
{
    const char *problem = install(PYMEM_DOMAIN_RAW, &tracked_hooks[PYMEM_DOMAIN_RAW]);
    if (problem == NULL && !(hooked(PYMEM_DOMAIN_MEM) && hooked(PYMEM_DOMAIN_OBJ))) {
        problem = find_small_limit();
    }
    const PyMemAllocatorEx *hooks = small_limit() ? small_hooks : tracked_hooks;
    if (problem == NULL) {
        problem = install(PYMEM_DOMAIN_MEM, &hooks[PYMEM_DOMAIN_MEM]);
    }
    if (problem == NULL) {
        problem = install(PYMEM_DOMAIN_OBJ, &hooks[PYMEM_DOMAIN_OBJ]);
    }
    return problem;
}

static void
in_forked_child(void)
{
    own.run = 0; /* all children of one parent must not draw the same budgets */
    own.budget = 0;
    heap_book_in_child();
}

const char *
heap_sampler_start(double mean, int max_frames, uint32_t look_back_seconds)
{
    static bool follows_forks = false;
    if (!follows_forks) {
        if (pthread_atfork(heap_book_before_fork, NULL, in_forked_child) != 0) {
            return "there is no memory";
        }
        follows_forks = true;
    }
    main_interpreter = PyInterpreterState_Main();
    const char *problem = install_all();
    bool watched = problem == NULL && code_watch_begin(heap_book_code_dying) == NULL;
    if (problem == NULL && !heap_book_open(mean, max_frames, look_back_seconds, watched)) {
        problem = "there is no memory";
    }
    if (problem != NULL) {
        uninstall_all();
        code_watch_end(heap_book_code_dying);
        return problem;
    }
    atomic_store(&mean_gap, mean);
    atomic_store(&skipped, 0);
    atomic_store(&missed, 0);
    if (atomic_fetch_add(&run, 1) == UINT32_MAX) {
        atomic_store(&run, 1); /* 0 is a thread's that has drawn no budget yet */
    }
    own.budget = 0;
    atomic_store(&active, true);
    return NULL;
}

void
heap_sampler_stop(void)
{
    if (!atomic_exchange(&active, false)) {
        return;
    }
    uninstall_all();
    code_watch_end(heap_book_code_dying);
    heap_book_close();
}

bool
heap_sampler_running(void)
{
    return atomic_load(&active);
}

bool
heap_sampler_repair(void)
{
    if (!heap_sampler_running()
        || (hooked(PYMEM_DOMAIN_RAW) && hooked(PYMEM_DOMAIN_MEM) && hooked(PYMEM_DOMAIN_OBJ))) {
        return false;
    }
    heap_book_free_all();
    install_all();
    return true;
}

uint64_t
heap_sampler_skipped(void)
{
    return atomic_load(&skipped);
}

uint64_t
heap_sampler_missed(void)
{
    return atomic_load(&missed);
}
