/* SPDX-License-Identifier: MIT */
/*
 * parser_websocket.c - WebSocket (RFC 6455, section 5.2) behind its 101: frames of a head of 2 to
 * 14 bytes and a payload, in both directions. What is in a payload, compressed or not, is the
 * program's.
 *
 * The connection is idle between two messages. Whether a client's wants an answer nobody can tell:
 * it is counted, and whatever message comes from the server then answers all before it. PING and
 * PONG ask nothing and answer nothing: most libraries send them by themselves.
 *
 *   no WebSocket any more from                     because
 *   ---------------------------------------------- -----------------------------------------------
 *   a client's frame without mask, a server's      5.1
 *     with one
 *   an opcode that RFC 6455 has no meaning for     5.2: an extension's, and who knows what it wants
 *   a message in a message, and a part of none     5.4
 *   a control frame in parts, longer than 125      5.5
 *     bytes, or with a reserved bit
 *   a length of 2^63 or more                       5.2
 *   bytes that were not seen, but of a payload     they may hold a head
 */
#include "http/parser.h"

enum {
    PART = 0,
    TEXT_MESSAGE = 1,
    BINARY_MESSAGE = 2,
    CLOSE_FRAME = 8,
    PING_FRAME = 9,
    PONG_FRAME = 10
};
enum { FIN_BIT = 0x80, RESERVED_BITS = 0x70, OPCODE_BITS = 0x0f, CONTROL_BIT = 0x08 };
enum {
    MASK_BIT = 0x80,
    LENGTH_BITS = 0x7f,
    LENGTH_OF_2 = 126,
    LENGTH_OF_8 = 127,
    CONTROL_MOST = 125
};
enum { MASK_LENGTH = 4 };

/* mark.what: the first two bytes of the frame. */
static uint8_t first_of(union mark mark)
{
    return (uint8_t)(mark.what >> 8);
}

static uint8_t second_of(union mark mark)
{
    return (uint8_t)mark.what;
}

enum place parser_switches_to_websocket(struct scan *scan)
{
    if (scan->other.at != START || (uint8_t)(scan->other.count - scan->mark.count) != 1)
        return NOT;
    scan->mark.count++;
    scan->mark.flags = SPOKE;
    scan->mark.index = 0;
    scan->left = 0;
    return MESSAGE;
}

enum place parser_begins_websocket(struct scan *scan)
{
    if (scan->is_answer || !parser_is_websocket(scan->other))
        return START;
    scan->mark.flags = SPOKE;
    scan->mark.index = 0;
    scan->left = 0;
    return MESSAGE;
}

static bool is_sound(const struct scan *scan, uint8_t first)
{
    bool continues = scan->mark.flags & CONTINUES;
    switch (first & OPCODE_BITS) {
    case PART:
        return continues;
    case TEXT_MESSAGE:
    case BINARY_MESSAGE:
        return !continues;
    case CLOSE_FRAME:
    case PING_FRAME:
    case PONG_FRAME:
        return first & FIN_BIT && !(first & RESERVED_BITS);
    }
    return false;
}

/* The frame is whole. */
static enum place ends(struct scan *scan)
{
    union mark *mark = &scan->mark;
    uint8_t first = first_of(*mark);
    mark->index = 0;
    if ((first & OPCODE_BITS) == CLOSE_FRAME)
        mark->flags |= GOES_AWAY;
    if (first & CONTROL_BIT)
        return MESSAGE;
    if (!(first & FIN_BIT)) {
        mark->flags |= CONTINUES;
        return MESSAGE;
    }
    mark->flags &= (uint8_t)~CONTINUES;
    if (scan->is_answer)
        mark->count = scan->other.count;
    else if ((uint8_t)(mark->count - scan->other.count) < OUTSTANDING) /* it must not wrap */
        mark->count++;
    return MESSAGE;
}

/* The next byte of a head: two, the length where it is longer, and a client's mask. */
static enum place on_head(struct scan *scan, uint8_t byte)
{
    union mark *mark = &scan->mark;
    uint8_t index = mark->index++;
    if (index == 0) {
        mark->what = (uint16_t)(byte << 8);
        return is_sound(scan, byte) ? MESSAGE : NOT;
    }
    if (index == 1) {
        bool is_masked = byte & MASK_BIT;
        mark->what |= byte;
        scan->left = byte & LENGTH_BITS;
        if (is_masked == scan->is_answer ||
            (first_of(*mark) & CONTROL_BIT && scan->left > CONTROL_MOST))
            return NOT;
    }
    uint8_t length = second_of(*mark) & LENGTH_BITS;
    uint8_t longer = length == LENGTH_OF_8 ? 8 : length == LENGTH_OF_2 ? 2 : 0;
    if (index >= 2 && index < 2 + longer) {
        scan->left = (index == 2 ? 0 : scan->left << 8) | byte;
        if (index == 2 && longer == 8 && byte & 0x80)
            return NOT;
    }
    if (mark->index < 2 + longer + (scan->is_answer ? 0 : MASK_LENGTH))
        return MESSAGE;
    return scan->left ? MESSAGE_REST : ends(scan);
}

/* A head as most are, all of which lies here: 0: it is none. */
static size_t on_whole_head(struct scan *scan, const char *p, const char *end)
{
    uint8_t first = (uint8_t)p[0];
    size_t n = scan->is_answer ? 2 : 2 + MASK_LENGTH;
    if (scan->mark.index || end - p < (ptrdiff_t)n)
        return 0;
    uint8_t second = (uint8_t)p[1], length = second & LENGTH_BITS;
    if (length >= LENGTH_OF_2 || (bool)(second & MASK_BIT) == scan->is_answer ||
        !is_sound(scan, first))
        return 0;
    scan->mark.what = (uint16_t)(first << 8 | second);
    scan->left = length;
    scan->mark.at = (uint8_t)(length ? MESSAGE_REST : ends(scan));
    return n;
}

static size_t count_off(struct scan *scan, size_t n)
{
    if (n > scan->left)
        n = (size_t)scan->left;
    scan->left -= n;
    if (!scan->left)
        scan->mark.at = (uint8_t)ends(scan);
    return n;
}

const char *parser_run_websocket(struct scan *scan, const char *p, const char *end)
{
    if (p < end && scan->mark.at == MESSAGE)
        p += on_whole_head(scan, p, end);
    while (p < end && scan->mark.at == MESSAGE)
        scan->mark.at = (uint8_t)on_head(scan, (uint8_t)*p++);
    if (p < end && scan->mark.at == MESSAGE_REST)
        p += count_off(scan, (size_t)(end - p));
    return p;
}

void parser_skip_message(struct scan *scan, size_t n)
{
    if (scan->mark.at == MESSAGE_REST && n <= scan->left)
        count_off(scan, n);
    else
        scan->mark.at = NOT;
}
