/* Bytes that grow at their end, and how protobuf writes numbers: a varint has seven bits a byte, the
   lowest first. Once an allocation has failed, nothing more is written. */
#ifndef PYPROF_BYTES_BUFFER_H
#define PYPROF_BYTES_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VARINT_BYTES 10 /* at most */

/* Zeros are an empty one. */
struct bytes_buffer {
    unsigned char *bytes;
    size_t count;
    size_t capacity;
    bool failed;
};

/* Room for so many bytes more at the end; NULL without memory. They count once `count` says so. */
static inline unsigned char *
bytes_buffer_room(struct bytes_buffer *buffer, size_t bytes)
{
    if (buffer->failed) {
        return NULL;
    }
    if (buffer->capacity - buffer->count < bytes) {
        size_t capacity = buffer->capacity ? buffer->capacity : 4096;
        while (capacity - buffer->count < bytes) {
            capacity *= 2;
        }
        unsigned char *larger = realloc(buffer->bytes, capacity);
        if (larger == NULL) {
            buffer->failed = true;
            return NULL;
        }
        buffer->bytes = larger;
        buffer->capacity = capacity;
    }
    return buffer->bytes + buffer->count;
}

static inline void
bytes_buffer_free(struct bytes_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct bytes_buffer){0};
}

static inline void
bytes_buffer_add(struct bytes_buffer *buffer, const void *bytes, size_t count)
{
    unsigned char *room = bytes_buffer_room(buffer, count);
    if (room != NULL && count > 0) {
        memcpy(room, bytes, count);
        buffer->count += count;
    }
}

static inline size_t
varint_write(unsigned char *to, uint64_t number)
{
    size_t count = 0;
    for (; number >= 128; number >>= 7) {
        to[count++] = (unsigned char)(number | 128);
    }
    to[count++] = (unsigned char)number;
    return count;
}

static inline void
bytes_buffer_varint(struct bytes_buffer *buffer, uint64_t number)
{
    unsigned char *room = bytes_buffer_room(buffer, VARINT_BYTES);
    if (room != NULL) {
        buffer->count += varint_write(room, number);
    }
}

/* A field of a message with a number; none if it is 0, which is what a reader takes for it then. */
static inline void
bytes_buffer_number(struct bytes_buffer *buffer, unsigned field, uint64_t number)
{
    if (number != 0) {
        bytes_buffer_varint(buffer, field << 3);
        bytes_buffer_varint(buffer, number);
    }
}

/* A field with bytes: a string, a message, packed numbers. */
static inline void
bytes_buffer_field(struct bytes_buffer *buffer, unsigned field, const void *bytes, size_t count)
{
    bytes_buffer_varint(buffer, field << 3 | 2);
    bytes_buffer_varint(buffer, count);
    bytes_buffer_add(buffer, bytes, count);
}

#endif
