/* The line of an instruction, from the bytes of a code object's co_linetable: what CPython's
   Objects/locations.md says, the same from 3.11 on. They are handed over piece by piece. */
#ifndef PYPROF_CODE_LINES_H
#define PYPROF_CODE_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct code_lines {
    int32_t wanted; /* offset of the instruction, in bytes */
    int64_t end;    /* of the entry that is being read */
    int64_t line;   /* as far as entries have said */
    bool has_line;
    bool in_delta;
    unsigned shift;
    uint64_t delta;
};

static inline struct code_lines
code_lines_of(int32_t first_line, int32_t instruction)
{
    return (struct code_lines){.wanted = instruction, .line = first_line};
}

/* Go on with so many bytes. True: the line is known, and no more are needed. */
bool code_lines_read(struct code_lines *lines, const unsigned char *bytes, size_t count);

/* The line; 0 if the instruction has none. */
int32_t code_lines_found(const struct code_lines *lines);

#endif
