/* SPDX-License-Identifier: MIT */
#include "tree/head.h"

#include "conn/epoch.h"
#include "tree/joined.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/settings.h"
#include "base/sys.h"
#include "tree/tree.h"

#include <signal.h>

static struct proc_file page_file; /* of the tree_page; inode 0: not asked yet */
static uint64_t orders_done;       /* what of tree_page->order has been begun here */

/*
 * What this process knows by itself. Any process of the tree can write the page, one that was
 * broken into as well: so once a drain is on, the head goes by this and not by what the page says.
 */
static struct {
    _Atomic bool is_head; /* for good: nobody can make another one the head instead */
    _Atomic bool has_terms, drains, has_ended;
    _Atomic uint32_t asked, begun;  /* drains, as bits 1 << enum action: of the head itself; here */
    _Atomic int64_t since, timeout; /* of the drain, as in struct drain_terms */
    _Atomic int64_t until;          /* at which the head waits no longer; 0: it does for ever */
} own;

static bool ended_here; /* this process has seen the tree's drain to its end */
static bool gave_up;    /* and some had not ended theirs */

/* When processes are woken again that have not begun, and those without a thread. */
static int64_t again_at, step_at;

void head_forget(void)
{
    ended_here = gave_up = false;
    again_at = step_at = 0;
    orders_done = tree_page ? atomic_load(&tree_page->order) & ORDER_CLOSE_IDLE : 0;
    atomic_store(&own.is_head, false);
    atomic_store(&own.has_terms, false);
    atomic_store(&own.drains, false);
    atomic_store(&own.has_ended, false);
    atomic_store(&own.asked, 0);
    atomic_store(&own.begun, 0);
    joined_forget();
}

static bool lives(int32_t pid)
{
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        if (atomic_load(&tree_page->line[i].pid) == pid)
            return proc_line_lives(&tree_page->line[i]);
    return false;
}

bool head_is_here(void)
{
    int32_t me = epoch_ask_pid(), head;
    if (!tree_page || tree_is_foreign())
        return false;
    if (atomic_load(&own.is_head) || tree_is_first()) {
        atomic_store(&own.is_head, true);
        return true;
    }
    head = atomic_load(&tree_page->head);
    if (head == me || lives(head))
        return head == me;
    if (tree_descends_from_the_living(0) ||
        !atomic_compare_exchange_strong(&tree_page->head, &head, me))
        return false;
    /* Another head may have seen the end of the drain, of which there is one only. */
    atomic_store(&own.has_ended, atomic_load(&tree_page->phase) == PHASE_DRAINED);
    atomic_store(&own.is_head, true);
    return true;
}

bool head_is_alone(void)
{
    int32_t me = epoch_ask_pid();
    for (uint32_t i = 0; tree_page && i < PAGE_LINES; i++) {
        int32_t pid = atomic_load(&tree_page->line[i].pid);
        if (pid && pid != me && proc_line_lives(&tree_page->line[i]))
            return false;
    }
    return true;
}

/* ---- orders ---- */

#define SINCE_MOST 2000 /* ms: so much earlier than it is seen may an order have been given */

/* The terms of the drain as they are here and now, and from now on. */
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
    bool late = since < 0 || since > now || (since < now - SINCE_MOST && head_is_here());
    bool has_none = timeout < 0 || timeout > DURATION_MOST;
    take_terms(late ? now : since, has_none ? settings_now()->timeout : timeout);
}

void head_terms(struct drain_terms *terms)
{
    *terms = (struct drain_terms){true, atomic_load(&own.since), atomic_load(&own.timeout)};
}

void head_ask(enum action action, const struct origin *origin)
{
    int64_t now = sys_now_ms(), timeout = settings_now()->timeout;
    if (action != ACTION_CLOSE_IDLE) {
        take_terms(now, timeout);
        /* What is asked of the head itself is done in time, whatever else was asked for before. */
        int64_t until = atomic_load(&own.until);
        if (timeout && (!until || until > now + timeout))
            atomic_store(&own.until, now + timeout);
        /* The page may be written over before the thread has looked at it. */
        uint32_t wanted = 1u << ACTION_DRAIN | 1u << action;
        atomic_fetch_or(&own.asked, wanted & ~atomic_load(&own.begun));
    }
    page_ask(tree_page, action, origin, -1, now, NULL);
}

void head_count_asked(void)
{
    struct totals totals;
    if (!head_tree_drains() || tree_page->asked.tracked != PAGE_NOT_COUNTED || !head_is_here())
        return;
    tree_totals(&totals);
    tree_page->asked = totals;
}

/*
 * A privileged process signals nobody because a page says so: a worker that was broken into may
 * have written it. One that may not read others' maps (it has given up CAP_SYS_PTRACE, proc(5))
 * signals its own descendants alone: nobody can make somebody else one of them.
 */
static void wake(int32_t pid, const struct proc_file *file, const char *name, uint32_t *budget)
{
    int sig = settings_now()->control_signal;
    int mapped = proc_maps(pid, file, name, budget), caught = proc_catches(pid, sig);
    bool is_ours = mapped == 1 || (mapped < 0 && (sys0(SYS_geteuid) != 0 || proc_is_child(pid) ||
                                                  (caught == 1 && proc_descends(pid))));
    if (is_ours && caught != 0)
        sys2(SYS_kill, pid, sig);
}

static bool is_to_wake(const struct page_line *line, enum wake which)
{
    switch (which) {
    case WAKE_ALL:
        return true;
    case WAKE_NOT_BEGUN:
        return atomic_load(&line->phase) == PHASE_SERVING;
    case WAKE_THREADLESS:
        return atomic_load(&line->flags) & LINE_THREADLESS;
    }
    return false;
}

/* By which its processes map it. "": there is no file. */
static void name_of(const struct page *page, char name[48])
{
    struct text text = {name, 0, 48};
    *name = '\0';
    if (page != tree_page || *tree_name() == '/')
        page_name(&text, page->pid, page->start, page->pid_namespace);
}

void head_wake_page(struct page *page, const struct proc_file *file, enum wake which)
{
    static uint32_t first; /* so that all have their turn, when the budget is used up */
    uint32_t budget = PROC_MAPS_BUDGET;
    char name[48];
    name_of(page, name);
    for (uint32_t i = 0; i < PAGE_LINES && budget; i++) {
        struct page_line *line = &page->line[first++ % PAGE_LINES];
        int32_t pid = atomic_load(&line->pid);
        if (pid > 0 && pid != epoch_pid() && !(atomic_load(&line->flags) & LINE_DEAF) &&
            is_to_wake(line, which) && proc_line_lives(line))
            wake(pid, file, name, &budget);
    }
}

/* ---- processes that found no free line ---- */

static bool is_listed(int32_t pid)
{
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        if (atomic_load(&tree_page->line[i].pid) == pid)
            return true;
    return false;
}

bool head_lists(int32_t pid)
{
    return tree_page && lives(pid);
}

bool head_has_process(int32_t pid)
{
    char page_name[48];
    int sig = settings_now()->control_signal;
    if (!tree_page || tree_is_foreign())
        return false;
    if (lives(pid))
        return true;
    if (!page_file.inode)
        proc_mapped_file(tree_page, &page_file);
    name_of(tree_page, page_name);
    /* weir(1) maps the page as well, and catches nothing. */
    uint32_t budget = PROC_MAPS_BUDGET;
    if (proc_maps(pid, &page_file, page_name, &budget) == 1)
        return !sig || proc_catches(pid, sig) == 1;
    return joined_has(pid);
}

struct unlisted {
    bool wakes, found;
    uint32_t budget;
    char page[48];
};

static void visit_unlisted(int32_t pid, void *context)
{
    struct unlisted *unlisted = context;
    /* weir(1) maps the page as well, and catches nothing. */
    int sig = settings_now()->control_signal;
    if (pid == epoch_pid() || is_listed(pid) ||
        proc_maps(pid, &page_file, unlisted->page, &unlisted->budget) != 1 ||
        (sig && proc_catches(pid, sig) != 1))
        return;
    unlisted->found = true;
    if (unlisted->wakes)
        sys2(SYS_kill, pid, sig);
}

#define UNLISTED_MS 500

/* They are found by their maps. Returns whether there is any. */
static bool see_to_unlisted(bool wakes)
{
    struct unlisted unlisted = {.wakes = wakes, .budget = PROC_MAPS_BUDGET};
    name_of(tree_page, unlisted.page);
    if (atomic_load(&tree_page->unlisted))
        proc_each_process(visit_unlisted, &unlisted);
    return unlisted.found;
}

/* Whether some of their connections are left: of one that was killed the count stays. */
static bool have_unlisted_connections(int64_t now)
{
    static int64_t look_at;
    static bool any;
    struct totals totals = {0};
    uint32_t count, first = page_shards(PAGE_LINES, &count);
    if (!atomic_load(&tree_page->unlisted))
        return false;
    page_add(&totals, &tree_page->shard[first], count);
    page_settle(&totals);
    if (now >= look_at) { /* all of /proc */
        look_at = now + UNLISTED_MS;
        any = see_to_unlisted(false);
    }
    return totals.tracked && any;
}

/* ---- waking ---- */

static void wake_all(bool again)
{
    epoch_ask_pid();
    if (!page_file.inode)
        proc_mapped_file(tree_page, &page_file);
    if (!settings_now()->control_signal) {
        if (!again && !head_is_alone())
            log_say(LOG_ERROR, "WEIR_CONTROL_SIGNAL=none: the other processes can't be told");
        return;
    }
    head_wake_page(tree_page, &page_file, again ? WAKE_NOT_BEGUN : WAKE_ALL);
    see_to_unlisted(true);
}

void head_wake(void)
{
    wake_all(false);
    joined_ask();
}

uint32_t head_news(void)
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
        take_terms_of_page();
        atomic_store(&own.drains, true);
    }
    return drains | (idle ? 1u << ACTION_CLOSE_IDLE : 0);
}

bool head_tree_drains(void)
{
    return tree_page && (atomic_load(&own.drains) || atomic_load(&tree_page->order) & ORDER_DRAIN);
}

bool head_tree_is_drained(void)
{
    if (atomic_load(&own.has_ended))
        return true;
    return tree_page && !atomic_load(&own.is_head) &&
           atomic_load(&tree_page->phase) == PHASE_DRAINED;
}

/* How long after the timeout the tree waits for a process that does not answer. */
#define GRACE_MS 2000
#define WAKE_AGAIN_MS 500
#define THREADLESS_MS 50

/* Whether it is this process that sees whether all are done: the head, or else the first line. */
static bool is_watcher(void)
{
    if (tree_is_foreign())
        return false;
    int32_t me = epoch_ask_pid(), head = atomic_load(&tree_page->head);
    if (atomic_load(&own.is_head))
        return true;
    if (head == me || lives(head))
        return head == me;
    for (uint32_t i = 0; i < PAGE_LINES; i++) {
        int32_t pid = atomic_load(&tree_page->line[i].pid);
        if (pid == me)
            return true;
        if (pid > 0 && proc_line_lives(&tree_page->line[i]))
            return false;
    }
    return true;
}

/* The connections of a process. */
static uint64_t tracked_by(uint32_t index)
{
    struct totals totals = {0};
    uint32_t count, first = page_shards(index, &count);
    page_add(&totals, &tree_page->shard[first], count);
    page_settle(&totals);
    return totals.tracked;
}

/* A process that can't drain is done when it has no connection left. */
static bool is_done(uint32_t index)
{
    struct page_line *line = &tree_page->line[index];
    if (atomic_load(&line->phase) == PHASE_DRAINED || !proc_line_lives(line))
        return true;
    bool can_drain = !(atomic_load(&line->flags) & (LINE_SANDBOXED | LINE_DEAF));
    return !can_drain && !tracked_by(index);
}

/* Whether another process with this line is still to be waited for. */
static bool is_undone(uint32_t index)
{
    int32_t pid = atomic_load(&tree_page->line[index].pid);
    return pid && pid != epoch_pid() && !is_done(index);
}

#define GAP_LOOK_MS 50

/* Whether a connection is between two processes. How long a look takes depends on how many sockets
 * there are: the looks take at the most a tenth of the time. */
static bool has_gap(int64_t now)
{
    static int64_t look_at;
    static uint32_t found;
    bool open[PAGE_GAPS];
    if (!atomic_load(&tree_page->gap_used))
        return false;
    if (now < look_at)
        return found;
    uint64_t entries[PAGE_GAPS];
    for (uint32_t i = 0; i < PAGE_GAPS; i++)
        entries[i] = atomic_load(&tree_page->gap[i]);
    found = proc_open_gaps(tree_page->gap, PAGE_GAPS, 0, now, open);
    for (uint32_t i = 0; i < PAGE_GAPS; i++)
        if (entries[i] && !(entries[i] & GAP_ADOPTED) && !open[i])
            atomic_compare_exchange_strong(&tree_page->gap[i], &entries[i], 0);
    int64_t took = sys_now_ms() - now;
    look_at = now + took + (took * 9 > GAP_LOOK_MS ? took * 9 : GAP_LOOK_MS);
    return found;
}

#define UNDONE_NAMED_MOST 10

/* Names a process without which the tree's drain ends. */
static void name_undone(uint32_t index)
{
    struct page_line *line = &tree_page->line[index];
    bool has_begun = atomic_load(&line->phase) != PHASE_SERVING;
    struct log_line say;
    log_begin(&say, LOG_ERROR);
    text_string(&say.text, "not drained: pid ");
    text_number(&say.text, (uint64_t)atomic_load(&line->pid));
    text_string(&say.text, has_begun ? " has not ended its drain"
                                     : " has not begun its drain (is it stopped, or traced?)");
    text_string(&say.text, ": its ");
    text_number(&say.text, tracked_by(index));
    text_string(&say.text, " connections count as forced, and its listeners may still accept");
    log_send(&say);
}

/* Ends the tree's drain without those who have not ended theirs. Their connections are lost as far
 * as anybody knows. */
static void give_up(void)
{
    struct totals totals;
    int named = 0;
    tree_totals(&totals);
    uint64_t left = totals.tracked;
    atomic_fetch_add(&tree_page->gone.forced_in_use, left);
    atomic_fetch_add(&tree_page->gone.cut, left);
    atomic_store(&tree_page->timed_out, 1);
    gave_up = true;
    for (uint32_t i = 0; i < PAGE_LINES && named < UNDONE_NAMED_MOST; i++)
        if (is_undone(i)) {
            name_undone(i);
            named++;
        }
}

bool head_has_ended_it(void)
{
    return ended_here;
}

bool head_gave_up(void)
{
    return gave_up;
}

/*
 * Who has not begun yet, or can make no thread and goes on only when it is woken: while others see
 * to themselves.
 */
void head_keep_awake(int64_t now)
{
    if (!head_tree_drains() || head_tree_is_drained() || !is_watcher())
        return;
    if (now >= again_at) {
        again_at = now + WAKE_AGAIN_MS;
        wake_all(true);
    }
    if (now >= step_at) {
        step_at = now + THREADLESS_MS;
        head_wake_page(tree_page, &page_file, WAKE_THREADLESS);
    }
}

bool head_check(int64_t now)
{
    if (head_tree_is_drained())
        return true;
    if (!is_watcher())
        return false;
    int64_t until = atomic_load(&own.until);
    bool late = until && now > until + GRACE_MS;
    bool done = !has_gap(now) && !have_unlisted_connections(now) && joined_are_done(now);
    for (uint32_t i = 0; i < PAGE_LINES && done; i++)
        done = !is_undone(i);
    if (!done && !late)
        return false;
    if (late && !done)
        give_up();
    ended_here = true;
    atomic_store(&own.has_ended, true);
    atomic_store(&tree_page->ended, now);
    atomic_store(&tree_page->phase, PHASE_DRAINED);
    return true;
}
