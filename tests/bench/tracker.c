/* SPDX-License-Identifier: MIT */
/*
 * What it costs to follow a kept connection's HTTP: the shim's own objects, without a kernel.
 *
 *   tracker CASE...   under callgrind: a dump for each, of 1,000 requests and their answers,
 *                  "CASE shim"; and of the same where nobody follows them, "CASE bare"
 *
 *   same     a request of 90 bytes and an answer of 160, the same each time
 *   browser  a browser's request of 500 bytes and an answer of 300, the same each time
 *   new      the first again, but each request and each answer differs from those before it
 *   pieces   the first again, each in calls of 40 bytes
 */
#include "bench.h"

#include "http/tracker.h"

#include <valgrind/callgrind.h>

#define SHORT_GET                                                                       \
    "GET /0000000 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: benchmark/1.234\r\n" \
    "Accept: */*\r\n\r\n"
#define SHORT_ANSWER                                                                         \
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"     \
    "Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nhello " \
    "world!"
#define BROWSER_GET                                                                              \
    "GET /a/path/to/0000000?with=query&and=more HTTP/1.1\r\nHost: www.example.com\r\n"           \
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0\r\n"     \
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n"     \
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"                  \
    "Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" \
    "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\r\n"
#define BROWSER_ANSWER                                                                   \
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n" \
    "Content-Type: text/html; charset=utf-8\r\nContent-Length: 20\r\n"                   \
    "Last-Modified: Sun, 31 Dec 2023 00:00:00 GMT\r\nConnection: keep-alive\r\nVary: "   \
    "Accept-Encoding\r\nETag: \"65920080-267\"\r\nAccept-Ranges: bytes\r\n\r\n"          \
    "12345678901234567890"

enum { REQUESTS = 1000 };

/* One side's message; its digits in seven places count the requests, where they are to differ. */
struct text {
    char bytes[600];
    size_t n, digits;
};

static const struct bench_case {
    const char *name, *request, *answer;
    bool differs;
    size_t most; /* bytes in a call */
} cases[] = {
    {"same", SHORT_GET, SHORT_ANSWER, false, SIZE_MAX},
    {"browser", BROWSER_GET, BROWSER_ANSWER, false, SIZE_MAX},
    {"new", SHORT_GET, SHORT_ANSWER, true, SIZE_MAX},
    {"pieces", SHORT_GET, SHORT_ANSWER, false, 40},
};

typedef enum tracker_state tell_fn(struct tracker *http, const char *bytes, size_t n);

static enum tracker_state tell(struct tracker *http, tell_fn *fn, struct text *text, size_t most)
{
    enum tracker_state state = HTTP_NOT;
    for (size_t at = 0, n; at < text->n; at += n) {
        n = text->n - at < most ? text->n - at : most;
        state = fn(http, text->bytes + at, n);
    }
    return state;
}

static void renumber(struct text *text, long number)
{
    for (size_t i = 7; i--; number /= 10)
        text->bytes[text->digits + i] = (char)('0' + number % 10);
}

static struct text text_of(const char *bytes, const char *differs_at)
{
    struct text text = {.n = strlen(bytes), .digits = (size_t)(strstr(bytes, differs_at) - bytes)};
    memcpy(text.bytes, bytes, text.n);
    return text;
}

/* Whom nobody follows is as he is to be. */
static enum tracker_state bare_received(struct tracker *http, const char *bytes, size_t n)
{
    (void)http, (void)bytes, (void)n;
    return HTTP_IN_USE;
}

static enum tracker_state bare_sent(struct tracker *http, const char *bytes, size_t n)
{
    (void)http, (void)bytes, (void)n;
    return HTTP_IDLE;
}

static void run(const struct bench_case *one, bool is_bare, long from, long to)
{
    static struct tracker http;
    tell_fn *received = is_bare ? bare_received : tracker_received_here;
    tell_fn *sent = is_bare ? bare_sent : tracker_sent_here;
    struct text request = text_of(one->request, "0000000");
    struct text answer = text_of(one->answer, "00:00:00 GMT");
    for (long i = from; i < to; i++) {
        if (one->differs) {
            renumber(&request, i);
            renumber(&answer, i);
        }
        if (tell(&http, received, &request, one->most) != HTTP_IN_USE ||
            tell(&http, sent, &answer, one->most) != HTTP_IDLE)
            errx(1, "%s: it is not followed", one->name);
    }
}

static void count(const struct bench_case *one)
{
    char name[64];
    for (int bare = 0; bare < 2; bare++) {
        strcat(strcpy(name, one->name), bare ? " bare" : " shim");
        run(one, bare, 0, 100);
        CALLGRIND_ZERO_STATS;
        run(one, bare, 100, 100 + REQUESTS);
        CALLGRIND_DUMP_STATS_AT(name);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct bench_case *one = cases, *end = cases + sizeof cases / sizeof *cases;
        while (one < end && strcmp(one->name, argv[i]))
            one++;
        if (one == end)
            errx(2, "%s: there is no such case", argv[i]);
        count(one);
    }
    return 0;
}
