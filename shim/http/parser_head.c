/* SPDX-License-Identifier: MIT */
/*
 * parser_head.c - a head that is ordinary and whole, at once: of the usual letters, with the usual
 * spaces, from its first byte to its empty line in one buffer. Nothing is refused here: what is out
 * of the ordinary in any way is left to parser.c, which looks at every byte, so both must come to
 * the same of an ordinary head.
 */
#include "http/parser.h"

#define STEP PARSER_HEAD_LEAST /* bytes that are looked at together */

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
    return bits_of((step_mask)(INT8_MAX - 25 > letters) & ~(step_mask)(bytes == '-'));
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

/* The same where fewer bytes are left: they are looked at with some before them. */
INLINE unsigned int last_bits(const char *p, const char *end, bits_fn *bits)
{
    ptrdiff_t left = end - p;
    return left > 0 ? bits(end - STEP) >> (STEP - left) : 0;
}

/* The first byte that is so, or the end. */
INLINE const char *find(const char *p, const char *end, bits_fn *bits)
{
    unsigned int hits;
    for (; LIKELY(p <= end - STEP); p += STEP) {
        hits = bits(p);
        if (hits)
            return p + (unsigned int)__builtin_ctz(hits);
    }
    hits = last_bits(p, end, bits);
    return hits ? p + (unsigned int)__builtin_ctz(hits) : end;
}

/* What is behind the line's end, which is here; or NULL. */
INLINE const char *behind_end(const char *p, const char *end)
{
    bool is_here = LIKELY(p <= end - 2) && LIKELY(__builtin_memcmp(p, "\r\n", 2) == 0);
    return is_here ? p + 2 : NULL;
}

/* Where the method of a request ends that is neither HEAD nor CONNECT nor like them. */
static size_t method_length(const char *p)
{
    size_t n = 0;
    if (__builtin_memcmp(p, "GET", 3) == 0)
        return 3;
    while (n < STEP - 1 && p[n] >= 'A' && p[n] <= 'Z')
        n++;
    return *p == 'H' || *p == 'C' ? 0 : n;
}

/* HTTP/1.1 or 1.0. */
INLINE bool is_version(const char *p, union mark *mark)
{
    if (LIKELY(same_eight(p, "HTTP/1.1")))
        return true;
    mark->flags |= OLD;
    return same_eight(p, "HTTP/1.0");
}

/* What is behind a request line, or NULL. */
INLINE const char *pass_request_line(union mark *mark, const char *p, const char *end)
{
    size_t method = method_length(p);
    if (!method || p[method] != ' ')
        return NULL;
    const char *target = p + method + 1;
    p = find(target, end, blanks);
    if (p == target || end - p < 9 || *p != ' ' || !is_version(p + 1, mark))
        return NULL;
    return behind_end(p + 9, end);
}

/* What is behind a status line, or NULL. An interim answer and a switch of protocols are not for
 * here. */
INLINE const char *pass_status_line(union mark *mark, const char *p, const char *end)
{
    if (!is_version(p, mark) || p[8] != ' ' || p[9] < '2' || p[9] > '9' || !is_digit(p[10]) ||
        !is_digit(p[11]) || p[12] != ' ')
        return NULL;
    mark->what = (uint16_t)(p[9] * 100 + p[10] * 10 + p[11] - '0' * 111);
    return behind_end(find(p + 13, end, controls), end);
}

/* Content-Length's value, the first of a message, and no Transfer-Encoding before it: what is
 * behind, or NULL. */
INLINE const char *pass_length(struct head_end *head, const char *p, const char *end)
{
    uint64_t length = 0;
    if (head->mark.flags & (SIZED | CHUNKED))
        return NULL;
    if (p < end && *p == ' ')
        p++;
    const char *digits = p;
    for (; p < end && is_digit(*p); p++)
        length = length * 10 + (uint64_t)(*p - '0');
    if (p == digits || p - digits > 18) /* more might not fit */
        return NULL;
    head->mark.flags |= SIZED;
    head->left = length;
    return p;
}

/* The value of an answer's Connection, where it is one of the two usual ones: what is behind. */
INLINE const char *pass_connection(union mark *mark, const char *p, const char *end)
{
    if (end - p < 8 || *p++ != ' ')
        return NULL;
    if (like_eight(p - 3, "n: close") && p[5] == '\r') {
        mark->flags |= CLOSES;
        return p + 5;
    }
    bool is_alive =
        end - p >= 10 && p[4] == '-' && like_eight(p, "keep-ali") && like_eight(p + 2, "ep-alive");
    return is_alive ? p + 10 : NULL;
}

/* A line whose name is longer than STEP, or has a digit or '_' in it: where its value ends, or
 * NULL. */
static __attribute__((noinline)) const char *pass_long(union mark *mark, const char *p,
                                                       const char *end)
{
    const char *colon = find(p, end, no_name);
    while (colon < end && (is_digit(*colon) || *colon == '_'))
        colon = find(colon + 1, end, no_name);
    if (colon == end || *colon != ':')
        return NULL;
    if (colon - p != 17 || !like_eight(p, "transfer") || p[8] != '-' ||
        !like_eight(p + 9, "encoding"))
        return find(colon + 1, end, controls);
    if (mark->flags & (SIZED | CHUNKED | OLD) || end - colon < 11 || colon[1] != ' ' ||
        !like_eight(colon + 2, "chunked\r") || colon[9] != '\r')
        return NULL;
    mark->flags |= CHUNKED;
    return colon + 9;
}

/* A line whose name is as long as one that says something: where its value ends, or NULL. */
INLINE const char *pass_value(struct head_end *head, bool is_answer, const char *p, size_t colon,
                              const char *end)
{
    if (colon == 14 && like_eight(p, "content-") && like_eight(p + 6, "t-length"))
        return pass_length(head, p + 15, end);
    if (is_answer && colon == 10 && like_eight(p, "connecti") && like_eight(p + 2, "nnection"))
        return pass_connection(&head->mark, p + 11, end);
    return colon ? find(p + colon + 1, end, controls) : NULL;
}

#define IS(length) (1u << (length))

/* What is behind the header lines and the empty one, or NULL. */
INLINE const char *pass_lines(struct head_end *head, bool is_answer, const char *p, const char *end)
{
    const unsigned int odd = IS(0) | IS(14) | (is_answer ? IS(10) : 0);
    for (;;) {
        bool is_last = UNLIKELY(p > end - STEP);
        unsigned int names = is_last ? last_bits(p, end, no_name) : no_name(p);
        unsigned int colon = (unsigned int)__builtin_ctz(names | IS(STEP));
        if (UNLIKELY(!colon) && *p != ':')
            return behind_end(p, end);
        if (UNLIKELY(colon == STEP) || UNLIKELY(p[colon] != ':'))
            p = pass_long(&head->mark, p, end);
        else if (UNLIKELY(odd >> colon & 1))
            p = pass_value(head, is_answer, p, colon, end);
        else
            p = find(p + colon + 1, end, controls);
        if (UNLIKELY(p == NULL) || UNLIKELY((p = behind_end(p, end)) == NULL))
            return NULL;
    }
}

INLINE size_t pass_head(bool is_answer, const char *p, size_t n, struct head_end *head)
{
    const char *end = p + n;
    union mark *mark = &head->mark;
    *head = (struct head_end){0, {.at = START, .flags = SPOKE, .count = 1}};
    const char *behind =
        is_answer ? pass_status_line(mark, p, end) : pass_request_line(mark, p, end);
    if (!behind || !(behind = pass_lines(head, is_answer, behind, end)))
        return 0;
    if (is_answer && (mark->what == 204 || mark->what == 304)) {
        head->left = 0;
    } else if (mark->flags & CHUNKED || head->left) {
        mark->at = mark->flags & CHUNKED ? SIZE : BODY;
        mark->count = !is_answer;
    } else if (is_answer && !(mark->flags & SIZED)) {
        return 0; /* its body lasts until the connection ends */
    }
    return (size_t)(behind - p);
}

HOT size_t parser_request_head(const char *p, size_t n, struct head_end *head)
{
    return pass_head(false, p, n, head);
}

HOT size_t parser_answer_head(const char *p, size_t n, struct head_end *head)
{
    return pass_head(true, p, n, head);
}
