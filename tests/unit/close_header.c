/* SPDX-License-Identifier: MIT */
/* close_header.c: what goes out instead of what the program writes, wherever its calls and the
 * kernel's short writes cut it.
 */
#include "tracker_talk.h"

#define INSERTED "Connection: close\r\n"
#define REPLACED "close     "
#define ALIVE_LENGTH 10

/*
 * Answers, with marks that are not part of them: {...} is a keep-alive and what shows it to be all
 * of its element. It is replaced where no call ends within. | is where the line is inserted if
 * nothing has been replaced before, since the last ~, which is between two answers.
 */
struct sample {
    const char *requests, *answers;
};

#define OK "HTTP/1.1 200 OK\r\n"
#define GET "GET / HTTP/1.1\r\n\r\n"
#define HEAD_ "HEAD / HTTP/1.1\r\n\r\n"

static const struct sample samples[] = {
    /* The line is inserted. */
    {GET, OK "Content-Length: 2\r\n|\r\nok"},
    {GET, OK "|\r\n"},
    {GET, "HTTP/1.0 404\r\nA: b\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "A: b\r\n|\r\na body\r\n\r\nConnection: keep-alive\r\n\r\n"},
    {GET,
     OK "Transfer-Encoding: chunked\r\n|\r\n3\r\n\r\n\r\r\n0\r\nConnection: keep-alive\r\n\r\n"},
    {HEAD_, OK "Content-Length: 2\r\n|\r\n"},
    {GET, "HTTP/1.1 204 No Content\r\n|\r\n"},
    {GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n|\r\n"},
    {GET, OK "Connection: Upgrade\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection:\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-alive-x\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-alivex\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-aliv\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: xkeep-alive, -keep-alive\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-alive x, x keep-alive\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-alive;x, \"keep-alive\"\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-al, ive\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: closed\r\nContent-Length: 0\r\n|\r\n"},
    {GET,
     OK "Keep-Alive: keep-alive\r\nProxy-Connection: keep-alive\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "keep-alive: close\r\nX: Connection: keep-alive\r\nContent-Length: 0\r\n|\r\n"},
    /* A keep-alive is replaced. */
    {GET, OK "Connection: {keep-alive\r}\nContent-Length: 2\r\n|\r\nok"},
    {GET, OK "Content-Length: 2\r\ncOnNeCtIoN:{KEEP-ALIVE\r}\n|\r\nok"},
    {GET, OK "Connection:\t {Keep-Alive \t \r}\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: Upgrade, {Keep-Alive\r}\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: {keep-alive,}upgrade\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: , ,{keep-alive ,} x\r\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: {keep-alive,} {keep-alive\r}\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: a\r\nConnection: {keep-alive\r}\nContent-Length: 0\r\n|\r\n"},
    {GET, OK "Connection: keep-alive-\r\nConnection: {keep-alive\r}\nContent-Length: 0\r\n|\r\n"},
    {HEAD_, "HTTP/1.0 200\r\nConnection: {keep-alive\r}\n|\r\n"},
    /* The program has said close by itself. */
    {GET, OK "Connection: close\r\nContent-Length: 2\r\n\r\nok"},
    {GET, OK "Content-Length: 2\r\nconnection:a, CLOSE \r\n\r\nok"},
    {GET, OK "Connection: close, {keep-alive\r}\nContent-Length: 0\r\n\r\n"},
    {GET, OK "Connection: {keep-alive,}close\r\nContent-Length: 0\r\n\r\n"},
    /* Interim answers are let be, and tunnels. */
    {"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
     "HTTP/1.1 100 Continue\r\nConnection: keep-alive\r\n\r\n~" OK "Content-Length: 0\r\n|\r\n"},
    {GET, "HTTP/1.1 103 E\r\n\r\n~HTTP/1.1 103 E\r\n\r\n~" OK
          "Connection: {keep-alive\r}\nContent-Length: 0\r\n|\r\n"},
    {GET, "HTTP/1.1 101 S\r\nConnection: keep-alive, upgrade\r\n\r\nanything\r\n\r\n"},
    {"CONNECT a:1 HTTP/1.1\r\n\r\n",
     "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nanything\r\n\r\n"},
    {"CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 407 P\r\nContent-Length: 0\r\n|\r\n"},
    /* Only the last that is owed says it. */
    {GET GET HEAD_,
     OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n~" OK "Content-Length: 2\r\n\r\nok~" OK
        "Connection: {keep-alive\r}\nContent-Length: 2\r\n|\r\n"},
    {GET "GET / HTTP", OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"},
    {GET GET, OK "Connection: close\r\nContent-Length: 0\r\n\r\n~" OK "Content-Length: 0\r\n|\r\n"},
    {GET "\r\n", OK "Content-Length: 0\r\n|\r\n"},
    {"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
     OK "Content-Length: 0\r\n|\r\n"},
    {"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b",
     OK "Content-Length: 0\r\n|\r\n"},
    /* No HTTP: nothing is touched, from there on. */
    {GET, OK " Connection: keep-alive\r\n\r\n"},
    {GET, OK "Connection: {keep-alive\r}\nA\r\n\r\n"},
    {GET, OK "Connection: {keep-alive\r}\r\n\r\n"},
    {GET "\n", OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"},
    {"", OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"},
};

#define MOST 400

/* The program's bytes without the marks, and where the marks were. */
struct text {
    char own[MOST];
    size_t n;
    char mark[MOST + 1]; /* before the byte of this number */
    size_t all_at[MOST]; /* of a '{': the byte before its '}' */
};

static struct text read_sample(const struct sample *sample)
{
    struct text text = {.n = 0};
    size_t open = 0;
    for (const char *c = sample->answers; *c; c++) {
        if (!strchr("{}|~", *c)) {
            CHECK(text.n < MOST);
            text.own[text.n++] = *c;
        } else if (*c == '}') {
            text.all_at[open] = text.n - 1;
        } else {
            text.mark[text.n] = *c;
            open = *c == '{' ? text.n : open;
        }
    }
    return text;
}

/*
 * What goes out; says: HTTP_CLOSE_ADDED is due. Of each byte there is the end of the buffer with
 * which it went out.
 */
static size_t edit(const struct text *text, const size_t *ends, char *out, bool *says)
{
    size_t n = 0;
    *says = false;
    for (size_t i = 0; i < text->n; i++) {
        if (text->mark[i] == '~')
            *says = false;
        if (text->mark[i] == '{' && ends[i] > text->all_at[i]) {
            memcpy(out + n, REPLACED, ALIVE_LENGTH);
            n += ALIVE_LENGTH;
            i += ALIVE_LENGTH - 1;
            *says = true;
            continue;
        }
        if (text->mark[i] == '|' && !*says) {
            memcpy(out + n, INSERTED, strlen(INSERTED));
            n += strlen(INSERTED);
            *says = true;
        }
        out[n++] = text->own[i];
    }
    return n;
}

/* A kernel that takes so many bytes at once: what has gone out. */
struct wire {
    char out[10 * MOST];
    size_t n;
};

/* One write of these buffers. Returns what the program is told. */
static size_t put(struct tracker *http, const struct iovec *iov, size_t count, size_t most,
                  struct wire *wire)
{
    struct tracker before = *http;
    struct rewrite plan;
    close_header_plan(http, iov, count, &plan);
    CHECK(!memcmp(&before, http, sizeof before), "planning changes the state");
    size_t asked = 0, taken = 0, all = 0;
    for (size_t i = 0; i < count; i++)
        all += iov[i].iov_len;
    for (int i = 0; i < plan.count; i++) {
        size_t n = plan.piece[i].iov_len;
        CHECK(n, "an empty piece");
        asked += n;
        n = n < most - taken ? n : most - taken;
        memcpy(wire->out + wire->n, plan.piece[i].iov_base, n);
        wire->n += n;
        taken += n;
    }
    CHECK(plan.own <= all && (!plan.same || (plan.own == all && asked == all)), "%zu of %zu",
          plan.own, all);
    size_t own = close_header_took(http, &plan, taken);
    CHECK(own <= plan.own && (taken < asked || own == plan.own), "%zu", own);
    return own;
}

/*
 * How a program writes: its first `cut` bytes and the others, in one call or in two, and what was
 * not taken again, in calls of so many bytes. The kernel takes `first` of the first call, then
 * `most` of each; 0 is as many as come.
 */
struct way {
    size_t cut, first, most, again;
    bool in_one;
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void check_way(const struct sample *sample, const struct text *text, struct way way)
{
    struct tracker http = {0}, bare = {0};
    struct wire wire = {.n = 0};
    size_t ends[MOST], at = 0, again = way.again ? way.again : text->n;
    char *part[2] = {copy_of(text->own, way.cut), copy_of(text->own + way.cut, text->n - way.cut)};
    receive(&http, sample->requests, strlen(sample->requests));
    receive(&bare, sample->requests, strlen(sample->requests));
    for (size_t calls = 0; at < text->n; calls++) {
        CHECK(calls < 4 * MOST, "it does not go on");
        struct iovec iov[2];
        size_t count = 0, room = calls ? again : text->n, before = at;
        size_t head_end = least(way.cut, at + room), end = least(text->n, at + room);
        if (at < way.cut)
            iov[count++] = (struct iovec){part[0] + at, head_end - at};
        if (end > way.cut && (at >= way.cut || way.in_one)) {
            size_t from = at < way.cut ? way.cut : at;
            iov[count++] = (struct iovec){part[1] + from - way.cut, end - from};
        }
        size_t most = calls ? way.most : way.first;
        size_t own = put(&http, iov, count, most ? most : SIZE_MAX, &wire);
        answer(&bare, text->own + at, own);
        for (at += own; before < at; before++)
            ends[before] = before < way.cut ? head_end : end;
        if (!close_header_is_pending(&http))
            CHECK(tracker_state(&http) == tracker_state(&bare) &&
                      tracker_owed(&http) == tracker_owed(&bare),
                  "\"%s\" is told otherwise after %zu", sample->answers, at);
    }
    char want[2 * MOST];
    bool says;
    size_t n = edit(text, ends, want, &says);
    CHECK(wire.n == n && !memcmp(wire.out, want, n),
          "\"%s\" cut at %zu, %zu taken, then %zu of %zu: \"%.*s\"", sample->answers, way.cut,
          way.first, way.most, way.again, (int)wire.n, wire.out);
    CHECK(!close_header_is_pending(&http));
    CHECK(tracker_said_close(&http) == (says ? HTTP_CLOSE_ADDED : tracker_said_close(&bare)),
          "\"%s\"", sample->answers);
    drop(part[0]);
    drop(part[1]);
}

static void cut_anywhere(void)
{
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct text text = read_sample(&samples[i]);
        for (size_t cut = 0; cut < text.n; cut++) {
            check_way(&samples[i], &text, (struct way){.cut = cut, .in_one = true});
            for (size_t most = 1; most < 30; most = 2 * most + 1)
                check_way(&samples[i], &text, (struct way){cut, most, most, 0, most & 2});
        }
    }
}

/* Every place for the kernel to stop, with a third of those where the program's buffers end. */
static void taken_in_part(void)
{
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct text text = read_sample(&samples[i]);
        for (size_t cut = i % 3; cut < text.n; cut += 3)
            for (size_t first = 1; first < text.n + strlen(INSERTED); first++)
                check_way(&samples[i], &text, (struct way){cut, first, 0, 0, first & 1});
    }
}

static void again_in_parts(void)
{
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        struct text text = read_sample(&samples[i]);
        for (size_t first = 1; first < text.n + strlen(INSERTED); first++)
            for (size_t again = 1; again < 30; again = 2 * again + 1) {
                check_way(&samples[i], &text, (struct way){0, first, 0, again, false});
                check_way(&samples[i], &text, (struct way){0, first, 1, again, false});
            }
    }
}

/* A request that has begun behind the one that is answered, up to any byte: it would be lost. */
static void next_request(void)
{
    static const char next[] = "POST / HTTP/1.1\r\nA: b\r\nContent-Length: 1\r\n\r\nx";
    static const char head[] = OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    struct iovec iov = {(char *)head, strlen(head)};
    for (size_t n = 0; n <= strlen(next); n++) {
        struct tracker http = {0};
        struct rewrite plan;
        receive(&http, GET, strlen(GET));
        receive(&http, next, n);
        close_header_plan(&http, &iov, 1, &plan);
        CHECK(plan.same == (n > 0), "after %zu bytes of the next", n);
        close_header_took(&http, &plan, strlen(head));
        close_header_plan(&http, &iov, 1, &plan);
        CHECK(plan.same == (n < strlen(next) - 1), "after %zu bytes of this", n);
    }
    /* The last request owed is the last one, however many there have been. */
    struct tracker http = {0};
    for (int i = 0; i < 600; i++) {
        struct rewrite plan;
        receive(&http, GET, strlen(GET));
        close_header_plan(&http, &iov, 1, &plan);
        CHECK(!plan.same, "number %d", i);
        CHECK(close_header_took(&http, &plan, strlen(head)) == strlen(head) &&
              tracker_owed(&http) == 0);
    }
}

/* Many buffers, the same one many times, empty ones among them: a short write at the worst. */
static void many_buffers(void)
{
    static const char answer_[] = OK "Content-Length: 2\r\n\r\nok";
    enum { ANSWERS = 30, COUNT = 3 * ANSWERS };
    struct tracker http = {0};
    struct wire wire = {.n = 0};
    struct iovec iov[COUNT];
    for (int i = 0; i < ANSWERS; i++) {
        receive(&http, GET, strlen(GET));
        iov[3 * i] = (struct iovec){NULL, 0};
        iov[3 * i + 1] = (struct iovec){(char *)answer_, strlen(answer_)};
        iov[3 * i + 2] = (struct iovec){(char *)answer_, 0};
    }
    CHECK(put(&http, iov, COUNT, SIZE_MAX, &wire) == ANSWERS * strlen(answer_));
    CHECK(wire.n == ANSWERS * strlen(answer_) + strlen(INSERTED), "only the last one says it");
    CHECK(!memcmp(wire.out + wire.n - 4 - strlen(INSERTED), INSERTED "\r\nok", 23));
    CHECK(tracker_state(&http) == HTTP_IDLE && tracker_said_close(&http) == HTTP_CLOSE_ADDED);

    /* More than there are pieces for: an answer byte by byte. */
    struct iovec bytes[sizeof answer_ - 1];
    for (size_t i = 0; i < COUNT_OF(bytes); i++)
        bytes[i] = (struct iovec){(char *)answer_ + i, 1};
    receive(&http, GET, strlen(GET));
    wire.n = 0;
    size_t at = put(&http, bytes, COUNT_OF(bytes), SIZE_MAX, &wire);
    CHECK(at == REWRITE_PIECES && at < COUNT_OF(bytes), "%zu", at);
    at += put(&http, bytes + at, COUNT_OF(bytes) - at, SIZE_MAX, &wire);
    CHECK(at == COUNT_OF(bytes) && wire.n == at + strlen(INSERTED) &&
          tracker_said_close(&http) == HTTP_CLOSE_ADDED);
}

/* What another thread reads between the plan and its end does not change what was planned. */
static void read_between(void)
{
    static const char head[] = OK "Content-Length: 0\r\n\r\n";
    struct iovec iov = {(char *)head, strlen(head)};
    struct rewrite plan;
    for (int first = 0; first < 2; first++) {
        struct tracker http = {0};
        receive(&http, GET, strlen(GET));
        if (first)
            receive(&http, GET, strlen(GET));
        close_header_plan(&http, &iov, 1, &plan);
        CHECK(plan.same == first);
        receive(&http, GET, strlen(GET));
        size_t all = strlen(head) + (first ? 0 : strlen(INSERTED));
        CHECK(close_header_took(&http, &plan, all) == strlen(head));
        CHECK(tracker_owed(&http) == 1 + (unsigned int)first);
        CHECK(tracker_said_close(&http) == (first ? HTTP_STAYS : HTTP_CLOSE_ADDED));
    }
}

/* The drain begins in the middle of a head. */
static void begun_before(void)
{
    static const struct {
        const char *before, *after, *want;
    } cases[] = {
        {OK, "A: b\r\n\r\n", "A: b\r\n" INSERTED "\r\n"},
        {OK "A: b\r\n", "\r\n", INSERTED "\r\n"},
        {OK "A: b\r\n\r", "\n", "\n"},
        {OK "A: b\r\n\r\n", "body\r\n\r\n", "body\r\n\r\n"},
        {OK "Connection: keep-alive\r\n", "\r\n", INSERTED "\r\n"},
        {OK "Connection: keep-al", "ive\r\n\r\n", "ive\r\n" INSERTED "\r\n"},
        {OK "Connection: ", "keep-alive\r\n\r\n", REPLACED "\r\n\r\n"},
        {OK "Connecti", "on: keep-alive\r\n\r\n", "on: " REPLACED "\r\n\r\n"},
        {OK "Connection: x,", "keep-alive\r\n\r\n", REPLACED "\r\n\r\n"},
        {OK "Connection: x", "keep-alive\r\n\r\n", "keep-alive\r\n" INSERTED "\r\n"},
        {OK "Connection: x ", "keep-alive\r\n\r\n", "keep-alive\r\n" INSERTED "\r\n"},
        {OK "Connection: clo", "se\r\n\r\n", "se\r\n\r\n"},
        {OK "Connection: clo", "set\r\n\r\n", "set\r\n" INSERTED "\r\n"},
        {OK "Connection: close\r\n", "\r\n", "\r\n"},
        {OK "Transfer-Encoding: chunked\r\n\r\n0", "\r\n\r\n", "\r\n\r\n"},
        {OK "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", "\r\n", "\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tracker http = {0};
        struct wire wire = {.n = 0};
        struct iovec iov = {(char *)cases[i].after, strlen(cases[i].after)};
        receive(&http, GET, strlen(GET));
        answer(&http, cases[i].before, strlen(cases[i].before));
        CHECK(put(&http, &iov, 1, SIZE_MAX, &wire) == iov.iov_len);
        CHECK(wire.n == strlen(cases[i].want) && !memcmp(wire.out, cases[i].want, wire.n),
              "\"%s\" and \"%s\": \"%.*s\"", cases[i].before, cases[i].after, (int)wire.n,
              wire.out);
    }
}

/* A text that is half out is always ended, and only so. */
static void broken_off(void)
{
    static const char rest[] = "\r\n";
    struct tracker http = {0};
    struct wire wire = {.n = 0};
    struct iovec iov = {(char *)rest, strlen(rest)};
    receive(&http, GET, strlen(GET));
    answer(&http, OK, strlen(OK));
    CHECK(put(&http, &iov, 1, 5, &wire) == 0 && close_header_is_pending(&http));
    CHECK(tracker_said_close(&http) == HTTP_STAYS && tracker_state(&http) == HTTP_IN_USE);
    struct tracker other = http, no_more = http;
    /* The connection is not HTTP any more, or something else has been asked. */
    receive(&no_more, "\x16", 1);
    receive(&http, GET, strlen(GET));
    for (struct tracker *each = &http; each; each = each == &http ? &no_more : NULL) {
        wire.n = 5;
        CHECK(put(each, &iov, 1, SIZE_MAX, &wire) == 2 && !close_header_is_pending(each));
        CHECK(wire.n == strlen(INSERTED) + 2 && !memcmp(wire.out, INSERTED "\r\n", wire.n));
    }
    CHECK(tracker_state(&no_more) == HTTP_NOT && tracker_said_close(&http) == HTTP_CLOSE_ADDED);
    /* Somebody writes without a plan. */
    answer(&other, "", 0);
    CHECK(close_header_is_pending(&other));
    answer(&other, rest, strlen(rest));
    CHECK(tracker_state(&other) == HTTP_NOT && !close_header_is_pending(&other));
}

static const struct unit_test tests[] = {
    {"heads get the notice wherever the program cuts them", cut_anywhere},
    {"nothing is lost, doubled or moved wherever the kernel cuts a write", taken_in_part},
    {"what was not taken may come again in other parts", again_in_parts},
    {"no answer says it while the next request has begun or is owed one", next_request},
    {"many buffers are planned as one, or cut at a piece", many_buffers},
    {"what is read between a plan and its end does not change it", read_between},
    {"a head that has begun before the drain gets the notice as well", begun_before},
    {"a text that is half out is ended, whatever happens to the connection", broken_off},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
