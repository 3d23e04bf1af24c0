/* SPDX-License-Identifier: MIT */
#include "drain/drain.h"

#include "conn/conn.h"
#include "tree/coordinator.h"
#include "conn/linger.h"
#include "drain/listener_stop.h"
#include "base/log.h"
#include "tree/sd_notify.h"
#include "base/room.h"
#include "drain/signals_wake.h"
#include "conn/spread.h"
#include "drain/stage.h"
#include "base/sys.h"
#include "conn/table.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <errno.h>

#define STEP_MS 5               /* between two walks over the table of a drain */
#define FINISH_AFTER_MS 250     /* half-closed, and the program has not looked: the peer is told */
#define CLOSE_IDLE_MOST_MS 1000 /* how long the thread stays for that after a close-idle */
#define CLOSE_MS 1000           /* after a drain-all: for the program to close what was shut */
#define VERIFY_MS 100
#define REPORT_MS 5000 /* between two lines of progress */
#define NAMED_MOST 10  /* connections named in one report */

static struct {
    _Atomic uint32_t phase; /* a futex word */
    _Atomic uint32_t passes;
    _Atomic bool timed_out; /* the timeout forced some */

    bool inherited;  /* begun by the process that this one was forked from */
    bool whole_tree; /* asked of the tree, not of this process */
    bool forcing;    /* drain-all, or the timeout has passed */
    bool by_timeout;
    bool passing; /* a close-idle that has still to see to what it has shut */
    int64_t since, begins_at, until, pass_until; /* sys_now_ms; until 0: for ever */
    int64_t finish_at, verify_at, report_at, name_at, notice_until;
    struct room seen; /* conn_limits, seen_at */
    bool is_short;    /* of memory: has been told */
    uint64_t forced;
    _Atomic bool is_partial; /* something that there was no room to know goes on */
    struct totals at_begin;
} drain;

static void set_phase(enum phase phase)
{
    atomic_store(&drain.phase, phase);
    process_slot_set_phase(phase);
}

enum phase drain_phase(void)
{
    return (enum phase)atomic_load(&drain.phase);
}

_Atomic uint32_t *drain_passes(void)
{
    return &drain.passes;
}

/* What the kernel calls as long may be a tick shorter. */
static int64_t at_least(int64_t ms)
{
    static int64_t tick;
    if (!tick)
        tick = sys_tick_ms();
    return ms ? ms + tick : 0;
}

static struct conn_limits limits(void)
{
    const struct settings *settings = settings_now();
    bool draining = drain_phase() > PHASE_DELAYING;
    return (struct conn_limits){.settle = at_least(settings->settle),
                                .first_byte = at_least(settings->first_byte),
                                .notice_until = draining ? drain.notice_until : 0,
                                .now = sys_now_ms(),
                                .seen_at = draining ? atomic_load(&drain.seen.at) : NULL,
                                .seen_count = atomic_load(&drain.seen.count)};
}

/* ---- walks over the table ---- */

/* fd is claimed. Returns whether the walk is to go on. */
typedef bool visit_fn(int fd, void *context);

/* How many numbers are claimed at a time. */
#define STRIDE CONN_FEW
_Static_assert(STRIDE <= LOG_KEPT_MOST, "each may have a line in the log");

static bool visit_one(int fd, visit_fn *visit, void *context)
{
    enum kind kind = table_kind(fd);
    if (kind == KIND_RECEIVED)
        conn_received(fd, settings_now()->mode.rest);
    else if (kind != KIND_CONN && kind != KIND_ALIAS)
        return true;
    else if (UNLIKELY(!conn_is_ours(fd)))
        conn_left(fd);
    return visit(fd, context);
}

/* Most of a large table is empty. Its end is one of a whole block (table_make). */
static bool is_empty(uint32_t first)
{
    for (uint32_t n = 0; n < STRIDE; n += sizeof(uint64_t))
        if (__atomic_load_n((const uint64_t *)(const void *)&table.kind[first + n],
                            __ATOMIC_RELAXED))
            return false;
    return true;
}

/*
 * Visits those of a stride's numbers that it can all at once, and returns the others, which are to
 * be visited one by one: bit n is of first + n.
 */
typedef uint32_t visit_few_fn(uint32_t first, void *context);

static void walk_by(visit_few_fn *visit_few, visit_fn *visit, void *context)
{
    uint32_t high = atomic_load(&table.high);
    bool go_on = true;
    for (uint32_t first = 0; first < high && go_on; first += STRIDE) {
        if (is_empty(first))
            continue;
        table_claim_all(first, STRIDE);
        uint32_t left = visit_few ? visit_few(first, context) : UINT32_MAX >> (32 - STRIDE);
        for (; left && go_on; left &= left - 1)
            go_on = visit_one((int)first + __builtin_ctz(left), visit, context);
        table_release();
        log_send_kept();
    }
}

static void walk(visit_fn *visit, void *context)
{
    walk_by(NULL, visit, context);
}

struct count {
    struct conn_limits limits;
    bool verify; /* also those that nothing is done to */
    uint64_t idle, in_use, shut;
};

static enum conn_look count_look(int fd, struct count *count)
{
    enum conn_look look = conn_look(fd, &count->limits, count->verify);
    count->idle += look == LOOK_IDLE || look == LOOK_WAITING;
    count->in_use += look == LOOK_IN_USE;
    count->shut += look == LOOK_SHUT || look == LOOK_FORCED;
    return look;
}

static bool count_one(int fd, void *context)
{
    count_look(fd, context);
    return true;
}

static bool shut_one(int fd, void *context)
{
    struct count *count = context;
    if (count_look(fd, count) == LOOK_IDLE && conn_shut(fd)) {
        count->idle--;
        count->shut++;
    }
    return true;
}

static uint32_t shut_few(uint32_t first, void *context)
{
    const struct count *count = context;
    return conn_shut_few(first, &count->limits);
}

static bool spread_one(int fd, void *context)
{
    if (count_look(fd, context) == LOOK_IDLE)
        spread_count(conn_quiet_ms(fd));
    return true;
}

static bool shut_due_one(int fd, void *context)
{
    struct count *count = context;
    if (conn_look(fd, &count->limits, false) == LOOK_IDLE && spread_may_close(conn_quiet_ms(fd)) &&
        conn_shut(fd)) {
        count->idle--;
        count->shut++;
    }
    return true;
}

/* Closes what is idle: at once, or what is due of it. */
static void shut_idle(struct count *count, int64_t now)
{
    if (!spread_is_on(now)) {
        walk(shut_one, count);
        return;
    }
    spread_round_begins();
    walk(spread_one, count);
    spread_round_decides(now);
    walk(shut_due_one, count);
}

static bool finish_one(int fd, void *context)
{
    const bool *late = context;
    conn_finish(fd, *late);
    return true;
}

/* How long it has been in use: since the drain began, or since its peer's last byte. */
static int64_t in_use_ms(int fd, int64_t now)
{
    struct sock_info info;
    sock_info(fd, &info);
    int64_t draining = now - drain.since;
    return info.has && info.received_ms > draining ? info.received_ms : draining;
}

/* fd is claimed. */
static void log_connection(const char *what, int fd, enum conn_look look, int64_t now)
{
    struct log_line line;
    struct sock_queues queues;
    sock_queues(fd, &queues);
    log_begin(&line, LOG_INFO);
    text_string(&line.text, what);
    sock_peer(fd, &line.text);
    if (look == LOOK_SHUT) {
        text_string(&line.text, ": idle, but the program does not close it, ");
    } else {
        text_string(&line.text, ": in use ");
        text_number(&line.text, (uint64_t)in_use_ms(fd, now) / 1000);
        text_string(&line.text, "s, ");
    }
    text_number(&line.text, queues.unsent);
    text_string(&line.text, " bytes unsent");
    if (queues.unread) {
        text_string(&line.text, ", ");
        text_number(&line.text, queues.unread);
        text_string(&line.text, " unread");
    }
    log_keep(&line);
}

static bool force_one(int fd, void *context)
{
    const int64_t *now = context;
    struct conn_limits none = {.now = *now};
    enum conn_look look = conn_look(fd, &none, true);
    if (look == LOOK_GONE || look == LOOK_FORCED)
        return true;
    if (look == LOOK_IN_USE || (look == LOOK_SHUT && drain.by_timeout)) {
        struct sock_queues queues;
        sock_queues(fd, &queues);
        drain.forced++;
        process_slot_count_cut();
        process_slot_count_loss(look == LOOK_IN_USE, queues.unread, queues.unsent);
        log_connection("forced ", fd, look, *now);
    }
    conn_force(fd);
    return true;
}

struct oldest {
    int64_t age;
    struct text peer;
    uint64_t named;
    int64_t now;
};

static bool find_oldest(int fd, void *context)
{
    struct oldest *oldest = context;
    struct conn_limits now = limits();
    if (conn_look(fd, &now, true) != LOOK_IN_USE)
        return true;
    int64_t age = in_use_ms(fd, oldest->now);
    if (age > oldest->age) {
        oldest->age = age;
        oldest->peer.used = 0;
        sock_peer(fd, &oldest->peer);
    }
    return true;
}

static bool name_one(int fd, void *context)
{
    struct oldest *oldest = context;
    struct conn_limits now = limits();
    if (conn_look(fd, &now, true) != LOOK_IN_USE)
        return true;
    log_connection("still waits for ", fd, LOOK_IN_USE, oldest->now);
    return ++oldest->named < NAMED_MOST;
}

/* ---- what the log says ---- */

static void say_origin(struct text *text, const struct origin *origin)
{
    if (!origin->signal && origin->pid <= 0) {
        text_string(text, origin->pid == drain_inherited.pid
                              ? "as the process that it was forked from"
                              : "the program asked for it");
        return;
    }
    if (origin->signal)
        settings_say_signal(text, origin->signal);
    else
        text_string(text, "`weir`");
    text_string(text, " from pid ");
    text_number(text, (uint64_t)origin->pid);
    text_string(text, " uid ");
    text_number(text, (uint64_t)origin->uid);
}

/* What is asked of the whole tree is one event, which its head tells; who is dormant tells nothing.
 */
static bool speaks(bool whole_tree)
{
    return whole_tree ? coordinator_is_here() : !stage_is_dormant();
}

/* The figures for say_begin, where it says anything. */
static struct totals totals_at_begin(bool whole_tree)
{
    struct totals totals = {0};
    if (!speaks(whole_tree))
        return totals;
    if (whole_tree && coordinator_tree_drains())
        return tree_page->asked;
    if (whole_tree)
        membership_totals(&totals);
    else
        table_totals(&totals);
    return totals;
}

static void say_begin(const char *what, const struct origin *origin, bool whole_tree,
                      const struct totals *totals)
{
    struct log_line line;
    if (!speaks(whole_tree))
        return;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, what);
    say_origin(&line.text, origin);
    text_string(&line.text, "; ");
    text_number(&line.text, totals->tracked - totals->in_use);
    text_string(&line.text, " idle, ");
    text_number(&line.text, totals->in_use);
    text_string(&line.text, " in use");
    log_send(&line);
}

static void say_progress(int64_t now)
{
    char peer[160] = "";
    struct oldest oldest = {-1, TEXT_ON(peer), 0, now};
    struct count count = {.limits = limits()};
    walk(count_one, &count);
    walk(find_oldest, &oldest);

    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "draining ");
    text_number(&line.text, (uint64_t)(now - drain.since) / 1000);
    text_string(&line.text, "s: ");
    text_number(&line.text, count.in_use);
    text_string(&line.text, " in use");
    if (count.idle + count.shut) {
        text_string(&line.text, ", ");
        text_number(&line.text, count.idle + count.shut);
        text_string(&line.text, " idle");
    }
    if (oldest.age >= 0) {
        text_string(&line.text, ", oldest ");
        text_string(&line.text, peer);
        text_string(&line.text, " for ");
        text_number(&line.text, (uint64_t)oldest.age / 1000);
        text_string(&line.text, "s");
    }
    if (drain.until) {
        text_string(&line.text, "; ");
        text_number(&line.text, (uint64_t)(drain.until > now ? drain.until - now + 999 : 0) / 1000);
        text_string(&line.text, "s left");
    }
    log_send(&line);
}

/* The connections that the drain has met: those of its beginning and those accepted since. */
static uint64_t met(void)
{
    struct totals totals;
    if (drain.whole_tree)
        membership_totals(&totals);
    else
        table_totals(&totals);
    return drain.at_begin.tracked + (totals.accepted - drain.at_begin.accepted) -
           (totals.disowned - drain.at_begin.disowned);
}

void drain_say_end(const char *afterwards)
{
    struct log_line line;
    if (drain.whole_tree ? !coordinator_has_ended_it() : !speaks(false))
        return;
    if (drain.whole_tree)
        log_take(); /* what others have to say comes first */
    uint64_t all = met(), forced = drain.whole_tree ? membership_cut() : drain.forced;
    log_begin(&line, LOG_INFO);
    const char *what = line.buffer + line.text.used;
    bool partial = drain.whole_tree ? process_slot_any_has(LINE_UNCOVERED) || coordinator_gave_up()
                                    : atomic_load(&drain.is_partial);
    text_string(&line.text, partial ? "not wholly drained in " : "drained in ");
    text_tenths(&line.text, sys_now_ms() - drain.since);
    text_string(&line.text, ": ");
    text_number(&line.text, all > forced ? all - forced : 0);
    text_string(&line.text, " closed clean, ");
    text_number(&line.text, forced);
    text_string(&line.text, " forced; ");
    text_string(&line.text, afterwards);
    if (drain.whole_tree)
        sd_notify_end(what);
    log_send(&line);
}

/* ---- steps ---- */

static void force_all(int64_t now, bool by_timeout)
{
    drain.forcing = true;
    drain.by_timeout = by_timeout;
    if (!by_timeout && (!drain.until || now + CLOSE_MS < drain.until))
        drain.until = now + CLOSE_MS;
    walk(force_one, &now);
    atomic_store(&drain.timed_out, by_timeout && drain.forced);
}

static void begin_close_idle(int64_t now, const struct origin *origin, bool whole_tree)
{
    struct count count = {.limits = limits()};
    struct totals totals = totals_at_begin(whole_tree);
    walk_by(shut_few, shut_one, &count);
    /* Afterwards: whoever takes the lines may take his time. */
    say_begin("closing idle connections: ", origin, whole_tree, &totals);
    drain.passing = true;
    drain.finish_at = now + FINISH_AFTER_MS;
    drain.pass_until = now + CLOSE_IDLE_MOST_MS;
    atomic_fetch_add(&drain.passes, 1);
    sys_futex_wake(&drain.passes);
}

/* Returns whether the program may still accept somebody. */
static bool stop_accepting(void)
{
    bool wake = false;
    bool all = listener_stop_all(settings_now()->listeners, drain.forcing, drain.whole_tree, &wake);
    if (wake)
        signals_wake_threads();
    return !all;
}

/* A length of WEIR_SPREAD or WEIR_NOTICE, but it is over well before the timeout. */
static int64_t within_timeout(int64_t length, int64_t now)
{
    int64_t most = (drain.until - now) * 3 / 4;
    return drain.until && length > most ? most : length;
}

static bool has_http(const struct settings *settings)
{
    bool has = settings->mode.rest == MODE_HTTP;
    for (int i = 0; i < settings->mode.count; i++)
        has = has || settings->mode.item[i].mode == MODE_HTTP;
    return has;
}

/* For what a drain notes of connections, as far as there are any. */
static void make_room(void)
{
    uint32_t high = atomic_load(&table.high);
    bool has = rhythm_begin(high, table.most);
    has = framing_begin(high, table.most) && has;
    has = room_reach(&drain.seen, sizeof(int64_t), high, table.most) && has;
    if (!has && !drain.is_short)
        log_say(LOG_ERROR, "no memory for notes on all connections (RLIMIT_AS, RLIMIT_DATA?): one "
                           "that never rests is cut at the timeout");
    drain.is_short = !has;
}

/* The delay is over: from now on nobody new is accepted. */
static void stop_serving(int64_t now)
{
    drain.finish_at = now + FINISH_AFTER_MS;
    drain.passing = false;
    if (drain.whole_tree)
        membership_delayed();
    set_phase(PHASE_DRAINING);
    const struct settings *settings = settings_now();
    int64_t notice = within_timeout(settings->notice, now), first = has_http(settings) ? notice : 0;
    spread_begin(now, now + first, within_timeout(first + settings->spread, now) - first);
    make_room();
    drain.notice_until = now + notice;
    linger_switch(true);
    stop_accepting();
}

static void begin_drain(int64_t now, const struct drain_terms *terms)
{
    drain.since = terms->since;
    drain.begins_at = terms->since + settings_now()->delay;
    drain.forced = 0;
    drain.until = terms->timeout ? terms->since + terms->timeout : 0;
    drain.report_at =
        now + REPORT_MS; /* a process that has just been started has nothing to tell */
    drain.name_at = terms->timeout ? terms->since + terms->timeout / 2 : INT64_MAX;
    if (drain.whole_tree)
        drain.at_begin = tree_page->asked;
    else
        table_totals(&drain.at_begin);
    if (now < drain.begins_at)
        set_phase(PHASE_DELAYING);
    else
        stop_serving(now);
}

void drain_begin(enum action action, const struct origin *origin, const struct drain_terms *terms)
{
    int64_t now = sys_now_ms();
    bool serving = drain_phase() == PHASE_SERVING;

    if (action == ACTION_CLOSE_IDLE) {
        if (serving)
            begin_close_idle(now, origin, terms->whole_tree);
        return;
    }
    if (drain_phase() == PHASE_DRAINED || (!serving && action != ACTION_DRAIN_ALL))
        return;
    struct totals totals = totals_at_begin(terms->whole_tree);
    say_begin(action == ACTION_DRAIN_ALL ? "draining all: " : "draining: ", origin,
              terms->whole_tree, &totals);
    if (serving) {
        drain.inherited = origin->pid == drain_inherited.pid;
        drain.whole_tree = terms->whole_tree;
        begin_drain(now, terms);
    }
    if (action != ACTION_DRAIN_ALL)
        return;
    if (drain_phase() == PHASE_DELAYING)
        stop_serving(now);
    force_all(now, false);
}

/* What there was no room to know, and is still there. */
static void look_for_missed(void)
{
    uint32_t connections = 0, listeners = 0, to = atomic_load(&table.missed_to);
    for (uint32_t fd = ~atomic_load(&table.missed_before); fd < to; fd++) {
        enum identity kind;
        if (table_knows((int)fd))
            continue;
        if (sock_is_listener((int)fd) == 1)
            listeners++;
        else if (sock_connection((int)fd, &kind))
            connections++;
    }
    bool is_partial = connections || listeners;
    atomic_store(&drain.is_partial, is_partial);
    if (!is_partial)
        return;
    struct log_line line;
    process_slot_set_flag(LINE_UNCOVERED, true);
    log_begin(&line, LOG_ERROR);
    text_string(&line.text, "not drained: ");
    text_number(&line.text, connections);
    text_string(&line.text, " connections and ");
    text_number(&line.text, listeners);
    text_string(&line.text, " listeners for which there was no room (descriptors above ");
    text_number(&line.text, table.limit);
    text_string(&line.text, ", or too many listeners): they are still served");
    log_send(&line);
}

static void end(void)
{
    linger_switch(false);
    look_for_missed();
    set_phase(PHASE_DRAINED);
    sys_futex_wake(&drain.phase);
}

/* Every so often, the peers of connections to which the program does not attend are told. */
static void finish_when_due(int64_t now)
{
    if (now < drain.finish_at)
        return;
    bool late = drain_phase() == PHASE_DRAINING && now >= drain.name_at;
    walk(finish_one, &late);
    drain.finish_at = now + FINISH_AFTER_MS;
}

static bool step_close_idle(int64_t now)
{
    if (!drain.passing)
        return false;
    finish_when_due(now);
    struct count count = {.limits = limits(), .verify = true};
    walk(count_one, &count);
    drain.passing = count.shut && now < drain.pass_until;
    return drain.passing;
}

static bool step_drain(int64_t now)
{
    /* Connections that the program closed where we don't see it are found out now and then. */
    bool verify = now >= drain.verify_at;
    struct count count = {.limits = limits(), .verify = verify};
    if (verify)
        drain.verify_at = now + VERIFY_MS;

    make_room();
    bool accepting = stop_accepting();
    if (drain.forcing) {
        walk(force_one, &now);
        walk(count_one, &count);
    } else {
        shut_idle(&count, now);
        finish_when_due(now);
    }
    bool lingers = linger_step(now); /* after the table, out of which it may have come */
    bool timed_out = drain.until && now >= drain.until;
    if (timed_out && !drain.forcing) {
        force_all(now, true);
        stop_accepting(); /* also on what has been left open for others of the tree */
    }
    if (timed_out || (!accepting && !lingers && !count.idle && !count.in_use && !count.shut)) {
        end();
        return false;
    }
    if (drain.forcing)
        return true;
    if (now >= drain.report_at) {
        say_progress(now);
        drain.report_at = now + REPORT_MS;
    }
    if (now >= drain.name_at) {
        struct oldest names = {.now = now};
        walk(name_one, &names);
        drain.name_at = now + REPORT_MS;
    }
    return true;
}

int64_t drain_step(void)
{
    int64_t now = sys_now_ms();
    if (drain_phase() == PHASE_DELAYING) {
        step_close_idle(now);
        if (now < drain.begins_at)
            return drain.passing ? STEP_MS : drain.begins_at - now;
        stop_serving(now);
    }
    bool more;
    if (drain_phase() == PHASE_SERVING) {
        more = step_close_idle(now);
    } else if (drain_phase() == PHASE_DRAINING) {
        more = step_drain(now);
    } else {
        more = stop_accepting();
        more = linger_step(now) || more;
    }
    if (!more)
        return -1;
    /* At the most a fifth of a processor, however long a walk is. */
    int64_t took = sys_now_ms() - now;
    return took * 4 > STEP_MS ? took * 4 : STEP_MS;
}

int drain_wait(void)
{
    uint32_t phase;
    while ((phase = atomic_load(&drain.phase)) != PHASE_DRAINED)
        sys_futex_wait(&drain.phase, phase, -1);
    if (atomic_load(&drain.timed_out))
        return ETIMEDOUT;
    return atomic_load(&drain.is_partial) ? ENOBUFS : 0;
}

void drain_resumes(void)
{
    uint32_t drained = PHASE_DRAINED;
    if (!atomic_compare_exchange_strong(&drain.phase, &drained, PHASE_DRAINING))
        return;
    process_slot_set_phase(PHASE_DRAINING);
    linger_switch(true);
}

const struct origin drain_inherited = {0, -1, 0};

bool drain_is_inherited(void)
{
    return drain.inherited;
}

bool drain_forked(void)
{
    drain.inherited = false;
    drain.whole_tree = false;
    bool draining = drain_phase() == PHASE_DRAINING || drain_phase() == PHASE_DELAYING;
    atomic_store(&drain.phase, PHASE_SERVING);
    atomic_store(&drain.timed_out, false);
    drain.forcing = false;
    drain.by_timeout = false;
    drain.passing = false;
    atomic_store(&drain.is_partial, false);
    drain.is_short = false;
    rhythm_end();
    return draining;
}
