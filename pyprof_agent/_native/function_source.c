#include "frames.h" /* first, as Python.h sets what the system's headers show */

#include "function_source.h"

#include "code_lines.h"

#define PIECE_BYTES 1024

bool
function_source_direct(struct address from, void *to, size_t bytes)
{
    memcpy(to, address_pointer(from), bytes);
    return true;
}

static bool
read_text(function_reader read, struct address string, char room[FUNCTION_TEXT_BYTES],
          struct function_text *text)
{
    PyASCIIObject header;
    struct string_facts facts;
    if (!read(string, &header, sizeof header) || !frames_string_facts(string, &header, &facts)) {
        return false;
    }
    if (facts.indirect) {
        const void *data;
        if (!read(facts.data, &data, sizeof data)) {
            return false;
        }
        facts.data = address_of(data);
    }
    uint32_t most = FUNCTION_TEXT_BYTES / facts.kind;
    *text = (struct function_text){room, facts.length < most ? facts.length : most, facts.kind};
    if (!read(facts.data, room, (size_t)text->length * text->kind)) {
        return false;
    }
    for (uint32_t i = 0; text->kind == 4 && i < text->length; i++) {
        uint32_t character;
        memcpy(&character, room + (size_t)i * 4, sizeof character);
        if (character > 0x10ffff) {
            return false;
        }
    }
    return true;
}

/* Reads a bytes object piece by piece. */
struct pieces {
    struct address at;
    size_t left;
    unsigned char bytes[PIECE_BYTES];
    size_t count; /* of those that were read last */
};

static bool
begin_pieces(function_reader read, struct address object, struct pieces *pieces)
{
    PyVarObject header;
    return read(object, &header, sizeof header)
           && frames_bytes_facts(object, &header, &pieces->at, &pieces->left);
}

static bool
next_piece(function_reader read, struct pieces *pieces)
{
    pieces->count = pieces->left < PIECE_BYTES ? pieces->left : PIECE_BYTES;
    if (!read(pieces->at, pieces->bytes, pieces->count)) {
        return false;
    }
    pieces->left -= pieces->count;
    return address_after(pieces->at, pieces->count, &pieces->at);
}

bool
function_source_facts(struct function_source *source, function_reader read, struct address code,
                      struct function_facts *facts)
{
    PyCodeObject header;
    struct pieces pieces;
    if (!read(code, &header, FRAMES_CODE_BYTES)) {
        return false;
    }
    struct code_names names = frames_code_names(&header);
    if (!read_text(read, names.name, source->name, &facts->name)
        || !read_text(read, names.file, source->file, &facts->file)
        || !begin_pieces(read, names.lines, &pieces)) {
        return false;
    }
    facts->first_line = names.first_line;
    facts->lines = 0;
    while (pieces.left > 0) {
        if (!next_piece(read, &pieces)) {
            return false;
        }
        facts->lines = function_hash(facts->lines, pieces.bytes, pieces.count);
    }
    return true;
}

bool
function_source_line(function_reader read, struct address code, int32_t instruction, int32_t *line)
{
    PyCodeObject header;
    struct pieces pieces;
    if (!read(code, &header, FRAMES_CODE_BYTES)) {
        return false;
    }
    struct code_names names = frames_code_names(&header);
    if (!begin_pieces(read, names.lines, &pieces)) {
        return false;
    }
    struct code_lines lines = code_lines_of(names.first_line, instruction);
    bool found = false;
    while (pieces.left > 0 && !found) {
        if (!next_piece(read, &pieces)) {
            return false;
        }
        found = code_lines_read(&lines, pieces.bytes, pieces.count);
    }
    *line = code_lines_found(&lines);
    if (*line == 0 && names.first_line > 0) {
        *line = names.first_line;
    }
    return true;
}
