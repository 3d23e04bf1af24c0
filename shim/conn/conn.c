/* SPDX-License-Identifier: MIT */
#include "conn/conn.h"

#include "conn/conn_own.h"
#include "conn/lingering_close.h"
#include "conn/pacing.h"
#include "base/sys.h"
#include "conn/handoff.h"

#include <errno.h>
#include <sys/epoll.h>

/* What an event makes of a state. An answer that is not the first makes it STATE_ANSWERED_BEFORE.
 */
struct step {
    uint8_t clear, set;
    bool seasons;
};

/* clang-format off */
#define READ   {0, STATE_IN_USE, false}
#define ANSWER {STATE_CUT_SHORT | STATE_IN_USE, STATE_ANSWERED, true}
#define CUT    {0, STATE_IN_USE | STATE_CUT_SHORT, false}
#define IDLE   {STATE_IN_USE, 0, false}
#define USE    {0, STATE_IN_USE, false}
#define KEEP   {0, 0, false}

/* INTERFACE.md section 2, mode by mode. */
static const struct step steps[MODES][CONN_EVENTS] = {
    /*                  READ   WROTE   CUT   TIMEOUT  MARK_IDLE  MARK_IN_USE */
    [MODE_MANUAL]    = {KEEP,  KEEP,   KEEP, KEEP,    IDLE,      USE},
    [MODE_AUTOMATIC] = {READ,  KEEP,   KEEP, KEEP,    IDLE,      USE},
    [MODE_DEADLINE]  = {READ,  KEEP,   KEEP, IDLE,    IDLE,      USE},
    [MODE_REPLY]     = {READ,  ANSWER, CUT,  KEEP,    IDLE,      USE},
    [MODE_PROTOCOL]  = {READ,  ANSWER, CUT,  KEEP,    IDLE,      USE}, /* but see hears_http */
};
/* clang-format on */
void (*conn_on_first)(void);

static void tell_first(void)
{
    void (*tell)(void) = conn_on_first;
    if (UNLIKELY(tell != NULL)) {
        conn_on_first = NULL;
        tell();
    }
}

void (*conn_on_arrival)(void);

static void tell_arrival(void)
{
    if (gate_drains() && conn_on_arrival)
        conn_on_arrival();
}

static inline uint64_t fresh_record(enum mode mode, uint32_t fingerprint, enum fingerprint kind)
{
    return (uint64_t)fingerprint << CONN_FINGERPRINT_SHIFT | generation_now() | CONN_REF |
           (uint64_t)mode << CONN_MODE_SHIFT | (uint64_t)kind << CONN_KIND_SHIFT;
}

void conn_accepted(int fd, enum mode mode, uint32_t fingerprint, enum fingerprint kind)
{
    if (UNLIKELY(mode == MODE_OFF)) {
        if (UNLIKELY(table_knows(fd)))
            table_set(fd, KIND_NONE); /* stale: closed on a path that we don't see */
        return;
    }
    tell_first();
    if (gate_drains())
        reply_model_forget((uint32_t)fd);
    table_add(fd, fresh_record(mode, fingerprint, kind), false);
    tell_arrival();
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
    enum fingerprint kind;
    uint32_t fingerprint = sock_connection(fd, &kind);
    if (!fingerprint)
        return;
    conn_accepted(fd, mode, fingerprint, kind);
}

/* Returns another descriptor by which the connection is known: inetd gives it to a service three
 * times. -1: there is none. (Those of one AF_UNIX listener have one fingerprint; a number that is
 * closed, and somebody else's, meanwhile has another inode.) */
static int known_by(int fd, uint32_t fingerprint)
{
    int high = (int)atomic_load(&table.high);
    for (int known = 0; known < high; known++) {
        struct conn *conn = known == fd ? NULL : table_find(known);
        uint64_t record = conn ? atomic_load(&conn->record) : 0;
        if (record && fingerprint_of(record) == fingerprint &&
            (record & CONN_GENERATION) == generation_now() && sock_inode(known) == sock_inode(fd))
            return known;
    }
    return -1;
}

void conn_received(int fd, enum mode mode)
{
    enum fingerprint kind;
    int known = -1;
    uint32_t fingerprint = sock_connection(fd, &kind);
    reply_model_forget((uint32_t)fd);
    if (!fingerprint || mode == MODE_OFF)
        table_forget(fd);
    else if ((known = known_by(fd, fingerprint)) >= 0)
        table_promote_alias(known, fd);
    else if (!handoff_any_sent() || handoff_is_apart())
        table_promote(fd, fresh_record(mode, fingerprint, kind),
                      false); /* from outside of the page */
    else if (handoff_take(fingerprint))
        table_promote(fd, fresh_record(mode, fingerprint, kind), true);
    tell_arrival();
}

/*
 * The program reads from or writes to what came over a socket, in a tree whose processes send each
 * other connections: what it is, is asked for now, so that it counts where it is served. The one
 * place outside a drain where a call on a connection makes others.
 */
static void uses_received(int fd)
{
    enum fingerprint kind;
    if (!handoff_any_sent() || sys_is_sandboxed() || in_vfork_child() || !table_take_received(fd))
        return;
    int saved = errno;
    uint32_t fingerprint = sock_connection(fd, &kind);
    int known = fingerprint ? known_by(fd, fingerprint) : -1;
    if (known >= 0) {
        table_alias(known, fd);
    } else if (fingerprint && settings_now()->mode.rest != MODE_OFF) {
        tell_adopts();
        reply_model_forget((uint32_t)fd);
        table_add(fd, fresh_record(settings_now()->mode.rest, fingerprint, kind), true);
        tell_arrival();
        handoff_adopt(fingerprint);
    }
    errno = saved;
}

/* The process's first call on a connection that it inherited through fork makes it its own. */
static void adopt(struct conn *conn)
{
    if (in_vfork_child())
        return;
    uint64_t record = atomic_load(&conn->record), mine = generation_now();
    do {
        if (!record || (record & CONN_GENERATION) == mine || record & CONN_DISOWNED)
            return;
    } while (!atomic_compare_exchange_weak(&conn->record, &record,
                                           (record & ~(CONN_GENERATION | CONN_WRITES)) | mine));
    table_quicken(conn);
    tell_adopts();
    if (gate_drains())
        table_counts_as_it_is(conn);
    /* Who accepted it has counted it, and has closed it or will: that close was none. What has been
     * cut is counted as that. */
    if (!(record & CONN_FORCED))
        atomic_fetch_sub_explicit(&table_shard()->closed_by_program, 1, memory_order_relaxed);
    tell_arrival();
    handoff_adopt(fingerprint_of(record));
}

void conn_left(int fd)
{
    struct conn *conn = table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    if (record && (record & CONN_GENERATION) != generation_now() && !(record & CONN_DISOWNED) &&
        handoff_take(fingerprint_of(record)))
        adopt(conn);
}

/* The step itself. Returns whether, with the gate shut, it turns what is idle or in use. */
static bool change_state(struct conn *conn, const struct step *step)
{
    uint8_t state = atomic_load_explicit(&conn->state, memory_order_relaxed), next;
    do {
        bool again = step->seasons && state & STATE_IN_USE && state & STATE_ANSWERED;
        next = (state & ~(step->clear | STATE_SEEN | STATE_LOOKED)) | step->set |
               (again ? STATE_ANSWERED_BEFORE : 0);
        if (gate_is_open()) {
            if (next != state)
                atomic_store_explicit(&conn->state, next, memory_order_relaxed);
            return false;
        }
    } while (!atomic_compare_exchange_weak(&conn->state, &state, next));
    return (state ^ next) & STATE_IN_USE;
}

/* What is half-closed is owed an answer from its next read on. Returns whether that is new. */
static bool change_owed(struct conn *conn, enum conn_event event)
{
    uint64_t record, next;
    atomic_thread_fence(memory_order_seq_cst); /* the drainer's is in conn_shut */
    record = atomic_load(&conn->record);
    do {
        bool reads = event == CONN_READ && record & CONN_SHUT;
        next = event == CONN_WROTE ? record & ~CONN_READ_SINCE_SHUT
               : reads             ? record | CONN_READ_SINCE_SHUT
                                   : record;
    } while (next != record && !atomic_compare_exchange_weak(&conn->record, &record, next));
    return next != record;
}

bool conn_step(struct conn *conn, enum conn_event event)
{
    uint64_t record = atomic_load_explicit(&conn->record, memory_order_relaxed);
    if (in_vfork_child())
        return false;
    if (UNLIKELY((record & CONN_GENERATION) != generation_now())) {
        adopt(conn);
        record = atomic_load_explicit(&conn->record, memory_order_relaxed);
    }
    /* Another thread may have closed or disowned it since it was looked at. */
    if (UNLIKELY(!record || record & CONN_DISOWNED))
        return false;
    bool turns = change_state(conn, &steps[mode_of(record)][event]);
    if (!gate_is_open())
        turns |= change_owed(conn, event);
    if (turns && gate_drains())
        table_counts_as_it_is(conn);
    return true;
}

bool conn_event(int fd, enum conn_event event)
{
    struct conn *conn = table_find(fd);
    return conn && conn_step(conn, event);
}

int conn_mark(int fd, bool in_use)
{
    return conn_event(fd, in_use ? CONN_MARK_IN_USE : CONN_MARK_IDLE) ? 0 : ENOENT;
}

struct conn *conn_enters(int fd)
{
    fork_lives_on();
    if (UNLIKELY(table_kind(fd) == KIND_RECEIVED))
        uses_received(fd);
    struct conn *conn = table_find(fd);
    if (conn && (atomic_load_explicit(&conn->record, memory_order_relaxed) & CONN_GENERATION) !=
                    generation_now())
        adopt(conn);
    return conn;
}

bool conn_is_still(int fd, uint64_t record)
{
    return sock_is(fd, fingerprint_of(record), fingerprint_kind_of(record));
}

/* ---- mode protocol: what has begun and what is owed, by its framing ---- */

uint64_t conn_becomes_reply(struct conn *conn)
{
    uint64_t record = atomic_load(&conn->record), next;
    do {
        if (!record || mode_of(record) != MODE_PROTOCOL)
            return record;
        next = (record & ~CONN_MODE) | (uint64_t)MODE_REPLY << CONN_MODE_SHIFT;
    } while (!atomic_compare_exchange_strong(&conn->record, &record, next));
    table_quicken(conn);
    return next;
}

static void hears_http(struct conn *conn, size_t n, struct bytes bytes)
{
    bool had_heard = tracker_has_heard(&conn->http);
    enum tracker_state state = tracker_received(&conn->http, bytes, n);
    if (UNLIKELY(tracker_has_heard(&conn->http) && !had_heard) && bytes.iov)
        tracker_hide_answer(bytes, n);
    if (state == HTTP_NOT)
        conn_becomes_reply(conn);
    if (state == HTTP_NOT || state == HTTP_IN_USE)
        conn_step(conn, CONN_READ);
    else if (is_in_use(conn) || (gate_drains() && tracker_frames(&conn->http) > FRAMES_HTTP2))
        /* Its last stream was reset; or a message was read whole, which the drainer is to see: else
         * it is an empty line, or a frame. */
        conn_step(conn, CONN_MARK_IDLE);
}

void conn_follows_odd_read(struct conn *conn, enum tracker_state state)
{
    if (state == HTTP_NOT) {
        conn_becomes_reply(conn);
        conn_step(conn, CONN_READ);
    } else if (is_in_use(conn)) {
        conn_step(conn, CONN_MARK_IDLE);
    }
}

void conn_follows_odd_write(struct conn *conn, enum tracker_state state)
{
    if (state == HTTP_NOT)
        conn_becomes_reply(conn);
    if (state != HTTP_IN_USE)
        conn_step(conn, CONN_WROTE);
}

void conn_follows_pieces(struct conn *conn, struct bytes bytes, size_t n)
{
    conn_follows_write_to(conn, tracker_sent(&conn->http, bytes, n));
}

/* The answer that told the client so has gone out: the program is to close, and no more comes. */
static void ends_noticed(int fd, struct conn *conn)
{
    uint64_t record = atomic_load(&conn->record);
    struct sock_queues queues;
    if (is_in_use(conn) || record & (CONN_SHUT | CONN_READ_SINCE_SHUT | CONN_DISOWNED) ||
        sys_is_sandboxed() || (record & CONN_GENERATION) != generation_now() ||
        !conn_is_still(fd, record))
        return;
    sock_queues(fd, &queues);
    if (!queues.unread &&
        atomic_compare_exchange_strong(&conn->record, &record, record | CONN_SHUT))
        sock_shut_read(fd);
}

/* What is on its way is in the tracker already, which is in this state since. */
static void says_http(int fd, struct conn *conn, bool cut, enum tracker_state state)
{
    if (state == HTTP_NOT)
        conn_becomes_reply(conn);
    if (cut &&
        (state == HTTP_IN_USE || state == HTTP_NOT)) /* else the file has ended, not the room */
        conn_step(conn, CONN_CUT);
    else if (state != HTTP_IN_USE)
        conn_step(conn, CONN_WROTE);
    if (state == HTTP_IDLE && gate_drains() &&
        tracker_said_close(&conn->http) == HTTP_CLOSE_ADDED) {
        int saved = errno;
        ends_noticed(fd, conn);
        errno = saved;
    }
}

struct tracker *conn_plans(struct conn *conn)
{
    uint64_t record = atomic_load(&conn->record);
    if (mode_of(record) != MODE_PROTOCOL || record & CONN_DISOWNED || in_vfork_child() ||
        sys_is_sandboxed())
        return NULL;
    struct tracker *http = &conn->http;
    if (tracker_has_frames(http) || tracker_is_tls(http))
        return NULL;
    bool begins = tracker_state(http) == HTTP_IN_USE && pacing_lets(fingerprint_of(record));
    return begins || close_header_is_pending(http) ? http : NULL;
}

bool conn_is_asked_more(int fd, const struct tracker *http)
{
    struct sock_queues queues;
    int saved = errno;
    sock_queues(fd, &queues);
    errno = saved;
    return queues.unread && !tracker_is_half_read(http);
}

void conn_wrote_planned(int fd, struct conn *conn, size_t asked, ssize_t done)
{
    says_http(fd, conn, done < 0 || (size_t)done < asked, tracker_state(&conn->http));
}

/* ---- what the wrappers tell ---- */

void conn_peeked(int fd)
{
    struct conn *conn = conn_enters(fd);
    enum mode mode = conn ? mode_now(conn) : MODE_PROTOCOL;
    /* There the bytes count, when they are read; in a drain too, where a request begins by that,
     * and what is in the queue is in use by itself. */
    if (mode != MODE_PROTOCOL && !(mode == MODE_REPLY && gate_drains()))
        conn_step(conn, CONN_READ);
}

bool conn_read(int fd, ssize_t got, bool has_room, struct bytes bytes)
{
    struct conn *conn = conn_enters(fd);
    if (UNLIKELY(!conn))
        return false;
    if (got <= 0)
        return got == 0 && has_room && conn_read_end(fd);
    /* What comes behind our goodbye is not served, but the program has the client's Close. */
    if (UNLIKELY(atomic_load(&conn->record) & CONN_TOLD))
        return tracker_frames(&conn->http) != FRAMES_WEBSOCKET;
    if (mode_now(conn) == MODE_PROTOCOL) {
        hears_http(conn, (size_t)got, bytes);
        return false;
    }
    if (gate_drains())
        notes_read(conn, (size_t)got, bytes);
    conn_step(conn, CONN_READ);
    return false;
}

static _Atomic bool any_answered;

bool conn_any_answered(void)
{
    return atomic_load(&any_answered);
}

/* A greeting is an answer: its writes are seen, and what is read behind it is not answered by it.
 */
static bool owes_or_greets(const struct conn *conn)
{
    uint8_t state = atomic_load_explicit(&conn->state, memory_order_relaxed);
    return state & STATE_IN_USE || !(state & STATE_ANSWERED) ||
           atomic_load(&conn->record) & CONN_READ_SINCE_SHUT;
}

void conn_wrote(int fd, struct conn *conn, size_t asked, ssize_t done, struct bytes bytes)
{
    bool cut = done < 0 || (size_t)done < asked;
    if (mode_now(conn) == MODE_PROTOCOL) {
        enum tracker_state state =
            done > 0 ? tracker_sent(&conn->http, bytes, (size_t)done) : tracker_state(&conn->http);
        says_http(fd, conn, cut, state);
        return;
    }
    if (!atomic_load_explicit(&any_answered, memory_order_relaxed))
        atomic_store_explicit(&any_answered, true, memory_order_relaxed);
    if (cut || owes_or_greets(conn))
        conn_step(conn, cut ? CONN_CUT : CONN_WROTE);
    else
        reply_model_goes_on(table_number(conn), (uint32_t)settings_now()->first_byte);
    if (gate_drains())
        notes_wrote(fd, conn, done < 0 ? 0 : (size_t)done, !cut, bytes);
}

int conn_disown(int fd)
{
    struct conn *conn = table_find(fd);
    if (!conn)
        return ENOENT;
    adopt(conn);
    uint64_t record = atomic_load(&conn->record);
    do {
        if (!record || record & CONN_DISOWNED)
            return record ? EALREADY : ENOENT;
    } while (!atomic_compare_exchange_strong(&conn->record, &record, record | CONN_DISOWNED));
    atomic_fetch_or(&conn->state, STATE_SLOW);              /* a mark is to fail */
    atomic_fetch_and(&conn->state, (uint8_t)~STATE_LOOKED); /* conn_counts */
    table_counts(conn, false);
    if (!(record & CONN_FORCED))
        atomic_fetch_add_explicit(&table_shard()->disowned, 1, memory_order_relaxed);
    return 0;
}

bool conn_is_over(int fd, struct conn *conn)
{
    uint64_t record = atomic_load_explicit(&conn->record, memory_order_relaxed);
    return UNLIKELY(record & CONN_FIN) && (conn_is_still(fd, record) || sock_is_unconnected(fd));
}

void conn_watched(int epoll, int fd, uint32_t events)
{
    lingering_remember_epoll(epoll);
    struct conn *conn = events & EPOLLRDHUP ? table_find(fd) : NULL;
    if (conn && atomic_load(&conn->record) && !in_vfork_child())
        atomic_fetch_or(&conn->record, CONN_WATCHED);
}

void conn_wrote_part(int fd, struct conn *conn, size_t n, struct bytes bytes)
{
    bool is_http = mode_now(conn) == MODE_PROTOCOL;
    struct tracker *http = is_http         ? &conn->http
                           : gate_drains() ? tracker_in_drain(conn, false)
                                           : NULL;
    enum tracker_state state = http ? tracker_sent(http, bytes, n) : HTTP_NOT;
    if (is_http)
        says_http(fd, conn, false, state);
}

void conn_file_ended(struct conn *conn)
{
    if (mode_now(conn) != MODE_PROTOCOL) /* there its length is known */
        conn_step(conn, CONN_WROTE);
}

void conn_closes(int fd, enum kind kind)
{
    if (LIKELY(!gate_drains()) || sys_is_sandboxed() || (kind != KIND_CONN && kind != KIND_ALIAS))
        return;
    const struct conn *conn = table_conn(table_number_of(fd, kind));
    uint64_t record = atomic_load(&conn->record);
    if (!record || (record & CONN_REFS) != CONN_REF ||
        (record & CONN_GENERATION) != generation_now() || record & (CONN_DISOWNED | CONN_FORCED) ||
        !conn_is_still(fd, record))
        return;
    int saved = errno;
    notes_close(record);
    lingering_before_close(fd, conn, record);
    errno = saved;
}
