/* Arithmetic on addresses and numbers that were read from memory which may hold anything.

   The sampling thread reads the memory of threads that go on running, so an address in it may be any
   of 2^64 numbers. It is kept as a `struct address`: C has no operators for one, and cannot
   dereference it. Only this file looks inside (a test holds the others to it). Its functions are
   defined for every value; those whose result may not exist return whether it does. */
#ifndef PYPROF_ADDRESS_H
#define PYPROF_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ADDRESS_PAGE_BYTES ((size_t)4096)

struct address {
    uintptr_t unchecked;
};

/* From low up to, and without, high; never low > high, as only the functions below make one. */
struct address_range {
    struct address low;
    struct address high;
};

static inline struct address
address_of(const void *pointer)
{
    return (struct address){(uintptr_t)pointer};
}

/* To hand to a system call that checks it, or to tell objects apart; never to be read from. */
static inline const void *
address_pointer(struct address address)
{
    return (const void *)address.unchecked;
}

/* Where it is in a file that is all of the memory; false if no file is so long. */
static inline bool
address_offset(struct address address, off_t *offset)
{
    *offset = (off_t)address.unchecked;
    return *offset >= 0 && (uintptr_t)*offset == address.unchecked;
}

static inline bool
address_is_null(struct address address)
{
    return address.unchecked == 0;
}

static inline bool
address_same(struct address a, struct address b)
{
    return a.unchecked == b.unchecked;
}

static inline bool
address_below(struct address a, struct address b)
{
    return a.unchecked < b.unchecked;
}

static inline bool
address_is_aligned(struct address address)
{
    return address.unchecked % sizeof(void *) == 0;
}

static inline size_t
address_in_page(struct address address)
{
    return address.unchecked % ADDRESS_PAGE_BYTES;
}

static inline bool
address_after(struct address address, size_t bytes, struct address *after)
{
    return !__builtin_add_overflow(address.unchecked, bytes, &after->unchecked);
}

static inline bool
address_before(struct address address, size_t bytes, struct address *before)
{
    return !__builtin_sub_overflow(address.unchecked, bytes, &before->unchecked);
}

/* False if `to` is below `from`. */
static inline bool
address_distance(struct address from, struct address to, size_t *bytes)
{
    return !__builtin_sub_overflow(to.unchecked, from.unchecked, bytes);
}

/* False if `high` is below `low`. */
static inline bool
address_range_between(struct address low, struct address high, struct address_range *range)
{
    *range = (struct address_range){low, high};
    return low.unchecked <= high.unchecked;
}

/* False if there are not so many bytes up to the end of the address space. */
static inline bool
address_range_at(struct address low, size_t bytes, struct address_range *range)
{
    range->low = low;
    return address_after(low, bytes, &range->high);
}

static inline size_t
address_range_bytes(struct address_range range)
{
    return range.high.unchecked - range.low.unchecked;
}

/* The last so many bytes of a range; all of it if there are fewer. */
static inline struct address_range
address_range_last(struct address_range range, size_t bytes)
{
    if (address_range_bytes(range) > bytes) {
        range.low.unchecked = range.high.unchecked - bytes;
    }
    return range;
}

/* Whether so many bytes from an address on are in a range. */
static inline bool
address_range_has(struct address_range range, struct address address, size_t bytes)
{
    return range.low.unchecked <= address.unchecked && address.unchecked <= range.high.unchecked
           && range.high.unchecked - address.unchecked >= bytes;
}

static inline bool
address_range_same(struct address_range a, struct address_range b)
{
    return address_same(a.low, b.low) && address_same(a.high, b.high);
}

/* The product of two numbers that are not negative, if it is none and an int32_t has room for it. */
static inline bool
address_product(int64_t count, int64_t unit, int32_t *product)
{
    return count >= 0 && unit >= 0 && !__builtin_mul_overflow(count, unit, product);
}

#endif
