/* SPDX-License-Identifier: MIT */
/*
 * parser_records.c - FastCGI (its specification, version 1.0, sections 3.3 and 8): records of eight
 * bytes of head and up to 65,790 of content and padding, in both directions.
 *
 * A request is asked by the record that begins it and answered by the one that ends it, and so is a
 * question about values. Records in between, and those that come behind the answer (the end of an
 * input that nobody has read), begin and end nothing. What is no such record is not to be followed.
 */
#include "http/parser.h"

enum { VERSION_1 = 1, HEAD_LENGTH = 8 };

/* A record's type. */
enum {
    BEGIN_REQUEST = 1,
    END_REQUEST = 3,
    GET_VALUES = 9,
    GET_VALUES_RESULT = 10,
    UNKNOWN_TYPE = 11,
    TYPES_END,
};

/* The content of a record that begins or ends a request. */
enum { BODY_LENGTH = 8 };

static bool asks(uint16_t type)
{
    return type == BEGIN_REQUEST || type == GET_VALUES;
}

static bool answers(uint16_t type)
{
    return type == END_REQUEST || type == GET_VALUES_RESULT || type == UNKNOWN_TYPE;
}

bool parser_begins_records(const struct scan *scan, char c)
{
    bool is_first = !(scan->mark.flags & SPOKE);
    return scan->mark.flags & RECORDS ||
           (scan->is_answer ? scan->other.flags & RECORDS : is_first && c == VERSION_1);
}

/* The record is whole. */
static enum place ends(struct scan *scan)
{
    union mark *mark = &scan->mark;
    uint16_t type = mark->what;
    uint8_t owed = scan->is_answer ? (uint8_t)(scan->other.count - mark->count)
                                   : (uint8_t)(mark->count - scan->other.count);
    mark->what = 0;
    mark->index = 0;
    if (!(scan->is_answer ? answers(type) : asks(type)))
        return START;
    if (scan->is_answer ? !owed : owed >= OUTSTANDING)
        return NOT;
    mark->count++;
    return START;
}

/* Whether a record of this type may come from this side. The first of a connection asks. */
static bool is_expected(const struct scan *scan, uint8_t type)
{
    bool is_others = scan->is_answer ? asks(type) : answers(type);
    return type && type < TYPES_END && !is_others &&
           (scan->is_answer || !scan->mark.word || asks(type));
}

/* The next byte of a head. left: its content's length, and its padding's. */
static enum place on_head(struct scan *scan, uint8_t byte)
{
    union mark *mark = &scan->mark;
    switch (mark->index++) {
    case 0:
        mark->word = !(mark->flags & RECORDS); /* it is the first */
        mark->flags = SPOKE | RECORDS;
        scan->left = 0;
        return byte == VERSION_1 ? RECORD : NOT;
    case 1:
        mark->what = byte;
        return is_expected(scan, byte) ? RECORD : NOT;
    case 4:
        scan->left = (uint64_t)byte << 8;
        return RECORD;
    case 5:
        scan->left |= byte;
        return (mark->what == BEGIN_REQUEST || mark->what == END_REQUEST) &&
                       scan->left != BODY_LENGTH
                   ? NOT
                   : RECORD;
    case 6:
        scan->left += byte;
        return RECORD;
    case HEAD_LENGTH - 1:
        return scan->left ? RECORD_REST : ends(scan);
    }
    return RECORD; /* the number of its request, of which there may be several */
}

const char *parser_run_record(struct scan *scan, const char *p, const char *end)
{
    while (p < end && scan->mark.at == RECORD)
        scan->mark.at = (uint8_t)on_head(scan, (uint8_t)*p++);
    if (scan->mark.at != RECORD_REST)
        return p;
    size_t n = (size_t)(end - p) < scan->left ? (size_t)(end - p) : (size_t)scan->left;
    scan->left -= n;
    if (!scan->left)
        scan->mark.at = (uint8_t)ends(scan);
    return p + n;
}
