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
 *   stream   HTTP/2: a request of 60 bytes, and an answer of two frames, each time of another
 * stream message  WebSocket: a message of 20 bytes each way
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

#define TEN "0123456789"
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define STREAM_ASKED "\0\0\62\1\5\0\0\0\1" TEN TEN TEN TEN TEN
#define STREAM_ANSWER "\0\0\62\1\4\0\0\0\1" TEN TEN TEN TEN TEN "\0\0\12\0\1\0\0\0\1" TEN
#define UPGRADE "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define UPGRADED \
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define MESSAGE_ASKED "\201\224mask" TEN TEN
#define MESSAGE_ANSWER "\201\24" TEN TEN

enum { REQUESTS = 1000 };

/* One side's message; its digits in seven places count the requests, where they are to differ. */
struct text {
    char bytes[600];
    size_t n, digits;
};

#define BYTES_OF(text) text, sizeof(text) - 1
#define HTTP_OF(request, answer) BYTES_OF(request), BYTES_OF(answer), BYTES_OF(""), BYTES_OF("")

static const struct bench_case {
    const char *name;
    enum { SAME, NUMBERED, STREAMS, MESSAGES } kind; /* behind the last none is in use */
    size_t most;                                     /* bytes in a call */
    const char *request;
    size_t request_n;
    const char *answer;
    size_t answer_n;
    const char *first; /* said before, by the client and by the server */
    size_t first_n;
    const char *first_answer;
    size_t first_answer_n;
} cases[] = {
    {"same", SAME, SIZE_MAX, HTTP_OF(SHORT_GET, SHORT_ANSWER)},
    {"browser", SAME, SIZE_MAX, HTTP_OF(BROWSER_GET, BROWSER_ANSWER)},
    {"new", NUMBERED, SIZE_MAX, HTTP_OF(SHORT_GET, SHORT_ANSWER)},
    {"pieces", SAME, 40, HTTP_OF(SHORT_GET, SHORT_ANSWER)},
    {"stream", STREAMS, SIZE_MAX, BYTES_OF(STREAM_ASKED), BYTES_OF(STREAM_ANSWER),
     BYTES_OF(PREFACE SETTINGS), BYTES_OF(SETTINGS)},
    {"message", MESSAGES, SIZE_MAX, BYTES_OF(MESSAGE_ASKED), BYTES_OF(MESSAGE_ANSWER),
     BYTES_OF(UPGRADE), BYTES_OF(UPGRADED)},
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

/* Its frames are of the stream of this number. */
static void restream(struct text *text, uint32_t stream)
{
    for (size_t at = 0; at < text->n; at += 9 + (unsigned char)text->bytes[at + 2])
        for (int i = 0; i < 4; i++)
            text->bytes[at + 5 + (size_t)i] = (char)(stream >> (24 - 8 * i));
}

static struct text text_of(const char *bytes, size_t n, const char *differs_at)
{
    const char *digits = strstr(bytes, differs_at);
    struct text text = {.n = n, .digits = digits ? (size_t)(digits - bytes) : 0};
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
    struct text request = text_of(one->request, one->request_n, "0000000");
    struct text answer = text_of(one->answer, one->answer_n, "00:00:00 GMT");
    if (!from && !is_bare && one->first_n) {
        tracker_received_here(&http, one->first, one->first_n);
        tracker_sent_here(&http, one->first_answer, one->first_answer_n);
    }
    for (long i = from; i < to; i++) {
        if (one->kind == STREAMS) {
            restream(&request, 2 * (uint32_t)i + 1);
            restream(&answer, 2 * (uint32_t)i + 1);
        } else if (one->kind == NUMBERED) {
            renumber(&request, i);
            renumber(&answer, i);
        }
        enum tracker_state asked = tell(&http, received, &request, one->most);
        if (asked != (one->kind == MESSAGES && !is_bare ? HTTP_IDLE : HTTP_IN_USE) ||
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
