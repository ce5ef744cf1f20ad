#include "code_lines.h"

#define UNIT_BYTES 2

/* Kinds of entries, from bit 3 of their first byte on. */
#define ONE_LINE 10 /* and 11, 12: the line changes by 0, 1 or 2 */
#define NO_COLUMNS 13
#define LONG 14
#define NO_LOCATION 15

static void
begin_entry(struct code_lines *lines, unsigned char first)
{
    unsigned kind = first >> 3 & 15;
    lines->end += ((first & 7) + 1) * UNIT_BYTES;
    lines->has_line = kind != NO_LOCATION;
    lines->in_delta = kind == NO_COLUMNS || kind == LONG;
    lines->delta = 0;
    lines->shift = 0;
    if (kind >= ONE_LINE && kind < NO_COLUMNS) {
        lines->line = (int64_t)((uint64_t)lines->line + kind - ONE_LINE);
    }
}

/* Six bits of a number, whose lowest is its sign. */
static void
read_delta(struct code_lines *lines, unsigned char byte)
{
    if (lines->shift < 60) {
        lines->delta |= (uint64_t)(byte & 63) << lines->shift;
    }
    lines->shift += 6;
    if ((byte & 64) == 0) {
        uint64_t change = lines->delta >> 1; /* unsigned, as any bytes may be there */
        uint64_t line = (uint64_t)lines->line;
        lines->line = (int64_t)(lines->delta & 1 ? line - change : line + change);
        lines->in_delta = false;
    }
}

bool
code_lines_read(struct code_lines *lines, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] & 128) {
            if (lines->end > lines->wanted) {
                return true;
            }
            begin_entry(lines, bytes[i]);
        }
        else if (lines->in_delta) {
            read_delta(lines, bytes[i]);
        }
    }
    return lines->end > lines->wanted && !lines->in_delta;
}

int32_t
code_lines_found(const struct code_lines *lines)
{
    bool whole = lines->has_line && lines->end > lines->wanted && !lines->in_delta;
    return whole && lines->line > 0 && lines->line <= INT32_MAX ? (int32_t)lines->line : 0;
}
