#define _GNU_SOURCE /* process_vm_readv, clone */

#include "guarded.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIAL_STACK_BYTES 65536
#define RIGHT 42 /* exit status of a trial */

/* How memory is read. A filter of system calls may be installed at any time, so it may change. */
enum way {
    BY_VM,   /* process_vm_readv: all ranges at once */
    BY_FILE, /* /proc/self/mem: one after the other */
    BY_NONE, /* both are refused */
};

static _Atomic int way; /* BY_VM at first; never again once it was refused */

/* The descriptor of /proc/self/mem, the process whose memory it is, and which file: others may close the
   descriptor, as daemons do with all, and its number is another file's then. */
static _Atomic int file = -1;
static _Atomic pid_t owner;
static _Atomic dev_t device;
static _Atomic ino_t inode;

/* How many of the ranges are whole; -1 if the system refuses. */
static int
read_by_vm(const struct guarded_range *ranges, int count)
{
    struct iovec to[GUARDED_MAX_RANGES];
    struct iovec from[GUARDED_MAX_RANGES];
    int asked = 0;
    for (; asked < count && asked < GUARDED_MAX_RANGES; asked++) {
        const struct guarded_range *range = &ranges[asked];
        struct address_range whole;
        if (!address_range_at(range->from, range->bytes, &whole)) {
            break; /* not left to the system, which may be an emulation of Linux that adds as we did */
        }
        to[asked] = (struct iovec){range->to, range->bytes};
        from[asked] = (struct iovec){(void *)address_pointer(range->from), range->bytes};
    }
    ssize_t copied =
        process_vm_readv(getpid(), to, (unsigned long)asked, from, (unsigned long)asked, 0);
    if (copied < 0 && errno != EFAULT && errno != ENOMEM) {
        return -1;
    }
    int whole = 0;
    for (ssize_t sum = 0; whole < asked; whole++) {
        sum += (ssize_t)ranges[whole].bytes;
        if (sum > copied) {
            break;
        }
    }
    return whole;
}

static bool
is_our_file(int descriptor)
{
    struct stat status;
    return descriptor >= 0 && owner == getpid() && fstat(descriptor, &status) == 0
           && status.st_dev == device && status.st_ino == inode;
}

/* The descriptor of the file; -1 if it cannot be opened. */
static int
open_file(void)
{
    int descriptor = atomic_load(&file);
    if (is_our_file(descriptor)) {
        return descriptor;
    }
    struct stat status;
    descriptor = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0 && fstat(descriptor, &status) == 0) {
        owner = getpid();
        device = status.st_dev;
        inode = status.st_ino;
    }
    atomic_store(&file, descriptor);
    return descriptor;
}

/* Whether an error of open() is permanent, unlike a lack of descriptors or memory. */
static bool
is_refused(int error)
{
    return error == EPERM || error == EACCES || error == ENOENT || error == ENOSYS;
}

static int
read_by_file(const struct guarded_range *ranges, int count)
{
    int descriptor = open_file();
    if (descriptor < 0) {
        return is_refused(errno) ? -1 : 0;
    }
    int whole = 0;
    for (; whole < count && whole < GUARDED_MAX_RANGES; whole++) {
        const struct guarded_range *range = &ranges[whole];
        off_t offset;
        if (!address_offset(range->from, &offset)
            || pread(descriptor, range->to, range->bytes, offset) != (ssize_t)range->bytes) {
            break;
        }
    }
    return whole;
}

static int
read_now(const struct guarded_range *ranges, int count)
{
    int whole = 0;
    if (atomic_load_explicit(&way, memory_order_relaxed) == BY_VM) {
        whole = read_by_vm(ranges, count);
        if (whole < 0) {
            atomic_store(&way, BY_FILE);
        }
    }
    if (atomic_load_explicit(&way, memory_order_relaxed) == BY_FILE) {
        whole = read_by_file(ranges, count);
        if (whole < 0) {
            atomic_store(&way, BY_NONE);
        }
    }
    return whole > 0 ? whole : 0;
}

bool
guarded_copy(struct address from, void *to, size_t bytes)
{
    const struct guarded_range range = {from, to, bytes};
    int error = errno;
    int whole = read_now(&range, 1);
    errno = error;
    return whole == 1;
}

bool
guarded_works(void)
{
    static const int known = 42;
    int copy = 0;
    return guarded_copy(address_of(&known), &copy, sizeof copy) && copy == known;
}

/* Whether what is there is read, and what is not there is not. */
static bool
reads_right(void)
{
    char byte;
    return guarded_works() && !guarded_copy(address_of((const void *)8), &byte, 1);
}

static int
try_once(void *unused)
{
    (void)unused;
    prctl(PR_SET_DUMPABLE, 0); /* no core of it, which is as large as the program */
    atomic_store(&way, BY_VM); /* in its own copy of all */
    return reads_right() && atomic_load(&way) == BY_VM ? RIGHT : 0;
}

/* Where system calls are filtered, one that is not allowed may end the process: systemd's
   SystemCallFilter=@system-service does. So it is tried in another one, that has no signal for its end:
   nobody in the program takes it for a child of theirs. It has a copy of our memory. One that shares it
   takes us along: Linux before 5.16 ends all processes that have the memory of the one whose core would be
   dumped. */
static bool
survives(void)
{
    char *stack = malloc(TRIAL_STACK_BYTES);
    if (stack == NULL) {
        return false;
    }
    int status = 0;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the program's runs in there */
    pid_t process = clone(try_once, stack + TRIAL_STACK_BYTES, 0, NULL);
    pid_t ended = -1;
    if (process > 0) {
        do {
            ended = waitpid(process, &status, (int)__WCLONE);
        } while (ended < 0 && errno == EINTR);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(stack);
    return ended == process && process > 0 && WIFEXITED(status) && WEXITSTATUS(status) == RIGHT;
}

/* Whether system calls are filtered, as far as is known: PR_GET_SECCOMP's answer, the highest that any
   thread has had. A trial was made then, as it copies the page tables of the whole program. */
static _Atomic int filtered;

void
guarded_notice_filter(void)
{
    if (atomic_load_explicit(&way, memory_order_relaxed) != BY_VM) {
        return;
    }
    int error = errno;
    int mode = prctl(PR_GET_SECCOMP);
    if (mode > atomic_load_explicit(&filtered, memory_order_relaxed)) {
        atomic_store(&way, BY_FILE); /* first, for who comes meanwhile */
        atomic_store(&filtered, mode);
        if (survives()) {
            atomic_store(&way, BY_VM);
        }
    }
    errno = error;
}

int
guarded_read(const struct guarded_range *ranges, int count)
{
    guarded_notice_filter();
    int error = errno;
    int whole = read_now(ranges, count);
    errno = error;
    return whole;
}

const char *
guarded_problem(void)
{
    int none = BY_NONE;
    guarded_notice_filter();
    atomic_compare_exchange_strong(&way, &none, BY_FILE); /* another filter of another thread's, maybe */
    if (!reads_right()) {
        int vm = BY_VM; /* it is there and reads wrong */
        if (!atomic_compare_exchange_strong(&way, &vm, BY_FILE) || !reads_right()) {
            return "the system forbids both process_vm_readv and /proc/self/mem";
        }
    }
    return NULL;
}

const char *
guarded_way(void)
{
    static const char *const names[] = {"process_vm_readv", "/proc/self/mem", "nothing"};
    return names[atomic_load(&way)];
}

void
guarded_in_child(void)
{
    int descriptor = atomic_exchange(&file, -1); /* it is of the parent's memory */
    if (is_our_file(descriptor)) {
        close(descriptor);
    }
}
