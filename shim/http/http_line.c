/* SPDX-License-Identifier: MIT */
/*
 * http_line.c - the ordinary lines of a head, each at once: of the usual letters, with the usual
 * spaces, and whole in the buffer. Nothing is refused here: what is out of the ordinary in any way
 * is left to http.c, which looks at every byte, so both must come to the same of an ordinary line.
 */
#include "http/http_look.h"

#define STEP 16 /* bytes that are looked at together */

/* The buffer that a line lies in: STEP bytes at least. */
struct text {
    const char *begin, *end;
};

/* The same with capitals as small letters, and some other bytes as if they were the same. */
static bool like_eight(const char *p, const char *q)
{
    uint64_t of_p, of_q;
    __builtin_memcpy(&of_p, p, sizeof of_p);
    __builtin_memcpy(&of_q, q, sizeof of_q);
    return ((of_p ^ of_q) & ~UINT64_C(0x2020202020202020)) == 0;
}

#ifdef __SSE2__
typedef unsigned char step __attribute__((vector_size(STEP)));
typedef char step_mask __attribute__((vector_size(STEP)));

static step load(const char *p)
{
    step bytes;
    __builtin_memcpy(&bytes, p, sizeof bytes);
    return bytes;
}

/* A bit for each byte of which it is so. */
static unsigned int bits_of(step_mask mask)
{
    return (unsigned int)__builtin_ia32_pmovmskb128(mask);
}

static unsigned int controls(step bytes)
{
    return bits_of((step_mask)(bytes < ' '));
}

static unsigned int blanks(step bytes)
{
    return bits_of((step_mask)(bytes <= ' '));
}

static unsigned int no_name(step bytes)
{
    step letters = (bytes | 0x20) - 'a', digits = bytes - '0';
    return ~bits_of((step_mask)(letters <= 'z' - 'a') | (step_mask)(digits <= 9) |
                    (step_mask)(bytes == '-')) &
           0xffff;
}

/* The last few bytes are looked at with some before them. */
static __attribute__((noinline)) const char *find_in_rest(struct text text, const char *p,
                                                          unsigned int bits(step))
{
    if (p == text.end)
        return p;
    unsigned int hits = bits(load(text.end - STEP)) >> (STEP - (text.end - p));
    return hits ? p + (unsigned int)__builtin_ctz(hits) : text.end;
}

/* The first byte of which it is so, or the end. */
INLINE const char *find(struct text text, const char *p, unsigned int bits(step))
{
    for (; text.end - p >= STEP; p += STEP) {
        unsigned int hits = bits(load(p));
        if (hits)
            return p + (unsigned int)__builtin_ctz(hits);
    }
    return find_in_rest(text, p, bits);
}
#else
static bool controls(unsigned char c)
{
    return c < ' ';
}

static bool blanks(unsigned char c)
{
    return c <= ' ';
}

static bool no_name(unsigned char c)
{
    unsigned char letter = (c | 0x20) - 'a', digit = c - '0';
    return letter > 'z' - 'a' && digit > 9 && c != '-';
}

INLINE const char *find(struct text text, const char *p, bool is_so(unsigned char))
{
    while (p < text.end && !is_so((unsigned char)*p))
        p++;
    return p;
}
#endif

/* What is behind the line's end, which is here; or NULL. */
static const char *behind_end(struct text text, const char *p)
{
    return text.end - p >= 2 && __builtin_memcmp(p, "\r\n", 2) == 0 ? p + 2 : NULL;
}

/* "GET " or "POST ", a target and HTTP/1.1: what is behind, or NULL. */
static const char *pass_request_line(struct scan *scan, struct text text, const char *p)
{
    union mark *mark = &scan->mark;
    if (text.end - p < STEP || mark->what)
        return NULL; /* behind a HEAD or a CONNECT */
    int method = __builtin_memcmp(p, "GET ", 4) == 0   ? 4
                 : __builtin_memcmp(p, "POST", 4) == 0 ? 5
                                                       : 0;
    if (!method || p[method - 1] != ' ')
        return NULL;
    const char *target = p + method;
    p = find(text, target, blanks);
    if (p == target || text.end - p < 11 || *p != ' ' || !same_eight(p + 1, "HTTP/1.1"))
        return NULL;
    p = behind_end(text, p + 9);
    if (p)
        mark->flags = SPOKE;
    return p;
}

/* HTTP/1.1, a status and its reason: what is behind, or NULL. */
static const char *pass_status_line(struct scan *scan, struct text text, const char *p)
{
    union mark *mark = &scan->mark;
    if (text.end - p < STEP || mark->count == scan->other.count || !same_eight(p, "HTTP/1.1") ||
        p[8] != ' ' || p[9] == '0' || !is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11]) ||
        p[12] != ' ')
        return NULL;
    const char *behind = behind_end(text, find(text, p + 13, controls));
    if (behind) {
        mark->flags = SPOKE;
        mark->what = (uint16_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
    }
    return behind;
}

/* The first Content-Length of a message, and no Transfer-Encoding before it. */
static const char *pass_length(struct scan *scan, struct text text, const char *p)
{
    uint64_t length = 0;
    if (scan->mark.flags & (SIZED | CHUNKED))
        return NULL;
    if (p < text.end && *p == ' ')
        p++;
    const char *digits = p;
    for (; p < text.end && is_digit(*p); p++) {
        if (p - digits == 18)
            return NULL; /* more might not fit */
        length = length * 10 + (uint64_t)(*p - '0');
    }
    if (p == digits || !(p = behind_end(text, p)))
        return NULL;
    scan->mark.flags |= SIZED;
    scan->left = length;
    return p;
}

/* "Connection: keep-alive", in an answer, which says nothing. */
static const char *pass_alive(const struct scan *scan, struct text text, const char *p)
{
    bool is_alive = !scan->pauses && text.end - p >= 24 && p[10] == ':' && p[11] == ' ' &&
                    like_eight(p + 12, "keep-ali") && p[16] == '-' && small(p[20]) == 'v' &&
                    small(p[21]) == 'e';
    return is_alive ? behind_end(text, p + 22) : NULL;
}

static const char *pass_header(struct scan *scan, struct text text, const char *p)
{
    if (small(*p) == 'c' || small(*p) == 't') {
        if (text.end - p < STEP || like_eight(p, "transfer"))
            return NULL;
        bool is_said = scan->is_answer && !(scan->mark.flags & TRAILER);
        if (is_said && like_eight(p, "connecti") && small(p[8]) == 'o' && small(p[9]) == 'n')
            return pass_alive(scan, text, p);
        if (like_eight(p, "content-") && small(p[8]) == 'l')
            return like_eight(p + 6, "t-length") && p[7] == '-' && p[14] == ':'
                       ? pass_length(scan, text, p + 15)
                       : NULL;
    }
    const char *name = p;
    p = find(text, name, no_name);
    if (p == name || p == text.end || *p != ':')
        return NULL;
    return behind_end(text, find(text, p + 1, controls));
}

const char *http_pass_lines(struct scan *scan, const char *begin, const char *p, const char *end)
{
    struct text text = {begin, end};
    const char *behind;
    if (end - begin < STEP)
        return p;
    if (scan->mark.at == START) {
        behind =
            scan->is_answer ? pass_status_line(scan, text, p) : pass_request_line(scan, text, p);
        if (!behind)
            return p;
        scan->left = 0;
        scan->mark.at = LINE;
        p = behind;
    }
    while (p < end && *p != '\r' && (behind = pass_header(scan, text, p)))
        p = behind;
    return p;
}
