/* SPDX-License-Identifier: MIT */
/*
 * parser_lines.c - the ordinary lines of a head, each at once: of the usual letters, with the usual
 * spaces, and whole in the buffer. Nothing is refused here: what is out of the ordinary in any way
 * is left to parser.c, which looks at every byte, so both must come to the same of an ordinary
 * line.
 */
#include "http/parser.h"

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

/* Which of the STEP bytes at p are so: a bit for each, the first one's the lowest. */
typedef unsigned int bits_fn(const char *p);

#if defined(__SSE2__) && !defined(PARSER_PLAIN)
typedef unsigned char step __attribute__((vector_size(STEP), aligned(1), may_alias));
typedef signed char signed_step __attribute__((vector_size(STEP)));
typedef char step_mask __attribute__((vector_size(STEP)));

INLINE unsigned int bits_of(step_mask mask)
{
    return (unsigned int)__builtin_ia32_pmovmskb128(mask);
}

INLINE unsigned int controls(const char *p)
{
    return bits_of((step_mask)(*(const step *)p < ' '));
}

INLINE unsigned int blanks(const char *p)
{
    return bits_of((step_mask)(*(const step *)p <= ' '));
}

/* What is neither a letter nor '-'. (No signed byte is greater than a 'z' that is moved so far.) */
INLINE unsigned int no_name(const char *p)
{
    step bytes = *(const step *)p;
    signed_step letters = (signed_step)((bytes | 0x20) + (INT8_MAX - 'z'));
    return bits_of((step_mask)(letters > INT8_MAX - 26) | (step_mask)(bytes == '-')) ^ 0xffff;
}
#else
INLINE unsigned int bits_of(const char *p, bool is_so(unsigned char c))
{
    unsigned int bits = 0;
    for (unsigned int i = 0; i < STEP; i++)
        bits |= (unsigned int)is_so((unsigned char)p[i]) << i;
    return bits;
}

static bool is_control(unsigned char c)
{
    return c < ' ';
}

static bool is_blank(unsigned char c)
{
    return c <= ' ';
}

static bool is_no_name(unsigned char c)
{
    return ((c | 0x20) < 'a' || (c | 0x20) > 'z') && c != '-';
}

static unsigned int controls(const char *p)
{
    return bits_of(p, is_control);
}

static unsigned int blanks(const char *p)
{
    return bits_of(p, is_blank);
}

static unsigned int no_name(const char *p)
{
    return bits_of(p, is_no_name);
}
#endif

/* The same where fewer bytes may be left: they are looked at with some before them. */
INLINE unsigned int bits_at(struct text text, const char *p, bits_fn *bits)
{
    ptrdiff_t left = text.end - p;
    if (LIKELY(left >= STEP))
        return bits(p);
    return left > 0 ? bits(text.end - STEP) >> (STEP - left) : 0;
}

/* The first byte that is so, or the end. */
INLINE const char *find(struct text text, const char *p, bits_fn *bits)
{
    unsigned int hits;
    for (; text.end - p >= STEP; p += STEP) {
        hits = bits(p);
        if (hits)
            return p + (unsigned int)__builtin_ctz(hits);
    }
    hits = bits_at(text, p, bits);
    return hits ? p + (unsigned int)__builtin_ctz(hits) : text.end;
}

/* What is behind the line's end, which is here; or NULL. */
static const char *behind_end(struct text text, const char *p)
{
    p += 2;
    return p <= text.end && __builtin_memcmp(p - 2, "\r\n", 2) == 0 ? p : NULL;
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
    bool is_alive = !scan->pauses && text.end - p >= 24 && p[11] == ' ' && p[16] == '-' &&
                    like_eight(p + 12, "keep-ali") && like_eight(p + 14, "ep-alive");
    return is_alive ? behind_end(text, p + 22) : NULL;
}

/* A name that is longer than STEP; Transfer-Encoding is not for here. */
static __attribute__((noinline)) const char *pass_long(struct text text, const char *p)
{
    const char *colon = find(text, p + STEP, no_name);
    if (colon == text.end || *colon != ':' || colon - p == 17)
        return NULL;
    return behind_end(text, find(text, colon + 1, controls));
}

static const char *pass_header(struct scan *scan, struct text text, const char *p)
{
    unsigned int names = bits_at(text, p, no_name), ends = bits_at(text, p, controls);
    if (!names)
        return text.end - p > STEP ? pass_long(text, p) : NULL;
    unsigned int colon = (unsigned int)__builtin_ctz(names);
    if (!colon || p[colon] != ':')
        return NULL;
    if (colon == 14 && like_eight(p, "content-") && like_eight(p + 6, "t-length"))
        return pass_length(scan, text, p + 15);
    if (colon == 10 && scan->is_answer && !(scan->mark.flags & TRAILER) &&
        like_eight(p, "connecti") && like_eight(p + 2, "nnection"))
        return pass_alive(scan, text, p);
    p = ends ? p + (unsigned int)__builtin_ctz(ends) : find(text, p + STEP, controls);
    return behind_end(text, p);
}

const char *parser_pass_lines(struct scan *scan, const char *begin, const char *p, const char *end)
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
    if (scan->pauses || !behind_end(text, p))
        return p;
    scan->mark.at = HEAD_LF;
    return p + 1;
}
