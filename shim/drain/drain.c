/* SPDX-License-Identifier: MIT */
#include "drain/drain.h"

#include "base/log.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/conn.h"
#include "conn/lingering_close.h"
#include "conn/pacing.h"
#include "conn/fdtable.h"
#include "drain/drain_say.h"
#include "drain/drain_state.h"
#include "drain/handed.h"
#include "drain/listener.h"
#include "drain/listener_stop.h"
#include "drain/listener_store.h"
#include "drain/signals.h"
#include "drain/unseen.h"
#include "drain/walk.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <errno.h>
#include <time.h>

#define STEP_MS 5 /* between two walks over the table of a drain */
#define STEP_MOST_MS 100
#define FINISH_AFTER_MS 250     /* half-closed, and the program has not read the end: FIN */
#define CLOSE_IDLE_MOST_MS 1000 /* how long the thread stays for that after a close-idle */
#define CLOSE_MS 1000           /* after a drain-all: for the program to close */
#define WARN_MOST_MS 25000      /* where there is no timeout, of which half is taken */
#define REPORT_MS 5000          /* between two lines of progress */

static void set_phase(enum phase phase)
{
    atomic_store(&drain.phase, phase);
    process_slot_set_phase(phase);
}

enum phase drain_phase(void)
{
    return (enum phase)atomic_load(&drain.phase);
}

_Atomic uint32_t *drain_sweeps(void)
{
    return &drain.sweeps;
}

static bool shut_one(int fd, void *context)
{
    struct drain_count *count = context;
    if (drain_count(fd, count) == CONN_IS_IDLE && conn_shut(fd)) {
        count->idle--;
        count->shut++;
    }
    return true;
}

static bool shut_seen_one(int fd, void *context)
{
    struct drain_count *count = context;
    if (drain_count(fd, count) == CONN_IS_IDLE && conn_goes_by_sight() && conn_shut(fd)) {
        count->idle--;
        count->shut++;
    }
    return true;
}

static bool pacing_one(int fd, void *context)
{
    if (drain_count(fd, context) == CONN_IS_IDLE)
        pacing_count(conn_quiet_ms(fd));
    return true;
}

static bool shut_due_one(int fd, void *context)
{
    struct drain_count *count = context;
    if (drain_classify(fd, &count->limits, false) == CONN_IS_IDLE &&
        pacing_may_close(conn_quiet_ms(fd)) && conn_shut(fd)) {
        count->idle--;
        count->shut++;
    }
    return true;
}

/* Closes what is idle: at once, or what is due of it. */
static void shut_idle(struct drain_count *count, int64_t now)
{
    if (!pacing_is_on(now)) {
        walk(shut_one, count);
        return;
    }
    pacing_round_begins();
    walk(pacing_one, count);
    pacing_round_decides(now);
    walk(shut_due_one, count);
}

struct finish {
    struct conn_limits limits;
    bool late;
};

static bool finish_one(int fd, void *context)
{
    const struct finish *finish = context;
    conn_finish(fd, &finish->limits, finish->late);
    return true;
}

static bool warn_one(int fd, void *context)
{
    (void)context;
    conn_warn(fd);
    return true;
}

/* How long threads of the program's get to note what they did right before a cut: for all
 * connections together, since the closes of some wait meanwhile. */
#define NOTED_WITHIN_MS 100

struct forcing {
    struct conn_limits limits;
    int64_t noted_by; /* ms, CLOCK_MONOTONIC */
};

/* Cuts a connection, and counts and names who loses something by it. */
static bool force_one(int fd, void *context)
{
    const struct forcing *forcing = context;
    const struct conn_limits *limits = &forcing->limits;
    struct conn_cost cost = {.look = conn_classify(fd, limits, true)};
    struct log_line line;
    if (cost.look == CONN_IS_GONE || cost.look == CONN_IS_FORCED)
        return true;
    drain_name(&line, "forced ", fd); /* before the cut: a RST takes the peer's address along */
    if (!conn_force(fd, limits, forcing->noted_by, &cost))
        return true;
    bool in_use = cost.look == CONN_IS_IN_USE;
    bool is_forced = in_use || (cost.look == CONN_IS_SHUT && drain.by_timeout) ||
                     cost.queues.unread || cost.queues.unsent;
    table_count_forced(is_forced); /* its close waits for our claim */
    if (is_forced) {
        process_slot_count_loss(in_use, cost.queues.unread, cost.queues.unsent);
        drain_describe(&line, fd, cost.look, &cost.queues, limits->now);
        log_keep(&line);
    }
    return true;
}

static void force_connections(void)
{
    struct conn_limits limits = drain_limits();
    walk(force_one, &(struct forcing){limits, limits.now + NOTED_WITHIN_MS});
}

/* ---- steps ---- */

static void force_all(int64_t now, bool by_timeout)
{
    drain.forcing = true;
    drain.by_timeout = by_timeout;
    if (!by_timeout && (!drain.until || now + CLOSE_MS < drain.until))
        drain.until = now + CLOSE_MS;
    force_connections();
}

/* Address space is taken for so many connections, or twice as many as there are: not for all that
 * there may ever be, since a child that is forked meanwhile may limit its own (vsftpd, to 200 MB).
 */
#define NOTES_LEAST 65536

static uint32_t notes_most(uint32_t high)
{
    uint32_t most = high < NOTES_LEAST / 2 ? NOTES_LEAST : high * 2;
    return most < table.most ? most : table.most;
}

/* Makes room for when connections were seen first, as far as there are any. */
static bool make_room_for_sight(void)
{
    uint32_t high = atomic_load(&table.high);
    return room_reach(&drain.seen, sizeof(int64_t), high, notes_most(high));
}

/* The same for all that a drain notes of them. */
static void make_room(void)
{
    uint32_t high = atomic_load(&table.high), most = notes_most(high);
    bool has = reply_model_begin(high, most);
    has = room_reach(&drain.notes, sizeof(struct drain_note), high, most) && has;
    has = make_room_for_sight() && has;
    if (!has && !drain.is_short)
        log_say(LOG_ERROR, "no memory for notes on all connections (RLIMIT_AS, RLIMIT_DATA?): one "
                           "that never rests is cut at the timeout");
    drain.is_short = !has;
}

/* What sight has to tell of in a close-idle is quiet for as long as that, and a step. */
static int64_t sight_ms(void)
{
    const struct settings *settings = settings_now();
    int64_t most =
        settings->first_byte > settings->settle ? settings->first_byte : settings->settle;
    return most + STEP_MOST_MS;
}

static void begin_close_idle(int64_t now, const struct origin *origin, bool whole_tree)
{
    gate_shut(GATE_CLOSES_IDLE, settings_now()->settle);
    process_slot_count();
    make_room_for_sight();
    drain.sweeping = true;
    drain.sight_until = now + sight_ms();
    struct drain_count count = {.limits = drain_limits()};
    struct totals totals = drain_totals_to_say(whole_tree);
    walk(shut_one, &count);
    /* Afterwards: the log may be slow. */
    drain_say_begin("closing idle connections: ", origin, whole_tree, &totals);
    drain.finish_at = now + FINISH_AFTER_MS;
    drain.sweep_until = now + CLOSE_IDLE_MOST_MS + settings_now()->linger;
    atomic_fetch_add(&drain.sweeps, 1);
    sys_futex_wake(&drain.sweeps);
}

/* Returns whether the program may still accept somebody. */
static bool stop_accepting(void)
{
    bool wake = false;
    enum listeners what = drain.whole_tree && atomic_load(&tree_page->keeps_listeners) == KEEPS_ALL
                              ? LISTENERS_KEEP
                              : settings_now()->listeners;
    if (what == LISTENERS_STORE)
        what = listener_store(drain.whole_tree, drain.forcing, handed_any());
    if (what == LISTENERS_STORE)
        return true;
    bool all = listener_stop_all(what, drain.forcing, drain.whole_tree, &wake);
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

/* Ends the delay: from now on no new client is accepted. */
static void stop_serving(int64_t now)
{
    drain.finish_at = now + FINISH_AFTER_MS;
    drain.sweeping = false;
    if (drain.whole_tree)
        membership_delayed();
    gate_shut(GATE_DRAINS, settings_now()->settle);
    table_begins_to_count();
    set_phase(PHASE_DRAINING);
    const struct settings *settings = settings_now();
    int64_t notice = within_timeout(settings->notice, now);
    int64_t first = settings_have_mode(MODE_PROTOCOL) ? notice : 0;
    pacing_begin(now, now + first, within_timeout(first + settings->spread, now) - first);
    make_room();
    drain.notice = notice;
    drain.notice_until = now + notice;
    lingering_switch(true);
    unseen_begin();
    listener_find_received();
    stop_accepting();
}

static void begin_drain(int64_t now, const struct drain_terms *terms)
{
    drain.since = terms->since;
    drain.begins_at = terms->since + settings_now()->delay;
    drain.until = terms->timeout ? terms->since + terms->timeout : 0;
    drain.report_at =
        now + REPORT_MS; /* a process that has just been started has nothing to report */
    drain.warn_at = terms->since + (terms->timeout ? terms->timeout : WARN_MOST_MS) / 2;
    drain.name_at = terms->timeout ? terms->since + terms->timeout / 2 : INT64_MAX;
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
        if (serving || drain_phase() == PHASE_DELAYING)
            begin_close_idle(now, origin, terms->whole_tree);
        return;
    }
    if (drain_phase() == PHASE_DRAINED || (!serving && action != ACTION_DRAIN_ALL))
        return;
    process_slot_count();
    struct totals totals = drain_totals_to_say(terms->whole_tree);
    drain_say_begin(action == ACTION_DRAIN_ALL ? "draining all: " : "draining: ", origin,
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

/* Looks for what had no room in the table, and is still there. */
static void look_for_missed(void)
{
    uint32_t connections = 0, listeners = 0, to = atomic_load(&table.missed_to);
    for (uint32_t fd = ~atomic_load(&table.missed_before); fd < to; fd++) {
        enum fingerprint kind;
        if (table_knows((int)fd))
            continue;
        if (sock_is_listener((int)fd) == 1)
            listeners++;
        else if (sock_connection((int)fd, &kind))
            connections++;
    }
    if (!connections && !listeners)
        return;
    atomic_store(&drain.is_partial, true);
    process_slot_set_flag(SLOT_UNCOVERED, true);
    log_say(LOG_ERROR,
            "not drained: %u connections and %u listeners for which there was no room (descriptors "
            "above %u, or too many listeners): they are still served",
            connections, listeners, table.limit);
}

static bool end_unseen_one(int fd, void *context)
{
    (void)context;
    conn_ends_unseen(fd);
    return true;
}

/* For so many steps, or ms, closes that are under way may keep the end back: a signal's handler may
 * have jumped out of one. */
#define UNCOUNTED_MOST 1000

/* Tells whether no close is under way. */
static bool has_counted(void)
{
    bool counted = table_has_counted();
    drain.uncounted = counted ? 0 : drain.uncounted + 1;
    return counted || drain.uncounted > UNCOUNTED_MOST;
}

static void end(void)
{
    walk(end_unseen_one, NULL);
    struct totals totals;
    table_totals(&totals);
    atomic_store(&drain.timed_out, drain.by_timeout && totals.forced > drain.at_begin.forced);
    lingering_switch(false);
    look_for_missed();
    set_phase(PHASE_DRAINED);
    sys_futex_wake(&drain.phase);
}

/* Every so often, half-closes for writing what the program does not attend to, for the peer to see.
 */
static void finish_when_due(int64_t now)
{
    if (now < drain.finish_at)
        return;
    bool late = drain_phase() == PHASE_DRAINING && now >= drain.name_at;
    walk(finish_one, &(struct finish){drain_limits(), late});
    if (drain_phase() == PHASE_DRAINING && now >= drain.warn_at)
        walk(warn_one, NULL);
    drain.finish_at = now + FINISH_AFTER_MS;
}

static bool step_close_idle(int64_t now)
{
    if (!drain.sweeping)
        return false;
    finish_when_due(now);
    struct drain_count count = {.limits = drain_limits(), .verify = true};
    bool looks = now < drain.sight_until;
    walk(looks ? shut_seen_one : drain_count_one, &count);
    bool awaits = looks && count.awaited;
    drain.sweeping = awaits || (count.shut && now < drain.sweep_until);
    /* Sight is undone by the slow path, which what we have shut needs as well: a write behind our
     * FIN. */
    if (!count.shut && !awaits)
        gate_open();
    return drain.sweeping;
}

static void await_closes(void)
{
    static const struct timespec moment = {0, 1000000};
    while (!has_counted())
        sys2(SYS_nanosleep, &moment, NULL);
}

static bool step_drain(int64_t now)
{
    struct drain_count count = {.limits = drain_limits()};
    uint32_t arrived = process_slot_arrivals();
    make_room();
    bool accepting = stop_accepting();
    if (drain.forcing) {
        force_connections();
        walk(drain_count_one, &count);
    } else {
        shut_idle(&count, now);
        finish_when_due(now);
        if (!drain.first_look)
            drain.first_look = count.limits.now;
    }
    drain.tracked = count.idle + count.in_use + count.shut;
    process_slot_tell_clients(drain.tracked - count.of_tree, count.of_tree, arrived);
    bool has_none = !drain.tracked && has_counted();
    bool lingers = lingering_step(now); /* after the table, out of which it may have come */
    bool timed_out = drain.until && now >= drain.until;
    if (timed_out && !drain.forcing) {
        force_all(now, true);
        stop_accepting();    /* also on what has been left open for others of the tree */
        force_connections(); /* what has been accepted meanwhile */
    }
    if (timed_out) {
        await_closes();
        lingering_times_out();
    }
    bool is_empty = !accepting && !lingers && has_none;
    bool unseen = !drain.forcing && unseen_step(now, is_empty);
    if (timed_out || (is_empty && !unseen)) {
        end();
        return false;
    }
    if (drain.forcing)
        return true;
    if (now >= drain.report_at) {
        drain_say_progress(now);
        drain.report_at = now + REPORT_MS;
    }
    if (now >= drain.name_at) {
        drain_say_waited_for(now);
        drain.name_at = now + REPORT_MS;
    }
    return true;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t drain_step(void)
{
    int64_t now = sys_now_ms(), began = sys_now_ns();
    if (drain_phase() == PHASE_DELAYING) {
        step_close_idle(now);
        table_publish_in_use();
        if (now < drain.begins_at)
            return drain.sweeping ? STEP_MS : sooner(drain.begins_at - now, STEP_MOST_MS);
        stop_serving(now);
    }
    bool more;
    if (drain_phase() == PHASE_SERVING) {
        more = step_close_idle(now);
    } else if (drain_phase() == PHASE_DRAINING) {
        more = step_drain(now);
    } else {
        more = stop_accepting();
        more = lingering_step(now) || more;
    }
    if (!more)
        return -1;
    /* The walks take a hundredth of a processor, as the looks do (LOOKS_PER_MS); or a step is 5 ms.
     */
    int64_t rest = (sys_now_ns() - began) * 100 / 1000000;
    return rest < STEP_MS ? STEP_MS : rest > STEP_MOST_MS ? STEP_MOST_MS : rest;
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
    lingering_switch(true);
}

bool drain_is_inherited(void)
{
    return drain.inherited;
}

bool drain_forked(void)
{
    drain.inherited = false;
    drain.first_look = 0;
    drain.whole_tree = false;
    listener_store_forked();
    bool draining = drain_phase() == PHASE_DRAINING || drain_phase() == PHASE_DELAYING;
    atomic_store(&drain.phase, PHASE_SERVING);
    atomic_store(&drain.timed_out, false);
    drain.forcing = false;
    drain.by_timeout = false;
    drain.sweeping = false;
    drain.uncounted = 0;
    atomic_store(&drain.is_partial, false);
    drain.is_short = false;
    return draining;
}
