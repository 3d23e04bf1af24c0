/* SPDX-License-Identifier: MIT */
/*
 * http_plain.h - HTTP/1.x once more, slow and plain: all that a side has said is in one buffer, and
 * is parsed from its beginning whenever somebody asks. The oracle of tests/fuzz/http.c, written
 * from RFC 9112 and the table in parser.h, and sharing nothing with parser.c.
 *
 * A line is looked at when it is whole. One that is not yet is still HTTP if there is an ending
 * with which it would be a line.
 */
#ifndef WEIR_HTTP_PLAIN_H
#define WEIR_HTTP_PLAIN_H

#include "fuzz.h"

#include <strings.h>

#define PLAIN_MOST 1000

/* What it does is not what the fuzzer shall explore. */
#define PLAIN static inline __attribute__((no_sanitize("coverage")))

/* What a side has said so far; of some bytes it is only known that they were there. */
struct plain_text {
    char bytes[PLAIN_MOST];
    bool unseen[PLAIN_MOST];
    size_t n;
};

enum plain_verdict { PLAIN_WHOLE, PLAIN_MORE, PLAIN_BAD };

/* What the lines of a head have said. */
struct plain_head {
    bool is_answer, is_trailer;
    bool is_old, is_head, is_connect; /* of requests: HTTP/1.0, HEAD, CONNECT */
    bool has_length, is_chunked;
    uint64_t length;
    int status;
};

struct plain_message {
    struct plain_head head;
    size_t from, head_end, end; /* head_end: 0 while it is not whole */
};

PLAIN bool plain_in(char c, const char *set)
{
    return c && strchr(set, c);
}

#define PLAIN_DIGITS "0123456789"
#define PLAIN_CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define PLAIN_TOKEN "!#$%&'*+-.^_`|~" PLAIN_DIGITS PLAIN_CAPITALS

PLAIN size_t plain_span(const char *s, size_t n, const char *set)
{
    size_t i = 0;
    while (i < n && plain_in(s[i], set))
        i++;
    return i;
}

PLAIN bool plain_is_token(const char *s, size_t n)
{
    return n && plain_span(s, n, PLAIN_TOKEN "abcdefghijklmnopqrstuvwxyz") == n;
}

/* VCHAR, obs-text, SP, HTAB, and DEL. */
PLAIN bool plain_is_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < ' ' && s[i] != '\t')
            return false;
    return true;
}

PLAIN bool plain_is_number(const char *s, size_t n, unsigned int base, uint64_t *number)
{
    unsigned __int128 sum = 0;
    for (size_t i = 0; i < n; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *digit = s[i] ? strchr(digits, s[i]) : NULL;
        if (!digit || (digit - digits) % 16 >= base)
            return false;
        sum = sum * base + (size_t)(digit - digits) % 16;
        if (sum > INT64_MAX)
            return false;
    }
    *number = (uint64_t)sum;
    return n > 0;
}

PLAIN bool plain_is(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && !strncasecmp(s, word, n);
}

/* The lines. Each is without its CR LF. */

PLAIN bool plain_request_line(const char *line, size_t n, struct plain_head *head)
{
    size_t method = plain_span(line, n, PLAIN_TOKEN), end = method + 1, target = 0;
    if (!method || end > n || line[method] != ' ')
        return false;
    while (end + target < n && (unsigned char)line[end + target] > ' ')
        target++;
    const char *version = line + end + target;
    size_t rest = n - end - target;
    head->is_head = method == 4 && !memcmp(line, "HEAD", 4);
    head->is_connect = method == 7 && !memcmp(line, "CONNECT", 7);
    head->is_old = rest == 9 && !memcmp(version, " HTTP/1.0", 9);
    return target && (head->is_old || (rest == 9 && !memcmp(version, " HTTP/1.1", 9)));
}

PLAIN bool plain_status_line(const char *line, size_t n, struct plain_head *head)
{
    if (n < 12 || memcmp(line, "HTTP/1.", 7) || !plain_in(line[7], "01") || line[8] != ' ' ||
        plain_span(line + 9, 3, PLAIN_DIGITS) != 3 || line[9] == '0')
        return false;
    head->is_old = line[7] == '0';
    head->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    return n == 12 || (line[12] == ' ' && plain_is_text(line + 13, n - 13));
}

PLAIN bool plain_field_line(const char *line, size_t n, struct plain_head *head)
{
    const char *colon = memchr(line, ':', n);
    size_t name = colon ? (size_t)(colon - line) : 0;
    if (!colon || !plain_is_token(line, name) || !plain_is_text(colon, n - name))
        return false;
    const char *value = colon + 1;
    size_t length = n - name - 1;
    while (length && plain_in(*value, " \t"))
        value++, length--;
    while (length && plain_in(value[length - 1], " \t"))
        length--;
    bool is_length = plain_is(line, name, "content-length");
    bool is_coding = plain_is(line, name, "transfer-encoding");
    if (!is_length && !is_coding)
        return true;
    if (head->is_trailer || head->has_length || head->is_chunked)
        return false;
    head->has_length = is_length;
    head->is_chunked = is_coding;
    if (is_length)
        return plain_is_number(value, length, 10, &head->length);
    return !head->is_old && plain_is(value, length, "chunked");
}

PLAIN bool plain_chunk_line(const char *line, size_t n, struct plain_head *head)
{
    const char *extension = memchr(line, ';', n);
    size_t digits = extension ? (size_t)(extension - line) : n;
    return digits <= 16 && plain_is_number(line, digits, 16, &head->length) &&
           plain_is_text(line + digits, n - digits);
}

typedef bool plain_line(const char *line, size_t n, struct plain_head *head);

/* Whether a line that has so many bytes until now may become one. */
PLAIN bool plain_may_be(plain_line *is_line, const char *line, size_t n,
                        const struct plain_head *head)
{
    static const char *const endings[] = {"A / HTTP/1.1\r\n", "HTTP/1.0\r\n", "HTTP/1.1 200 \r\n",
                                          "a: 1\r\n",         "chunked\r\n",  "\r\n"};
    char whole[PLAIN_MOST + 32];
    CHECK(n <= PLAIN_MOST);
    memcpy(whole, line, n);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        for (const char *ending = endings[i]; *ending; ending++) {
            struct plain_head copy = *head;
            size_t length = n + strlen(ending);
            memcpy(whole + n, ending, strlen(ending));
            if (length >= 2 && !memcmp(whole + length - 2, "\r\n", 2) &&
                ((length == 2 && is_line == plain_field_line) || is_line(whole, length - 2, &copy)))
                return true;
        }
    return false;
}

/* The line at *at, which is behind it then. */
PLAIN enum plain_verdict plain_take(const struct plain_text *text, size_t *at, plain_line *is_line,
                                    struct plain_head *head, bool *is_empty)
{
    const char *line = text->bytes + *at, *lf = memchr(line, '\n', text->n - *at);
    size_t n = lf ? (size_t)(lf - line) + 1 : text->n - *at;
    for (size_t i = *at; i < *at + n; i++)
        if (text->unseen[i])
            return PLAIN_BAD;
    if (!lf)
        return plain_may_be(is_line, line, n, head) ? PLAIN_MORE : PLAIN_BAD;
    if (n < 2 || line[n - 2] != '\r')
        return PLAIN_BAD;
    *at += n;
    *is_empty = n == 2;
    if (*is_empty && is_line == plain_field_line)
        return PLAIN_WHOLE;
    return is_line(line, n - 2, head) ? PLAIN_WHOLE : PLAIN_BAD;
}

PLAIN enum plain_verdict plain_take_fields(const struct plain_text *text, size_t *at,
                                           struct plain_head *head)
{
    bool is_empty = false;
    enum plain_verdict verdict = PLAIN_WHOLE;
    while (!is_empty && verdict == PLAIN_WHOLE)
        verdict =
            *at == text->n ? PLAIN_MORE : plain_take(text, at, plain_field_line, head, &is_empty);
    return verdict;
}

/* These bytes, and no others. */
PLAIN enum plain_verdict plain_take_exactly(const struct plain_text *text, size_t *at,
                                            const char *bytes)
{
    for (; *bytes; bytes++, ++*at) {
        if (*at == text->n)
            return PLAIN_MORE;
        if (text->unseen[*at] || text->bytes[*at] != *bytes)
            return PLAIN_BAD;
    }
    return PLAIN_WHOLE;
}

PLAIN enum plain_verdict plain_take_data(const struct plain_text *text, size_t *at, uint64_t n)
{
    bool is_whole = n <= text->n - *at;
    *at = is_whole ? *at + (size_t)n : text->n;
    return is_whole ? PLAIN_WHOLE : PLAIN_MORE;
}

PLAIN enum plain_verdict plain_take_chunks(const struct plain_text *text, size_t *at)
{
    for (;;) {
        struct plain_head chunk = {0};
        bool is_empty;
        if (*at == text->n)
            return PLAIN_MORE;
        enum plain_verdict verdict = plain_take(text, at, plain_chunk_line, &chunk, &is_empty);
        if (verdict != PLAIN_WHOLE)
            return verdict;
        if (!chunk.length)
            break;
        verdict = plain_take_data(text, at, chunk.length);
        if (verdict == PLAIN_WHOLE)
            verdict = plain_take_exactly(text, at, "\r\n");
        if (verdict != PLAIN_WHOLE)
            return verdict;
    }
    struct plain_head trailer = {.is_trailer = true};
    return plain_take_fields(text, at, &trailer);
}

/*
 * The message that begins at `from`, where there is a byte. An answer is one to `asked`, a head
 * that was whole. PLAIN_BAD, too, where HTTP ends with it: it is a tunnel then.
 */
PLAIN enum plain_verdict plain_message(const struct plain_text *text, size_t from,
                                       const struct plain_head *asked,
                                       struct plain_message *message)
{
    struct plain_head *head = &message->head;
    bool is_empty;
    size_t at = from;
    *message = (struct plain_message){.head.is_answer = asked != NULL, .from = from};
    enum plain_verdict verdict =
        plain_take(text, &at, asked ? plain_status_line : plain_request_line, head, &is_empty);
    if (verdict == PLAIN_WHOLE)
        verdict = plain_take_fields(text, &at, head);
    if (verdict != PLAIN_WHOLE)
        return verdict;

    bool has_body = true;
    if (asked) {
        if (head->status == 101 || (asked->is_connect && head->status / 100 == 2))
            return PLAIN_BAD;
        has_body =
            head->status >= 200 && head->status != 204 && head->status != 304 && !asked->is_head;
    } else if (head->is_connect && (head->is_chunked || head->length)) {
        return PLAIN_BAD;
    }
    message->head_end = at;
    if (!has_body)
        verdict = PLAIN_WHOLE;
    else if (head->is_chunked)
        verdict = plain_take_chunks(text, &at);
    else if (head->has_length || !asked)
        verdict = plain_take_data(text, &at, head->length);
    else
        verdict = PLAIN_MORE; /* to the end of the connection */
    message->end = at;
    return verdict;
}

#endif
