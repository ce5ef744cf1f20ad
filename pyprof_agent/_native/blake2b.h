/* BLAKE2b of a short message, without a key, as a digest of 8 bytes: RFC 7693. The same as
   hashlib.blake2b(message, digest_size=8). */
#ifndef PYPROF_BLAKE2B_H
#define PYPROF_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

/* The digest as a little-endian number. */
uint64_t blake2b_64(const void *message, size_t bytes);

#endif
