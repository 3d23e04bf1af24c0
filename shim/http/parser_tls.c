/* SPDX-License-Identifier: MIT */
/*
 * parser_tls.c - TLS (RFC 8446, 5.1): records of five bytes of head in both directions, from the
 * client's first one until it asks for something behind its first answer. What the server says
 * before that answer, and of itself, is none: tickets, the SETTINGS of HTTP/2 and what acknowledges
 * the client's. It can't be read, but is known by its place and its length.
 *
 * Such a record leaves what the client has said without an answer beyond doubt only where that is
 * no mere preface of HTTP/2, which needs none: it is longer, or more behind it. Else it is in doubt
 * (tracker_is_in_doubt).
 */
#include "http/parser.h"

enum { HEAD_LENGTH = 5, VERSION_3 = 3 };

/* A record's type. */
enum { CHANGE_CIPHER_SPEC = 20, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT };
_Static_assert(HANDSHAKE == TLS_HANDSHAKE, "a client's first");

/* Lengths of records, and so with what each version adds: 17 bytes in 1.3, 24 in 1.2 (AES-GCM). */
enum {
    SETTINGS_ACK = 9 + 17,
    CONTROL_MOST =
        2 * 13 + 24, /* two WINDOW_UPDATEs; a first answer has more in its header block */
    SETTINGS_MOST = 125,
    PREFACE_MOST = 200, /* with PRIORITY frames, as Firefox had them */
};
#define TICKETS_MOST 2

/* The client's flags. */
enum {
    IS_LONG = 1,      /* it has asked for something beyond doubt */
    OFFERS_H2 = 2,    /* by ALPN; in one of 30,000 that do not, its random bytes say so */
    CIPHERED = 4,     /* CHANGE_CIPHER_SPEC was seen */
    FINISHED = 8,     /* its part of the handshake is over */
    IS_1_3 = 16,      /* in which the end of the handshake seems to be data */
    ACKED = 32,       /* SETTINGS of the server's, behind its first answer */
    ASKED = 64,       /* for something, behind the handshake */
    HAS_TICKETS = 128 /* and before the server could say anything behind it */
};

/* The server's, with SPOKE, SETTLED and DOUBTED. Its mark.what: the tickets so far. */
#define ANSWERED 4

static const char alpn_h2[] = "\2h2"; /* RFC 7301, 3.1 */

static bool is_all_answered(const struct scan *scan)
{
    return scan->mark.count == scan->other.count;
}

enum place parser_begins_tls(struct scan *scan, char c)
{
    bool begins = scan->is_answer ? parser_is_tls(scan->other)
                                  : !scan->mark.all && !scan->other.all && c == TLS_HANDSHAKE;
    if (!begins)
        return START;
    scan->mark.what = scan->is_answer ? 0 : TLS_HANDSHAKE;
    scan->mark.flags = scan->is_answer ? SPOKE : 0;
    scan->mark.index = 0;
    scan->left = 0;
    return RECORD_TLS;
}

/* The same beyond doubt, of something that was asked behind the handshake. */
static bool is_answered(const struct scan *scan)
{
    return is_all_answered(scan) && scan->other.flags & ANSWERED && !(scan->other.flags & DOUBTED);
}

static enum place asks(struct scan *scan)
{
    if (is_answered(scan))
        return NOT; /* and is served as any other from here on */
    scan->mark.count += is_all_answered(scan);
    return RECORD_TLS_REST;
}

/* The head of a client's record is whole. */
static enum place asks_by(struct scan *scan, uint8_t type)
{
    uint8_t *flags = &scan->mark.flags;
    if (type == CHANGE_CIPHER_SPEC) {
        *flags |= CIPHERED;
        return RECORD_TLS_REST;
    }
    if (type == HANDSHAKE && *flags & CIPHERED)
        *flags |= FINISHED;
    if (type != APPLICATION_DATA)
        return asks(scan);
    if (!(*flags & FINISHED)) {
        *flags |= FINISHED | IS_1_3;
        return asks(scan);
    }
    bool is_ack = *flags & IS_1_3 && !(*flags & ACKED) && scan->left == SETTINGS_ACK;
    if (is_ack && is_answered(scan)) {
        *flags |= ACKED;
        return RECORD_TLS_REST;
    }
    if (scan->left > (*flags & ASKED ? CONTROL_MOST : PREFACE_MOST))
        *flags |= IS_LONG;
    *flags |= ASKED;
    return asks(scan);
}

/* Whether a record of the server's, of this length, is or may be none of an answer. */
static bool is_of_itself(struct scan *scan, uint64_t length)
{
    union mark *mark = &scan->mark;
    if (scan->other.flags & HAS_TICKETS && mark->what < TICKETS_MOST && length > CONTROL_MOST) {
        mark->what++;
        return true;
    }
    if (!(scan->other.flags & OFFERS_H2))
        return false;
    bool is_first = !(mark->flags & SETTLED);
    mark->flags |= SETTLED;
    return length <= CONTROL_MOST || (is_first && length <= SETTINGS_MOST);
}

/* A record of the server's is whole. */
static void answers_by(struct scan *scan, uint8_t type, uint64_t length)
{
    union mark *mark = &scan->mark;
    if (is_all_answered(scan) && !(mark->flags & DOUBTED))
        return;
    if (type == APPLICATION_DATA && scan->other.flags & ASKED) {
        bool doubted = is_of_itself(scan, length);
        if (doubted && length <= CONTROL_MOST && scan->other.flags & IS_LONG)
            return;
        mark->flags &= (uint8_t)~DOUBTED;
        mark->flags |= doubted ? DOUBTED : ANSWERED;
    }
    mark->count = scan->other.count;
}

/* scan.left: what is to come of a record; of the server's, above it, its length. */
#define LENGTH_SHIFT 32
#define LEFT_MASK UINT64_C(0xffffffff)

static enum place ends(struct scan *scan)
{
    if (scan->is_answer)
        answers_by(scan, scan->mark.word, scan->left >> LENGTH_SHIFT);
    scan->mark.index = 0;
    return RECORD_TLS;
}

/* The next byte of a head. */
static enum place on_head(struct scan *scan, uint8_t byte)
{
    union mark *mark = &scan->mark;
    switch (mark->index++) {
    case 0:
        mark->word = byte;
        return byte >= CHANGE_CIPHER_SPEC && byte <= HEARTBEAT ? RECORD_TLS : NOT;
    case 1:
        return byte == VERSION_3 ? RECORD_TLS : NOT;
    case 3:
        scan->left = (uint64_t)byte << 8;
        return RECORD_TLS;
    case HEAD_LENGTH - 1:
        break;
    default:
        return RECORD_TLS;
    }
    scan->left |= byte;
    mark->index = 0;
    enum place next = scan->is_answer ? RECORD_TLS_REST : asks_by(scan, mark->word);
    if (scan->is_answer)
        scan->left |= scan->left << LENGTH_SHIFT;
    return next == RECORD_TLS_REST && !(scan->left & LEFT_MASK) ? ends(scan) : next;
}

/* The client's first words, before anything is encrypted. */
static void find_h2(struct scan *scan, const char *p, const char *end)
{
    union mark *mark = &scan->mark;
    for (; p < end && mark->index < sizeof alpn_h2 - 1; p++)
        mark->index = *p == alpn_h2[mark->index] ? mark->index + 1 : *p == alpn_h2[0];
    if (mark->index == sizeof alpn_h2 - 1)
        mark->flags |= OFFERS_H2;
}

const char *parser_run_tls(struct scan *scan, const char *p, const char *end)
{
    union mark *mark = &scan->mark;
    while (p < end && mark->at == RECORD_TLS)
        mark->at = (uint8_t)on_head(scan, (uint8_t)*p++);
    if (mark->at != RECORD_TLS_REST)
        return p;
    uint64_t left = scan->left & LEFT_MASK;
    size_t n = (size_t)(end - p) < left ? (size_t)(end - p) : (size_t)left;
    if (!scan->is_answer && mark->word == HANDSHAKE && !(mark->flags & CIPHERED))
        find_h2(scan, p, p + n);
    scan->left -= n;
    p += n;
    if (n < left)
        return p;
    mark->at = (uint8_t)ends(scan);
    if (!scan->is_answer && mark->flags & IS_1_3 && !(mark->flags & (ASKED | ACKED)) && p < end)
        mark->flags |= HAS_TICKETS;
    return p;
}
