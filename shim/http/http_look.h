/* SPDX-License-Identifier: MIT */
/*
 * http_look.h - how http.c looks at bytes, for those who must know where in a message they are:
 * http.c, http_line.c, http_sides.c and http_notice.c alone.
 */
#ifndef WEIR_HTTP_LOOK_H
#define WEIR_HTTP_LOOK_H

#include "http/http.h"

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
};
/* clang-format on */

/* http_side.mark, unpacked. */
union mark {
    uint64_t all;
    struct {
        uint8_t at;    /* enum place */
        uint8_t word;  /* enum word, that the bytes so far begin */
        uint8_t index; /* how many these are; or digits */
        uint8_t flags;
        uint16_t what; /* a request's kind, an answer's status */
        uint8_t text;  /* an answer's: what is out of a text of ours */
        uint8_t count; /* of requests' heads, of final answers: those that are whole. Wraps */
    };
};
_Static_assert(sizeof(union mark) == sizeof(uint64_t), "one word");

#define OUTSTANDING 32 /* requests: two bits each in http.kinds */

/* One side, while bytes of it are looked at. */
struct scan {
    union mark mark;
    uint64_t left;
    uint64_t kinds;
    union mark other; /* the other side, as it was when this look began */
    bool is_answer;
    bool pauses;        /* before what the notice may want to change */
    const char *paused; /* there already */
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

/* A look at the requests, or at the answers, begins; what it has found is kept. */
void http_scan(struct scan *scan, const struct http *http, bool is_answer);
void http_keep(struct http *http, const struct scan *scan);

/* The message goes on with these bytes. Returns where it pauses, or their end. */
const char *http_look(struct scan *scan, const char *p, const char *end);

/* It goes on with so many bytes that nobody has seen: the last of a body, or of a chunk. */
void http_look_away(struct scan *scan, size_t n);

/*
 * At START or LINE, with p in the buffer from begin to end: passes ordinary lines, as many as there
 * are, and the CR of the empty one; returns what is behind them: p where there is none.
 */
const char *http_pass_lines(struct scan *scan, const char *begin, const char *p, const char *end);

/* Whether an answer of this status is the last thing of HTTP on the connection. */
bool http_begins_tunnel(const struct scan *scan);

#endif
