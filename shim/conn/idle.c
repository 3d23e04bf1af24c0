/* SPDX-License-Identifier: MIT */
/* The drainer's side of conn.h: is a connection idle, and what is done to one that is. */
#include "conn/conn.h"
#include "conn/conn_own.h"
#include "conn/goodbye.h"
#include "conn/lingering_close.h"

/*
 * How long ago the drainer first saw the connection since it last changed: it has been quiet for as
 * long at the least. The kernel has no times of AF_UNIX, and none of an accept.
 */
static int64_t seen_ms(struct conn *conn, uint8_t state, const struct conn_limits *limits)
{
    uint32_t number = table_number(conn); /* the same for all its descriptors, as STATE_SEEN is */
    if (!limits->seen_at || number >= limits->seen_count)
        return INT64_MAX; /* who does not wait can't tell */
    if (!(state & STATE_SEEN)) {
        atomic_compare_exchange_strong(&conn->state, &state, state | STATE_SEEN);
        limits->seen_at[number] = limits->now;
    }
    return limits->now - limits->seen_at[number];
}

static bool goes_by_sight; /* conn_goes_by_sight */

bool conn_goes_by_sight(void)
{
    return goes_by_sight;
}

/* The same where the kernel has no times. */
static int64_t seen_alone_ms(struct conn *conn, uint8_t state, const struct conn_limits *limits)
{
    int64_t seen = seen_ms(conn, state, limits);
    goes_by_sight = seen != INT64_MAX;
    return seen;
}

/*
 * An answer that was written past our wrappers (by stdio, by a system call made inline): the peer's
 * last byte is older than our last, on a connection that we have never seen answered.
 */
static bool is_answered_unseen(uint8_t state, const struct sock_info *info)
{
    return !(state & (STATE_ANSWERED | STATE_CUT_SHORT)) && info->has && info->has_sent &&
           info->sent_ms <= info->received_ms;
}

static int64_t lasts_ms; /* conn_lasts_ms */

int64_t conn_lasts_ms(void)
{
    return lasts_ms;
}

/* Idle after `needs` ms, of which `has` are over. */
static enum conn_class idle_after(int64_t needs, int64_t has)
{
    lasts_ms = needs > has ? needs - has : 0;
    return has >= needs ? CONN_IS_IDLE : CONN_IS_WAITING;
}

/*
 * A first request that was lost comes again after 1 s, and once more after 2 (RFC 6298, 2.1
 * and 5.7); each time after twice as long as before (5.5), so that one which has been tried for a
 * while comes after as long again, and a first time, at the latest.
 */
#define SENT_AGAIN_MS 3500

/*
 * The peer's first byte has not come in. If the connection was deaf, a first request may have been
 * dropped. The peer had tried it for `tried` ms when the drainer first saw the connection, which is
 * right after its accept.
 */
static __attribute__((noinline)) enum conn_class classify_silent(int fd, struct conn *conn,
                                                                 uint8_t state,
                                                                 const struct conn_limits *limits,
                                                                 const struct sock_info *info)
{
    int64_t silent = info->received_ms, seen = seen_ms(conn, state, limits);
    /* The kernel's figure counts from the handshake; it may have waited long for its accept. */
    if (seen < silent && limits->now - seen > limits->first_look && seen < limits->first_byte)
        return idle_after(limits->first_byte, seen);
    if (silent < limits->first_byte)
        return idle_after(limits->first_byte, silent);
    if (!sock_had_minttl(fd))
        return CONN_IS_IDLE;
    if (seen == INT64_MAX) /* no room for notes: the timeout is its limit */
        return CONN_IS_WAITING;
    int64_t tried = silent > seen ? silent - seen : 0;
    return idle_after(limits->first_byte + SENT_AGAIN_MS + 2 * tried, silent);
}

static int64_t longer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/*
 * Nothing but its pauses says that an answer goes on. One that the program has made tells how long
 * the next may be. Of an answer that began before the drain they are not known, but how long its
 * last byte came behind its request is: it is given as long again, and so is one that has only
 * begun where another took so long.
 */
static int64_t pause_expected(const struct conn *conn, const struct conn_limits *limits,
                              const struct sock_info *info)
{
    int64_t took = (int64_t)info->received_ms - info->sent_ms;
    int64_t pause = reply_model_pause_ms(table_number(conn), took > 0 ? took : 0);
    return pause * 2 < limits->pause_most ? pause * 2 : limits->pause_most;
}

int64_t quiet_needed(const struct conn *conn, const struct conn_limits *limits,
                     const struct sock_info *info)
{
    bool answered_before = atomic_load(&conn->state) & STATE_ANSWERED_BEFORE;
    int64_t quiet = answered_before ? limits->settle : limits->first_byte;
    int64_t four_rounds = info->rtt_us / (1000 / 4);
    return longer(longer(quiet, four_rounds), pause_expected(conn, limits, info));
}

/* Reply, AF_UNIX: no figures but the queues. */
static __attribute__((noinline)) enum conn_class classify_unix(struct conn *conn, uint8_t state,
                                                               const struct conn_limits *limits)
{
    static const struct sock_info none;
    return idle_after(quiet_needed(conn, limits, &none), seen_alone_ms(conn, state, limits));
}

/*
 * A client that speaks on and on, a little at a time, to a program that has never answered anybody
 * (lines for a log) is owed nothing. A request may come in pieces, too, and its answer take long:
 * so it is to be quiet for as long as an answer may take. What sends much at a time may be an
 * upload.
 */
#define ONE_WAY_LEAST 4   /* segments */
#define ONE_WAY_MOST 1024 /* bytes in one of them */

static bool is_one_way(const struct sock_info *info)
{
    return info->has_received && !info->has_sent && !conn_any_answered() &&
           info->segments >= ONE_WAY_LEAST && info->received / info->segments < ONE_WAY_MOST;
}

static inline enum conn_class classify_reply(int fd, struct conn *conn, uint8_t state,
                                             const struct conn_limits *limits,
                                             const struct sock_figures *figures)
{
    const struct sock_info *info = &figures->info;
    if (figures->queues.unread || figures->queues.unsent)
        return CONN_IS_IN_USE;
    if (state & STATE_IN_USE && is_one_way(info))
        return idle_after(longer(limits->answer, limits->first_byte), info->received_ms);
    if (state & STATE_IN_USE && !is_answered_unseen(state, info))
        return CONN_IS_IN_USE;
    if (UNLIKELY(!info->has_received)) {
        if (!info->has)
            return classify_unix(conn, state, limits);
        if (!(state & STATE_ANSWERED))
            return classify_silent(fd, conn, state, limits, info);
    }
    /* The peer spoke last, past our wrappers or theirs. (tcp_info's last_data_sent of who never has
     * counts from the handshake, so that who speaks at once seems to have been answered.) */
    if (info->received_ms < info->sent_ms || (info->has && !info->has_sent))
        return CONN_IS_IN_USE;

    int64_t needed = quiet_needed(conn, limits, info);
    /* The first look at all of them tells how long answers take (pause_expected). */
    if (limits->first_look == INT64_MAX && info->sent_ms < limits->pause_most)
        return CONN_IS_WAITING;
    return idle_after(needed, info->sent_ms);
}

static enum conn_class classify_reply_by_kernel(int fd, struct conn *conn, uint8_t state,
                                                const struct conn_limits *limits)
{
    struct sock_figures figures;
    sock_queues(fd, &figures.queues);
    sock_info(fd, &figures.info);
    return classify_reply(fd, conn, state, limits, &figures);
}

/*
 * Its requests or its answers go past our wrappers. Of what has just gone by, the thread may not
 * have come to tell yet.
 */
static bool passes_unseen(const struct tracker *http, uint8_t state, const struct sock_info *info,
                          const struct conn_limits *limits)
{
    if (tracker_has_answered(http))
        return false;
    if (state & STATE_IN_USE)
        return is_answered_unseen(state, info) && info->sent_ms >= limits->first_byte;
    return info->has && info->has_received && info->received_ms >= limits->first_byte;
}

/* How long nothing has come or gone, as far as is known. */
static int64_t quiet_ms(struct conn *conn, uint8_t state, const struct conn_limits *limits,
                        const struct sock_info *info)
{
    if (!info->has)
        return seen_alone_ms(conn, state, limits);
    return info->sent_ms < info->received_ms ? info->sent_ms : info->received_ms;
}

/*
 * HTTP/2 with no stream open: it is told to open no more, and to close when it has heard that.
 * WebSocket between two messages: it is closed, when what the client has said last has had time for
 * an answer. PostgreSQL: likewise, when its transaction has had time to end; it is quiet for a
 * moment first.
 */
static enum conn_class classify_frames(int fd, struct conn *conn, uint8_t state,
                                       const struct conn_limits *limits,
                                       const struct sock_info *info)
{
    int64_t quiet = quiet_ms(conn, state, limits, info);
    bool is_warned = atomic_load(&conn->record) & CONN_WARNED;
    int64_t four_rounds = info->rtt_us / (1000 / 4);
    if (tracker_is_unfinished(&conn->http))
        return idle_after(limits->answer, quiet);
    if (tracker_has_only_begun(&conn->http))
        return idle_after(limits->first_byte, quiet);
    if (!is_warned && tracker_frames(&conn->http) != FRAMES_POSTGRES &&
        goodbye_may_be_said(fd, conn))
        return CONN_IS_IDLE;
    int64_t needs = limits->settle > four_rounds ? limits->settle : four_rounds;
    if (is_warned && !tracker_has_heard(&conn->http) && needs < limits->heard)
        needs = limits->heard;
    return idle_after(needs, quiet);
}

/*
 * TLS, in which nothing was asked since the first answer. As mode reply has it; but who has read
 * what may be no answer yet is given as long as an answer may take.
 */
static enum conn_class classify_tls(struct conn *conn, uint8_t state,
                                    const struct conn_limits *limits, const struct sock_info *info)
{
    int64_t needed = quiet_needed(conn, limits, info);
    if (tracker_is_in_doubt(&conn->http))
        needed = longer(needed, limits->answer);
    return idle_after(needed, quiet_ms(conn, state, limits, info));
}

/* Idle is what owes nothing and has begun nothing; it is left open while it can still be told. */
static enum conn_class classify_http(int fd, struct conn *conn, uint8_t state,
                                     const struct conn_limits *limits)
{
    struct sock_queues queues;
    struct sock_info info;
    sock_queues(fd, &queues);
    sock_info(fd, &info);
    if (passes_unseen(&conn->http, state, &info, limits)) {
        conn_becomes_reply(conn);
        return classify_reply_by_kernel(fd, conn, state, limits);
    }
    if (state & STATE_IN_USE || queues.unread || queues.unsent)
        return CONN_IS_IN_USE;
    if (info.has && !info.has_received)
        return classify_silent(fd, conn, state, limits, &info);
    if (!info.has && tracker_state(&conn->http) == HTTP_NONE && !tracker_is_tls(&conn->http))
        return idle_after(limits->first_byte,
                          seen_alone_ms(conn, state, limits)); /* AF_UNIX: silent */
    if (tracker_has_frames(&conn->http))
        return classify_frames(fd, conn, state, limits, &info);
    if (tracker_is_tls(&conn->http))
        return classify_tls(conn, state, limits, &info);
    if (tracker_has_records(&conn->http)) /* which can't be told, and is idle beyond doubt */
        return idle_after(limits->settle, quiet_ms(conn, state, limits, &info));
    return idle_after(limits->notice_until, limits->now);
}

/*
 * In HTTP/2 one thread may open a stream while another ends the last one: whose store into the
 * state byte comes last is right or a turn late. The streams themselves are counted.
 */
static void catch_up_with_frames(struct conn *conn)
{
    uint8_t state = atomic_load(&conn->state);
    bool in_use = tracker_state(&conn->http) == HTTP_IN_USE;
    if (in_use != (bool)(state & STATE_IN_USE))
        atomic_compare_exchange_strong(&conn->state, &state, state ^ STATE_IN_USE);
}

/* What conn_classify has decided on last: conn_shut acts on nothing else. There is one drainer. */
static struct {
    uint64_t record;
    uint8_t state;
} looked;

enum conn_class conn_classify(int fd, const struct conn_limits *limits, bool verify)
{
    struct conn *conn = table_find(fd);
    lasts_ms = 0;
    goes_by_sight = false;
    uint64_t record = looked.record = conn ? atomic_load(&conn->record) : 0;
    if (!record || record & CONN_DISOWNED || (record & CONN_GENERATION) != generation_now())
        return CONN_IS_GONE;
    if (mode_of(record) == MODE_PROTOCOL && tracker_has_frames(&conn->http))
        catch_up_with_frames(conn);
    uint8_t state = looked.state = atomic_fetch_or(&conn->state, STATE_LOOKED) | STATE_LOOKED;
    bool in_use = state & STATE_IN_USE || record & CONN_READ_SINCE_SHUT;
    if ((verify || !(in_use || record & CONN_SHUT)) && !conn_is_still(fd, record))
        return CONN_IS_GONE;
    if (record & CONN_FORCED)
        return CONN_IS_FORCED;
    /* In reply mode one that never had an answer that we saw is in use only if the kernel agrees.
     */
    enum mode mode = mode_of(record);
    if (in_use && ((mode != MODE_REPLY && mode != MODE_PROTOCOL) || record & CONN_SHUT ||
                   state & (STATE_ANSWERED | STATE_CUT_SHORT))) {
        lasts_ms = CONN_LASTS;
        return CONN_IS_IN_USE;
    }
    if (record & CONN_SHUT) {
        lasts_ms = CONN_LASTS;
        return CONN_IS_SHUT;
    }
    if (mode == MODE_REPLY)
        return classify_reply_by_kernel(fd, conn, state, limits);
    if (mode == MODE_PROTOCOL)
        return classify_http(fd, conn, state, limits);
    if (mode != MODE_MANUAL) {
        /* A request that has arrived is about to be read, and is in use from then on. */
        struct sock_queues queues;
        sock_queues(fd, &queues);
        if (queues.unread)
            return CONN_IS_WAITING;
    }
    return CONN_IS_IDLE;
}

bool conn_is_known(int fd)
{
    const struct conn *conn = table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    return conn ? record && conn_is_still(fd, record) : table_knows(fd);
}

void conn_ends_unseen(int fd)
{
    const uint64_t odd = CONN_DISOWNED | CONN_FORCED | CONN_REFS | CONN_GENERATION;
    struct conn *conn = table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    if (record && (record & odd) == (CONN_REF | generation_now()) && !conn_is_still(fd, record))
        table_end(conn, record);
}

bool conn_is_unchanged(int fd)
{
    const struct conn *conn = table_find(fd);
    return conn && atomic_load_explicit(&conn->state, memory_order_relaxed) & STATE_LOOKED;
}

void conn_counts(int fd, bool in_use)
{
    struct conn *conn = table_find(fd);
    if (!conn)
        return;
    table_counts(conn, in_use);
    if (!conn_is_unchanged(fd))
        table_counts_as_it_is(conn);
}

int64_t conn_quiet_ms(int fd)
{
    struct sock_info info;
    sock_info(fd, &info);
    return info.sent_ms < info.received_ms ? info.sent_ms : info.received_ms;
}

bool conn_shut(int fd)
{
    struct conn *conn = table_find(fd);
    uint64_t record = looked.record;
    if (!conn || !record || atomic_load(&conn->record) != record)
        return false;
    if (record & CONN_WARNED || (tracker_has_frames(&conn->http) && goodbye_may_be_said(fd, conn)))
        return goodbye_shuts(fd, conn, record, looked.state);
    /* One that is in use here was answered unseen (classify_reply_by_kernel). */
    uint8_t state = atomic_load(&conn->state), idle = state & (uint8_t)~STATE_IN_USE;
    if ((state ^ looked.state) & ~STATE_SEEN ||
        (idle != state && !atomic_compare_exchange_strong(&conn->state, &state, idle)) ||
        !atomic_compare_exchange_strong(&conn->record, &record, record | CONN_SHUT))
        return false;
    /* fdtable.h: this load comes behind that swap without a fence, which costs as much as both. */
    if (!((atomic_load(&conn->state) ^ idle) & ~STATE_SEEN) &&
        sock_shut_read_of(fd, fingerprint_of(record), fingerprint_kind_of(record)))
        return true;
    /* It is in use since then; or the number is somebody else's by now. */
    atomic_fetch_and(&conn->record, ~(CONN_SHUT | CONN_READ_SINCE_SHUT));
    return false;
}

void conn_lets_answer_end(int fd)
{
    struct conn *conn = table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    while ((record & (CONN_UNIX | CONN_MAY_END)) == CONN_UNIX &&
           !atomic_compare_exchange_weak(&conn->record, &record, record | CONN_MAY_END))
        ;
}

void conn_warn(int fd)
{
    struct conn *conn = table_find(fd);
    if (conn && tracker_has_frames(&conn->http))
        goodbye_warns(fd, conn);
}

void conn_finish(int fd, const struct conn_limits *limits, bool late)
{
    struct conn *conn = table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    bool may_answer = mode_of(record) == MODE_REPLY || mode_of(record) == MODE_PROTOCOL;
    if (record & CONN_TOLD)
        return goodbye_lingers(fd, record);
    if (record & CONN_MET_END)
        late |= seen_ms(conn, atomic_load(&conn->state), limits) >= limits->settle;
    if (!(record & CONN_SHUT) || (may_answer && !late) ||
        record & (CONN_READ_SINCE_SHUT | CONN_FIN) || is_in_use(conn))
        return;
    int pin = sock_guard(fd);
    if (pin < 0)
        return;
    struct sock_queues queues = {1, 0};
    struct sock_info info = {.has = false};
    if (conn_is_still(pin, record))
        sock_queues(pin, &queues);
    if (may_answer) /* a thread may be held between its read and what that stores (gate.h) */
        sock_info(pin, &info);
    if (info.has && info.received_ms < info.sent_ms)
        queues.unread = 1;
    if (!queues.unread && !queues.unsent &&
        atomic_compare_exchange_strong(&conn->record, &record, record | CONN_FIN)) {
        atomic_thread_fence(memory_order_seq_cst); /* fdtable.h */
        if (!is_in_use(conn) && !sock_unread_now(pin)) {
            sock_shut_write(pin);
            lingering_behind_end(pin, conn, true);
        } else {
            atomic_fetch_and(&conn->record, ~CONN_FIN);
        }
    }
    sock_unguard(fd, pin);
}
