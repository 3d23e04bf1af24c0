/* SPDX-License-Identifier: MIT */
#include "tree/coordinator.h"

#include "conn/fork_detect.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/settings.h"
#include "base/sys.h"
#include "tree/membership.h"
#include "tree/process_slot.h"
#include "tree/subtrees.h"
#include "tree/wake.h"

#include <signal.h>

static uint64_t orders_done; /* what of tree_page->order has been begun here */

/*
 * What this process knows by itself. Any process of the tree can write the page, also one that was
 * broken into. So once a drain is on, the coordinator goes by this and not by what the page says.
 */
static struct {
    _Atomic bool is_head; /* for good: nobody can put another one in its place */
    _Atomic bool has_terms, drains, has_ended;
    _Atomic uint32_t asked,
        begun; /* drains, as bits 1 << enum action: ordered of the coordinator itself; begun here */
    _Atomic int64_t since, timeout; /* of the drain, as in struct drain_terms */
    _Atomic int64_t until; /* at which the coordinator waits no longer; 0: it waits for ever */
} own;

/*
 * What was counted when the drain was asked for, and what was on its way between two processes. A
 * child that is forked right behind may drain, and end, before the worker comes to count.
 */
static struct {
    _Atomic bool is_there;
    struct totals totals;
    uint64_t handoff[PAGE_HANDOFFS];
} at_ask;

static bool ended_here; /* this process has seen the tree's drain to its end */
static bool gave_up;    /* and some had not ended theirs */
static struct totals at_end;
static int64_t ended_at;

/* When processes are woken again that have not begun. */
static int64_t again_at;
static int64_t reap_at; /* when it is looked for those that have died */

static int64_t changing_since; /* is_changing; 0: none is */
static struct {
    int64_t used, looked_at;
} grace; /* is_late */

bool coordinator_joins(const char *name, bool first)
{
    bool is_in = tree_page;
    if (!membership_begin(name, first))
        return false;
    if (!is_in)
        coordinator_forget();
    return true;
}

void coordinator_forget(void)
{
    ended_here = gave_up = false;
    again_at = reap_at = changing_since = grace.used = 0;
    orders_done = tree_page ? atomic_load(&tree_page->order) & ORDER_CLOSE_IDLE : 0;
    atomic_store(&own.is_head, false);
    atomic_store(&own.has_terms, false);
    atomic_store(&own.drains, false);
    atomic_store(&own.has_ended, false);
    atomic_store(&own.asked, 0);
    atomic_store(&own.begun, 0);
    atomic_store(&at_ask.is_there, false);
    subtrees_forget();
}

bool coordinator_is_here(void)
{
    int32_t me = fork_ask_pid(), head;
    if (!tree_page || process_slot_is_foreign())
        return false;
    if (atomic_load(&own.is_head) || membership_is_first()) {
        atomic_store(&own.is_head, true);
        return true;
    }
    head = atomic_load(&tree_page->head);
    if (head == me || process_slot_lives(head))
        return head == me;
    if (membership_descends_from_the_living() ||
        !atomic_compare_exchange_strong(&tree_page->head, &head, me))
        return false;
    /* An earlier coordinator may have ended the drain, of which there is one only. */
    atomic_store(&own.has_ended, atomic_load(&tree_page->phase) == PHASE_DRAINED);
    atomic_store(&own.is_head, true);
    return true;
}

/* ---- orders ---- */

#define SINCE_MOST 2000 /* ms: so much earlier than it is seen may an order have been given */

/* Fixes the terms of the drain for this process. */
static void take_terms(int64_t since, int64_t timeout)
{
    if (atomic_load(&own.has_terms))
        return;
    atomic_store(&own.since, since);
    atomic_store(&own.timeout, timeout);
    atomic_store(&own.until, timeout ? since + timeout : 0);
    atomic_store(&own.has_terms, true);
}

static void take_terms_of_page(void)
{
    int64_t now = sys_now_ms(), since = atomic_load(&tree_page->since);
    int64_t timeout = atomic_load(&tree_page->timeout);
    bool late = since < 0 || since > now || (since < now - SINCE_MOST && coordinator_is_here());
    bool has_none = timeout < 0 || timeout > DURATION_MOST;
    take_terms(late ? now : since, has_none ? settings_now()->timeout : timeout);
}

void coordinator_terms(struct drain_terms *terms)
{
    *terms = (struct drain_terms){true, atomic_load(&own.since), atomic_load(&own.timeout)};
}

#define LOOKS_ALIKE_MOST 16

/* Memory alone is read: in a signal's handler. The looks are repeated until two are alike, since a
 * process that ends moves its figures from one place to another. */
static void count_at_ask(void)
{
    struct totals last;
    if (atomic_load(&at_ask.is_there) || atomic_load(&tree_page->order) & ORDER_DRAIN)
        return;
    page_add_all(&at_ask.totals, tree_page);
    for (int n = 0; n < LOOKS_ALIKE_MOST; n++) {
        last = at_ask.totals;
        page_add_all(&at_ask.totals, tree_page);
        if (last.accepted == at_ask.totals.accepted && last.tracked == at_ask.totals.tracked)
            break;
    }
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++)
        at_ask.handoff[i] = atomic_load(&tree_page->handoff[i]);
    atomic_store(&at_ask.is_there, true);
}

void coordinator_ask(enum action action, const struct origin *origin)
{
    int64_t now = sys_now_ms(), timeout = settings_now()->timeout;
    if (action != ACTION_CLOSE_IDLE) {
        count_at_ask();
        take_terms(now, timeout);
        /* What is ordered of the coordinator itself is done in time, whatever was ordered before.
         */
        int64_t until = atomic_load(&own.until);
        if (timeout && (!until || until > now + timeout))
            atomic_store(&own.until, now + timeout);
        /* The page may be written over before the thread has looked at it. */
        uint32_t wanted = 1u << ACTION_DRAIN | 1u << action;
        atomic_fetch_or(&own.asked, wanted & ~atomic_load(&own.begun));
    }
    page_ask(tree_page, action, origin, -1, now, NULL);
}

void coordinator_count_asked(void)
{
    struct totals totals;
    if (!coordinator_tree_drains() || tree_page->asked.tracked != PAGE_NOT_COUNTED ||
        !coordinator_is_here())
        return;
    if (atomic_load(&at_ask.is_there)) {
        totals = at_ask.totals;
        proc_finish_asked(&totals, at_ask.handoff, tree_page, fork_pid());
    } else {
        membership_totals(&totals);
    }
    tree_page->asked = totals;
}

/* ---- waking ---- */

bool coordinator_has_process(int32_t pid)
{
    if (!tree_page || process_slot_is_foreign())
        return false;
    return process_slot_lives(pid) || wake_reaches(pid) || subtrees_has(pid);
}

void coordinator_wake(void)
{
    if (!settings_now()->control_signal && !process_slot_is_alone())
        log_say(LOG_ERROR, "WEIR_CONTROL_SIGNAL=none: the other processes can't be told");
    wake_tree(WAKE_ALL);
    subtrees_ask(atomic_load(&own.since), atomic_load(&own.timeout));
}

/* Tells whether this process looks whether all are done: the coordinator does, or else the first
 * slot's. */
static bool is_watcher(void)
{
    if (process_slot_is_foreign())
        return false;
    int32_t me = fork_ask_pid(), head = atomic_load(&tree_page->head);
    if (atomic_load(&own.is_head))
        return true;
    if (head == me || process_slot_lives(head))
        return head == me;
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        int32_t pid = atomic_load(&tree_page->slot[i].pid);
        if (pid == me)
            return true;
        if (pid > 0 && proc_slot_lives(&tree_page->slot[i]))
            return false;
    }
    return true;
}

uint32_t coordinator_news(void)
{
    if (!tree_page)
        return 0;
    uint64_t order = atomic_load(&tree_page->order), new = order & ~orders_done;
    bool idle = (order ^ orders_done) & ORDER_CLOSE_IDLE;
    orders_done = order;
    uint32_t drains = atomic_exchange(&own.asked, 0) | (new &ORDER_DRAIN ? 1u << ACTION_DRAIN : 0) |
                      (new &ORDER_DRAIN_ALL ? 1u << ACTION_DRAIN_ALL : 0);
    drains &= ~atomic_fetch_or(&own.begun, drains);
    if (drains) {
        if (!atomic_load(&own.drains) && is_watcher())
            process_slots_reap(false); /* they were dead before */
        take_terms_of_page();
        atomic_store(&own.drains, true);
        if (coordinator_is_here()) /* the command may have been another user's than a part is */
            subtrees_ask(atomic_load(&own.since), atomic_load(&own.timeout));
    }
    return drains | (idle ? 1u << ACTION_CLOSE_IDLE : 0);
}

bool coordinator_tree_drains(void)
{
    return tree_page && (atomic_load(&own.drains) || atomic_load(&tree_page->order) & ORDER_DRAIN);
}

bool coordinator_tree_is_drained(void)
{
    if (atomic_load(&own.has_ended))
        return true;
    return tree_page && !atomic_load(&own.is_head) &&
           atomic_load(&tree_page->phase) == PHASE_DRAINED;
}

/* How long after the timeout the tree waits for a process that does not answer. Between two looks
 * no more than LOOK_MOST_MS counts: where the machine leaves this process no time, nor does it
 * others.
 */
#define GRACE_MS 2000
#define LOOK_MOST_MS 50
#define WAKE_AGAIN_MS 500
#define REAP_MS 100

/* The connections of a process. */
static uint64_t tracked_by(uint32_t index)
{
    struct totals totals;
    page_slot_totals(&totals, tree_page, index);
    return totals.tracked;
}

/* A process that can't drain is done when it has no connection left. */
static bool is_done(uint32_t index)
{
    struct page_slot *slot = &tree_page->slot[index];
    if (atomic_load(&slot->phase) == PHASE_DRAINED || !proc_slot_lives(slot))
        return true;
    bool can_drain = !(atomic_load(&slot->flags) & (SLOT_SANDBOXED | SLOT_NOT_WOKEN));
    return !can_drain && !tracked_by(index);
}

/*
 * Tells whether a process is just taking its slot, or giving it back: what it has counted may be
 * found in both places, or in neither. That takes no time; who is killed in the middle leaves it
 * so.
 */
#define CHANGING_MOST_MS 1000

static bool is_changing(int64_t now)
{
    bool any = false;
    for (uint32_t i = 0; i < process_slots_used() && !any; i++)
        any = atomic_load(&tree_page->slot[i].pid) == -1;
    changing_since = !any ? 0 : changing_since ? changing_since : now;
    return any && now - changing_since < CHANGING_MOST_MS;
}

static bool is_late(int64_t now)
{
    int64_t until = atomic_load(&own.until), since = now - grace.looked_at;
    grace.looked_at = now;
    if (until && now > until)
        grace.used += since < LOOK_MOST_MS ? since : LOOK_MOST_MS;
    return grace.used > GRACE_MS;
}

/* Tells whether another process with this slot is still to be waited for. */
static bool is_undone(uint32_t index)
{
    int32_t pid = atomic_load(&tree_page->slot[index].pid);
    return pid && pid != fork_pid() && !is_done(index);
}

static bool slots_are_done(void)
{
    bool done = true;
    for (uint32_t i = 0; i < PAGE_SLOTS && done; i++)
        done = !is_undone(i);
    return done;
}

#define HANDOFF_LOOK_MS 50

/* Tells whether a connection is on its way between two processes. A look takes the longer the more
 * sockets there are: the looks that find one take at the most a tenth of the time. */
static bool has_handoff(int64_t now)
{
    static int64_t look_at;
    static uint32_t found;
    bool open[PAGE_HANDOFFS];
    if (!atomic_load(&tree_page->handoffs_used))
        return false;
    if (found && now < look_at)
        return true;
    uint64_t entries[PAGE_HANDOFFS];
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++)
        entries[i] = atomic_load(&tree_page->handoff[i]);
    found = proc_open_handoffs(tree_page->handoff, PAGE_HANDOFFS, 0, now, open);
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++)
        if (entries[i] && !(entries[i] & HANDOFF_ADOPTED) && !open[i])
            atomic_compare_exchange_strong(&tree_page->handoff[i], &entries[i], 0);
    int64_t took = sys_now_ms() - now;
    look_at = now + took + (took * 9 > HANDOFF_LOOK_MS ? took * 9 : HANDOFF_LOOK_MS);
    return found;
}

#define UNDONE_NAMED_MOST 10

/* Logs a process that has not ended its drain when the tree's ends. */
static void name_undone(uint32_t index)
{
    struct page_slot *slot = &tree_page->slot[index];
    bool has_begun = atomic_load(&slot->phase) != PHASE_SERVING;
    bool is_sandboxed = atomic_load(&slot->flags) & SLOT_SANDBOXED;
    log_say(
        LOG_ERROR,
        "not drained: pid %d has not %s: its %lu connections count as forced, and its listeners "
        "may still accept",
        atomic_load(&slot->pid),
        is_sandboxed ? "begun its drain (it is in a seccomp sandbox)"
        : has_begun  ? "ended its drain"
                     : "begun its drain (is it stopped, or traced?)",
        tracked_by(index));
}

/* Counts connections that are on their way between two processes as forced. */
static void give_up_handoffs(void)
{
    bool open[PAGE_HANDOFFS];
    uint64_t entries[PAGE_HANDOFFS];
    if (!atomic_load(&tree_page->handoffs_used))
        return;
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++)
        entries[i] = atomic_load(&tree_page->handoff[i]);
    proc_open_handoffs(tree_page->handoff, PAGE_HANDOFFS, 0, sys_now_ms(), open);
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++) {
        if (!open[i] || !atomic_compare_exchange_strong(&tree_page->handoff[i], &entries[i], 0))
            continue;
        atomic_fetch_sub(&tree_page->gone.closed_by_program, 1); /* by who handed it on */
        atomic_fetch_add(&tree_page->gone.forced, 1);
        atomic_fetch_add(&tree_page->gone.forced_in_use, 1);
    }
}

/* Ends the tree's drain without the processes that have not ended theirs. */
static void give_up(void)
{
    int named = 0;
    give_up_handoffs();
    process_slot_give_up(PAGE_SLOTS);
    atomic_store(&tree_page->timed_out, 1);
    gave_up = true;
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        if (!is_undone(i))
            continue;
        if (named++ < UNDONE_NAMED_MOST)
            name_undone(i);
        process_slot_give_up(i);
    }
}

bool coordinator_has_ended_it(void)
{
    return ended_here;
}

int64_t coordinator_totals_at_end(struct totals *totals)
{
    *totals = at_end;
    return ended_at;
}

bool coordinator_gave_up(void)
{
    return gave_up;
}

void coordinator_keep_awake(int64_t now)
{
    if (!coordinator_tree_drains() || coordinator_tree_is_drained() || !is_watcher())
        return;
    if (now >= reap_at) {
        reap_at = now + REAP_MS;
        process_slots_reap(true);
    }
    if (now >= again_at) {
        again_at = now + WAKE_AGAIN_MS;
        wake_tree(WAKE_NOT_BEGUN);
    }
    if (coordinator_is_here())
        subtrees_ask_new(atomic_load(&own.since), atomic_load(&own.timeout), now);
}

bool coordinator_check(int64_t now)
{
    if (coordinator_tree_is_drained())
        return true;
    if (!is_watcher())
        return false;
    bool late = is_late(now);
    /* A connection that leaves its process, by exec, is on its way first; who comes for it is there
     * before it is on its way no more. */
    bool done = slots_are_done() && !wake_unlisted_serve(now) && subtrees_are_done(now) &&
                !has_handoff(now) && slots_are_done();
    if ((!done && !late) || is_changing(now))
        return false;
    process_slots_reap(true);
    if (late && !done)
        give_up();
    ended_here = true;
    ended_at = now;
    membership_totals(&at_end);
    tree_page->at_end = at_end;
    atomic_store(&tree_page->has_at_end, 1);
    atomic_store(&own.has_ended, true);
    atomic_store(&tree_page->ended, now);
    atomic_store(&tree_page->phase, PHASE_DRAINED);
    return true;
}
