/* SPDX-License-Identifier: MIT */
/* What parser.c makes of conversations: ordinary, odd and hostile, cut at every byte. */
#include "tracker_talk.h"

#include "http/head_cache.h"

/* What is read or written, and what is told of the connection then: see told(). */
struct step {
    char kind; /* > read, < written, r and w the same unseen; 0: no more */
    const char *bytes;
    size_t n;
    const char *want;
};

#define ASK(bytes, want)                    \
    {                                       \
        '>', bytes, sizeof(bytes) - 1, want \
    }
#define SAYS(bytes, want)                   \
    {                                       \
        '<', bytes, sizeof(bytes) - 1, want \
    }
#define ASK_UNSEEN(n, want) \
    {                       \
        'r', NULL, n, want  \
    }
#define SAYS_UNSEEN(n, want) \
    {                        \
        'w', NULL, n, want   \
    }

struct talk {
    const char *name;
    struct step step[12];
};

#define GET "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define OK_2 OK "Content-Length: 2\r\n\r\nok"

/* With a tab in it, every byte is looked at. */
#define BROWSER BROWSER_WITH("\t")
#define BROWSER_WITH(tab)                                                                      \
    "GET /a/path?with=query&and=%20more HTTP/1.1\r\nHost: www.example.com\r\n"                 \
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"   \
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, br\r\n" \
    "Accept-Language: en\r\nCookie: a=b; c=\"d" tab "\xc3\xa9\"\r\nConnection: keep-alive\r\n" \
    "Content-Type: text/plain\r\nContent-Lengthy: 9\r\nTransfer-Encodin: x\r\nTE: "            \
    "trailers\r\n\r\n"
#define USUAL BROWSER_WITH(" ")
#define NGINX                                                                                      \
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"           \
    "Content-Type: text/html\r\nContent-Length: 3\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00\r\n" \
    "Connection: keep-alive\r\nETag: \"65920080-267\"\r\nAccept-Ranges: bytes\r\n\r\n"

/* FastCGI, of request 1: a record of type T with N bytes and P of padding; T, N and P in octal. */
#define RECORD_OF(t, n, p) "\1" t "\0\1\0" n p "\0"
#define FCGI_BEGIN RECORD_OF("\1", "\10", "\0") "\0\1\1\0\0\0\0\0"
#define FCGI_PARAMS RECORD_OF("\4", "\5", "\3") "\3\0ABC\0\0\0" RECORD_OF("\4", "\0", "\0")
#define FCGI_NO_INPUT RECORD_OF("\5", "\0", "\0")
#define FCGI_OUT RECORD_OF("\6", "\3", "\5") "abc\0\0\0\0\0"
#define FCGI_END RECORD_OF("\3", "\10", "\0") "\0\0\0\0\0\0\0\0"

static const struct talk talks[] = {
    {"FastCGI: a request, an answer, and the same again",
     {ASK(FCGI_BEGIN FCGI_PARAMS FCGI_NO_INPUT, "+1"), SAYS(FCGI_OUT, "+1"), SAYS(FCGI_END, "-"),
      ASK(FCGI_BEGIN FCGI_PARAMS, "+1"), SAYS(FCGI_OUT FCGI_END, "-"), ASK(FCGI_NO_INPUT, "-"),
      ASK(FCGI_BEGIN, "+1"), ASK(FCGI_NO_INPUT, "+1"), SAYS(FCGI_END, "-")}},
    {"FastCGI: an input that nobody has waited for is read behind the answer",
     {ASK(FCGI_BEGIN FCGI_PARAMS, "+1"), SAYS(FCGI_END, "-"),
      ASK(RECORD_OF("\5", "\4", "\2") "a", "+0"), ASK("bcd\0\0", "-"), ASK(FCGI_NO_INPUT, "-")}},
    {"FastCGI: two requests at a time, and a question about values",
     {ASK(FCGI_BEGIN FCGI_BEGIN, "+2"), SAYS(FCGI_END, "+1"),
      ASK(RECORD_OF("\11", "\0", "\0"), "+2"), SAYS(RECORD_OF("\12", "\0", "\0"), "+1"),
      SAYS(FCGI_OUT FCGI_END, "-")}},
    {"FastCGI: an answer too many",
     {ASK(FCGI_BEGIN, "+1"), SAYS(FCGI_END, "-"), SAYS(FCGI_END, "!")}},
    {"FastCGI: a record of the other side's", {ASK(FCGI_BEGIN, "+1"), ASK(FCGI_END, "!")}},
    {"FastCGI: no such type", {ASK(FCGI_BEGIN, "+1"), SAYS(RECORD_OF("\14", "\0", "\0"), "!")}},
    {"FastCGI: no such version", {ASK(FCGI_BEGIN, "+1"), SAYS("HTTP", "!")}},
    {"FastCGI: a beginning of another length", {ASK(RECORD_OF("\1", "\7", "\1"), "!")}},
    {"no FastCGI: it begins with an input", {ASK(FCGI_NO_INPUT, "!")}},
    {"FastCGI: bytes that were not seen", {ASK(FCGI_BEGIN, "+1"), SAYS_UNSEEN(8, "!")}},
    /* Ordinary. */
    {"a request, an answer", {ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"the same again", {ASK(GET, "+1"), SAYS(OK_2, "-"), ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"a browser and nginx", {ASK(BROWSER, "+1"), SAYS(NGINX, "+1"), SAYS("abc", "-")}},
    {"an answer that is known, unasked",
     {ASK(USUAL, "+1"), SAYS(NGINX "abc", "-"), SAYS(NGINX, "!")}},
    {"an answer without a body, which says that it has one",
     {ASK(GET, "+1"), SAYS("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "-"),
      ASK(GET, "+1"), SAYS("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", "-"),
      ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"a request that is known, behind a CONNECT",
     {ASK("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "+1"), ASK(USUAL, "!")}},
    {"a request that is known, behind a HEAD",
     {ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), ASK(GET, "+2"), SAYS(OK "\r\n", "+1"),
      SAYS(OK_2, "-")}},
    {"an answer that is known, to a HEAD",
     {ASK(GET, "+1"), SAYS(OK_2, "-"), ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"),
      SAYS(OK "Content-Length: 2\r\n\r\n", "-"), ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"no body", {ASK(GET, "+1"), SAYS(OK "Content-Length: 0\r\n\r\n", "-")}},
    {"a body at once with its head, and later",
     {ASK("POST / HTTP/1.1\r\ncontent-length:\t 5 \t\r\n\r\nab", "+1"), ASK("cd", "+1"),
      ASK("e", "+1"), SAYS("HTTP/1.1 201 Created\r\ncOnTeNt-LeNgTh: 4\r\nA: b\r\n\r\n\r\n\r", "+1"),
      SAYS("\n", "-")}},
    {"leading zeros",
     {ASK(GET, "+1"), SAYS(OK "Content-Length: 0000000000000000000000001\r\n\r\n", "+1"),
      SAYS("x", "-")}},
    {"HTTP/1.0",
     {ASK("GET / HTTP/1.0\r\n\r\n", "+1"), SAYS("HTTP/1.0 200 OK\r\n\r\nx", "+1"),
      SAYS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "+1")}},
    {"a body until the end",
     {ASK(GET, "+1"), SAYS(OK "\r\n", "+1"), SAYS("x", "+1"), SAYS_UNSEEN(1 << 30, "+1"),
      ASK(GET, "+2")}},
    {"chunks",
     {ASK(GET, "+1"), SAYS(OK "Transfer-Encoding: Chunked \r\n\r\n", "+1"),
      SAYS("3\r\na\r\n\r\n00a;x=\"y;\xff\t\";z\r\n0123456789\r\nF\r\n0123456789abcde\r\n", "+1"),
      SAYS("0\r\n\r", "+1"), SAYS("\n", "-"), ASK(GET, "+1")}},
    {"chunks and a trailer",
     {ASK("PUT /x HTTP/1.1\r\nTRANSFER-ENCODING:chunked\r\n\r\n1\r\n", "+1"),
      ASK("\r\r\n0000000000000000;last\r\n", "+1"),
      ASK("Connection: close\r\nDigest: a\r\n\r\n", "+1"), SAYS(OK_2, "-"), ASK(GET, "+1"),
      SAYS(OK_2, "-")}},
    {"the largest sizes",
     {ASK("PUT / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n", "+1"),
      ASK_UNSEEN(1 << 30, "+1"),
      SAYS(OK "Transfer-Encoding: chunked\r\n\r\n7fffFFFFffffFFFF\r\n", "+1"),
      SAYS_UNSEEN(1 << 30, "+1")}},
    {"HEAD",
     {ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK "Content-Length: 99\r\n\r\n", "-"),
      ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK "Transfer-Encoding: chunked\r\n\r\n", "-"),
      ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK "\r\n", "-"), ASK(GET, "+1"),
      SAYS(OK "Content-Length: 1\r\n\r\n", "+1")}},
    {"like HEAD",
     {ASK("HEADS / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK "Content-Length: 1\r\n\r\n", "+1"),
      SAYS("x", "-"), ASK("HEA / HTTP/1.1\r\n\r\n", "+1"),
      SAYS(OK "Content-Length: 1\r\n\r\n", "+1"), SAYS("x", "-")}},
    {"any method",
     {ASK("M-SEARCH * HTTP/1.1\r\n\r\n", "+1"), SAYS(OK_2, "-"),
      ASK("!#$%&'*+-.^_`|~0189AZ / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK_2, "-")}},
    {"204 and 304",
     {ASK(GET, "+1"), SAYS("HTTP/1.1 204 No Content\r\n\r\n", "-"), ASK(GET, "+1"),
      SAYS("HTTP/1.1 304 Not Modified\r\nContent-Length: 612\r\n\r\n", "-"), ASK(GET, "+1"),
      SAYS("HTTP/1.1 204 \r\nContent-Length: 2\r\n\r\n", "-"), ASK(GET, "+1"),
      SAYS("HTTP/1.1 304\r\nTransfer-Encoding: chunked\r\n\r\n", "-"), ASK(GET, "+1"),
      SAYS("HTTP/1.1 205 R\r\nContent-Length: 1\r\n\r\n", "+1")}},
    {"a status line without a reason, or with a strange one",
     {ASK(GET, "+1"), SAYS("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "-"), ASK(GET, "+1"),
      SAYS("HTTP/1.1 999 \t\xff\x7f \r\nContent-Length: 0\r\n\r\n", "-")}},
    {"empty lines before a request",
     {ASK("\r\n\r\n", "."), ASK("\r", "."), ASK("\n" GET, "+1"), SAYS(OK_2, "-"), ASK("\r\n", "-"),
      ASK("\r\n" GET, "+1"), ASK("\r", "+1"), SAYS(OK_2, "-")}},
    {"names and values of all kinds",
     {ASK("GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~aZ09:\r\nC:\r\nT:\r\nCon: x\r\nCont:\r\nx:y:z\r\n"
          "Content-Length2: 7\r\nContent_Length: 7\r\nX-Transfer-Encoding: a\r\n\r\n",
          "+1"),
      SAYS(OK_2, "-")}},

    /* More than one at once. */
    {"a pipeline",
     {ASK(GET GET "HEAD / HTTP/1.1\r\n\r\n" GET, "+4"), SAYS(OK_2 OK_2, "+2"),
      SAYS(OK "Content-Length: 5\r\n\r\n", "+1"), SAYS(OK_2, "-")}},
    {"a pipeline that goes on",
     {ASK(GET "GET / H", "+1"), SAYS(OK_2, "+0"), ASK("TTP/1.1\r\n\r\n", "+1"), SAYS(OK_2, "-")}},
    {"an answer and half of the next",
     {ASK(GET GET, "+2"), SAYS(OK_2 "HTTP", "+1"), SAYS("/1.1 204 x\r\n\r\n", "-")}},
    {"a body behind a body",
     {ASK("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nGET"
          "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nG\r\n0\r\n\r\n" GET,
          "+3"),
      SAYS(OK_2 OK_2 OK_2, "-")}},

    /* 1xx, and answers that come early. */
    {"100 and the answer",
     {ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 100 Continue\r\n\r\n", "+1"), ASK("ab", "+1"), SAYS(OK_2, "-")}},
    {"100 not waited for",
     {ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\na", "+1"),
      SAYS("HTTP/1.1 100 Con", "+1"), ASK("b", "+1"), SAYS("tinue\r\n\r\n", "+1"),
      SAYS(OK_2, "-")}},
    {"100 refused, the body comes",
     {ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\n"
          "Content-Length: 2\r\n\r\n",
          "+1"),
      SAYS("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "+0"), ASK("a", "+0"), ASK("b", "-"),
      ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"early hints",
     {ASK(GET, "+1"), SAYS("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 102 P\r\nContent-Length: 7\r\n\r\nHTTP/1.1 103 E\r\n\r\n", "+1"),
      SAYS(OK_2, "-")}},
    {"1xx to HEAD",
     {ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), SAYS("HTTP/1.1 103 E\r\n\r\n", "+1"),
      SAYS(OK "Content-Length: 3\r\n\r\n", "-")}},
    {"413 in the middle of a body",
     {ASK("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab", "+1"),
      SAYS("HTTP/1.1 413 Too Large\r\nContent-Length: 1\r\n\r\n", "+1"), SAYS("x", "+0"),
      ASK("c", "+0"), ASK("d", "-"), ASK("\r\n", "-"), ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"413 among chunks",
     {ASK("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "+1"),
      SAYS("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", "+0"),
      ASK("cde\r\n0\r\nA: b\r\n", "+0"), ASK("\r\n", "-")}},

    /* Unseen bytes. */
    {"sendfile",
     {ASK(GET, "+1"), SAYS(OK "Content-Length: 5000000000\r\n\r\n", "+1"),
      SAYS_UNSEEN(4000000000, "+1"), SAYS("", "+1"), SAYS_UNSEEN(0, "+1"),
      SAYS_UNSEEN(999999999, "+1"), SAYS("x", "-"), SAYS_UNSEEN(0, "-")}},
    {"sendfile to the last byte",
     {ASK(GET, "+1"), SAYS(OK "Content-Length: 9\r\n\r\n", "+1"), SAYS_UNSEEN(9, "-")}},
    {"sendfile past it",
     {ASK(GET GET, "+2"), SAYS(OK "Content-Length: 9\r\n\r\n", "+2"), SAYS_UNSEEN(10, "!")}},
    {"sendfile of a chunk",
     {ASK(GET, "+1"), SAYS(OK "Transfer-Encoding: chunked\r\n\r\n9\r\n", "+1"),
      SAYS_UNSEEN(9, "+1"), SAYS("\r\n0\r\n\r\n", "-")}},
    {"sendfile past a chunk",
     {ASK(GET, "+1"), SAYS(OK "Transfer-Encoding: chunked\r\n\r\n9\r\n", "+1"),
      SAYS_UNSEEN(10, "!")}},
    {"sendfile of a head", {ASK(GET, "+1"), SAYS_UNSEEN(1, "!")}},
    {"sendfile in a head", {ASK(GET, "+1"), SAYS(OK, "+1"), SAYS_UNSEEN(1, "!")}},
    {"splice of a body",
     {ASK("PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "+1"), ASK_UNSEEN(8, "+1"),
      ASK_UNSEEN(1, "+1"), SAYS(OK_2, "-")}},
    {"splice of a request", {ASK_UNSEEN(1, "!")}},

    /* The end of HTTP. */
    {"101",
     {ASK("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: imap\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: imap\r\n\r\n", "!"), ASK("a login", "!"),
      SAYS(OK_2, "!")}},
    {"an upgrade that is not done",
     {ASK("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "+1"), SAYS(OK_2, "-"),
      ASK(GET, "+1"), SAYS(OK_2, "-")}},
    {"CONNECT",
     {ASK("CONNECT a:1 HTTP/1.1\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "!"), ASK("anything", "!")}},
    {"CONNECT refused",
     {ASK("CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 103 E\r\n\r\n", "+1"),
      SAYS("HTTP/1.1 407 P\r\nContent-Length: 2\r\n\r\nno", "-"),
      ASK("CONNECT a:1 HTTP/1.1\r\n\r\n", "+1"), SAYS("HTTP/1.1 299 OK\r\n\r\n", "!")}},
    {"bytes behind CONNECT", {ASK("CONNECT a:1 HTTP/1.1\r\n\r\n", "+1"), ASK("G", "!")}},
    {"an empty line behind CONNECT",
     {ASK(GET "CONNECT a:1 HTTP/1.1\r\n\r\n", "+2"), SAYS(OK_2, "+1"), ASK("\r", "!")}},
    {"CONNECT with a body",
     {ASK("CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r", "+0"), ASK("\n", "!")}},
    {"CONNECT with chunks",
     {ASK("CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r", "+0"), ASK("\n", "!")}},
    {"like CONNECT",
     {ASK("CONNECTS a:1 HTTP/1.1\r\n\r\n", "+1"), ASK(GET, "+2"), SAYS(OK_2, "+1"),
      SAYS(OK_2, "-")}},
    {"an answer to nothing", {SAYS("H", "!"), ASK(GET, "!")}},
    {"a greeting", {SAYS("220 mail ESMTP\r\n", "!")}},
    {"a second answer", {ASK(GET, "+1"), SAYS(OK_2, "-"), SAYS("HTTP/1.1 200", "!")}},
    {"a body that HEAD does not get",
     {ASK("HEAD / HTTP/1.1\r\n\r\n", "+1"), SAYS(OK "Content-Length: 2\r\n\r\n", "-"),
      SAYS("ok", "!")}},
    {"a body that is longer than it says", {ASK(GET, "+1"), SAYS(OK_2, "-"), SAYS("\r", "!")}},
    {"an answer to half a head", {ASK("GET / HTTP/1.1\r\n", "+0"), SAYS("HTTP/1.1 408 T", "!")}},
    {"an answer to an empty line", {ASK("\r\n", "."), SAYS("H", "!")}},
};

/* What is told after each byte of a talk, taken one by one; the unseen count as one. */
#define BYTES_MOST 4000

static void take(struct tracker *http, const struct step *step, size_t from, size_t to)
{
    if (step->kind == '>')
        receive(http, step->bytes + from, to - from);
    else if (step->kind == '<')
        answer(http, step->bytes + from, to - from);
    else if (step->kind == 'r')
        bytes_received(http, NULL, step->n);
    else
        bytes_sent(http, NULL, step->n);
}

static void one_by_one(const struct talk *talk, char (*after)[4])
{
    struct tracker http = {0};
    for (const struct step *step = talk->step; step->kind; step++) {
        size_t n = step->bytes ? step->n : 1;
        for (size_t i = 0; i < n; i++) {
            take(&http, step, i, i + 1);
            strcpy(*after++, told(&http));
        }
        CHECK(!strcmp(told(&http), step->want), "\"%s\", step %zu, byte by byte: \"%s\"",
              talk->name, (size_t)(step - talk->step), told(&http));
    }
}

/* Step number `cut` in two parts. */
static void in_two(const struct talk *talk, size_t cut, size_t at, char (*after)[4])
{
    struct tracker http = {0};
    for (const struct step *step = talk->step; step->kind; step++) {
        bool is_cut = (size_t)(step - talk->step) == cut && step->bytes && at < step->n;
        size_t n = step->bytes ? step->n : 1;
        if (is_cut && at) {
            take(&http, step, 0, at);
            CHECK(!strcmp(told(&http), after[at - 1]), "\"%s\", step %zu, at %zu: \"%s\"",
                  talk->name, cut, at, told(&http));
        }
        take(&http, step, is_cut ? at : 0, step->n);
        after += n;
        CHECK(!strcmp(told(&http), step->want), "\"%s\", step %zu, %zu cut at %zu: \"%s\"",
              talk->name, (size_t)(step - talk->step), cut, at, told(&http));
    }
}

static void conversations(void)
{
    static char after[BYTES_MOST][4];
    for (size_t i = 0; i < COUNT_OF(talks); i++) {
        const struct talk *talk = &talks[i];
        one_by_one(talk, after);
        for (size_t cut = 0; talk->step[cut].kind; cut++)
            for (size_t at = 0; at < (talk->step[cut].bytes ? talk->step[cut].n : 1); at++)
                in_two(talk, cut, at, after);
    }
}

/* What is still HTTP, and the byte that makes it none: everything that parser.h's table refuses. */
struct broken {
    const char *good;
    size_t good_n;
    const char *bad;
    size_t bad_n;
};

#define BREAKS(good, bad)                            \
    {                                                \
        good, sizeof(good) - 1, bad, sizeof(bad) - 1 \
    }
#define LINES "GET / HTTP/1.1\r\n"
#define CHUNKS "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct broken requests[] = {
    /* No HTTP/1.x at all. */
    BREAKS("", "\x17\x03\x01\x02"),
    BREAKS("", "\n"),
    BREAKS("", " GET"),
    BREAKS("", "get / HTTP/1.1"),
    BREAKS("", "\x80"),
    BREAKS("", "\"GET"),
    BREAKS("PROXY TCP4 ", "192.0.2.1 192.0.2.2 1 2\r\n"),
    BREAKS("\r\n\r\n", "\2\r\nQUIT\n"),
    BREAKS("PING", "\r\n"),
    BREAKS("*1", "\r\n"),
    BREAKS("EHLO a", "\r\n"),
    BREAKS("\r", "\r\n"),
    BREAKS("\r", "G"),
    BREAKS("\r\n", "\n"),
    BREAKS(GET "\r\n", "get"),
    /* The request line. */
    BREAKS("GE", "t / HTTP/1.1"),
    BREAKS("H", "ead / HTTP/1.1"),
    BREAKS("GET", "\t/ HTTP/1.1"),
    BREAKS("GET", "/ HTTP/1.1"),
    BREAKS("GET", "(x / HTTP/1.1"),
    BREAKS("GET", "\x80 / HTTP/1.1"),
    BREAKS("GET ", " / HTTP/1.1"),
    BREAKS("GET ", "\t/ HTTP/1.1"),
    BREAKS("GET /a", "\t HTTP/1.1"),
    BREAKS("GET /a", "\0 HTTP/1.1"),
    BREAKS("GET /a", "\x1f HTTP/1.1"),
    BREAKS("GET /abcdefghijklmnopqrstuvwxyz", "\n"),
    BREAKS("GET /", "\r\n"),
    BREAKS("GET / ", "\r\n"),
    BREAKS("GET / ", " HTTP/1.1\r\n"),
    BREAKS("GET / ", "x HTTP/1.1\r\n"),
    BREAKS("GET / ", "http/1.1\r\n"),
    BREAKS("GET / HTTP", "S/1.1\r\n"),
    BREAKS("GET / HTTP/", "0.9\r\n"),
    BREAKS("GET / HTTP/1", "1.1\r\n"),
    BREAKS("GET / HTTP/1", ",1\r\n"),
    BREAKS("GET / HTTP/1.", "2\r\n"),
    BREAKS("GET / HTTP/1.", "\r\n"),
    BREAKS("GET / HTTP/1.1", "1\r\n"),
    BREAKS("GET / HTTP/1.1", " \r\n"),
    BREAKS("GET / HTTP/1.1", "\n"),
    BREAKS("GET / HTTP/1.1\r", "\r\n"),
    BREAKS("GET / HTTP/1.1\r", "H"),
    /* Header lines. */
    BREAKS(LINES, "\nGET"),
    BREAKS(LINES, " A: b"),
    BREAKS(LINES, "\tA: b"),
    BREAKS(LINES, ": b"),
    BREAKS(LINES, "\0"),
    BREAKS(LINES "A", " : b"),
    BREAKS(LINES "A", "\t: b"),
    BREAKS(LINES "A", "\r\n"),
    BREAKS(LINES "A", "\n"),
    BREAKS(LINES "A", "(b): c"),
    BREAKS(LINES "A", "\x80: c"),
    BREAKS(LINES "A", "\0: c"),
    BREAKS(LINES "A: b", "\n"),
    BREAKS(LINES "A: b", "\0\r\n"),
    BREAKS(LINES "A: b", "\x0b\r\n"),
    BREAKS(LINES "A: bcdefghijklmnop\t\xff", "\x01\r\n"),
    BREAKS(LINES "A: b\r", "\r\n"),
    BREAKS(LINES "A: b\r", "c"),
    BREAKS(LINES "A: b\r\n", " folded"),
    BREAKS(LINES "A: b\r\n", "\tfolded"),
    BREAKS(LINES "A: b\r\n\r", "\r"),
    BREAKS(LINES "A: b\r\n\r", "A"),
    BREAKS(LINES "Content-Length", " : 1"),
    BREAKS(LINES "Content-Length", "\t: 1"),
    BREAKS(LINES "Transfer-Encoding", " : chunked"),
    BREAKS(LINES "Content-Length: 1\r\n", " 0\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked\r\n", " , identity\r\n"),
    /* Content-Length. */
    BREAKS(LINES "Content-Length:", "\r\n"),
    BREAKS(LINES "Content-Length: ", "\r\n"),
    BREAKS(LINES "Content-Length: ", "\n"),
    BREAKS(LINES "Content-Length: ", "+1\r\n"),
    BREAKS(LINES "Content-Length: ", "-1\r\n"),
    BREAKS(LINES "Content-Length: ", "a\r\n"),
    BREAKS(LINES "Content-Length: ", "\"1\"\r\n"),
    BREAKS(LINES "Content-Length: ", ",1\r\n"),
    BREAKS(LINES "Content-Length: ", "\x0b"
                                     "1\r\n"),
    BREAKS(LINES "Content-Length: 0", "x10\r\n"),
    BREAKS(LINES "Content-Length: 1", ".0\r\n"),
    BREAKS(LINES "Content-Length: 1", "e1\r\n"),
    BREAKS(LINES "Content-Length: 1", "_0\r\n"),
    BREAKS(LINES "Content-Length: 1", ", 1\r\n"),
    BREAKS(LINES "Content-Length: 1 ", ", 1\r\n"),
    BREAKS(LINES "Content-Length: 1 ", "1\r\n"),
    BREAKS(LINES "Content-Length: 1\t \t", "1\r\n"),
    BREAKS(LINES "Content-Length: 1", "\n"),
    BREAKS(LINES "Content-Length: 1", "\0\r\n"),
    BREAKS(LINES "Content-Length: 922337203685477580", "8\r\n"),
    BREAKS(LINES "Content-Length: 9223372036854775807", "0\r\n"),
    BREAKS(LINES "Content-Length: 00001844674407370955161", "6\r\n"),
    BREAKS(LINES "Content-Length: 1\r\nContent-Length", ": 2\r\n"),
    BREAKS(LINES "Content-Length: 1\r\nContent-Length", ": 1\r\n"),
    BREAKS(LINES "Content-Length: 0\r\nA: b\r\ncontent-length", ": 0\r\n"),
    /* Transfer-Encoding. */
    BREAKS(LINES "Transfer-Encoding:", "\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", "\n"),
    BREAKS(LINES "Transfer-Encoding: ", "identity\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", "gzip, chunked\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", "xchunked\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", ", chunked\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", "\"chunked\"\r\n"),
    BREAKS(LINES "Transfer-Encoding: ", "\x0b"
                                        "chunked\r\n"),
    BREAKS(LINES "Transfer-Encoding: c", "ow\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunke", "\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunke", " d\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked", "x\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked", "\0\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked", ";q=1\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked", ", identity\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked \t ", "x\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked ", "\0\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked", "\n"),
    BREAKS(LINES "Transfer-Encoding: chunked\r\nTransfer-Encoding", ": chunked\r\n"),
    BREAKS(LINES "Transfer-Encoding: chunked\r\nContent-Length", ": 5\r\n"),
    BREAKS(LINES "Content-Length: 5\r\nTransfer-Encoding", ": chunked\r\n"),
    BREAKS("POST / HTTP/1.0\r\nTransfer-Encoding", ": chunked\r\n"),
    /* Chunks. */
    BREAKS(CHUNKS, "\r\n"),
    BREAKS(CHUNKS, "\n"),
    BREAKS(CHUNKS, ";a\r\n"),
    BREAKS(CHUNKS, " 1\r\n"),
    BREAKS(CHUNKS, "-1\r\n"),
    BREAKS(CHUNKS, "g\r\n"),
    BREAKS(CHUNKS, "@\r\n"),
    BREAKS(CHUNKS, "`\r\n"),
    BREAKS(CHUNKS "0", "x5\r\n"),
    BREAKS(CHUNKS "5", " \r\n"),
    BREAKS(CHUNKS "5", " ;a\r\n"),
    BREAKS(CHUNKS "5", "\t\r\n"),
    BREAKS(CHUNKS "5", "\n"),
    BREAKS(CHUNKS "5", "\0"),
    BREAKS(CHUNKS "5\r", "\r\n"),
    BREAKS(CHUNKS "5;a", "\n"),
    BREAKS(CHUNKS "5;a", "\0\r\n"),
    BREAKS(CHUNKS "5;a=\"b", "\n\"\r\n"),
    BREAKS(CHUNKS "5;a\r", "b"),
    BREAKS(CHUNKS "800000000000000", "0\r\n"),
    BREAKS(CHUNKS "fffffffffffffff", "f\r\n"),
    BREAKS(CHUNKS "0000000000000001", "0\r\n"),
    BREAKS(CHUNKS "1\r\na", "b\r\n"),
    BREAKS(CHUNKS "1\r\na", "\n"),
    BREAKS(CHUNKS "1\r\na\r", "0\r\n"),
    BREAKS(CHUNKS "1\r\na\r", "\r\n"),
    BREAKS(CHUNKS "0\r\n", "\n"),
    BREAKS(CHUNKS "0\r\n\r", "G"),
    BREAKS(CHUNKS "0\r\n", " folded"),
    BREAKS(CHUNKS "0\r\nA", " : b"),
    BREAKS(CHUNKS "0\r\nA: b", "\n"),
    BREAKS(CHUNKS "0\r\nContent-Length", ": 5\r\n"),
    BREAKS(CHUNKS "0\r\nTransfer-Encoding", ": chunked\r\n"),
    /* The next one: what a smuggler hides. */
    BREAKS("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "x / HTTP/1.1\r\n"),
    BREAKS("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n123456", "\r\n"),
};

static const struct broken answers[] = {
    BREAKS("", "\r\n"),
    BREAKS("", "ICY 200 OK\r\n"),
    BREAKS("", "<html>"),
    BREAKS("", "\x15\x03\x01"),
    BREAKS("H", "ttp/1.1 200 OK\r\n"),
    BREAKS("HTTP/1.", "2 200 OK\r\n"),
    BREAKS("HTTP/", "2 200\r\n"),
    BREAKS("HTTP/1.1", "\r\n"),
    BREAKS("HTTP/1.1", "\t200 OK\r\n"),
    BREAKS("HTTP/1.1 ", " 200 OK\r\n"),
    BREAKS("HTTP/1.1 ", "099 x\r\n"),
    BREAKS("HTTP/1.1 ", "-20 x\r\n"),
    BREAKS("HTTP/1.1 ", ":00 x\r\n"),
    BREAKS("HTTP/1.1 2", "\r\n"),
    BREAKS("HTTP/1.1 2", "x0 OK\r\n"),
    BREAKS("HTTP/1.1 20", " OK\r\n"),
    BREAKS("HTTP/1.1 20", "/ OK\r\n"),
    BREAKS("HTTP/1.1 200", "0 OK\r\n"),
    BREAKS("HTTP/1.1 200", "\tOK\r\n"),
    BREAKS("HTTP/1.1 200", "\n"),
    BREAKS("HTTP/1.1 200 OK", "\n"),
    BREAKS("HTTP/1.1 200 O", "\0\r\n"),
    BREAKS("HTTP/1.1 200 OK\r", "O"),
    BREAKS(OK, " A: b"),
    BREAKS(OK, "\n"),
    BREAKS(OK "A", " : b"),
    BREAKS(OK "A: b", "\n"),
    BREAKS(OK "Connection", " : close\r\n"),
    BREAKS(OK "Connection:", "\n"),
    BREAKS(OK "Connection: ", "\x0b"
                              "close\r\n"),
    BREAKS(OK "Connection: close", "\0\r\n"),
    BREAKS(OK "Connection: close ", "\n"),
    BREAKS(OK "Connection: close, ", "\n"),
    BREAKS(OK "Connection: close\r", "\r\n"),
    BREAKS(OK "Connection: close\r\n", " , folded\r\n"),
    BREAKS(OK "Content-Length: ", "\r\n"),
    BREAKS(OK "Content-Length: 1", ",1\r\n"),
    BREAKS(OK "Content-Length: 1\r\nContent-Length", ": 1\r\n"),
    BREAKS(OK "Content-Length: 1\r\nTransfer-Encoding", ": chunked\r\n"),
    BREAKS(OK "Transfer-Encoding: ", "identity\r\n"),
    BREAKS(OK "Transfer-Encoding: chunked\r\nContent-Length", ": 1\r\n"),
    BREAKS("HTTP/1.0 200 OK\r\nTransfer-Encoding", ": chunked\r\n"),
    BREAKS("HTTP/1.1 103 E\r\nContent-Length: ", "x\r\n"),
    BREAKS("HTTP/1.1 304 N\r\nContent-Length: 1\r\nContent-Length", ": 2\r\n"),
    BREAKS(OK "Transfer-Encoding: chunked\r\n\r\n", "x\r\n"),
    BREAKS(OK "Transfer-Encoding: chunked\r\n\r\n5", " \r\n"),
    BREAKS(OK "Transfer-Encoding: chunked\r\n\r\n1\r\na", "b\r\n"),
    BREAKS(OK "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length", ": 1\r\n"),
    BREAKS(OK_2, "x"),
};

/* Cut at every byte: in use to the last good one, no HTTP from the first bad one on, for good. */
static void check_broken(const struct broken *broken, const char *before, bool is_answer)
{
    void (*say)(struct tracker *, const char *, size_t) = is_answer ? answer : receive;
    size_t all = broken->good_n + broken->bad_n;
    char bytes[300] = "";
    CHECK(all < sizeof bytes);
    memcpy(bytes, broken->good, broken->good_n);
    memcpy(bytes + broken->good_n, broken->bad, broken->bad_n);
    for (size_t cut = 0; cut <= all; cut++) {
        struct tracker http = {0};
        receive(&http, before, strlen(before));
        say(&http, bytes, cut);
        bool is_not = tracker_state(&http) == HTTP_NOT;
        CHECK(is_not == (cut > broken->good_n), "\"%s\" after %zu bytes: %s", bytes, cut,
              told(&http));
        say(&http, bytes + cut, all - cut);
        CHECK(tracker_state(&http) == HTTP_NOT, "\"%s\" cut at %zu: %s", bytes, cut, told(&http));
        receive(&http, GET, strlen(GET));
        answer(&http, OK_2, strlen(OK_2));
        bytes_sent(&http, NULL, 7);
        CHECK(tracker_state(&http) == HTTP_NOT, "\"%s\" recovers", bytes);
    }
}

static void hostile(void)
{
    for (size_t i = 0; i < COUNT_OF(requests); i++)
        check_broken(&requests[i], "", false);
    for (size_t i = 0; i < COUNT_OF(requests); i++)
        check_broken(&requests[i], GET, false);
    for (size_t i = 0; i < COUNT_OF(answers); i++)
        check_broken(&answers[i], GET, true);
}

/* 32 may be outstanding; of each it is known whether it was HEAD. */
static void pipelines(void)
{
    for (unsigned int depth = 1; depth <= 40; depth++) {
        struct tracker http = {0};
        for (unsigned int round = 0; round < 20 && depth <= 32; round++) {
            for (unsigned int i = 0; i < depth; i++) {
                bool is_head = (i * 7 + round) % 3 == 0;
                const char *request = is_head ? "HEAD / HTTP/1.1\r\n\r\n" : GET;
                receive(&http, request, strlen(request));
                CHECK(tracker_owed(&http) == i + 1, "%u of %u", tracker_owed(&http), depth);
            }
            for (unsigned int i = 0; i < depth; i++) {
                bool is_head = (i * 7 + round) % 3 == 0;
                CHECK(tracker_owed(&http) == depth - i && tracker_state(&http) == HTTP_IN_USE,
                      "%u of %u", tracker_owed(&http), depth);
                answer(&http, OK_2, strlen(OK_2) - (is_head ? 2 : 0));
            }
            CHECK(tracker_state(&http) == HTTP_IDLE, "depth %u, round %u: %s", depth, round,
                  told(&http));
        }
        for (unsigned int i = 0; i < depth; i++)
            receive(&http, GET, strlen(GET));
        CHECK((tracker_state(&http) == HTTP_NOT) == (depth > 32), "depth %u: %s", depth,
              told(&http));
    }
}

static void halves(void)
{
    struct tracker http = {0};
    CHECK(!tracker_is_half_read(&http) && !tracker_is_half_sent(&http));
    receive(&http, "\r\n", 2);
    CHECK(!tracker_is_half_read(&http));
    receive(&http, "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 38);
    CHECK(tracker_is_half_read(&http) && !tracker_is_half_sent(&http) && tracker_owed(&http) == 1);
    answer(&http, "HTTP/1.1 100 C\r\n", 16);
    CHECK(tracker_is_half_sent(&http));
    answer(&http, "\r\n", 2);
    CHECK(tracker_is_half_read(&http) && !tracker_is_half_sent(&http) && tracker_owed(&http) == 1);
    receive(&http, "x", 1);
    CHECK(!tracker_is_half_read(&http) && !tracker_is_half_sent(&http) && tracker_owed(&http) == 1);
    answer(&http, "H", 1);
    CHECK(tracker_is_half_sent(&http) && tracker_owed(&http) == 1);
}

/* Whether an answer has ended the connection: what is in its Connection fields, whole. */
static void closes(void)
{
    static const struct {
        const char *lines;
        enum tracker_close want;
    } cases[] = {
        {"", HTTP_STAYS},
        {"Connection: close\r\n", HTTP_CLOSES},
        {"connection:CLOSE\r\n", HTTP_CLOSES},
        {"A: b\r\nCONNECTION:\t close \t \r\nB: c\r\n", HTTP_CLOSES},
        {"Connection: upgrade, close\r\n", HTTP_CLOSES},
        {"Connection: close,upgrade\r\n", HTTP_CLOSES},
        {"Connection: ,,\t, close , ,x y\r\n", HTTP_CLOSES},
        {"Connection: upgrade\r\nConnection: Close\r\n", HTTP_CLOSES},
        {"Connection: close\r\nConnection: keep-alive\r\n", HTTP_CLOSES},
        {"Connection:\r\n", HTTP_STAYS},
        {"Connection: keep-alive\r\n", HTTP_STAYS},
        {"Connection: closed\r\n", HTTP_STAYS},
        {"Connection: clos\r\n", HTTP_STAYS},
        {"Connection: xclose\r\n", HTTP_STAYS},
        {"Connection: clo se\r\n", HTTP_STAYS},
        {"Connection: close x\r\n", HTTP_STAYS},
        {"Connection: x close\r\n", HTTP_STAYS},
        {"Connection: close;x\r\n", HTTP_STAYS},
        {"Connection: \"close\"\r\n", HTTP_STAYS},
        {"Connections: close\r\n", HTTP_STAYS},
        {"Connectio: close\r\n", HTTP_STAYS},
        {"Proxy-Connection: close\r\n", HTTP_STAYS},
        {"Connection-Length: 9\r\n", HTTP_STAYS},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char head[200] = OK;
        strcat(strcat(head, cases[i].lines), "Content-Length: 0\r\n\r\n");
        size_t n = strlen(head);
        for (size_t cut = 0; cut < n; cut++) {
            struct tracker http = {0};
            receive(&http, GET, strlen(GET));
            answer(&http, head, cut);
            answer(&http, head + cut, n - cut);
            CHECK(tracker_state(&http) == HTTP_IDLE, "\"%s\" cut at %zu", cases[i].lines, cut);
            CHECK(tracker_said_close(&http) == cases[i].want, "\"%s\" cut at %zu", cases[i].lines,
                  cut);
            /* It is the last answer's affair: the next one begins anew. */
            receive(&http, GET, strlen(GET));
            CHECK(tracker_said_close(&http) == cases[i].want, "\"%s\"", cases[i].lines);
            answer(&http, OK_2, strlen(OK_2));
            CHECK(tracker_said_close(&http) == HTTP_STAYS, "\"%s\"", cases[i].lines);
        }
    }
    /* A trailer closes nothing. */
    struct tracker http = {0};
    static const char trailer[] =
        OK "Transfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n";
    receive(&http, GET, strlen(GET));
    answer(&http, trailer, strlen(trailer));
    CHECK(tracker_state(&http) == HTTP_IDLE && tracker_said_close(&http) == HTTP_STAYS);
}

static void again(void)
{
    struct tracker http = {0}, fresh = {0};
    receive(&http, "CONNECT a:1 HTTP/1.1\r\nA ", 24);
    CHECK(tracker_state(&http) == HTTP_NOT);
    receive(&http, ": b\r\n\r\n", 7);
    CHECK(tracker_state(&http) == HTTP_NOT);
    tracker_reset(&http);
    CHECK(tracker_state(&http) == HTTP_NONE);
    receive(&http, GET, strlen(GET));
    receive(&fresh, GET, strlen(GET));
    CHECK(!memcmp(&http, &fresh, sizeof http));
    CHECK(sizeof http <= 48, "%zu bytes", sizeof http);
}

/*
 * A client that has sent its next request before the last answer is whole: the connection is in use
 * all the time, whoever asks when. One thread reads, one writes, one asks.
 */
#define REQUESTS 60000
static struct tracker shared;
static sem_t heads_read, answers_sent;
static _Atomic bool over;

/* They wait without a processor: beside others that want it, who spins gets it back much later. */
static void await(sem_t *event)
{
    while (sem_wait(event))
        ;
}

static void *reads(void *unused)
{
    for (unsigned int i = 1; i < REQUESTS; i++) {
        bytes_received(&shared, GET, strlen(GET));
        sem_post(&heads_read);
        if (i > 1)
            await(&answers_sent);
    }
    return unused;
}

static void *writes(void *unused)
{
    for (unsigned int i = 0; i < REQUESTS - 1; i++) {
        await(&heads_read);
        bytes_sent(&shared, OK_2, strlen(OK_2) - 1);
        bytes_sent(&shared, "k", 1);
        sem_post(&answers_sent);
    }
    return unused;
}

static void *asks(void *unused)
{
    /* Many times on end, but where there is one processor the others are let on. */
    for (unsigned int i = 0; !atomic_load(&over); i++) {
        CHECK(tracker_state(&shared) == HTTP_IN_USE, "%s", told(&shared));
        if (i % 64 == 0)
            sched_yield();
    }
    return unused;
}

static void threads(void)
{
    pthread_t reader, writer, asker;
    tracker_reset(&shared);
    CHECK(!sem_init(&heads_read, 0, 0) && !sem_init(&answers_sent, 0, 0));
    over = false;
    receive(&shared, GET, strlen(GET));
    CHECK(!pthread_create(&asker, NULL, asks, NULL) &&
          !pthread_create(&reader, NULL, reads, NULL) &&
          !pthread_create(&writer, NULL, writes, NULL));
    pthread_join(reader, NULL);
    pthread_join(writer, NULL);
    atomic_store(&over, true);
    pthread_join(asker, NULL);
    CHECK(tracker_owed(&shared) == 1 && !tracker_is_half_read(&shared));
}

static bool is_known(bool is_answer, const char *bytes, size_t n)
{
    struct head_end after;
    return head_cache_find(is_answer, bytes, n, &after);
}

/* An entry that is being written is neither read nor written by anybody else. */
static void lock_cache(uint32_t turn)
{
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < COUNT_OF(head_cache[0]); k++)
            head_cache[i][k].version = turn;
}

static void not_known(void)
{
    struct tracker http = {0};
    lock_cache(1);
    for (int i = 0; i < 3; i++) {
        receive(&http, GET, strlen(GET));
        CHECK(!is_known(false, GET, strlen(GET)), "an entry that is being written was read");
    }
}

/* From here on a head that is all in one call is learnt, and known when it comes again. */
static void cached(void)
{
    struct tracker http = {0};
    lock_cache(0);
    CHECK(!is_known(false, USUAL, strlen(USUAL)));
    receive(&http, USUAL, strlen(USUAL));
    answer(&http, NGINX "abc", strlen(NGINX) + 3);
    CHECK(is_known(false, USUAL, strlen(USUAL)));
    struct head_end says;
    CHECK(head_cache_find(true, NGINX "abc", strlen(NGINX) + 3, &says));
    CHECK(says.mark.at == START && says.mark.what == 200 && says.mark.count == 1 && !says.left);
    /* With another number of bytes behind it, it comes to something else. */
    CHECK(!is_known(true, NGINX "ab", strlen(NGINX) + 2));
    receive(&http, USUAL, strlen(USUAL));
    answer(&http, NGINX "ab", strlen(NGINX) + 2);
    CHECK(head_cache_find(true, NGINX "ab", strlen(NGINX) + 2, &says));
    CHECK(says.mark.at == BODY && says.mark.count == 0 && says.left == 1);
    CHECK(tracker_state(&http) == HTTP_IN_USE, "%s", told(&http));
    answer(&http, "c", 1);
    CHECK(tracker_state(&http) == HTTP_IDLE, "%s", told(&http));
    /* Changed while it is read: no part of it counts. */
    lock_cache(3);
    CHECK(!is_known(false, USUAL, strlen(USUAL)));
    lock_cache(4);
    CHECK(is_known(false, USUAL, strlen(USUAL)));
}

/* A head is known to the last of its bytes, on its own side alone, and by no other. */
static void known(void)
{
    static const char head[] = USUAL;
    const size_t n = strlen(head);
    char other[sizeof head];
    struct tracker http = {0};
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(other, head, sizeof head);
            other[at] ^= (char)(1 << bit);
            CHECK(!is_known(false, other, n), "byte %zu, bit %d", at, bit);
        }
    CHECK(is_known(false, head, n) && !is_known(true, head, n));
    for (size_t less = 0; less < n; less++)
        CHECK(!is_known(false, head, less), "%zu bytes", less);
    /* The sample is the same, and there are less bytes than the head has. */
    char *less = copy_of(head, n - 1);
    less[4]++;
    CHECK(!is_known(false, less, n - 1));
    drop(less);
    /* One that can't be told by length and sample takes its place. */
    memcpy(other, head, sizeof head);
    other[n - 5]++;
    receive(&http, other, n);
    CHECK(is_known(false, other, n) && !is_known(false, head, n));
}

/*
 * Two threads learn heads that share an entry, and a third finds one of them: all of it, or none.
 * The heads differ in many bytes, and in what comes of them.
 */
static char shared_head[2][400];

static void *learns(void *which)
{
    size_t k = (size_t)(uintptr_t)which;
    struct head_end head = {k + 7, {.all = k + 70}};
    for (int i = 0; i < 100000 && !atomic_load(&over); i++) {
        head_cache_learn(false, shared_head[k], sizeof shared_head[k], sizeof shared_head[k], head);
        for (int pause = 0; pause < i % 64; pause++)
            spin_pause(); /* so that it is to be found meanwhile */
    }
    atomic_store(&over, true);
    return NULL;
}

static void learnt_at_once(void)
{
    pthread_t learners[2];
    size_t found = 0;
    for (size_t k = 0; k < 2; k++) {
        memset(shared_head[k], 'a' + (int)k, sizeof shared_head[k]);
        memset(shared_head[k], '/', 12); /* the sample */
    }
    over = false;
    for (size_t k = 0; k < 2; k++)
        CHECK(!pthread_create(&learners[k], NULL, learns, (void *)(uintptr_t)k));
    while (!atomic_load(&over))
        for (size_t k = 0; k < 2; k++) {
            struct head_end head;
            bool is_found = head_cache_find(false, shared_head[k], sizeof shared_head[k], &head);
            CHECK(!is_found || (head.left == k + 7 && head.mark.all == k + 70),
                  "%zu is known as the other", k);
            found += is_found;
        }
    for (size_t k = 0; k < 2; k++)
        pthread_join(learners[k], NULL);
    CHECK(found, "none was found in all that time");
}

/* What is not cached: it needs more than a look at it, or there is no room for it. */
static void not_cached(void)
{
    static const char *const asks[] = {
        "HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    };
    static const char *const says[] = {
        OK "Connection: keep-alive\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nA: 12345678901234567890\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    };
    char long_one[1100];
    for (size_t i = 0; i < COUNT_OF(asks) + COUNT_OF(says); i++) {
        bool is_answer = i >= COUNT_OF(asks);
        const char *head = is_answer ? says[i - COUNT_OF(asks)] : asks[i];
        struct tracker http = {0};
        receive(&http, is_answer ? GET : head, strlen(is_answer ? GET : head));
        if (is_answer)
            answer(&http, head, strlen(head));
        CHECK(!is_known(is_answer, head, strlen(head)), "\"%s\"", head);
    }
    for (size_t n = 480; n < sizeof long_one; n++) {
        struct tracker http = {0};
        memset(long_one, 'a', n);
        memcpy(long_one, LINES, strlen(LINES));
        long_one[30] = ':';
        memcpy(long_one + n - 4, "\r\n\r\n", 4);
        receive(&http, long_one, n);
        CHECK(!strcmp(told(&http), "+1"));
        CHECK(is_known(false, long_one, n) == (n <= 512), "%zu bytes", n);
    }
}

static const struct unit_test tests[] = {
    {"an entry of the cache that is being written is left alone", not_known},
    {"conversations, ordinary and odd, are told as they are, however they are cut", conversations},
    {"what parser.h's table refuses is no HTTP from the first wrong byte on, for good", hostile},
    {"32 requests may be outstanding, each remembered, and no more", pipelines},
    {"a request half read and an answer half sent are told", halves},
    {"an answer closes by a whole `close` in a Connection field of its head", closes},
    {"a new connection begins anew, in few bytes", again},
    {"who asks while others read and write is never told idle when it is not", threads},
    {"from here on heads that come again are known", cached},
    {"a head is known to its last byte, and by no other", known},
    {"what is more than a head and a body is not cached", not_cached},
    {"a head that two threads learn at once is known as a whole or not at all", learnt_at_once},
    {"heads known: conversations, ordinary and odd, are told as they are, however they are cut",
     conversations},
    {"heads known: what parser.h's table refuses is no HTTP from the first wrong byte on, for good",
     hostile},
    {"heads known: 32 requests may be outstanding, each remembered, and no more", pipelines},
    {"heads known: a request half read and an answer half sent are told", halves},
    {"heads known: an answer closes by a whole `close` in a Connection field of its head", closes},
    {"heads known: a new connection begins anew, in few bytes", again},
    {"heads known: who asks while others read and write is never told idle when it is not",
     threads},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
