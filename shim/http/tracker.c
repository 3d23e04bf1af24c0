/* SPDX-License-Identifier: MIT */
/*
 * tracker.c - the two sides of a connection: what has begun on each, and whether one owes the
 * other an answer. Where in a message a byte is, parser.c knows.
 */
#include "http/tracker.h"
#include "http/parser.h"
#include "http/head_cache.h"

static union mark mark_of(const struct tracker_side *side)
{
    return (union mark){.all = atomic_load_explicit(&side->mark, memory_order_acquire)};
}

static void set_mark(struct tracker_side *side, union mark mark)
{
    atomic_store_explicit(&side->mark, mark.all, memory_order_release);
}

void tracker_scan(struct scan *scan, const struct tracker *http, bool is_answer)
{
    const struct tracker_side *side = is_answer ? &http->answers : &http->requests;
    const struct tracker_side *other = is_answer ? &http->requests : &http->answers;
    *scan = (struct scan){.left = side->left, .is_answer = is_answer};
    scan->mark.all = atomic_load_explicit(&side->mark, memory_order_relaxed);
    scan->other = mark_of(other); /* and then what was kept before it */
    scan->kinds = atomic_load_explicit(&http->kinds, memory_order_relaxed);
}

/* What there is to know about a message is there before the mark says that it has come so far. */
void tracker_keep(struct tracker *http, const struct scan *scan)
{
    struct tracker_side *side = scan->is_answer ? &http->answers : &http->requests;
    side->left = scan->left;
    if (!scan->is_answer)
        atomic_store_explicit(&http->kinds, scan->kinds, memory_order_relaxed);
    atomic_store_explicit(&side->mark, scan->mark.all, memory_order_release);
}

static bool is_between(union mark mark)
{
    return mark.at == START || mark.at == START_LF;
}

/* No frame, and no header block or message, has begun on this side. */
static bool is_between_frames(union mark mark)
{
    const union mark begun = {.index = UINT8_MAX, .flags = CONTINUES};
    bool is_head = mark.at == FRAME || mark.at == MESSAGE || mark.at == SESSION;
    return mark.at == START || (is_head && !(mark.all & begun.all));
}

static enum tracker_state state_of(const struct tracker *http, union mark request,
                                   union mark answer)
{
    if (answer.at == NOT || request.at == NOT)
        return HTTP_NOT;
    if (UNLIKELY(parser_is_framed(request) || parser_is_framed(answer))) {
        bool is_idle = is_between_frames(request) && is_between_frames(answer) &&
                       !atomic_load(&http->streams.open);
        return !is_idle ? HTTP_IN_USE : request.flags & SPOKE ? HTTP_IDLE : HTTP_NONE;
    }
    if (UNLIKELY(parser_is_websocket(answer)))
        return is_between_frames(request) && is_between_frames(answer) ? HTTP_IDLE : HTTP_IN_USE;
    if (UNLIKELY(parser_is_session(request) || parser_is_session(answer))) {
        bool is_idle = is_between_frames(request) && is_between_frames(answer) &&
                       answer.count == request.count;
        return is_idle ? HTTP_IDLE : HTTP_IN_USE;
    }
    if (UNLIKELY(parser_is_tls(request)))
        return answer.count != request.count || answer.at == RECORD_TLS_REST ? HTTP_IN_USE
                                                                             : HTTP_NONE;
    if (!is_between(request) || answer.count != request.count)
        return HTTP_IN_USE; /* an answer that has begun is owed until it is out */
    return request.flags & SPOKE ? HTTP_IDLE : HTTP_NONE;
}

/* A part of a body, as most bytes are, or the rest of it: true. */
static bool pass_body(struct tracker_side *side, bool is_answer, size_t n)
{
    union mark mark = {.all = atomic_load_explicit(&side->mark, memory_order_relaxed)};
    if (is_counted(mark) && n < side->left) {
        side->left -= n;
    } else if (mark.at == BODY && n == side->left) {
        side->left = 0;
        mark.at = START;
        mark.count += is_answer;
        set_mark(side, mark);
    } else if (mark.at != BODY_TO_END) {
        return false;
    }
    return true;
}

/* Nobody but the caller changes its own side, so that one look at the other tells (see
 * tracker_state). */
static enum tracker_state state_now(const struct tracker *http, bool is_answer)
{
    union mark own = mark_of(is_answer ? &http->answers : &http->requests);
    union mark other = mark_of(is_answer ? &http->requests : &http->answers);
    return is_answer ? state_of(http, other, own) : state_of(http, own, other);
}

static __attribute__((noinline)) enum tracker_state pass_other(struct tracker *http, bool is_answer,
                                                               const char *bytes, size_t n)
{
    struct scan scan;
    if (!pass_body(is_answer ? &http->answers : &http->requests, is_answer, n)) {
        tracker_scan(&scan, http, is_answer);
        scan.streams = &http->streams;
        if (UNLIKELY(scan.mark.text && n)) {
            scan.mark.at = NOT; /* written without a plan, in the middle of a text of ours */
            scan.mark.text = 0;
        }
        if (bytes)
            parser_run(&scan, bytes, bytes + n);
        else
            parser_skip(&scan, n);
        tracker_keep(http, &scan);
    }
    return state_now(http, is_answer);
}

/* On a side that is in HTTP/2. */
static __attribute__((noinline)) enum tracker_state
pass_frames(struct tracker *http, bool is_answer, const char *bytes, size_t n)
{
    union mark own = mark_of(is_answer ? &http->answers : &http->requests);
    union mark other = mark_of(is_answer ? &http->requests : &http->answers);
    const char *end = bytes + n;
    if (own.flags & SETTLED && is_between_frames(own))
        bytes = parser_pass_frames(&http->streams, is_answer, other, bytes, end);
    if (bytes < end)
        return pass_other(http, is_answer, bytes, (size_t)(end - bytes));
    return state_now(http, is_answer);
}

static union mark mark_behind(union mark before, struct head_end after)
{
    return (union mark){.all = after.mark.all + ((uint64_t)before.count << COUNT_SHIFT)};
}

/* The kind of the request that a head begins, or whose answer it does, is that of most. False: it
 * is another one's. */
static bool is_usual(struct tracker *http, bool is_answer, union mark mark)
{
    uint64_t kinds = atomic_load_explicit(&http->kinds, memory_order_relaxed);
    uint64_t own = UINT64_C(3) << mark.count % OUTSTANDING * 2;
    if (!is_answer && kinds & own)
        atomic_store_explicit(&http->kinds, kinds & ~own, memory_order_relaxed);
    return !is_answer || !(kinds & own);
}

/*
 * The side has come so far. Nobody but the caller changes its own side, so that one look at the
 * other tells (see tracker_state).
 */
INLINE enum tracker_state moves_to(struct tracker *http, bool is_answer, union mark before,
                                   struct head_end after)
{
    struct tracker_side *side = is_answer ? &http->answers : &http->requests;
    union mark own = mark_behind(before, after);
    side->left = after.left;
    set_mark(side, own);
    if (!is_answer)
        return HTTP_IN_USE; /* that it is owed an answer is known */
    union mark other = mark_of(&http->requests);
    return LIKELY(is_between(other) && other.count == own.count && own.at == START) ? HTTP_IDLE
           : other.at == NOT                                                        ? HTTP_NOT
                                                                                    : HTTP_IN_USE;
}

/* So many bytes come behind a head. All of them are of its body. */
static void count_body(struct head_end *after, size_t n)
{
    after->left -= n;
    if (after->mark.at == BODY && !after->left) {
        after->mark.at = START;
        after->mark.count = 1;
    }
}

/* More comes behind a head than its body: a chunk, or the next message. */
static enum tracker_state pass_more(struct tracker *http, bool is_answer, union mark before,
                                    struct head_end after, struct iovec more)
{
    size_t own = (size_t)after.left;
    count_body(&after, own);
    moves_to(http, is_answer, before, after);
    const char *next = (const char *)more.iov_base + own;
    return after.mark.at == SIZE ? pass_other(http, is_answer, next, more.iov_len)
           : is_answer           ? tracker_sent_here(http, next, more.iov_len - own)
                                 : tracker_received_here(http, next, more.iov_len - own);
}

/* A message may begin here, and its head is not cached. */
INLINE enum tracker_state pass_new(struct tracker *http, bool is_answer, const char *bytes,
                                   size_t n)
{
    const struct tracker_side *side = is_answer ? &http->answers : &http->requests;
    union mark before = {.all = atomic_load_explicit(&side->mark, memory_order_relaxed)};
    struct head_end after;
    size_t length = n < PARSER_HEAD_LEAST ? 0
                    : is_answer           ? parser_answer_head(bytes, n, &after)
                                          : parser_request_head(bytes, n, &after);
    if (UNLIKELY(!length) || UNLIKELY(!is_usual(http, is_answer, before)))
        return pass_other(http, is_answer, bytes, n);
    size_t rest = n - length;
    if (UNLIKELY(rest > after.left))
        return pass_more(http, is_answer, before, after,
                         (struct iovec){(char *)bytes + length, rest});
    count_body(&after, rest);
    if (UNLIKELY(head_cache_is_turn(is_answer)))
        head_cache_learn(is_answer, bytes, n, length, after);
    return moves_to(http, is_answer, before, after);
}

static __attribute__((noinline)) enum tracker_state received_new(struct tracker *http,
                                                                 const char *bytes, size_t n)
{
    return pass_new(http, false, bytes, n);
}

static __attribute__((noinline)) enum tracker_state sent_new(struct tracker *http,
                                                             const char *bytes, size_t n)
{
    return pass_new(http, true, bytes, n);
}

/*
 * Where a message may begin and its head is cached, it is known what comes of it: the same as of a
 * look. (Not if one of the last requests is answered in another way.)
 */
INLINE enum tracker_state pass(struct tracker *http, bool is_answer, const char *bytes, size_t n)
{
    const union mark odd = {.at = UINT8_MAX, .text = UINT8_MAX, .what = is_answer ? 0 : UINT16_MAX};
    struct tracker_side *side = is_answer ? &http->answers : &http->requests;
    union mark mark = {.all = atomic_load_explicit(&side->mark, memory_order_relaxed)};
    if (UNLIKELY(mark.all & odd.all))
        return (parser_is_framed(mark) ? pass_frames : pass_other)(http, is_answer, bytes, n);
    union mark other = mark_of(is_answer ? &http->requests : &http->answers);
    uint8_t owed = is_answer ? other.count - mark.count : mark.count - other.count;
    if (is_answer ? !owed : owed >= OUTSTANDING || other.at == NOT)
        return pass_other(http, is_answer, bytes, n);
    struct head_end after;
    if (UNLIKELY(atomic_load_explicit(&http->kinds, memory_order_relaxed)) ||
        !head_cache_find(is_answer, bytes, n, &after))
        return is_answer ? sent_new(http, bytes, n) : received_new(http, bytes, n);
    return moves_to(http, is_answer, mark, after);
}

HOT enum tracker_state tracker_received_here(struct tracker *http, const char *bytes, size_t n)
{
    return pass(http, false, bytes, n);
}

HOT enum tracker_state tracker_sent_here(struct tracker *http, const char *bytes, size_t n)
{
    return pass(http, true, bytes, n);
}

/* The first n bytes of several buffers, or of none that was seen. */
static enum tracker_state pass_each(struct tracker *http, bool is_answer, struct bytes bytes,
                                    size_t n)
{
    enum tracker_state state = HTTP_NOT;
    if (!bytes.iov)
        return pass_other(http, is_answer, NULL, n);
    for (const struct iovec *iov = bytes.iov, *end = iov + bytes.count; n && iov < end; iov++) {
        size_t part = iov->iov_len < n ? iov->iov_len : n;
        if (part)
            state =
                (is_answer ? tracker_sent_here : tracker_received_here)(http, iov->iov_base, part);
        n -= part;
    }
    return state;
}

enum tracker_state tracker_received(struct tracker *http, struct bytes bytes, size_t n)
{
    return pass_each(http, false, bytes, n);
}

enum tracker_state tracker_sent(struct tracker *http, struct bytes bytes, size_t n)
{
    return pass_each(http, true, bytes, n);
}

/*
 * Answers first. If all requests that are seen after them have been answered, none was read to the
 * end of its head in between, and no answer has begun, as none does unasked. Who is kept from the
 * second look for 256 requests would find the counts alike again: so the answers are looked at once
 * more, and have to be as they were.
 */
enum tracker_state tracker_state(const struct tracker *http)
{
    union mark request = {.all = 0}, answer = mark_of(&http->answers);
    for (int tries = 0; tries < 100; tries++) {
        union mark before = answer;
        request = mark_of(&http->requests);
        answer = mark_of(&http->answers);
        if (answer.all == before.all)
            break;
    }
    return state_of(http, request, answer);
}

bool tracker_is_half_read(const struct tracker *http)
{
    return !is_between(mark_of(&http->requests));
}

bool tracker_is_half_answered(const struct tracker *http)
{
    return !is_between(mark_of(&http->answers));
}

bool tracker_has_records(const struct tracker *http)
{
    return mark_of(&http->requests).flags & RECORDS;
}

enum tracker_frames tracker_frames(const struct tracker *http)
{
    union mark request = mark_of(&http->requests), answer = mark_of(&http->answers);
    return parser_is_framed(request) || parser_is_framed(answer)     ? FRAMES_HTTP2
           : parser_is_websocket(answer)                             ? FRAMES_WEBSOCKET
           : parser_is_session(request) || parser_is_session(answer) ? FRAMES_POSTGRES
                                                                     : FRAMES_NONE;
}

bool tracker_is_unfinished(const struct tracker *http)
{
    union mark answer = mark_of(&http->answers), request = mark_of(&http->requests);
    if (answer.at == SESSION)
        return answer.word != SESSION_IDLE;
    uint8_t asked = request.at == START ? 0 : request.flags; /* of HTTP/1.x still */
    return parser_is_websocket(answer) &&
           (answer.count != request.count || (asked ^ answer.flags) & GOES_AWAY);
}

bool tracker_has_only_begun(const struct tracker *http)
{
    union mark answer = mark_of(&http->answers);
    return answer.at == SESSION && answer.count == 1;
}

bool tracker_takes_goodbye(const struct tracker *http)
{
    union mark answer = mark_of(&http->answers), request = mark_of(&http->requests);
    if (!is_between_frames(answer) || answer.flags & GOES_AWAY)
        return false;
    if (answer.at == SESSION)
        return answer.word == SESSION_IDLE && !(request.flags & GOES_AWAY);
    return answer.at == MESSAGE || (answer.at == FRAME && answer.flags & SETTLED);
}

bool tracker_has_heard(const struct tracker *http)
{
    union mark request = mark_of(&http->requests);
    return parser_is_framed(request) && request.flags & HEARD;
}

void tracker_hide_answer(struct bytes bytes, size_t n)
{
    const char free_type = 0x2a;
    for (size_t i = 0; i < bytes.count && n; i++) {
        size_t part = bytes.iov[i].iov_len < n ? bytes.iov[i].iov_len : n;
        char *answer = memmem(bytes.iov[i].iov_base, part, PING("\1"), PING_WHOLE);
        if (answer)
            answer[PING_TYPE_AT] = free_type;
        n -= part;
    }
}

uint32_t tracker_last_stream(const struct tracker *http)
{
    return atomic_load(&http->streams.last);
}

bool tracker_is_tls(const struct tracker *http)
{
    union mark request = mark_of(&http->requests);
    return (request.at == NOT || parser_is_tls(request)) && request.what == TLS_HANDSHAKE;
}

bool tracker_is_in_doubt(const struct tracker *http)
{
    union mark answer = mark_of(&http->answers);
    return parser_is_tls(answer) && answer.flags & DOUBTED;
}

bool tracker_has_answered(const struct tracker *http)
{
    return mark_of(&http->answers).flags & SPOKE;
}

enum tracker_close tracker_said_close(const struct tracker *http)
{
    uint8_t flags = mark_of(&http->answers).flags;
    return flags & NOTICED ? HTTP_CLOSE_ADDED : flags & CLOSES ? HTTP_CLOSES : HTTP_STAYS;
}

bool tracker_would_rest(const struct tracker *http, struct bytes bytes, size_t n)
{
    if (tracker_state(http) != HTTP_IN_USE || tracker_has_frames(http))
        return false; /* (a frame that has gone by can't be taken back) */
    struct tracker then = *http;
    return tracker_sent(&then, bytes, n) == HTTP_IDLE;
}
