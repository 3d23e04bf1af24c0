/* SPDX-License-Identifier: MIT */
/*
 * parser.h - one side of an HTTP/1.0 or 1.1 connection, followed by its bytes: where in a message
 * each is, and what ends it. (And of FastCGI: parser_records.c, of HTTP/2: parser_frames.c, of
 * WebSocket: parser_websocket.c, of PostgreSQL: parser_postgres.c, and of TLS: parser_tls.c.)
 *
 * Pure: memory in, memory out, no call of anybody's (and of HTTP/2 the streams that are open).
 * Nothing is held back or looked ahead for: a head is looked at once, a body is counted, wherever
 * the calls cut them. Never a guess: what one server reads in one way and the next in another is in
 * doubt, and so is what this table refuses although some server takes it.
 *
 *   the whole connection is no HTTP from                    because
 *   ------------------------------------------------------ ----------------------------------------
 *   a first byte that begins no method; a method with       other protocols; who reads
 *     small letters or more than tchar                        "head" as HEAD?
 *   a request line without version, with one that is not    HTTP/0.9, PROXY v1;
 *     HTTP/1.0 or HTTP/1.1, with other than single spaces     some servers split at other spaces
 *   a line end that is not CR LF, a CR within a line        servers differ in what ends a line
 *   a control character but HTAB in a head, a chunk's       NUL ends lines, VT and FF are space to
 *     extension or a trailer (any in a request's target)      some
 *   a header line that begins with a space (obs-fold), has  some skip it, some join it, some cut it
 *     no colon, an empty name, a space or more than tchar
 *     before its colon
 *   a second Content-Length, also the same again; one that  RFC 9112, 6.3: rejected or made one, as
 *     is a list, empty, signed, no number, >= 2^63            the recipient likes
 *   Transfer-Encoding: all but one that is "chunked" alone  what does "gzip, chunked, identity" end
 *   Content-Length and Transfer-Encoding together           the classic of smuggling
 *   Transfer-Encoding in HTTP/1.0                           RFC 9112, 6.1: faulty
 *   either of them in a trailer                             must not be merged, and sometimes is
 *   a chunk's size that is empty, no hex number, longer     overflow; "5 ;a" and "5 " are cut in
 *     than 16 digits, >= 2^63, followed by a space            different places
 *   a chunk's data that is not followed by CR LF            the size was another one to the sender
 *   an answer that begins before the head of its request    unsolicited: an answer to what?
 *     has been read to the end
 *   a status line that is not HTTP/1.0 or 1.1, three        ICY, and what came before HTTP/1.0
 *     digits from 100 on, a space or the line's end
 *   101 (but to h2c or websocket, or to what it does not    a tunnel from here on
 *     name and the next bytes show to be h2c), and 2xx to
 *     CONNECT
 *   CONNECT with a body; a byte behind a CONNECT that has   the tunnel's, or the next request's?
 *     not been answered
 *   more than 32 requests outstanding                       that many are remembered
 *   bytes that were not seen (sendfile, splice) other than  they hold a head or a chunk's size
 *     in a body whose length is known or which the end ends
 *
 * And what is allowed: empty lines (CR LF) before a request, which begin none; any number of 1xx
 * before an answer; 204, 304 and the answer to HEAD end with their heads, whatever these say; an
 * answer with neither length nor chunks lasts as long as the connection; leading zeros; a status
 * line that ends behind the digits; bytes from 0x7f on in targets, values and extensions; a body
 * after its refused "100-continue", by the letter.
 */
#ifndef WEIR_PARSER_H
#define WEIR_PARSER_H

#include "base/common.h"
#include "http/streams.h"

/* clang-format off */
/* Where in a message a side is: what the next byte belongs to. */
enum place {
    START,       /* between messages; zero: a new connection */
    START_LF,    /* an empty line before a request */
    METHOD,      /* the first place of a request's head */
    TARGET,
    VERSION,     /* "HTTP/1." and a digit; the first place of an answer's head */
    REQUEST_END, /* the CR behind the version */
    STATUS,      /* a space, three digits, and a space or the CR */
    TEXT,        /* a value, or a reason, that says nothing to us, and its CR */
    LINE_LF,
    LINE,        /* the first byte of a header line, or the CR of the empty one */
    NAME,
    LENGTH,      /* the value of Content-Length */
    CODING,      /* of Transfer-Encoding */
    UPGRADE,     /* of an answer's Upgrade */
    LIST,        /* of Connection, between its elements */
    ELEMENT,
    ELEMENT_END, /* behind a space in one: nothing more is to come */
    HEAD_LF,     /* the last place of a head, and of a trailer */
    BODY,
    BODY_TO_END, /* of the connection */
    SIZE,        /* of a chunk */
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    RECORD,      /* FastCGI: the head of a record (parser_records.c) */
    RECORD_REST,
    PREFACE,     /* HTTP/2: a client's first bytes (parser_frames.c) */
    FRAME,       /* the head of a frame */
    FRAME_REST,
    MESSAGE,     /* WebSocket: the head of a frame (parser_websocket.c) */
    MESSAGE_REST,
    STARTUP,     /* PostgreSQL: the client's first message (parser_postgres.c) */
    SESSION,     /* the head of a message */
    SESSION_REST,
    RECORD_TLS,  /* TLS: the head of a record (parser_tls.c) */
    RECORD_TLS_REST,
    NOT,
};

enum flag {
    SPOKE = 1,   /* a message has begun on this side, once */
    OLD = 2,     /* HTTP/1.0 */
    SIZED = 4,   /* it has a Content-Length */
    CHUNKED = 8,
    TRAILER = 16,
    CLOSES = 32, /* a `close` is out */
    NOTICED = 64,
    RECORDS = 128, /* FastCGI, from the first byte on */
    DOUBTED = 2,   /* TLS: what the server has said may be no answer */
    /* HTTP/2, WebSocket and PostgreSQL: */
    CONTINUES = 2, /* a header block, a message or a request is not whole, */
    ENDS = 4,      /* and is the last of its stream */
    SETTLED = 16,  /* the first frame has been SETTINGS */
    GOES_AWAY = 8, /* the server has said which stream is its last (either side: Close; the client: Terminate), */
    WARNED = 128,  /* or that it will */
    HEARD = 64,    /* the client has read it: it has answered our PING */
};
/* clang-format on */

/* tracker_side.mark, unpacked. */
union mark {
    uint64_t all;
    struct {
        uint8_t at;    /* enum place */
        uint8_t word;  /* enum word, that the bytes so far begin */
        uint8_t index; /* how many these are; or digits */
        uint8_t flags;
        uint16_t what; /* a request's kind, an answer's status, a record's type */
        uint8_t text;  /* an answer's: what is out of a text of ours */
        uint8_t count; /* of requests' heads, of final answers: those that are whole. Wraps */
    };
};
_Static_assert(sizeof(union mark) == sizeof(uint64_t), "one word");
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define COUNT_SHIFT 0
#else
#define COUNT_SHIFT 56
#endif

#define OUTSTANDING 32 /* requests: two bits each in tracker.kinds */

/* One side, while bytes of it are looked at. */
struct scan {
    union mark mark;
    uint64_t left;
    uint64_t kinds;
    union mark other; /* the other side, as it was when this look began */
    bool is_answer;
    bool pauses;            /* before what the close header may change */
    const char *paused;     /* there already */
    union streams *streams; /* of the connection; NULL: a plan, and nothing has happened */
};

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The small letter of a capital; of what is no letter, no letter. */
static inline char small(char c)
{
    return (char)(c | 0x20);
}

static inline bool same_eight(const char *p, const char *q)
{
    return __builtin_memcmp(p, q, 8) == 0;
}

/* What is only counted. */
static inline bool is_counted(union mark mark)
{
    return mark.at == BODY || mark.at == DATA;
}

/* Follows the message through these bytes. Returns where it pauses, or their end. */
const char *parser_run(struct scan *scan, const char *p, const char *end);

/* The same of a FastCGI record that has begun. Whether a first byte begins one. */
const char *parser_run_record(struct scan *scan, const char *p, const char *end);
bool parser_begins_records(const struct scan *scan, char c);

/*
 * The same of HTTP/2. Whether a side that is between messages goes on with it from this byte on
 * (START: it does not), or behind the head of an answer that says so, whose request is its first
 * stream.
 */
const char *parser_run_frames(struct scan *scan, const char *p, const char *end);
enum place parser_begins_frames(struct scan *scan, char c);
enum place parser_switches_to_frames(struct scan *scan);
void parser_skip_frame(struct scan *scan, size_t n);

/* Passes the frames of DATA and the header blocks that lie here whole, which is most of HTTP/2, on
 * a side that is behind a frame, and in no header block. Returns where one of another kind begins,
 * or one that may not come here. */
const char *parser_pass_frames(union streams *streams, bool is_answer, union mark other,
                               const char *p, const char *end);
static inline bool parser_is_framed(union mark mark)
{
    return mark.at == FRAME || mark.at == FRAME_REST;
}

/* What our PING says, behind a GOAWAY, and the client's answer to it. */
#define PING_LENGTH 8
#define PING_OURS "\xfeweir\x0d\x0a\x1a"
#define HEAD_OF_EIGHT(type, flags) "\0\0\10" type flags "\0\0\0\0" /* of stream 0 */
#define PING(flags) HEAD_OF_EIGHT("\6", flags) PING_OURS
#define PING_WHOLE (sizeof PING("\0") - 1)
#define PING_TYPE_AT 3

/* The same of WebSocket: what the client says behind an answer that switches to it. */
const char *parser_run_websocket(struct scan *scan, const char *p, const char *end);
enum place parser_begins_websocket(struct scan *scan);
enum place parser_switches_to_websocket(struct scan *scan);
void parser_skip_message(struct scan *scan, size_t n);
static inline bool parser_is_websocket(union mark mark)
{
    return mark.at == MESSAGE || mark.at == MESSAGE_REST;
}

/* The same of PostgreSQL, from the first byte on. */
const char *parser_run_session(struct scan *scan, const char *p, const char *end);
enum place parser_begins_session(struct scan *scan, char c);
static inline bool parser_is_session(union mark mark)
{
    return mark.at == STARTUP || mark.at == SESSION || mark.at == SESSION_REST;
}
#define SESSION_IDLE \
    'I' /* what ReadyForQuery says outside of a transaction: an answer's mark.word */

/* The type of a client's first record, and so its first byte (RFC 8446, 5.1): what a request's
 * mark.what is where it is no HTTP but TLS. */
#define TLS_HANDSHAKE 22

/* The same of TLS, from the first byte on. NOT: the first answer has been seen, or it is no TLS. */
const char *parser_run_tls(struct scan *scan, const char *p, const char *end);
enum place parser_begins_tls(struct scan *scan, char c);
static inline bool parser_is_tls(union mark mark)
{
    return mark.at == RECORD_TLS || mark.at == RECORD_TLS_REST;
}

/* Follows it through n bytes that nobody has seen: of a body or a chunk, or it is no HTTP. */
void parser_skip(struct scan *scan, size_t n);

/* Where a side is behind a head: the bytes of the body that are to come; its mark, whose count is
 * how many are whole by then. */
struct head_end {
    uint64_t left;
    union mark mark;
};

/*
 * Pass a head that is ordinary and whole, with which these n bytes begin, on a side that is between
 * two messages; n is PARSER_HEAD_LEAST at least. Return its length; 0: it is for parser_run. The
 * request that an answer is to is neither a HEAD nor a CONNECT.
 */
#define PARSER_HEAD_LEAST 16
size_t parser_request_head(const char *bytes, size_t n, struct head_end *after);
size_t parser_answer_head(const char *bytes, size_t n, struct head_end *after);

/* Tells whether an answer of this status is the last thing of HTTP on the connection. */
bool parser_begins_tunnel(const struct scan *scan);

#endif
