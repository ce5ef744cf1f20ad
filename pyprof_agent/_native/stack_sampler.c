#define _GNU_SOURCE /* sched_getcpu, pthread_setname_np */

#include "stack_sampler.h"

#include "code_watch.h"
#include "fork_lock.h"
#include "forked_child.h"
#include "guarded.h"
#include "number_index.h"
#include "random.h"
#include "thread_list.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREAD_NAME "pyprof-stacks" /* 15 characters at most */
#define THREAD_STACK_BYTES (256 * 1024)

#define LONGEST_GAP_NS 60e9 /* between two looks, whatever was asked for */

#define NS_PER_SECOND INT64_C(1000000000)

#define BETWEEN_TRIES_NS 100000 /* to take a lock: a look takes some 50 us, and looks come 10 ms apart */

/* A thread has a number of its own once it has been there for so long: programs that make a thread
   for each request would have numbers for nothing else. */
#define YOUNG_NS INT64_C(200000000)

/* CPU time of the process that no known thread has burned, from which on idle ones are asked. */
#define SUSPICIOUS_NS 10000

/* They are asked anyway after so many looks. */
#define LOOKS_BETWEEN_CENSUSES 100

/* Where generators are resumed all the time on CPython 3.11 every other attempt fails. */
#define ATTEMPTS 16

/* Frames to make room for, to have so many of functions: between these are the interpreter's own. */
#define WALK_ROOM(frames) ((frames) * 2 + 16)

/* A thread that has burned less since the last look has hardly lost its CPU to us: to ask the kernel
   takes 10 us, and threads that wait for the GIL wake up for less every 5 ms. */
#define RAN_LONG_NS 100000

struct sampled {
    struct address state;
    uint64_t id;
    uint64_t ident;
    uint64_t native_id;
    clockid_t clock_id;
    uint64_t clock;  /* ns, as last read */
    uint64_t walked; /* what it was before its stack was read */
    uint64_t asked;  /* what it was when a number was asked for, last */
    uint64_t recent; /* recent CPU time in ns; halved every STACK_COOLING_NS */
    int64_t born;    /* when it was first seen */
    uint32_t number;
    uint32_t node; /* where it was last; STACK_NONE before the first look */
    bool idle;     /* has not burned anything from one look to the next */
    bool listed;   /* during a survey: is there still */
    struct walk_memory memory;
};

/* Guarded by `lock`, which is held throughout a look: for 10 ms where there are 4,000 threads. So nobody
   waits for it with the GIL held but who starts or stops the sampler, or forks. */
static struct fork_lock lock = FORK_LOCK_INITIALIZER;
static struct {
    struct sampled *threads;
    uint32_t count;
    uint32_t capacity;
    struct number_index by_id;     /* of the states of threads; both are filled by a survey, so that */
    struct number_index by_native; /* it takes no longer than there are threads */
    struct walk walk;
    PyInterpreterState *interpreter;
    struct address newest; /* of the last survey */
    uint64_t made;
    bool unsure;            /* the last survey was not complete */
    uint64_t burned;        /* ns, of all threads that were ever known */
    int64_t unaccounted;    /* ns of the process that are no known thread's, at the last census */
    unsigned looks;         /* since the last census */
    uint64_t process_start; /* CPU clock */
    uint64_t own_before;    /* ns burned by sampling threads that have ended */
    clockid_t own_clock;    /* of the one there is; 0 if there is none */
    struct random random;
    struct stack_settings settings;
    int64_t due;     /* of the next look; outlives the thread, as a program that forks more often
                        than it is looked at would never be looked at */
    double cost;     /* ns of CPU of a look, smoothed */
    double period;   /* ns between looks, smoothed */
    int64_t looked;  /* when, last */
    int64_t cooled;  /* when the recent CPU time of threads was last halved */
} sampler;
/* As of the last look. Its lock may be taken with `lock` held. */
static struct fork_lock cost_lock = FORK_LOCK_INITIALIZER;
static struct stack_cost last_cost;

static _Atomic uint64_t own_native_id; /* of the last sampling thread; 0: it did not run yet */
static _Atomic unsigned forks; /* that are under way; nobody is looked at meanwhile */

/* Of the sampling thread itself; `wake_lock` guards `ending`. */
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;
static bool ending;
static bool launched; /* with the GIL held */
static bool started;  /* with the GIL held: from start to stop */
static pthread_t thread;

static int64_t
nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * NS_PER_SECOND + time.tv_nsec;
}

/* False if there is no such clock: its thread is gone. */
static bool
read_clock(clockid_t id, uint64_t *now)
{
    struct timespec time;
    if (clock_gettime(id, &time) != 0) {
        return false;
    }
    *now = (uint64_t)nanoseconds(time);
    return true;
}

static uint64_t
clock_of(clockid_t id)
{
    uint64_t now = 0;
    read_clock(id, &now);
    return now;
}

static int64_t
monotonic(void)
{
    return (int64_t)clock_of(CLOCK_MONOTONIC);
}

/* As Linux's MAKE_THREAD_CPUCLOCK; of a thread that is gone the kernel refuses it. */
static clockid_t
clock_of_thread(uint64_t native_id)
{
    return (clockid_t)(~(unsigned)native_id << 3 | 6u);
}

static struct stack_clocks
common_clocks(void)
{
    return (struct stack_clocks){
        .process = clock_of(CLOCK_PROCESS_CPUTIME_ID) - sampler.process_start,
        .sampler = sampler.own_before + (sampler.own_clock ? clock_of(sampler.own_clock) : 0),
    };
}

static void
burn(struct sampled *sampled, uint64_t now)
{
    if (now > sampled->clock) {
        uint64_t cpu = now - sampled->clock;
        sampler.burned += cpu;
        stack_book_burned(sampled->number, cpu);
        sampled->recent += cpu;
        sampled->clock = now;
    }
}

/* The clock of a thread, whose CPU time counts from now on: it may be an old thread that has come
   to Python only now, or again. On CPython up to 3.12 the thread that has forked says in the child
   that it is its parent's: it is the only one then and so the oldest, unless C code has forked and
   told CPython nothing. It is the child's main thread, whose id is the process's. */
static bool
find_clock(struct sampled *sampled, bool oldest)
{
    sampled->clock_id = clock_of_thread(sampled->native_id);
    if (read_clock(sampled->clock_id, &sampled->clock)) {
        return true;
    }
    uint64_t survivor = forked_child_thread();
    if (survivor != 0 ? sampled->ident != survivor : !oldest) {
        return false;
    }
    sampled->native_id = (uint64_t)getpid();
    sampled->clock_id = clock_of_thread(sampled->native_id);
    return read_clock(sampled->clock_id, &sampled->clock);
}

/* Whether the indexes tell where it is. */
static bool
note(const struct sampled *sampled)
{
    uint32_t position = (uint32_t)(sampled - sampler.threads);
    return number_index_put(&sampler.by_id, sampled->id, position)
           && number_index_put(&sampler.by_native, sampled->native_id, position);
}

static struct sampled *
add_thread(struct address state, const PyThreadState *copy, int64_t now)
{
    if (sampler.count == sampler.capacity) {
        uint32_t capacity = sampler.capacity ? sampler.capacity * 2 : 16;
        struct sampled *larger = realloc(sampler.threads, capacity * sizeof *larger);
        if (larger == NULL) {
            return NULL;
        }
        sampler.threads = larger;
        sampler.capacity = capacity;
    }
    struct sampled sampled = {
        .state = state,
        .id = copy->id,
        .ident = copy->thread_id,
        .native_id = copy->native_thread_id,
        .number = STACK_THREAD_YOUNG,
        .node = STACK_NONE,
        .born = now,
    };
    if (sampled.native_id == 0 || !find_clock(&sampled, copy->next == NULL)) {
        return NULL; /* it is only beginning, or over */
    }
    sampled.asked = sampled.clock;
    /* On 3.11 a thread that is only beginning has the number of the one that made it. */
    size_t cursor = 0;
    uint32_t position;
    while ((position = number_index_next(&sampler.by_native, sampled.native_id, &cursor))
           != NUMBER_INDEX_NONE) {
        struct sampled *other = &sampler.threads[position];
        if (other->listed || other->id < sampled.id) {
            if (other->id > sampled.id) {
                *other = sampled;
                return other;
            }
            return NULL;
        }
    }
    struct sampled *added = &sampler.threads[sampler.count++];
    *added = sampled;
    sampler.unsure = !note(added) || sampler.unsure;
    return added;
}

static struct sampled *
find_thread(struct address state, uint64_t id)
{
    size_t cursor = 0;
    uint32_t position;
    while ((position = number_index_next(&sampler.by_id, id, &cursor)) != NUMBER_INDEX_NONE) {
        struct sampled *sampled = &sampler.threads[position];
        if (address_same(sampled->state, state) && sampled->id == id) {
            return sampled;
        }
    }
    return NULL;
}

static struct address
newest_thread(void)
{
    return address_of(frames_newest_thread(sampler.interpreter));
}

/* Find out which threads there are. */
static void
survey(int64_t now)
{
    bool noted = true;
    number_index_clear(&sampler.by_id);
    number_index_clear(&sampler.by_native);
    for (uint32_t i = 0; i < sampler.count; i++) {
        sampler.threads[i].listed = false;
        noted = note(&sampler.threads[i]) && noted;
    }
    sampler.made = frames_threads_made(sampler.interpreter);
    sampler.newest = newest_thread();
    sampler.unsure = !noted;
    if (sampler.unsure) {
        return; /* there is no memory; those that are known are looked at all the same */
    }
    struct thread_list list = thread_list_from(sampler.newest, sampler.interpreter);
    struct address state;
    PyThreadState copy;
    while (thread_list_next(&list, &state, &copy)) {
        struct sampled *sampled = find_thread(state, copy.id);
        if (sampled == NULL) {
            sampled = add_thread(state, &copy, now);
        }
        if (sampled == NULL) {
            sampler.unsure = true;
        }
        else {
            sampled->listed = true;
        }
    }
    if (list.torn) {
        sampler.unsure = true;
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sampler.count; i++) {
        if (sampler.threads[i].listed) {
            sampler.threads[kept++] = sampler.threads[i];
        }
        else if (sampler.threads[i].number >= STACK_FIRST_THREAD) {
            stack_book_gone(sampler.threads[i].number);
        }
    }
    sampler.count = kept;
}

/* The node of the stack that a thread is at. */
static uint32_t
read_stack(struct sampled *sampled)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t destroyed = stack_book_codes_destroyed();
        enum walk_end end =
            walk_copy(&sampler.walk, sampled->state, sampled->id, &sampled->memory);
        if (end == WALK_GONE) {
            if (guarded_works()) {
                return STACK_NONE;
            }
            break;
        }
        uint32_t node =
            end == WALK_TORN ? STACK_NONE : stack_book_intern(&sampler.walk, destroyed);
        walk_remember(&sampler.walk, &sampled->memory);
        if (node != STACK_NONE) {
            if (attempt > 0) {
                stack_book_failed(attempt, false);
            }
            return node;
        }
    }
    stack_book_failed(ATTEMPTS, true);
    return stack_book_marker(MARKER_UNREADABLE);
}

#define STAT_BYTES 1024

/* What proc(5) says of a thread of ours, from its state on: `) R ...`; NULL if it is gone. */
static const char *
read_stat(uint64_t native_id, char text[STAT_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", (unsigned)native_id);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return NULL;
    }
    ssize_t length = read(file, text, STAT_BYTES - 1);
    close(file);
    if (length <= 0) {
        return NULL;
    }
    text[length] = '\0';
    return strrchr(text, ')'); /* the name before may have anything in it */
}

/* Whether a thread could run on if we did not have its CPU: where there is but one, no thread ever
   runs while we look. */
static bool
waits_for_our_cpu(uint64_t native_id)
{
    char text[STAT_BYTES];
    const char *rest = read_stat(native_id, text);
    if (rest == NULL || strncmp(rest, ") R", 3) != 0) {
        return false;
    }
    int field = 3; /* the state; `processor` is the 39th, by proc(5) */
    for (rest += 2; field < 39 && (rest = strchr(rest, ' ')) != NULL; rest++) {
        field++;
    }
    return rest != NULL && atoi(rest) == sched_getcpu();
}

/* Look at a thread whose clock says `clock`; `again`: at the same tick. */
static void
look_at(struct sampled *sampled, uint64_t clock, bool again)
{
    /* Not since its clock was read last: that was after its stack, from where it may have gone on. */
    bool moved = clock > sampled->walked;
    bool ran_long = clock > sampled->clock + RAN_LONG_NS;
    burn(sampled, clock);
    bool running = false;
    if (moved || sampled->node == STACK_NONE) {
        uint32_t node = read_stack(sampled);
        uint64_t after;
        if (node == STACK_NONE || !read_clock(sampled->clock_id, &after)) {
            sampler.unsure = true;
            return;
        }
        running = after > clock;
        burn(sampled, after);
        if (!running && ran_long) {
            running = waits_for_our_cpu(sampled->native_id);
        }
        sampled->node = node;
        sampled->walked = clock;
        if (sampled->number >= STACK_FIRST_THREAD) {
            stack_book_seen(sampled->number, node, running);
        }
    }
    sampled->idle = !moved;
    if (sampled->number < STACK_FIRST_THREAD) {
        stack_book_seen_once(sampled->number, sampled->node, running, again);
    }
}

/* Ask for a number. */
static void
grow_up(struct sampled *sampled)
{
    sampled->asked = sampled->clock;
    sampled->number = stack_book_thread(sampled->ident, sampled->native_id, sampled->recent);
    for (uint32_t i = 0; i < sampler.count && sampled->number >= STACK_FIRST_THREAD; i++) {
        struct sampled *other = &sampler.threads[i];
        if (other != sampled && other->number == sampled->number) {
            other->number = STACK_THREAD_OTHERS; /* it was idle, and has it no longer */
            other->asked = other->clock;
            if (other < sampled && other->node != STACK_NONE) { /* its turn is over for this tick */
                stack_book_seen_once(STACK_THREAD_OTHERS, other->node, false, false);
            }
        }
    }
    if (sampled->number >= STACK_FIRST_THREAD && sampled->node != STACK_NONE) {
        stack_book_seen(sampled->number, sampled->node, false);
    }
}

static int64_t
unaccounted(struct stack_clocks clocks)
{
    return (int64_t)(clocks.process - clocks.sampler - sampler.burned);
}

/* Ask those that were idle too whether they have run. */
static void
take_census(void)
{
    for (uint32_t i = 0; i < sampler.count; i++) {
        struct sampled *sampled = &sampler.threads[i];
        uint64_t clock;
        if (!sampled->idle) {
            continue;
        }
        if (!read_clock(sampled->clock_id, &clock)) {
            sampler.unsure = true;
        }
        else if (clock > sampled->walked) {
            look_at(sampled, clock, true);
        }
    }
    struct stack_clocks clocks = common_clocks();
    for (uint32_t i = 0; i < sampler.count; i++) {
        struct sampled *sampled = &sampler.threads[i];
        uint64_t clock;
        if (!sampled->idle && read_clock(sampled->clock_id, &clock)) {
            burn(sampled, clock);
        }
    }
    sampler.unaccounted = unaccounted(clocks);
    sampler.looks = 0;
}

/* Nodes have other numbers now. */
static void
renumber(const uint32_t *node_of)
{
    for (uint32_t i = 0; i < sampler.count; i++) {
        struct sampled *sampled = &sampler.threads[i];
        if (sampled->node != STACK_NONE) {
            uint32_t node = node_of[sampled->node];
            sampled->node = node == 0 ? STACK_NONE : node;
            sampled->idle = sampled->idle && node != 0;
        }
    }
}

static void
cool(int64_t now)
{
    if (now - sampler.cooled >= STACK_COOLING_NS) {
        sampler.cooled = now;
        for (uint32_t i = 0; i < sampler.count; i++) {
            sampler.threads[i].recent /= 2;
        }
    }
}

static void
look(void)
{
    guarded_notice_filter();
    int64_t now = monotonic();
    if (sampler.unsure || !address_same(sampler.newest, newest_thread())
        || sampler.made != frames_threads_made(sampler.interpreter)) {
        survey(now);
    }
    stack_book_make_room(renumber);
    cool(now);
    struct stack_clocks clocks = common_clocks();
    stack_book_tick(now, clocks);
    for (uint32_t i = 0; i < sampler.count; i++) {
        struct sampled *sampled = &sampler.threads[i];
        uint64_t clock = sampled->clock;
        if ((sampled->number == STACK_THREAD_YOUNG && now - sampled->born >= YOUNG_NS)
            || (sampled->number == STACK_THREAD_OTHERS && clock - sampled->asked >= STACK_CLAIM_NS)) {
            grow_up(sampled);
        }
        if (sampled->idle) {
            if (sampled->number < STACK_FIRST_THREAD) {
                stack_book_seen_once(sampled->number, sampled->node, false, false);
            }
        }
        else if (read_clock(sampled->clock_id, &clock)) {
            look_at(sampled, clock, false);
        }
        else {
            sampler.unsure = true;
        }
    }
    if (unaccounted(clocks) > sampler.unaccounted + SUSPICIOUS_NS
        || ++sampler.looks >= LOOKS_BETWEEN_CENSUSES) {
        take_census();
    }
}

/* When to look next. With jitter, so as not to march in step with the program; and later than
   asked for, if looking would cost too much. */
static void
schedule(uint64_t cpu_before)
{
    uint64_t cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
    double cost = cpu > cpu_before ? (double)(cpu - cpu_before) : 0;
    sampler.cost += (cost - sampler.cost) / 10; /* a stack that is new costs more */
    double jitter = 0.5 + random_uniform(&sampler.random);
    double gap = fmin(jitter / sampler.settings.hz * (double)NS_PER_SECOND, LONGEST_GAP_NS);
    double least = fmin(jitter * sampler.cost / sampler.settings.max_cpu, LONGEST_GAP_NS);
    int64_t now = monotonic();
    sampler.due += (int64_t)gap;
    if (sampler.due < now + (int64_t)least) {
        sampler.due = now + (int64_t)least;
    }
    sampler.period += ((double)(now - sampler.looked) - sampler.period) / 100;
    sampler.looked = now;
}

static void
publish_cost(void)
{
    struct stack_cost cost = {
        .cpu = common_clocks().sampler,
        .period = (uint64_t)sampler.period,
        .bytes = sampler.capacity * sizeof *sampler.threads + number_index_bytes(&sampler.by_id)
                 + number_index_bytes(&sampler.by_native),
        .slowed = sampler.cost / sampler.settings.max_cpu > (double)NS_PER_SECOND / sampler.settings.hz,
    };
    fork_lock_take(&cost_lock);
    last_cost = cost;
    fork_lock_give(&cost_lock);
}

static struct timespec
due_time(void)
{
    fork_lock_take(&lock);
    int64_t due = sampler.due;
    fork_lock_give(&lock);
    return (struct timespec){.tv_sec = due / NS_PER_SECOND, .tv_nsec = due % NS_PER_SECOND};
}

/* Whether to go on, once it is time to look. */
static bool
wait_until(struct timespec due)
{
    pthread_mutex_lock(&wake_lock);
    int waited = 0;
    while (!ending && waited == 0) {
        waited = pthread_cond_timedwait(&wake, &wake_lock, &due);
    }
    bool go_on = !ending;
    pthread_mutex_unlock(&wake_lock);
    return go_on;
}

/* Whether no other thread is left. A process that was forked by another thread than the main one ends
   with the last of its threads, so that must not be ours. */
static bool
is_left_alone(void)
{
    if (frames_newest_thread(sampler.interpreter) != NULL) {
        return false;
    }
    struct stat tasks; /* a folder: two links, and one for each thread */
    char text[STAT_BYTES];
    const char *main_thread = read_stat((uint64_t)getpid(), text);
    return main_thread != NULL && strncmp(main_thread, ") Z", 3) == 0 /* is over, and stays listed */
           && stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 2 + 2;
}

static void *
sample(void *Py_UNUSED(unused))
{
    pthread_setname_np(pthread_self(), THREAD_NAME);
    atomic_store(&own_native_id, (uint64_t)syscall(SYS_gettid));
    fork_lock_take(&lock);
    pthread_getcpuclockid(pthread_self(), &sampler.own_clock);
    fork_lock_give(&lock);
    uint64_t cpu = 0; /* the wake-up is part of the cost */
    while (wait_until(due_time()) && !is_left_alone()) {
        fork_lock_take(&lock);
        if (forks == 0) {
            look();
        }
        schedule(cpu);
        publish_cost();
        cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
        fork_lock_give(&lock);
    }
    fork_lock_take(&lock);
    sampler.own_before += clock_of(sampler.own_clock);
    sampler.own_clock = 0;
    publish_cost();
    fork_lock_give(&lock);
    return NULL;
}

static const char *
launch(void)
{
    pthread_condattr_t clock;
    pthread_attr_t attributes;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&wake, &clock);
    pthread_condattr_destroy(&clock);
    ending = false;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it: signals are not ours */
    int error = pthread_create(&thread, &attributes, sample, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    launched = error == 0;
    return launched ? NULL : "no thread can be started";
}

/* The GIL is kept: another thread that stops or starts us meanwhile would free what this one still
   uses. The sampling thread never takes it, and is done after its look. */
static void
halt(void)
{
    if (!launched) {
        return;
    }
    launched = false;
    pthread_mutex_lock(&wake_lock);
    ending = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&wake_lock);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&wake);
}

/* While a fork is under way the sampling thread changes nothing: CPython's own forks take it away
   before, others do not. */
static void
before_fork(void)
{
    forks++;
    fork_lock_pass(&lock);
    stack_book_before_fork();
}

static void
after_fork(void)
{
    forks--;
}

static void
in_forked_child(void)
{
    if (fork_lock_renew(&lock)) {
        memset(&sampler, 0, sizeof sampler); /* not freed: what is half changed may point anywhere */
    }
    stack_book_in_child();
    fork_lock_renew(&cost_lock);
    pthread_mutex_init(&wake_lock, NULL);
    forks = 0;
    launched = false; /* the thread is not in this process */
    own_native_id = 0;
    sampler.own_clock = 0;
}

const char *
stack_sampler_start(const struct stack_settings *settings)
{
    static bool follows_forks = false;
    if (!follows_forks) {
        if (pthread_atfork(before_fork, after_fork, in_forked_child) != 0) {
            return "there is no memory";
        }
        follows_forks = true;
    }
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    if (frames_newest_thread(interpreter) != PyInterpreterState_ThreadHead(interpreter)) {
        return "this build of CPython keeps its threads elsewhere";
    }
    int64_t now = monotonic();
    struct walk walk;
    if (!walk_init(&walk, WALK_ROOM(settings->max_frames))) {
        return "there is no memory";
    }
    if (!stack_book_open(settings->max_frames, settings->look_back_seconds, now)) {
        walk_free(&walk);
        return "there is no memory";
    }
    fork_lock_take(&lock);
    memset(&sampler, 0, sizeof sampler);
    sampler.walk = walk;
    sampler.interpreter = interpreter;
    sampler.settings = *settings;
    sampler.process_start = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    sampler.due = sampler.looked = now;
    sampler.period = fmin((double)NS_PER_SECOND / settings->hz, LONGEST_GAP_NS);
    random_seed(&sampler.random);
    survey(now - YOUNG_NS); /* who is there now is not young */
    publish_cost();
    fork_lock_give(&lock);
    const char *problem = code_watch_begin(stack_book_code_dying);
    started = true;
    if (problem == NULL) {
        problem = launch();
    }
    if (problem != NULL) {
        stack_sampler_stop();
    }
    return problem;
}

void
stack_sampler_stop(void)
{
    if (!started) {
        return;
    }
    halt();
    started = false;
    code_watch_end(stack_book_code_dying);
    fork_lock_take(&lock);
    walk_free(&sampler.walk);
    free(sampler.threads);
    number_index_free(&sampler.by_id);
    number_index_free(&sampler.by_native);
    memset(&sampler, 0, sizeof sampler);
    fork_lock_give(&lock);
    fork_lock_take(&cost_lock);
    last_cost = (struct stack_cost){0};
    fork_lock_give(&cost_lock);
    stack_book_close();
}

bool
stack_sampler_running(void)
{
    return started;
}

uint64_t
stack_sampler_pause(void)
{
    halt();
    return atomic_load(&own_native_id);
}

const char *
stack_sampler_resume(void)
{
    return started && !launched ? launch() : NULL;
}

/* Take `lock`, with the GIL held but for the time of a look. */
static void
take_lock_between_looks(void)
{
    while (!fork_lock_try(&lock)) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){.tv_nsec = BETWEEN_TRIES_NS}, NULL);
        Py_END_ALLOW_THREADS
    }
}

bool
stack_sampler_copy(struct stack_snapshot *snapshot)
{
    take_lock_between_looks();
    struct stack_clocks clocks = common_clocks();
    for (uint32_t i = 0; i < sampler.count; i++) {
        uint64_t clock;
        if (read_clock(sampler.threads[i].clock_id, &clock)) {
            burn(&sampler.threads[i], clock);
        }
    }
    bool copied = stack_book_copy(snapshot, monotonic(), clocks);
    fork_lock_give(&lock);
    return copied;
}

int
stack_sampler_own(struct position *positions, int limit)
{
    const PyThreadState *own = PyThreadState_Get();
    struct walk_memory memory = {0};
    struct walk walk;
    struct code_table codes;
    code_table_init(&codes, STACK_MAX_CODES);
    bool whole = walk_init(&walk, WALK_ROOM(limit))
                 && walk_copy(&walk, address_of(own), own->id, &memory) == WALK_WHOLE
                 && walk_frames(&walk, &codes, 0) == WALK_WHOLE;
    int count = 0;
    for (int i = 0; whole && i < walk.count && count < limit; i++) {
        if (walk.frames[i].part == WALK_SHOWN) {
            const struct walk_frame *frame = &walk.frames[i];
            positions[count++] = (struct position){
                (PyObject *)address_pointer(frame->code), frame->instruction};
        }
    }
    code_table_free(&codes);
    walk_free(&walk);
    return count;
}

struct stack_cost
stack_sampler_cost(void)
{
    fork_lock_take(&cost_lock);
    struct stack_cost cost = last_cost;
    fork_lock_give(&cost_lock);
    return cost;
}
