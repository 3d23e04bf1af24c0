/* SPDX-License-Identifier: MIT */
/*
 * What looks at many bytes at once against what looks at each: the same conversations, ordinary
 * ones and some with a byte or a line that does not belong there, told in pieces of any length and
 * told byte by byte. They come from a seed, and so does a failure.
 */
#include "tracker_talk.h"

#include "http/head_cache.h"

#define ROUNDS 6000
#define MESSAGE_MOST 1200

static const char odd[] = "\0\t\n\r\x1f !\"-/:;@[`{|\x7f\x80\xff~09AZaz";

static uint64_t dice;

/* Below `most`. (xorshift64*, Vigna) */
static size_t roll(size_t most)
{
    dice ^= dice >> 12;
    dice ^= dice << 25;
    dice ^= dice >> 27;
    return (size_t)((dice * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % most;
}

static const char *const begins[2][10] = {
    {"GET / HTTP/1.1\r\n", "GET /a/path?that=is&longer=than-sixteen HTTP/1.1\r\n",
     "POST /x HTTP/1.1\r\n", "POST /0123456789abc HTTP/1.1\r\n", "HEAD / HTTP/1.1\r\n",
     "\r\nGET /\xc3\xa9 HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "GET /0123456789 HTTP/1.0\r\n",
     "CONNECT a:1 HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n"},
    {"HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 \r\n", "HTTP/1.1 404 Not Found, and a long reason\r\n",
     "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 204 No Content\r\n",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n", "HTTP/1.1 304 Not Modified\r\n",
     "HTTP/1.1 500\r\n", "HTTP/1.1 099 No\r\n"},
};

static const char *const lines[] = {
    "Host: example.org\r\n",
    "A:\r\n",
    "a:b\r\n",
    "Accept: */*\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n",
    "Upgrade-Insecure-Requests: 1\r\n",
    "X-Seventeen-Bytes: z\r\n",
    "Exactly-Sixteen-: 1\r\n",
    "Fifteen-letters: 2\r\n",
    "X-B3-Trace_Id: 3\r\n",
    "Content-Length2: 4\r\n",
    "A-name-with-a-2-behind-sixteen: 5\r\n",
    "Content-Type: text/plain; charset=utf-8\r\n",
    "Content-Lengthy: 7\r\n",
    "Content_Length: 7\r\n",
    "Connection: keep-alive\r\n",
    "connection:Keep-Alive\r\n",
    "Connection: keep-alive, x\r\n",
    "Connection: close\r\n",
    "CONNECTION: x, Close\r\n",
    "Connexion-: close\r\n",
    "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
    "Cookie: a=b; c=\"d\t\xc3\xa9\"\r\n",
    "X_y.z~!: #\r\n",
    "Te: trailers\r\n",
    "T: Transfer-Encoding: chunked\r\n",
    " folded\r\n",
    "no colon\r\n",
    ": empty\r\n",
    "Space : before\r\n",
    "Bare: line\n",
    "Bare: line\r",
};

/* What says how long the body is, and the body. */
static const struct framed {
    const char *lines, *body;
} framed[] = {
    {"Content-Length: 5\r\n", "12345"},
    {"Content-Length: 0\r\n", ""},
    {"content-length:5\r\n", "12345"},
    {"CONTENT-LENGTH:  33 \r\n", "0123456789abcdef0123456789abcdef!"},
    {"Transfer-Encoding: chunked\r\n", "5\r\n12345\r\n0\r\n\r\n"},
    {"transfer-encoding:CHUNKED \r\n", "21;x=y\r\n0123456789abcdef0123456789abcdef!\r\n0\r\n"
                                       "Connection: close\r\nA-Trailer: b\r\n\r\n"},
    {"Content-Length: 00000000000000000000033\r\n", "0123456789abcdef0123456789abcdef!"},
    {"", ""},
    {"Content-Length: 5\r\nContent-Length: 5\r\n", "12345"},
    {"Content-Length: 9223372036854775807\r\n", "12345"},
    {"Content-Length: 9223372036854775808\r\n", "12345"},
    {"Content-Length: 5, 5\r\n", "12345"},
    {"Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"},
    {"Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\n\r\n"},
    {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "12345"},
};

static size_t put(char *message, size_t n, const char *more)
{
    CHECK(n + strlen(more) <= MESSAGE_MOST);
    memcpy(message + n, more, strlen(more));
    return n + strlen(more);
}

/* Most are HTTP from end to end; one in eight has a byte that is another. */
static size_t make(char *message, bool is_answer)
{
    const struct framed *frame = &framed[roll(roll(8) ? 7 : COUNT_OF(framed))];
    size_t n = put(message, 0, begins[is_answer][roll(roll(8) ? 4 : 10)]);
    size_t usual = COUNT_OF(lines) - 6;
    for (size_t i = roll(6); i > 0; i--)
        n = put(message, n, lines[roll(roll(80) ? usual : COUNT_OF(lines))]);
    n = put(message, n, frame->lines);
    for (size_t i = roll(3); i > 0; i--)
        n = put(message, n, lines[roll(usual)]);
    n = put(message, n, "\r\n");
    n = put(message, n, frame->body);
    if (!roll(8))
        message[roll(n)] = odd[roll(sizeof odd - 1)];
    return n;
}

/* How many bytes the next call has. */
static size_t piece_of(size_t left)
{
    static const size_t usual[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, MESSAGE_MOST, MESSAGE_MOST};
    size_t n = roll(2) ? usual[roll(COUNT_OF(usual))] : 1 + roll(left);
    return n < left ? n : left;
}

static void compare(const struct tracker *pieces, const struct tracker *bytes, const char *message,
                    size_t n)
{
    enum tracker_state state = tracker_state(bytes);
    const struct tracker_side *a = &pieces->requests, *b = &bytes->requests;
    CHECK(tracker_state(pieces) == state, "%.*s: \"%s\" in pieces", (int)n, message, told(pieces));
    if (state == HTTP_NOT)
        return;
    for (int i = 0; i < 2; i++, a = &pieces->answers, b = &bytes->answers) {
        union mark one = {.all = a->mark}, other = {.all = b->mark};
        CHECK(one.at == other.at && one.flags == other.flags && one.count == other.count &&
                  one.what == other.what,
              "%.*s: %016llx in pieces, %016llx byte by byte", (int)n, message,
              (unsigned long long)one.all, (unsigned long long)other.all);
        CHECK(a->left == b->left || one.at == START, "%.*s: %llu to come in pieces, and not %llu",
              (int)n, message, (unsigned long long)a->left, (unsigned long long)b->left);
    }
    CHECK(tracker_said_close(pieces) == tracker_said_close(bytes), "%.*s", (int)n, message);
}

static size_t idle, not_http;

static void converse(void)
{
    struct tracker pieces = {0}, bytes = {0};
    char message[MESSAGE_MOST];
    for (size_t state = 0, states = 2 + roll(6); state < states; state++) {
        bool is_answer = state % 2;
        size_t n = make(message, is_answer);
        for (size_t at = 0, end; at < n; at = end) {
            end = at + piece_of(n - at);
            (is_answer ? answer : receive)(&pieces, message + at, end - at);
            for (size_t i = at; i < end; i++)
                (is_answer ? answer : receive)(&bytes, message + i, 1);
            compare(&pieces, &bytes, message, end);
        }
    }
    idle += tracker_state(&bytes) == HTTP_IDLE;
    not_http += tracker_state(&bytes) == HTTP_NOT;
}

static void told_alike(void)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        dice = seed * UINT64_C(0x9e3779b97f4a7c15);
        converse();
    }
    /* It is a mixture: whole conversations, and such as end HTTP. */
    CHECK(idle > ROUNDS / 20 && not_http > ROUNDS / 20, "%zu idle, %zu no HTTP", idle, not_http);
}

/* Messages that come again in one piece, so that their heads are known then. */
static void known_alike(void)
{
    for (uint64_t seed = 1; seed <= ROUNDS / 4; seed++) {
        struct tracker pieces = {0}, bytes = {0};
        char asks[MESSAGE_MOST], says[MESSAGE_MOST];
        dice = seed * UINT64_C(0x9e3779b97f4a7c15);
        size_t n = make(asks, false), m = make(says, true);
        for (size_t round = 0; round < 3; round++) {
            receive(&pieces, asks, n);
            answer(&pieces, says, m);
            for (size_t i = 0; i < n; i++)
                receive(&bytes, asks + i, 1);
            for (size_t i = 0; i < m; i++)
                answer(&bytes, says + i, 1);
            compare(&pieces, &bytes, says, m);
        }
    }
}

/* Each byte of an ordinary request and of its answer, replaced by each that is odd somewhere. */
static void odd_alike(void)
{
    char message[2][MESSAGE_MOST];
    size_t n[2];
    for (size_t k = 0; k < 2; k++) {
        n[k] = put(message[k], 0, begins[k][k ? 0 : 1]);
        for (size_t i = 0; i < 10; i += 3)
            n[k] = put(message[k], n[k], lines[i + 1]);
        n[k] = put(message[k], n[k], "Content-Length: 5\r\nConnection: keep-alive\r\n\r\n12345");
    }
    for (size_t k = 0; k < 2; k++)
        for (size_t at = 0; at < n[k]; at++)
            for (size_t i = 0; i < sizeof odd - 1; i++) {
                struct tracker pieces = {0}, bytes = {0};
                char kept = message[k][at];
                message[k][at] = odd[i];
                receive(&pieces, message[0], n[0]);
                for (size_t b = 0; b < n[0]; b++)
                    receive(&bytes, message[0] + b, 1);
                answer(&pieces, message[1], n[1]);
                for (size_t b = 0; k && b < n[1]; b++)
                    answer(&bytes, message[1] + b, 1);
                if (!k)
                    answer(&bytes, message[1], n[1]);
                compare(&pieces, &bytes, message[k], n[k]);
                message[k][at] = kept;
            }
}

static const struct unit_test tests[] = {
    {"in pieces of any length a conversation is what it is byte by byte", told_alike},
    {"so it is where its heads have come before", known_alike},
    {"so it is with any byte replaced", odd_alike},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
