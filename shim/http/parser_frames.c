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

struct head {
    uint32_t length, stream;
    uint8_t type, flags;
};

/* Of a frame that is not whole scan.left has the length that is to come, and above it the stream;
 * that one of a header block, too. */
#define STREAM_SHIFT 32
#define LENGTH_MASK UINT64_C(0xffffffff)
#define STREAM_MOST 0x7fffffffu

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define METHOD_LENGTH 4 /* with the space, behind which no other request goes on like that */

static uint8_t type_of(const struct scan *scan)
{
    return (uint8_t)(scan->mark.what >> 8);
}

static uint32_t stream_of(const struct scan *scan)
{
    return (uint32_t)(scan->left >> STREAM_SHIFT);
}

static struct head head_of(const struct scan *scan)
{
    return (struct head){(uint32_t)scan->left, stream_of(scan), type_of(scan),
                         (uint8_t)scan->mark.what};
}

static uint32_t number_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

INLINE struct head head_at(const char *p)
{
    const uint8_t *head = (const uint8_t *)p;
    return (struct head){number_at(head) >> 8, number_at(head + 5) & STREAM_MOST, head[3], head[4]};
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
    if (scan->streams && !streams_open(scan->streams, 1, true))
        return NOT;
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
static bool is_known(const union streams *streams, uint32_t stream)
{
    return stream % 2 && stream <= atomic_load_explicit(&streams->last, memory_order_acquire);
}

/* Whether a frame of this head may come here. */
static bool is_sound(const struct scan *scan, struct head head)
{
    uint32_t stream = head.stream, length = head.length;
    uint8_t flags = scan->mark.flags;
    bool is_ack = head.flags & FLAG_ACK;
    if (!(flags & SETTLED) && (head.type != TYPE_SETTINGS || is_ack))
        return false;
    if (flags & CONTINUES ? head.type != TYPE_CONTINUATION || stream != stream_of(scan)
                          : head.type == TYPE_CONTINUATION)
        return false;
    switch (head.type) {
    case TYPE_DATA:
        return is_known(scan->streams, stream);
    case TYPE_HEADERS:
        return scan->is_answer ? is_known(scan->streams, stream) : stream % 2;
    case TYPE_PRIORITY:
        return stream && length == 5;
    case TYPE_RST_STREAM:
        return is_known(scan->streams, stream) && length == 4;
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

/* This side of a stream ends. */
static void ends_side(union streams *streams, bool is_answer, uint32_t stream)
{
    streams_end(streams, stream, is_answer ? ENDED_BY_SERVER : ENDED_BY_CLIENT);
}

/* The frame is whole. */
static void ends(struct scan *scan, struct head head)
{
    union mark *mark = &scan->mark;
    bool is_ours = mark->index == PING_LENGTH;
    mark->index = 0;
    switch (head.type) {
    case TYPE_DATA:
        if (head.flags & FLAG_END_STREAM)
            ends_side(scan->streams, scan->is_answer, head.stream);
        break;
    case TYPE_HEADERS:
    case TYPE_CONTINUATION:
        if (!(head.flags & FLAG_END_HEADERS)) {
            mark->flags |= CONTINUES;
            scan->left = (uint64_t)head.stream << STREAM_SHIFT;
            break;
        }
        if (mark->flags & ENDS)
            ends_side(scan->streams, scan->is_answer, head.stream);
        mark->flags &= (uint8_t) ~(CONTINUES | ENDS);
        break;
    case TYPE_RST_STREAM:
        streams_end(scan->streams, head.stream, ENDED_BY_RESET);
        break;
    case TYPE_PING:
        if (!scan->is_answer && head.flags & FLAG_ACK && is_ours)
            mark->flags |= HEARD;
        break;
    case TYPE_GOAWAY:
        if (!scan->is_answer)
            break;
        mark->flags |= head.stream < STREAM_MOST ? GOES_AWAY : WARNED;
        streams_end_above(scan->streams, head.stream);
        break;
    }
}

/* The head is whole, and n bytes are here of what follows it. FRAME: so is the frame. A stream is
 * open from here on. */
static enum place begins(struct scan *scan, struct head head, size_t n)
{
    union mark *mark = &scan->mark;
    if (!is_sound(scan, head))
        return NOT;
    mark->flags |= SETTLED;
    mark->index = 0;
    if (head.type == TYPE_HEADERS) {
        bool is_new = !scan->is_answer && !is_known(scan->streams, head.stream);
        if (is_new && !(scan->other.flags & GOES_AWAY) &&
            !streams_open(scan->streams, head.stream, false))
            return NOT;
        if (head.flags & FLAG_END_STREAM)
            mark->flags |= ENDS;
    }
    if (head.length <= n && head.type != TYPE_PING && head.type != TYPE_GOAWAY) {
        ends(scan, head);
        return FRAME;
    }
    mark->what = (uint16_t)(head.type << 8 | head.flags);
    scan->left = (uint64_t)head.stream << STREAM_SHIFT | head.length;
    return FRAME_REST;
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
    return mark->index < HEAD_LENGTH ? FRAME : begins(scan, head_of(scan), 0);
}

/* A head that lies here, and its frame if that does. */
static const char *on_whole_head(struct scan *scan, const char *p, size_t n)
{
    struct head head = head_at(p);
    scan->mark.at = (uint8_t)begins(scan, head, n - HEAD_LENGTH);
    return p + HEAD_LENGTH + (scan->mark.at == FRAME ? head.length : 0);
}

static void pass_rest(struct scan *scan, size_t n)
{
    scan->left -= n;
    if (scan->left & LENGTH_MASK)
        return;
    scan->mark.at = FRAME;
    ends(scan, head_of(scan));
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
    pass_rest(scan, n);
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
            p = on_whole_head(scan, p, (size_t)(end - p));
        } else {
            mark->at = (uint8_t)on_head(scan, (uint8_t)*p++);
        }
    }
    return p;
}

const char *parser_pass_frames(union streams *streams, bool is_answer, union mark other,
                               const char *p, const char *end)
{
    while (end - p >= HEAD_LENGTH) {
        struct head head = head_at(p);
        bool is_end = head.flags & FLAG_END_STREAM;
        bool is_block = head.type == TYPE_HEADERS && head.flags & FLAG_END_HEADERS;
        if (!(is_block || head.type == TYPE_DATA) || head.length > end - p - HEAD_LENGTH)
            break;
        if (is_known(streams, head.stream)) {
            if (is_end)
                ends_side(streams, is_answer, head.stream);
        } else if (is_answer || !is_block || head.stream % 2 == 0 || other.flags & GOES_AWAY ||
                   !streams_open(streams, head.stream, is_end)) {
            break;
        }
        p += HEAD_LENGTH + head.length;
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
    pass_rest(scan, n);
}
