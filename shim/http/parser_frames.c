/* SPDX-License-Identifier: MIT */
/*
 * parser_frames.c - HTTP/2 (RFC 9113, sections 3.4 and 4.1): the client's preface, and frames of
 * nine bytes of head in both directions. What is in them is for who can read it (HPACK): of a
 * stream it is enough to know its first frame and its last.
 *
 *   no HTTP/2 any more from                        because
 *   ---------------------------------------------- ------------------------------------------------
 *   a first frame of either side but SETTINGS      3.4: it is none
 *   a frame between a header block's, other than   6.10: the block is one; and no frame of ours may
 *     its CONTINUATION; one that continues none      stand there
 *   DATA, HEADERS, PRIORITY, RST_STREAM on stream   6.1 to 6.4; 5.1.1: a client's are odd
 *     0; SETTINGS, PING, GOAWAY on another; even
 *   DATA, RST_STREAM on a stream that was never    5.1: idle
 *     opened; HEADERS of the server on one
 *   PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY,  6.3 to 6.9: a length that they can't have
 *     WINDOW_UPDATE of another length
 *   PUSH_PROMISE                                   streams of the server's are not counted
 *   bytes that were not seen, but of a payload     they may hold a head
 *
 * Other types pass by (4.1), and so does what arrives for a stream that has ended.
 */
#include "http/parser.h"

enum { HEAD_LENGTH = 9 };

/* A frame's type, and its flags. */
enum {
    TYPE_DATA,
    TYPE_HEADERS,
    TYPE_PRIORITY,
    TYPE_RST_STREAM,
    TYPE_SETTINGS,
    TYPE_PUSH_PROMISE,
    TYPE_PING,
    TYPE_GOAWAY,
    TYPE_WINDOW_UPDATE,
    TYPE_CONTINUATION,
};
enum { FLAG_END_STREAM = 0x1, FLAG_ACK = 0x1, FLAG_END_HEADERS = 0x4 };

/* scan.left: the frame's length, or what is to come of it, and above it its stream. */
#define STREAM_SHIFT 32
#define LENGTH_MASK UINT64_C(0xffffffff)
#define STREAM_MOST 0x7fffffffu

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define METHOD_LENGTH 4 /* with the space, behind which no other request goes on like that */

static uint8_t type_of(const struct scan *scan)
{
    return (uint8_t)(scan->mark.what >> 8);
}

static bool has_flag(const struct scan *scan, uint8_t flag)
{
    return scan->mark.what & flag;
}

static uint32_t stream_of(const struct scan *scan)
{
    return (uint32_t)(scan->left >> STREAM_SHIFT);
}

enum place parser_begins_frames(struct scan *scan, char c)
{
    bool is_first = !(scan->mark.flags & SPOKE), others = parser_is_framed(scan->other);
    bool is_unasked = is_first && !scan->other.all && c == '\0'; /* 3.4: it may not wait */
    bool begins = scan->is_answer ? others || is_unasked : others || (is_first && c == 'P');
    if (!begins)
        return START;
    scan->mark.flags = SPOKE;
    scan->mark.what = 0;
    scan->mark.word = 0;
    scan->mark.index = 0;
    scan->left = 0;
    return scan->is_answer ? FRAME : PREFACE;
}

enum place parser_switches_to_frames(struct scan *scan)
{
    if (scan->other.at != START || (uint8_t)(scan->other.count - scan->mark.count) != 1)
        return NOT;
    if (scan->streams) {
        if (!streams_open(scan->streams, 1))
            return NOT;
        streams_end(scan->streams, 1, ENDED_BY_CLIENT);
    }
    scan->mark.count++;
    scan->mark.flags = SPOKE;
    scan->mark.index = 0;
    scan->left = 0;
    return FRAME;
}

/* The next byte of the preface. What is another method's is not taken. */
static const char *on_preface(struct scan *scan, const char *p)
{
    union mark *mark = &scan->mark;
    if (*p != preface[mark->index]) {
        bool may_be = mark->index < METHOD_LENGTH && !parser_is_framed(scan->other);
        mark->at = may_be ? METHOD : NOT;
        mark->index = 0;
        return p;
    }
    if (++mark->index == sizeof preface - 1) {
        mark->at = FRAME;
        mark->index = 0;
    }
    return p + 1;
}

/* Whether a client may have opened a stream of this number. */
static bool is_known(const struct scan *scan, uint32_t stream)
{
    return stream % 2 && stream <= atomic_load(&scan->streams->last);
}

/* Whether a frame of this head may come here. */
static bool is_sound(const struct scan *scan)
{
    uint32_t stream = stream_of(scan);
    uint64_t length = scan->left & LENGTH_MASK;
    uint8_t type = type_of(scan), flags = scan->mark.flags;
    bool is_ack = has_flag(scan, FLAG_ACK);
    if (!(flags & SETTLED) && (type != TYPE_SETTINGS || is_ack))
        return false;
    if (!(flags & CONTINUES) != (type != TYPE_CONTINUATION))
        return false;
    switch (type) {
    case TYPE_DATA:
        return is_known(scan, stream);
    case TYPE_HEADERS:
        return scan->is_answer ? is_known(scan, stream) : stream % 2;
    case TYPE_PRIORITY:
        return stream && length == 5;
    case TYPE_RST_STREAM:
        return is_known(scan, stream) && length == 4;
    case TYPE_SETTINGS:
        return !stream && length % 6 == 0 && !(is_ack && length);
    case TYPE_PUSH_PROMISE:
        return false;
    case TYPE_PING:
        return !stream && length == 8;
    case TYPE_GOAWAY:
        return !stream && length >= 8;
    case TYPE_WINDOW_UPDATE:
        return length == 4;
    }
    return true;
}

/* A header block has come to an end, and with it this side of the stream where it says so. */
static void ends_block(struct scan *scan)
{
    union mark *mark = &scan->mark;
    if (!has_flag(scan, FLAG_END_HEADERS)) {
        mark->flags |= CONTINUES;
        return;
    }
    if (mark->flags & ENDS)
        streams_end(scan->streams, stream_of(scan),
                    scan->is_answer ? ENDED_BY_SERVER : ENDED_BY_CLIENT);
    mark->flags &= (uint8_t) ~(CONTINUES | ENDS);
}

/* The frame is whole. */
static enum place ends(struct scan *scan)
{
    union mark *mark = &scan->mark;
    bool is_end = has_flag(scan, FLAG_END_STREAM), is_ours = mark->index == PING_LENGTH;
    mark->index = 0;
    switch (type_of(scan)) {
    case TYPE_HEADERS:
        if (is_end)
            mark->flags |= ENDS;
        /* fallthrough */
    case TYPE_CONTINUATION:
        ends_block(scan);
        break;
    case TYPE_DATA:
        if (is_end)
            streams_end(scan->streams, stream_of(scan),
                        scan->is_answer ? ENDED_BY_SERVER : ENDED_BY_CLIENT);
        break;
    case TYPE_RST_STREAM:
        streams_end(scan->streams, stream_of(scan), ENDED_BY_RESET);
        break;
    case TYPE_PING:
        if (!scan->is_answer && has_flag(scan, FLAG_ACK) && is_ours)
            mark->flags |= HEARD;
        break;
    case TYPE_GOAWAY:
        if (!scan->is_answer)
            break;
        mark->flags |= stream_of(scan) < STREAM_MOST ? GOES_AWAY : WARNED;
        streams_end_above(scan->streams, stream_of(scan));
        break;
    }
    return FRAME;
}

/* The head is whole. A stream is open from here on. */
static enum place begins(struct scan *scan)
{
    union mark *mark = &scan->mark;
    if (!is_sound(scan))
        return NOT;
    mark->flags |= SETTLED;
    bool opens = !scan->is_answer && type_of(scan) == TYPE_HEADERS &&
                 stream_of(scan) > atomic_load(&scan->streams->last) &&
                 !(scan->other.flags & GOES_AWAY);
    if (opens && !streams_open(scan->streams, stream_of(scan)))
        return NOT;
    mark->index = 0;
    return scan->left & LENGTH_MASK ? FRAME_REST : ends(scan);
}

/* The next byte of a head. A block goes on in the stream in which it has begun. */
static enum place on_head(struct scan *scan, uint8_t byte)
{
    union mark *mark = &scan->mark;
    uint8_t index = mark->index++;
    if (index < 3) {
        scan->left = index ? scan->left : scan->left & ~LENGTH_MASK;
        scan->left |= (uint64_t)byte << (16 - index * 8);
    } else if (index < 5) {
        mark->what = (uint16_t)(mark->what << 8 | byte);
    } else {
        unsigned int shift = STREAM_SHIFT + (HEAD_LENGTH - 1 - index) * 8u;
        uint64_t mask = UINT64_C(0xff) << shift;
        uint64_t bits = (uint64_t)(index == 5 ? byte & 0x7f : byte) << shift; /* reserved */
        if (mark->flags & CONTINUES && (scan->left & mask) != bits)
            return NOT;
        scan->left = (scan->left & ~mask) | bits;
    }
    return mark->index < HEAD_LENGTH ? FRAME : begins(scan);
}

/* All of a head that lies here. */
static enum place on_whole_head(struct scan *scan, const char *p)
{
    const uint8_t *head = (const uint8_t *)p;
    uint32_t stream = (head[5] & 0x7fu) << 24 | (uint32_t)(head[6] << 16 | head[7] << 8 | head[8]);
    if (scan->mark.flags & CONTINUES && stream != stream_of(scan))
        return NOT;
    scan->left =
        (uint64_t)stream << STREAM_SHIFT | (uint32_t)(head[0] << 16 | head[1] << 8 | head[2]);
    scan->mark.what = (uint16_t)(head[3] << 8 | head[4]);
    return begins(scan);
}

/* So many bytes more of a payload. What a GOAWAY begins with is kept in place of its stream. */
static const char *on_rest(struct scan *scan, const char *p, size_t n)
{
    uint64_t length = scan->left & LENGTH_MASK;
    if (n > length)
        n = (size_t)length;
    if (type_of(scan) == TYPE_GOAWAY)
        for (size_t i = 0; i < n && scan->mark.index < 4; i++) {
            uint64_t byte = (uint8_t)p[i] & (scan->mark.index++ ? 0xff : 0x7f);
            scan->left |= byte << (STREAM_SHIFT + (4 - scan->mark.index) * 8u);
        }
    if (type_of(scan) == TYPE_PING) /* how much of it is as ours */
        for (size_t i = 0; i < n; i++)
            scan->mark.index += p[i] == PING_OURS[PING_LENGTH - length + i];
    scan->left -= n;
    if (n == length)
        scan->mark.at = (uint8_t)ends(scan);
    return p + n;
}

const char *parser_run_frames(struct scan *scan, const char *p, const char *end)
{
    union mark *mark = &scan->mark;
    if (mark->at == PREFACE)
        return on_preface(scan, p);
    if (!scan->streams)
        return end; /* a plan: there is nothing in a frame that it could change */
    while (p < end && parser_is_framed(*mark)) {
        if (mark->at == FRAME_REST) {
            p = on_rest(scan, p, (size_t)(end - p));
        } else if (!mark->index && end - p >= HEAD_LENGTH) {
            mark->at = (uint8_t)on_whole_head(scan, p);
            p += HEAD_LENGTH;
        } else {
            mark->at = (uint8_t)on_head(scan, (uint8_t)*p++);
        }
    }
    return p;
}

void parser_skip_frame(struct scan *scan, size_t n)
{
    uint64_t length = scan->left & LENGTH_MASK;
    if (scan->mark.at != FRAME_REST || type_of(scan) == TYPE_GOAWAY || n > length) {
        scan->mark.at = NOT;
        return;
    }
    scan->left -= n;
    if (n == length)
        scan->mark.at = (uint8_t)ends(scan);
}
