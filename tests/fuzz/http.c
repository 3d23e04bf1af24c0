/* SPDX-License-Identifier: MIT */
/*
 * tracker.h: conversations, and where their calls are cut. The input is what the two sides say;
 * these bytes of it are no part of that:
 *
 *   F7       a new connection
 *   F8       the client speaks from here on; a call of the program's reads it
 *   F9       the program answers from here on, in a call
 *   FA n     n bytes of who is speaking are not seen (n < 128)
 *   FB       a call ends here, and the next begins
 *   FC n     the kernel takes n bytes of each call from here on; 0: all
 *   FD       a drain begins
 *   FE       a buffer of an answer's call ends here, and the next begins; without bytes for it:
 *            what has not been taken of the last one comes again in two
 *   FF c     the byte c
 *
 * After each call what tracker.h tells of the connection is compared with what http_plain.h has
 * found, and with what is told where each byte came alone; what has gone out with what should have.
 */
#include "fuzz.h"

#include "http_plain.h"

#include "../unit/tracker_bytes.h"

#define INSERTED "Connection: close\r\n"
#define REPLACED "close     "
#define ALIVE "keep-alive"
#define BUFFERS 6

/* The conversation as the plain parser has it. */
struct talk {
    struct plain_text read, written;          /* written: also what the kernel has not taken yet */
    size_t buffer_end[PLAIN_MOST];            /* of written: the end of each byte's buffer */
    struct plain_message request[PLAIN_MOST]; /* those whose heads are whole */

    size_t sent; /* of written */
    bool is_not;
    size_t heads, answered;
    bool has_begun, is_half_read, is_in_head;
    struct plain_message answer; /* that was begun last */
    bool is_half_sent;
    const char *text; /* of ours, the rest of one that is partly out; NULL: none */
    bool replaces;
    size_t noticed; /* where the answer begins that has one, plus 1 */
    bool is_http2;  /* of which the plain parser knows nothing: the rest is not told */
};

PLAIN void look_at_requests(struct talk *talk)
{
    const struct plain_text *text = &talk->read;
    enum plain_verdict verdict = PLAIN_WHOLE;
    if (talk->is_not)
        return;
    talk->heads = 0;
    talk->is_in_head = false;
    for (size_t at = 0; at < text->n && verdict == PLAIN_WHOLE;) {
        if (!text->unseen[at] && text->bytes[at] == '\r') {
            if (plain_take_exactly(text, &at, "\r\n") == PLAIN_BAD)
                verdict = PLAIN_BAD;
            continue;
        }
        struct plain_message *message = &talk->request[talk->heads];
        verdict = plain_message(text, at, NULL, message);
        talk->has_begun = true;
        talk->is_in_head = !message->head_end;
        talk->heads += !talk->is_in_head;
        at = message->end;
        /* Neither a tunnel nor a request, until it is answered. */
        if (!talk->is_in_head && message->head.is_connect && talk->heads > talk->answered &&
            at < text->n)
            verdict = PLAIN_BAD;
    }
    talk->is_half_read = verdict == PLAIN_MORE;
    talk->is_not = talk->is_not || verdict == PLAIN_BAD || talk->heads > talk->answered + 32;
}

/* Calls `seen` for each answer that has begun in the first n bytes. False: they are no HTTP. */
PLAIN bool for_answers(struct talk *talk, size_t n,
                       void (*seen)(struct talk *, size_t number, bool is_whole,
                                    const struct plain_message *))
{
    struct plain_text *text = &talk->written;
    enum plain_verdict verdict = PLAIN_WHOLE;
    size_t all = text->n, number = 0;
    text->n = n;
    for (size_t at = 0; at < n && verdict == PLAIN_WHOLE;) {
        struct plain_message message;
        if (number == talk->heads) {
            verdict = PLAIN_BAD;
            break;
        }
        verdict = plain_message(text, at, &talk->request[number].head, &message);
        if (seen)
            seen(talk, number, verdict == PLAIN_WHOLE, &message);
        number += message.head.status >= 200;
        at = message.end;
    }
    text->n = all;
    return verdict != PLAIN_BAD;
}

PLAIN void note_answer(struct talk *talk, size_t number, bool is_whole,
                       const struct plain_message *message)
{
    talk->answer = *message;
    talk->is_half_sent = !is_whole;
    talk->answered = number + (is_whole && message->head.status >= 200);
}

PLAIN void look_at_answers(struct talk *talk)
{
    if (!talk->is_not && !for_answers(talk, talk->sent, note_answer))
        talk->is_not = true;
}

/* What the notice may do, by the bytes before which it does. */
static struct {
    char what[PLAIN_MOST];       /* | inserts, { replaces */
    size_t shown_by[PLAIN_MOST]; /* of {: the byte that shows the element to be all */
    bool closes[PLAIN_MOST];     /* by the answer's first byte: the program has said so */
    size_t answer[PLAIN_MOST];
    size_t good; /* bytes that are HTTP */
} marks;

/* A Connection field's value, as far as it is there: [at, end). */
PLAIN void mark_elements(const char *bytes, size_t at, size_t end, size_t answer)
{
    while (at < end) {
        size_t from = at, comma = at;
        while (comma < end && !plain_in(bytes[comma], ",\r"))
            comma++;
        while (from < comma && plain_in(bytes[from], " \t"))
            from++;
        size_t n = comma - from;
        while (n && plain_in(bytes[from + n - 1], " \t"))
            n--;
        if (comma < end && plain_is(bytes + from, n, ALIVE)) {
            marks.what[from] = '{';
            marks.shown_by[from] = comma;
        }
        if (comma < end && plain_is(bytes + from, n, "close"))
            marks.closes[answer] = true;
        if (comma < end && bytes[comma] == '\r')
            return;
        at = comma + 1;
    }
}

PLAIN void mark_answer(struct talk *talk, size_t number, bool is_whole,
                       const struct plain_message *message)
{
    const char *bytes = talk->written.bytes;
    size_t end = message->head_end ? message->head_end : marks.good, at = message->from;
    int status = message->head.status;
    (void)is_whole;
    marks.closes[at] = false;
    for (size_t i = message->from; i < end; i++)
        marks.answer[i] = message->from;
    if (status < 200 || (status / 100 == 2 && talk->request[number].head.is_connect) ||
        number + 1 != talk->heads || talk->is_in_head || talk->is_not)
        return;
    for (;;) {
        const char *lf = memchr(bytes + at, '\n', end - at);
        at = lf ? (size_t)(lf - bytes) + 1 : end;
        if (at >= end)
            return;
        const char *colon = memchr(bytes + at, ':', end - at);
        if (bytes[at] == '\r')
            marks.what[at] = '|';
        else if (colon && plain_is(bytes + at, (size_t)(colon - bytes) - at, "connection"))
            mark_elements(bytes, (size_t)(colon - bytes) + 1, end, message->from);
    }
}

/* How much of what is written is HTTP: what is bad does not become good by what follows. */
PLAIN size_t good_bytes(struct talk *talk)
{
    size_t good = talk->sent, bad = talk->written.n + 1;
    if (talk->is_not)
        return good;
    for (size_t n = talk->written.n; bad - good > 1; n = (good + bad) / 2)
        *(for_answers(talk, n, NULL) ? &good : &bad) = n;
    return good;
}

PLAIN void mark_answers(struct talk *talk)
{
    memset(&marks, 0, sizeof marks);
    marks.good = good_bytes(talk);
    if (!talk->is_not)
        for_answers(talk, marks.good, mark_answer);
}

/* What goes out where the kernel takes `most` bytes of a call that was planned. */
PLAIN size_t write_plain(struct talk *talk, size_t most, char *out)
{
    size_t n = 0;
    mark_answers(talk);
    while (n < most && talk->sent < talk->written.n) {
        size_t at = talk->sent, answer = marks.answer[at] + 1;
        if (!talk->text && marks.what[at] == '{' && talk->buffer_end[at] > marks.shown_by[at]) {
            talk->text = REPLACED;
            talk->replaces = true;
        } else if (!talk->text && marks.what[at] == '|' && !marks.closes[answer - 1] &&
                   talk->noticed != answer) {
            talk->text = INSERTED;
            talk->replaces = false;
        }
        out[n++] = talk->text ? *talk->text++ : talk->written.bytes[at];
        talk->sent += !talk->text || talk->replaces;
        if (talk->text && !*talk->text) {
            talk->text = NULL;
            talk->noticed = answer;
        }
    }
    return n;
}

/* The same by tracker.h, and by tracker.h with each byte alone. */
static struct tracker http, single;

PLAIN enum tracker_state state_of(const struct talk *talk)
{
    if (talk->is_not)
        return HTTP_NOT;
    if (talk->is_half_read || talk->answered != talk->heads)
        return HTTP_IN_USE;
    return talk->has_begun ? HTTP_IDLE : HTTP_NONE;
}

PLAIN bool says_close(const struct talk *talk)
{
    const char *bytes = talk->written.bytes;
    size_t at = talk->answer.from, end = talk->answer.head_end;
    memset(&marks, 0, sizeof marks);
    while (at < end) {
        const char *line = bytes + at, *lf = memchr(line, '\n', end - at);
        const char *colon = memchr(line, ':', (size_t)(lf - line));
        at = (size_t)(lf - bytes) + 1;
        if (colon && plain_is(line, (size_t)(colon - line), "connection"))
            mark_elements(bytes, (size_t)(colon - bytes) + 1, at, 0);
    }
    return marks.closes[0];
}

/* A connection may become HTTP/2: by its first bytes, empty lines aside, by a frame that nobody has
 * asked for, by 101; or WebSocket, by that. Or it is TLS, by its first byte.
 */
static void look_for_http2(struct talk *talk)
{
    const struct plain_text *read = &talk->read, *written = &talk->written;
    size_t first = 0;
    while (read->n - first >= 2 && !memcmp(read->bytes + first, "\r\n", 2))
        first += 2;
    if (read->n - first >= 4 && !memcmp(read->bytes + first, "PRI ", 4))
        talk->is_http2 = true;
    if (written->n && written->bytes[0] == '\0' && !talk->has_begun)
        talk->is_http2 = true;
    if (tracker_has_frames(&http) || tracker_has_frames(&single) || tracker_is_tls(&http))
        talk->is_http2 = true;
}

PLAIN void compare(struct talk *talk)
{
    look_for_http2(talk);
    if (talk->is_http2)
        return;
    CHECK(tracker_state(&http) == state_of(talk));
    CHECK(tracker_state(&single) == state_of(talk));
    CHECK(close_header_is_pending(&http) == (talk->text != NULL));
    if (talk->is_not)
        return;
    CHECK(tracker_owed(&http) == talk->heads - talk->answered);
    CHECK(tracker_is_half_read(&http) == talk->is_half_read);
    CHECK(tracker_is_half_sent(&http) == talk->is_half_sent);
    if (talk->answer.head_end) {
        bool is_noticed = talk->noticed == talk->answer.from + 1;
        CHECK(tracker_said_close(&http) == (is_noticed         ? HTTP_CLOSE_ADDED
                                            : says_close(talk) ? HTTP_CLOSES
                                                               : HTTP_STAYS));
    }
}

static void add(struct plain_text *text, const char *bytes, size_t n)
{
    CHECK(text->n + n <= PLAIN_MOST);
    memset(text->unseen + text->n, bytes == NULL, n);
    for (size_t i = 0; i < n; i++)
        text->bytes[text->n++] = bytes ? bytes[i] : '?';
}

/* The first time on a copy: a head that is all in here is learnt, and known when it comes again. */
static void tell_twice(enum tracker_state tell(struct tracker *, const char *, size_t),
                       const char *bytes, size_t n)
{
    struct tracker before = http;
    tell(&before, bytes, n);
    tell(&http, bytes, n);
}

static void read_some(struct talk *talk, const char *bytes, size_t n)
{
    if (talk->is_http2)
        return;
    char *copy = fuzz_copy(bytes, bytes ? n : 0);
    add(&talk->read, bytes, n);
    look_at_requests(talk);
    tell_twice(bytes_received, bytes ? copy : NULL, n);
    for (size_t i = 0; i < n; i++)
        bytes_received(&single, bytes ? copy + i : NULL, 1);
    fuzz_free(copy);
    compare(talk);
}

/* A call that writes what has not been taken yet, of which the kernel takes `most` bytes. */
static void write_once(struct talk *talk, size_t most, bool is_planned)
{
    struct plain_text *text = &talk->written;
    struct iovec iov[BUFFERS];
    struct rewrite plan;
    size_t from = talk->sent, all = 0, own = 0, count = 0, n = 0;
    static char out[PLAIN_MOST + REWRITE_PIECES * 20], want[sizeof out];
    look_for_http2(talk);
    if (talk->is_http2) {
        talk->sent = text->n;
        return;
    }
    for (size_t at = from; at < text->n && count < BUFFERS; at += iov[count++].iov_len) {
        size_t length = talk->buffer_end[at] - at;
        iov[count] = (struct iovec){fuzz_copy(text->bytes + at, length), length};
        all += length;
    }
    if (is_planned || talk->text) {
        close_header_plan(&http, iov, count, &plan);
        for (int i = 0; i < plan.count; i++) {
            CHECK(plan.piece[i].iov_len);
            memcpy(out + n, plan.piece[i].iov_base, plan.piece[i].iov_len);
            n += plan.piece[i].iov_len;
        }
        CHECK(n || !all);
        CHECK(plan.own <= all && (!plan.same || (plan.own == all && n == all)));
        n = n < most ? n : most;
        own = close_header_took(&http, &plan, n);
        CHECK(write_plain(talk, n, want) == n && !memcmp(out, want, n));
        CHECK(own == talk->sent - from && own <= plan.own);
    } else {
        most = most < all ? most : all;
        for (size_t i = 0; i < count; own += iov[i++].iov_len)
            if (own < most)
                tell_twice(bytes_sent, iov[i].iov_base,
                           iov[i].iov_len < most - own ? iov[i].iov_len : most - own);
        talk->sent += most;
    }
    while (count)
        fuzz_free(iov[--count].iov_base);
    for (size_t i = from; i < talk->sent; i++)
        bytes_sent(&single, text->bytes + i, 1);
    look_at_answers(talk);
    compare(talk);
}

static void write_unseen(struct talk *talk, size_t n, bool is_planned)
{
    while (talk->sent < talk->written.n)
        write_once(talk, SIZE_MAX, is_planned);
    add(&talk->written, NULL, n);
    talk->sent += n;
    bytes_sent(&http, NULL, n);
    for (size_t i = 0; i < n; i++)
        bytes_sent(&single, NULL, 1);
    look_at_answers(talk);
    compare(talk);
}

/* What has been said since the last call, in the call that it was said for. */
struct speech {
    char asked[PLAIN_MOST];
    size_t n, buffer; /* bytes of it; of written, those whose buffer has an end */
    bool answers, drains;
    size_t most;
};

static void end_buffer(struct talk *talk, struct speech *speech)
{
    for (; speech->buffer < talk->written.n; speech->buffer++)
        talk->buffer_end[speech->buffer] = talk->written.n;
}

/* What the kernel has not taken of a buffer comes again in two. */
static void halve(struct talk *talk)
{
    size_t from = talk->sent, end = from < talk->written.n ? talk->buffer_end[from] : from;
    size_t half = from + (end - from) / 2;
    for (size_t i = from; i < half; i++)
        talk->buffer_end[i] = half;
}

static void end_call(struct talk *talk, struct speech *speech)
{
    if (speech->answers) {
        end_buffer(talk, speech);
        write_once(talk, speech->most, speech->drains);
    } else {
        read_some(talk, speech->asked, speech->n);
        speech->n = 0;
    }
}

static void speak(struct talk *talk, struct speech *speech, char c)
{
    if (talk->written.n + 200 > PLAIN_MOST || talk->read.n + speech->n + 200 > PLAIN_MOST)
        return; /* that is enough */
    if (speech->answers)
        add(&talk->written, &c, 1);
    else
        speech->asked[speech->n++] = c;
}

static void leave_unseen(struct talk *talk, struct speech *speech, size_t n)
{
    if (talk->written.n + 200 > PLAIN_MOST || talk->read.n + 200 > PLAIN_MOST)
        return;
    if (!speech->answers) {
        read_some(talk, NULL, n);
    } else {
        write_unseen(talk, n, speech->drains);
        end_buffer(talk, speech);
    }
}

/* What is small is forgotten; what is large is written before it is read. */
static void begin(struct talk *talk, struct speech *speech)
{
    talk->read.n = talk->written.n = 0;
    memset(&talk->sent, 0, sizeof *talk - offsetof(struct talk, sent));
    speech->n = speech->buffer = 0;
    speech->answers = speech->drains = false;
    speech->most = SIZE_MAX;
    tracker_reset(&http);
    tracker_reset(&single);
}

static void end(struct talk *talk, struct speech *speech)
{
    end_call(talk, speech);
    speech->answers = true;
    while (talk->sent < talk->written.n)
        end_call(talk, speech);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct talk talk;
    struct speech speech;
    begin(&talk, &speech);
    for (size_t i = 0; i < size; i++) {
        uint8_t c = data[i], next = i + 1 < size ? data[i + 1] : 0;
        if (c < 0xf7 || c == 0xff) {
            if (speech.answers || (c == 0xff ? next : c) != 1) /* FastCGI begins with it */
                speak(&talk, &speech, (char)(c == 0xff ? next : c));
            i += c == 0xff;
            continue;
        }
        if (c == 0xfe) {
            if (speech.buffer == talk.written.n)
                halve(&talk);
            end_buffer(&talk, &speech);
            continue;
        }
        if (c == 0xf7) {
            end(&talk, &speech);
            begin(&talk, &speech);
            continue;
        }
        end_call(&talk, &speech);
        speech.answers = c == 0xf8 ? false : c == 0xf9 ? true : speech.answers;
        speech.drains = speech.drains || c == 0xfd;
        if (c == 0xfc)
            speech.most = next ? next : SIZE_MAX;
        if (c == 0xfa)
            leave_unseen(&talk, &speech, next % 128);
        i += c == 0xfa || c == 0xfc;
    }
    end(&talk, &speech);
    return 0;
}
