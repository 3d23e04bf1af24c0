/* SPDX-License-Identifier: MIT */
#include "conn/conn_own.h"

#include "conn/linger.h"
#include "conn/spread.h"
#include "base/sys.h"
#include "conn/handoff.h"

#include <errno.h>
#include <sys/epoll.h>

/*
 * What an event makes of a record: bits taken away, bits set, and bits that turn on the one above
 * them: who is read from after an ANSWER is SEASONED, and OWED one when it has been SHUT (or may
 * be, in a moment).
 */
struct step {
    uint32_t clear, set, carry;
};

/* clang-format off */
#define CARRY (CONN_ANSWERED | CONN_SHUT)
#define READ   {CONN_SEEN, 0, CONN_SHUT}
#define READ_U {CONN_SEEN, CONN_IN_USE, CARRY}
#define WROTE  {CONN_SEEN | CONN_OWED, 0, 0}
#define ANSWER {CONN_SEEN | CONN_OWED | CONN_CUT_SHORT | CONN_IN_USE, CONN_ANSWERED, 0}
#define CUT    {CONN_SEEN, CONN_IN_USE | CONN_CUT_SHORT, 0}
#define IDLE   {CONN_SEEN | CONN_IN_USE, 0, 0}
#define USE    {CONN_SEEN, CONN_IN_USE, 0}
#define KEEP   {0, 0, 0}

/* INTERFACE.md section 2, mode by mode. */
static const struct step steps[MODES][CONN_EVENTS] = {
    /*                  READ    WROTE   CUT   TIMEOUT  MARK_IDLE  MARK_IN_USE */
    [MODE_MANUAL]    = {READ,   WROTE,  KEEP, KEEP,    IDLE,      USE},
    [MODE_AUTOMATIC] = {READ_U, WROTE,  KEEP, KEEP,    IDLE,      USE},
    [MODE_DEADLINE]  = {READ_U, WROTE,  KEEP, IDLE,    IDLE,      USE},
    [MODE_REPLY]     = {READ_U, ANSWER, CUT,  KEEP,    IDLE,      USE},
    [MODE_HTTP]      = {READ_U, ANSWER, CUT,  KEEP,    IDLE,      USE}, /* but see hears_http */
};
/* clang-format on */
_Static_assert(CONN_SEASONED == CONN_ANSWERED << 1 && CONN_OWED == CONN_SHUT << 1, "carry");

void (*conn_on_first)(void);

static void tell_first(void)
{
    void (*tell)(void) = conn_on_first;
    if (UNLIKELY(tell != NULL)) {
        conn_on_first = NULL;
        tell();
    }
}

static inline uint64_t fresh_record(enum mode mode, uint32_t identity, enum identity kind)
{
    return (uint64_t)identity << CONN_IDENTITY_SHIFT | epoch_now() | CONN_REF |
           (uint64_t)mode << CONN_MODE_SHIFT | (uint64_t)kind << CONN_KIND_SHIFT;
}

/* What is remembered of another connection that had fd's number. */
static void forget_before(int fd)
{
    if (table_has(fd)) {
        rhythm_forget(table_number(table_slot((uint32_t)fd)));
        framing_forget(table_number(table_slot((uint32_t)fd)));
    }
}

static __attribute__((noinline)) void accepted_oddly(int fd, enum mode mode, uint64_t fresh)
{
    if (mode == MODE_OFF) {
        if (UNLIKELY(table_knows(fd)))
            table_set(fd, KIND_NONE); /* stale: closed on a path that we don't see */
        return;
    }
    tell_first();
    table_add(fd, fresh, false);
    if (mode == MODE_HTTP || rhythm_is_noting())
        forget_before(fd);
}

void conn_accepted(int fd, enum mode mode, uint32_t identity, enum identity kind)
{
    uint64_t fresh = fresh_record(mode, identity, kind);
    if (UNLIKELY(mode == MODE_OFF) || UNLIKELY(mode == MODE_HTTP) || UNLIKELY(conn_on_first) ||
        rhythm_is_noting())
        accepted_oddly(fd, mode, fresh);
    else
        table_add(fd, fresh, false);
}

void (*conn_on_adopt)(void);

static void tell_adopts(void)
{
    tell_first();
    if (conn_on_adopt)
        conn_on_adopt();
}

void conn_inherited(int fd, enum mode mode)
{
    enum identity kind;
    uint32_t identity = sock_connection(fd, &kind);
    if (!identity)
        return;
    atomic_store(&table.busy, HINT_ASK); /* it may have a read timeout */
    conn_accepted(fd, mode, identity, kind);
}

void conn_received(int fd, enum mode mode)
{
    enum identity kind;
    uint32_t identity = sock_connection(fd, &kind);
    forget_before(fd);
    if (!identity || mode == MODE_OFF)
        table_forget(fd);
    else if (!handoff_any_sent() || handoff_is_apart())
        table_promote(fd, fresh_record(mode, identity, kind), false); /* from outside of the page */
    else if (handoff_take(identity))
        table_promote(fd, fresh_record(mode, identity, kind), true);
}

/* Whether the connection is known by another descriptor: inetd gives it to a service three times.
 * Then fd is one of its descriptors. */
static bool alias_known(int fd, uint32_t identity)
{
    int high = (int)atomic_load(&table.high);
    for (int known = 0; known < high; known++) {
        record_t *slot = known == fd ? NULL : table_record(known);
        uint64_t record = slot ? atomic_load(slot) : 0;
        if (record && identity_of(record) == identity && (record & CONN_EPOCH) == epoch_now()) {
            table_alias(known, fd);
            return true;
        }
    }
    return false;
}

void conn_uses_received(int fd)
{
    enum identity kind;
    if (!handoff_any_sent() || sys_is_sandboxed() || epoch_is_borrowed() || !table_take_received(fd))
        return;
    int saved = errno;
    uint32_t identity = sock_connection(fd, &kind);
    if (identity && settings_now()->mode.rest != MODE_OFF && !alias_known(fd, identity)) {
        tell_adopts();
        forget_before(fd);
        table_add(fd, fresh_record(settings_now()->mode.rest, identity, kind), true);
        handoff_adopt(identity);
    }
    errno = saved;
}

bool conn_turns_among_many(record_t *slot, uint64_t record)
{
    return conn_turns_here(slot, record, !(record & CONN_IN_USE));
}

bool conn_change(record_t *slot, uint64_t *old, uint64_t next)
{
    bool alone = solo_enter(), changed = solo_change(alone, slot, old, next);
    if (changed && (*old ^ next) & CONN_IN_USE)
        table_count_live(next & CONN_IN_USE ? LIVE_IN_USE : -LIVE_IN_USE);
    if (LIKELY(alone))
        solo_leave();
    return changed;
}

void conn_adopt(record_t *slot)
{
    if (epoch_is_borrowed())
        return;
    uint64_t record = atomic_load(slot), mine = epoch_now();
    uint64_t adopted;
    do {
        if (!record || (record & CONN_EPOCH) == mine || record & CONN_DISOWNED)
            return;
        /* What its parent's drainer is about to do is not told here. */
        adopted = (record & ~(CONN_EPOCH | CONN_POISED)) | mine;
    } while (!atomic_compare_exchange_weak(slot, &record, adopted));
    tell_adopts();
    struct shard *shard = table_shard();
    atomic_fetch_add_explicit(&shard->live, LIVE_TRACKED + (record & CONN_IN_USE ? LIVE_IN_USE : 0),
                              memory_order_relaxed);
    /* Who accepted it has counted it, and has closed it or will: that close was none. */
    atomic_fetch_sub_explicit(&shard->closed_by_program, 1, memory_order_relaxed);
    handoff_adopt(identity_of(record));
}

void conn_left(int fd)
{
    record_t *slot = table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    if (record && (record & CONN_EPOCH) != epoch_now() && !(record & CONN_DISOWNED) &&
        handoff_take(identity_of(record)))
        conn_adopt(slot);
}

bool conn_step(record_t *slot, uint64_t record, enum conn_event event)
{
    uint64_t mine = atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed) & CONN_EPOCH;
    if (epoch_is_borrowed())
        return false;
    if (UNLIKELY((record & (CONN_EPOCH | CONN_DISOWNED)) != mine || !mine)) {
        conn_adopt(slot);
        record = atomic_load_explicit(slot, memory_order_relaxed);
    }
    uint64_t next;
    do {
        /* Another thread may have closed or disowned it since it was looked at. */
        if (UNLIKELY(!record || record & CONN_DISOWNED))
            return false;
        const struct step *step = &steps[mode_of(record)][event];
        next = (record & ~(uint64_t)step->clear) | step->set | (record & step->carry) << 1;
        if (UNLIKELY(record & CONN_POISED) && step->carry & CONN_SHUT)
            next |= CONN_OWED;
        if (next == record)
            return true;
    } while (!conn_change(slot, &record, next));
    return true;
}

/* Looked at first: its neighbours' threads have the same line. */
static void ends_hint(int fd)
{
    _Atomic int8_t *hint = table_has(fd) ? table_hint_at((uint32_t)fd) : NULL;
    if (hint && atomic_load_explicit(hint, memory_order_relaxed) != HINT_ASK)
        atomic_store_explicit(hint, HINT_ASK, memory_order_relaxed);
}

/* The same of fd's connection, whatever a hint has said of it so far. */
static bool step_of(int fd, record_t *slot, uint64_t record, enum conn_event event)
{
    bool known = conn_step(slot, record, event);
    ends_hint(fd);
    return known;
}

bool conn_event(int fd, enum conn_event event)
{
    record_t *slot = table_record(fd);
    return slot && step_of(fd, slot, atomic_load_explicit(slot, memory_order_relaxed), event);
}

int conn_mark(int fd, bool in_use)
{
    return conn_event(fd, in_use ? CONN_MARK_IN_USE : CONN_MARK_IDLE) ? 0 : ENOENT;
}

/* A read has left this connection in use as it is: whether the next ones will is hinted. */
static void hint_busy(int fd, const record_t *slot)
{
    uint32_t key = conn_key(atomic_load_explicit(slot, memory_order_relaxed));
    bool usual = (key == KEY_REPLY || key == KEY_REPLY_FIRST || key == KEY_AUTOMATIC ||
                  key == KEY_DEADLINE) &&
                 slot == table_slot((uint32_t)fd);
    if (!usual) {
        ends_hint(fd);
    } else if (solo_enter()) {
        atomic_store_explicit(table_hint_at((uint32_t)fd), (int8_t)conn_hint(true),
                              memory_order_relaxed);
        solo_leave();
    }
}

record_t *conn_enters_other(int fd)
{
    epoch_lives_on();
    enum kind kind = table_kind(fd);
    if (UNLIKELY(kind == KIND_RECEIVED))
        conn_uses_received(fd);
    record_t *slot = table_record(fd);
    if (slot && (atomic_load_explicit(slot, memory_order_relaxed) ^
                 atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed)) &
                    CONN_EPOCH)
        conn_adopt(slot);
    if (kind == KIND_NONE)
        table_ignores(fd);
    return slot;
}

bool conn_is_still(int fd, uint64_t record)
{
    return sock_is(fd, identity_of(record), identity_kind_of(record));
}

/* ---- mode http: what has begun and what is owed, by its framing ---- */

uint64_t conn_becomes_reply(record_t *slot)
{
    uint64_t record = atomic_load(slot), next;
    do {
        if (!record || mode_of(record) != MODE_HTTP)
            return record;
        next = (record & ~CONN_MODE) | (uint64_t)MODE_REPLY << CONN_MODE_SHIFT;
    } while (!conn_change(slot, &record, next));
    return next;
}

/* The usual step of such a connection, in use or idle. */
INLINE bool turns_http(int fd, record_t *slot, bool busy)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    uint32_t wanted = busy ? KEY_HTTP ^ (uint32_t)CONN_IN_USE : (uint32_t)KEY_HTTP;
    return conn_key(record) == wanted &&
           (conn_turns_to(fd, slot, busy, HINT_HTTP) || conn_turns_among_many(slot, record));
}

INLINE void hears_http(int fd, record_t *slot, uint64_t record, size_t n, struct bytes bytes)
{
    struct http *http = framing_of(table_number(slot));
    enum http_state state = http ? framing_received(http, bytes, n) : HTTP_NOT;
    if (LIKELY(state == HTTP_IN_USE) && turns_http(fd, slot, true))
        return;
    if (state == HTTP_NOT)
        record = conn_becomes_reply(slot);
    if (state == HTTP_NOT || state == HTTP_IN_USE) /* else an empty line before a request */
        conn_step(slot, record, CONN_READ);
}

/* The answer that told the client so has gone out: the program is to close, and no more comes. */
static void ends_noticed(int fd, record_t *slot)
{
    uint64_t record = atomic_load(slot);
    struct sock_queues queues;
    if (record & (CONN_IN_USE | CONN_SHUT | CONN_OWED | CONN_DISOWNED) || sys_is_sandboxed() ||
        (record & CONN_EPOCH) != epoch_now() || !conn_is_still(fd, record))
        return;
    sock_queues(fd, &queues);
    if (!queues.unread && atomic_compare_exchange_strong(slot, &record, record | CONN_SHUT))
        sock_shut_read(fd);
}

/* What is on its way is in the framing already, which is in this state since; NULL: there is none.
 */
INLINE void says_http(int fd, record_t *slot, bool cut, const struct http *http,
                      enum http_state state)
{
    if (LIKELY(state == HTTP_IDLE) && turns_http(fd, slot, false))
        return; /* nor does a drain go on */
    uint64_t record = state == HTTP_NOT ? conn_becomes_reply(slot) : atomic_load(slot);
    if (cut &&
        (state == HTTP_IN_USE || state == HTTP_NOT)) /* else the file has ended, not the room */
        conn_step(slot, record, CONN_CUT);
    else if (state != HTTP_IN_USE)
        conn_step(slot, record, CONN_WROTE);
    if (state == HTTP_IDLE && rhythm_is_noting() && http_said_close(http) == HTTP_NOTICED) {
        int saved = errno;
        ends_noticed(fd, slot);
        errno = saved;
    }
}

struct http *conn_plans(record_t *slot)
{
    uint64_t record = atomic_load(slot);
    if (mode_of(record) != MODE_HTTP || record & CONN_DISOWNED || epoch_is_borrowed() ||
        sys_is_sandboxed())
        return NULL;
    struct http *http = framing_of(table_number(slot));
    if (!http)
        return NULL;
    bool begins = http_state(http) == HTTP_IN_USE && spread_lets(identity_of(record));
    return begins || http_is_in_text(http) ? http : NULL;
}

bool conn_is_asked_more(int fd, const struct http *http)
{
    struct sock_queues queues;
    int saved = errno;
    sock_queues(fd, &queues);
    errno = saved;
    return queues.unread && !http_is_half_read(http);
}

void conn_wrote_planned(int fd, record_t *slot, size_t asked, ssize_t done)
{
    const struct http *http = framing_of(table_number(slot));
    says_http(fd, slot, done < 0 || (size_t)done < asked, http, http ? http_state(http) : HTTP_NOT);
}

/*
 * The framing of what a connection of mode reply says while the process drains; it begins with a
 * request that begins then. NULL: it is not known.
 */
static struct http *framing_in_drain(uint32_t number, bool begins)
{
    struct http *http = framing_of(number);
    enum http_state state = http ? http_state(http) : HTTP_NOT;
    return state == HTTP_NOT || (state == HTTP_NONE && !begins) ? NULL : http;
}

/* ---- what the wrappers tell ---- */

void conn_peeked(int fd, record_t *slot)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    if (mode_of(record) != MODE_HTTP) /* there the bytes count, when they are read */
        step_of(fd, slot, record, CONN_READ);
}

HOT void conn_reads(int fd, record_t *slot, size_t n, struct bytes bytes)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    if (UNLIKELY(mode_of(record) == MODE_HTTP)) {
        hears_http(fd, slot, record, n, bytes);
        return;
    }
    if (rhythm_is_noting())
        conn_notes_read(slot, record, n, bytes);
    if ((record & CONN_STEADY) != atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed))
        conn_step(slot, record, CONN_READ);
    hint_busy(fd, slot);
}

HOT void conn_wrote_other(int fd, record_t *slot, size_t asked, ssize_t done, struct bytes bytes)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    bool cut = done < 0 || (size_t)done < asked;
    if (UNLIKELY(mode_of(record) == MODE_HTTP)) {
        struct http *http = framing_of(table_number(slot));
        enum http_state state = !http      ? HTTP_NOT
                                : done > 0 ? framing_sent(http, bytes, (size_t)done)
                                           : http_state(http);
        says_http(fd, slot, cut, http, state);
        return;
    }
    if (cut || (record & (CONN_IN_USE | CONN_OWED)))
        step_of(fd, slot, record, cut ? CONN_CUT : CONN_WROTE);
    if (rhythm_is_noting())
        conn_notes_wrote(fd, slot, done < 0 ? 0 : (size_t)done, !cut, bytes);
}

int conn_disown(int fd)
{
    record_t *slot = table_record(fd);
    if (!slot)
        return ENOENT;
    conn_adopt(slot);
    bool alone = solo_enter(); /* or the owner's next step could undo it */
    uint64_t record = atomic_load(slot);
    while (record && !(record & CONN_DISOWNED) &&
           !solo_change(alone, slot, &record, record | CONN_DISOWNED))
        ;
    bool disowns = record && !(record & CONN_DISOWNED);
    if (disowns) {
        struct shard *shard = table_shard();
        ends_hint(fd);
        solo_count(alone, &shard->live, -(LIVE_TRACKED + (record & CONN_IN_USE ? LIVE_IN_USE : 0)));
        solo_count(alone, &shard->disowned, 1);
    }
    if (alone)
        solo_leave();
    return disowns ? 0 : record ? EALREADY : ENOENT;
}

bool conn_is_still_over(int fd, uint64_t record)
{
    return conn_is_still(fd, record) || sock_is_unconnected(fd);
}

void conn_watched(int epoll, int fd, uint32_t events)
{
    linger_remember_epoll(epoll);
    record_t *slot = events & EPOLLRDHUP ? table_record(fd) : NULL;
    if (!slot || !atomic_load(slot) || epoch_is_borrowed())
        return;
    if (solo_enter()) {
        solo_set(slot, CONN_WATCHED);
        solo_leave();
    } else {
        atomic_fetch_or(slot, CONN_WATCHED);
    }
}

void conn_wrote_part(int fd, record_t *slot, size_t n, struct bytes bytes)
{
    uint32_t number = table_number(slot);
    bool is_http = mode_of(atomic_load_explicit(slot, memory_order_relaxed)) == MODE_HTTP;
    struct http *http = is_http              ? framing_of(number)
                        : rhythm_is_noting() ? framing_in_drain(number, false)
                                             : NULL;
    enum http_state state = http ? framing_sent(http, bytes, n) : HTTP_NOT;
    if (is_http)
        says_http(fd, slot, false, http, state);
}

void conn_file_ended(int fd, record_t *slot)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    if (mode_of(record) != MODE_HTTP) /* there its length is known */
        step_of(fd, slot, record, CONN_WROTE);
}

void conn_notes_read(record_t *slot, uint64_t record, size_t n, struct bytes bytes)
{
    uint32_t number = table_number(slot);
    if (mode_of(record) != MODE_REPLY)
        return;
    rhythm_read(number, n, bytes.iov && n == bytes_room(bytes), !(record & CONN_IN_USE));
    struct http *http = framing_in_drain(number, !(record & CONN_IN_USE));
    if (http)
        framing_received(http, bytes, n);
}

/* Whether the connection of a record may be closed by the write that completes an answer. */
static bool may_end(uint64_t record, uint64_t busy)
{
    return !(record & (busy | CONN_FIN | CONN_DISOWNED)) && mode_of(record) == MODE_REPLY &&
           (record & CONN_EPOCH) == epoch_now() && !sys_is_sandboxed() &&
           spread_lets(identity_of(record));
}

/*
 * Whether the client has sent nothing more, and waits for its answers (framed: as its framing has
 * it). The look comes last: what comes in after it meets our FIN.
 */
static bool waits_for_more(int fd, uint32_t number, bool framed)
{
    bool waits = framed || rhythm_is_in_step(number);
    return waits && !sock_unread(fd);
}

/* A client whose next request is there before the answer is written can't have waited for it. */
static void look_ahead(int fd, uint64_t record, uint32_t number)
{
    if (record & (CONN_IN_USE | CONN_OWED) && mode_of(record) == MODE_REPLY &&
        (record & CONN_EPOCH) == epoch_now() && !sys_is_sandboxed())
        rhythm_looked_ahead(number, sock_unread(fd));
}

/*
 * Whether an answer of such a sign is ended. One that is likely to be whole has the connection
 * half-closed, and that alone is undone by nothing, but loses nothing either where the answer was
 * not whole: the program writes on. It is enough where there is doubt, but not for a program that
 * watches for the end (nginx as a proxy): to that it says that the client has left.
 */
static bool is_ended_by(enum rhythm_sign sign, uint64_t record)
{
    return sign == RHYTHM_SURE || (sign == RHYTHM_LIKELY && !(record & (CONN_WATCHED | CONN_SHUT)));
}

/* What a write of so many of the bytes, the whole of which is `asked`, will make of the answer. */
static enum rhythm_sign sign_before(uint32_t number, size_t asked, struct bytes bytes)
{
    const struct http *http = framing_in_drain(number, false);
    if (http)
        return framing_would_rest(http, bytes, asked) ? RHYTHM_SURE : RHYTHM_NONE;
    return rhythm_is_in_step(number) ? rhythm_expects(number, asked) : RHYTHM_NONE;
}

bool conn_holds_back(int fd, record_t *slot, size_t asked, struct bytes bytes)
{
    uint64_t record = atomic_load(slot);
    uint32_t number = table_number(slot);
    int saved = errno;
    look_ahead(fd, record, number);
    bool held = record && may_end(record, 0) &&
                is_ended_by(sign_before(number, asked, bytes), record) &&
                conn_is_still(fd, record) && sock_cork(fd);
    if (held)
        rhythm_holds(number, HOLD_WRITE);
    errno = saved;
    return held;
}

/* What was held back until the end goes out: the program has gone on, or the client has. */
static void release_end(int fd, uint32_t number)
{
    if (rhythm_held(number) != HOLD_END)
        return;
    rhythm_holds(number, HOLD_NONE);
    sock_uncork(fd);
}

void conn_release(int fd)
{
    record_t *slot = table_record(fd);
    uint32_t number = slot ? table_number(slot) : UINT32_MAX;
    int saved = errno;
    if (rhythm_held(number) == HOLD_END)
        return;
    rhythm_holds(number, HOLD_NONE);
    if (!slot || !(atomic_load(slot) & CONN_FIN))
        sock_uncork(fd);
    errno = saved;
}

/* What says of an answer that has come so far whether it is whole: its framing, or its rhythm. */
static enum rhythm_sign sign_of(uint32_t number, size_t done, struct bytes bytes)
{
    enum rhythm_sign sign = rhythm_wrote(number, done);
    struct http *http = framing_in_drain(number, false);
    if (!http)
        return sign;
    enum http_state state = framing_sent(http, bytes, done);
    if (state == HTTP_NOT)
        return sign;
    return state == HTTP_IDLE ? RHYTHM_SURE : RHYTHM_NONE;
}

void conn_notes_wrote(int fd, record_t *slot, size_t done, bool whole, struct bytes bytes)
{
    uint64_t record = atomic_load(slot);
    uint32_t number = table_number(slot);
    if (mode_of(record) != MODE_REPLY || !done)
        return;
    int saved = errno;
    release_end(fd, number);
    enum rhythm_sign sign = sign_of(number, done, bytes);
    if (record & CONN_SHUT)
        rhythm_wrote_on(number);
    bool sure = sign == RHYTHM_SURE;
    uint64_t shut = record | CONN_SHUT | (sure ? CONN_FIN : 0);
    if (whole && may_end(record, CONN_IN_USE | CONN_OWED) && is_ended_by(sign, record) &&
        conn_is_still(fd, record) && atomic_compare_exchange_strong(slot, &record, shut)) {
        if (!waits_for_more(fd, number, framing_in_drain(number, false)))
            atomic_fetch_and(slot, ~(shut & ~record));
        else if (sure)
            sock_shut_both(fd);
        else if (sock_shut_read(fd), rhythm_held(number) == HOLD_WRITE)
            rhythm_holds(number, HOLD_END);
    }
    errno = saved;
}

void conn_closes(int fd, enum kind kind)
{
    if (LIKELY(!rhythm_is_noting()) || sys_is_sandboxed() ||
        (kind != KIND_CONN && kind != KIND_ALIAS))
        return;
    uint32_t number = table_number_of(fd, kind);
    uint64_t record = atomic_load(table_slot(number));
    if (!record || (record & CONN_REFS) != CONN_REF || (record & CONN_EPOCH) != epoch_now() ||
        record & (CONN_DISOWNED | CONN_FORCED) || !conn_is_still(fd, record))
        return;
    int saved = errno;
    linger_before_close(fd, record & CONN_FIN);
    errno = saved;
}

/* Whether the end that a read has met is one after which the program has nothing left to say. */
static bool is_last_end(uint64_t record)
{
    return record & CONN_SHUT && !(record & (CONN_OWED | CONN_IN_USE | CONN_FIN | CONN_DISOWNED)) &&
           (record & CONN_EPOCH) == epoch_now();
}

/*
 * An answer that was taken for whole has gone on behind our half-close (the program was kept from
 * it for longer than WEIR_SETTLE), and a client that never rests follows it with its next request
 * at once: right when the program, which had the end waiting, would have our FIN sent. Such a
 * client is given a moment from the last write on, so that one moment is all that many connections
 * of one thread take.
 */
#define FOLLOWS_MS 12
#define LOOK_EACH_NS 500000

static void await_follower(int fd, uint32_t number)
{
    static const struct timespec step = {0, LOOK_EACH_NS};
    uint32_t unread = 0;
    while (!unread && rhythm_wrote_on_within(number, FOLLOWS_MS)) {
        sys2(SYS_nanosleep, &step, NULL);
        unread = sock_unread(fd);
    }
}

bool conn_read_end(int fd)
{
    record_t *slot = sys_is_sandboxed() ? NULL : table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    if (!is_last_end(record) || !conn_is_still(fd, record))
        return false;
    await_follower(fd, table_number(slot));
    record = atomic_load(slot);
    do {
        if (!is_last_end(record))
            return false;
    } while (!atomic_compare_exchange_strong(slot, &record, record | CONN_FIN));

    struct sock_queues queues;
    sock_queues(fd, &queues);
    /* Both ways shut, anything more from the peer is answered with RST, which would take what it
     * has not read yet along (DESIGN.md, "A half-close is forgotten by nobody"). */
    bool ends = !queues.unread && (!queues.unsent || rhythm_waits_for_answers(table_number(slot)));
    if (ends && !(queues.unread = sock_unread_now(fd))) {
        sock_shut_write(fd);
        return false;
    }
    atomic_fetch_and(slot, ~CONN_FIN);
    release_end(fd, table_number(slot));
    return queues.unread;
}
