/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include "base/sys.h"
#include "base/text.h"
#include "command/proc/memory.h"
#include "command/proc/process.h"
#include "command/proc/sockets.h"
#include "command/say.h"

#include <fcntl.h>
#include <time.h>

/* ---- what is printed ---- */

const char *const view_phases[PHASES] = {
    [PHASE_SERVING] = "serving",
    [PHASE_DELAYING] = "delaying",
    [PHASE_DRAINING] = "draining",
    [PHASE_DRAINED] = "drained",
};

#define AT(field) offsetof(struct view, field)

const struct figure_group figure_groups[] = {
    [CONNECTIONS] = {"connections", "connections", "gauge"},
    [TOTALS] = {"totals", "so far", "counter"},
    [LOSSES] = {"losses", "losses", "counter"},
    [OTHERS] = {NULL, NULL, "gauge"},
    [TIMES] = {NULL, NULL, "gauge"},
};

const struct figure figures[] = {
    {CONNECTIONS, "tracked", NULL, AT(totals.tracked), NULL, NULL, NULL},
    {CONNECTIONS, "idle", "idle", AT(idle), "weir_connections",
     "Connections that are tracked, by what they are.", "state"},
    {CONNECTIONS, "in_use", "in use", AT(totals.in_use), "weir_connections", NULL, "state"},
    {TOTALS, "accepted", "accepted", AT(totals.accepted), "weir_connections_accepted_total",
     "Connections that were accepted.", NULL},
    {TOTALS, "closed_by_program", "closed by the program", AT(totals.closed_by_program),
     "weir_connections_closed_by_program_total",
     "Connections that ended otherwise than by a drain.", NULL},
    {TOTALS, "closed_idle", "closed idle", AT(totals.closed_idle),
     "weir_connections_closed_idle_total", "Connections that were closed while idle.", NULL},
    {TOTALS, "forced", "forced", AT(totals.forced), "weir_connections_forced_total",
     "Connections that were force-closed.", NULL},
    {TOTALS, "disowned", "disowned", AT(totals.disowned), "weir_connections_disowned_total",
     "Connections that the program took over.", NULL},
    {LOSSES, "forced_in_use", "forced in use", AT(totals.forced_in_use), "weir_losses_total",
     "Connections that were closed in use, with bytes unread, or with bytes unsent.", "kind"},
    {LOSSES, "unread", "with bytes unread", AT(totals.unread), "weir_losses_total", NULL, "kind"},
    {LOSSES, "unsent", "with bytes unsent", AT(totals.unsent), "weir_losses_total", NULL, "kind"},
    {OTHERS, NULL, NULL, AT(processes), "weir_processes", "Processes of the tree that serve.",
     NULL},
    {OTHERS, NULL, NULL, AT(accepting), "weir_listeners_accepting",
     "Listeners that accept, but for those whose mode is off.", NULL},
    {TIMES, NULL, NULL, AT(oldest_ms), "weir_oldest_in_use_seconds",
     "How long the oldest connection has been in use.", NULL},
    {TIMES, NULL, NULL, AT(elapsed), "weir_drain_elapsed_seconds",
     "How long the drain has taken so far.", NULL},
    {TIMES, NULL, NULL, AT(left), "weir_drain_left_seconds",
     "How long until the drain forces what is left.", NULL},
};
const size_t figures_count = COUNT_OF(figures);

uint64_t figure_of(const struct view *view, const struct figure *figure)
{
    return *(const uint64_t *)((const char *)view + figure->at);
}

/* ---- the drain ---- */

static const char *mode_name(uint32_t mode)
{
    return mode < MODES ? settings_mode_name((enum mode)mode) : "?";
}

static void take_by(struct view *view, const struct origin *by)
{
    struct text text = TEXT_ON(view->by);
    *view->by = '\0';
    if (by->signal)
        settings_say_signal(&text, by->signal > 0 && by->signal <= 64 ? by->signal : 0);
    else
        text_string(&text, by->pid ? "weir drain" : "the program");
    if (by->signal || by->pid)
        snprintf(view->by + text.used, sizeof view->by - text.used, " from pid %d uid %u", by->pid,
                 (uint32_t)by->uid);
}

static void take_drain(struct view *view, const struct page *page)
{
    int64_t since = page->since, end = page->ended ? page->ended : sys_now_ms();
    int64_t timeout = page->timeout < 0 ? page->settings.timeout : page->timeout;
    view->phase = page->phase < PHASES ? page->phase : PHASE_SERVING;
    view->phase_name = page->phase < PHASES ? view_phases[page->phase] : "?";
    view->timed_out = page->timed_out;
    view->elapsed = view->left = -1;
    if (page->by_taken != 2)
        return;
    take_by(view, &page->by);
    view->elapsed = since >= 0 && end > since ? end - since : 0;
    view->left = timeout <= 0 ? -1 : timeout > view->elapsed ? timeout - view->elapsed : 0;
}

/* ---- figures ---- */

static void add_process(struct view *view, int32_t pid, const struct totals *counts,
                        const struct page_slot *line)
{
    bool can_drain = !(line->flags & (SLOT_SANDBOXED | SLOT_NOT_WOKEN));
    view->process = grow(view->process, view->processes, sizeof *view->process);
    view->process[view->processes++] = (struct view_process){
        .pid = pid,
        .tracked = counts->tracked,
        .idle = counts->tracked - counts->in_use,
        .in_use = counts->in_use,
        .phase = line->phase,
        .flags = line->flags,
        .is_drained = line->phase == PHASE_DRAINED || (!can_drain && !counts->tracked),
        .is_given_up = line->given_up,
    };
}

#define TELLS_MS 100

/* Has the process tell the page what is in use there, if that is not so each moment (in a drain).
 */
static void have_it_told(struct tree *tree, uint32_t index)
{
    uint32_t before = tree->page.slot[index].counts;
    if (tree->page.phase != PHASE_SERVING || !tree->page.slot[index].table ||
        tree_wake(tree, index) != 0)
        return;
    for (int ms = 0; ms < TELLS_MS && tree->page.slot[index].counts == before; ms++) {
        usleep(1000);
        if (!tree_copy(tree))
            return;
    }
}

/* ---- which connections are in use ---- */

static int by_age(const void *a, const void *b)
{
    const struct view_connection *one = a, *other = b;
    return one->in_use_ms > other->in_use_ms ? -1 : one->in_use_ms < other->in_use_ms;
}

/* Adds those of one process. */
static void add_in_use(struct view *view, int32_t pid, const struct in_use *in_use)
{
    view->oldest = grow(view->oldest, view->oldests + in_use->fds, sizeof *view->oldest);
    for (size_t i = 0; i < in_use->fds; i++) {
        struct view_connection *connection = &view->oldest[view->oldests];
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, in_use->fd[i]);
        uint64_t inode = proc_socket(AT_FDCWD, path);
        if (!inode)
            continue; /* it was closed on a path that the shim does not see, or just now */
        const struct socket *socket = sockets_find(pid, inode);
        *connection =
            (struct view_connection){.pid = pid, .in_use_ms = socket ? socket->quiet_ms : -1};
        snprintf(connection->peer, sizeof connection->peer, "%s",
                 socket ? sockets_address(socket, &socket->peer) : "?");
        view->oldests++;
    }
    if (view->oldests)
        qsort(view->oldest, view->oldests, sizeof *view->oldest, by_age);
    if (view->oldests > OLDEST_MOST)
        view->oldests = OLDEST_MOST;
}

/*
 * By the process's memory; where that may not be read, by what the process tells. In a drain it
 * tells at each step, by what the kernel knows.
 */
static void count_in_use(struct view *view, struct tree *tree, uint32_t index, int32_t pid,
                         struct totals *counts)
{
    const struct page_slot *slot = &tree->page.slot[index];
    struct budget *budget = budget_of(tree->uid);
    bool has_told = slot->phase == PHASE_DRAINING;
    struct in_use in_use = {0};
    if (has_told && !view->with_oldest)
        return;
    int64_t began = sys_now_ms();
    bool has_time = budget->time_ms > 0;
    bool is_known =
        has_time && memory_in_use(pid, slot->table, slot->generation, view->with_oldest, &in_use);
    add_in_use(view, pid, &in_use);
    free(in_use.fd);
    view->is_hidden |= !is_known;
    if (!has_told && is_known) {
        counts->in_use = in_use.count;
    } else if (!has_told && has_time) {
        have_it_told(tree, index);
        page_slot_totals(counts, &tree->page, index);
    }
    budget->time_ms -= sys_now_ms() - began;
    page_settle(counts);
}

/* ---- the lines of a page ---- */

static void add_line(struct view *view, struct tree *tree, uint32_t index)
{
    const struct page *page = &tree->page;
    struct totals counts = {0};
    int32_t pid = index < PAGE_SLOTS ? tree_process(tree, index) : 0;
    page_add_slot(&counts, page, index, pid || index == PAGE_SLOTS);
    page_settle(&counts);
    if (pid && !page->slot[index].given_up)
        count_in_use(view, tree, index, pid, &counts);
    page_add_totals(&view->totals, &counts);
    if (pid && page->slot[index].given_up) { /* it has its connections still */
        uint32_t shards, first = page_shards(index, &shards);
        page_add(&counts, &page->shard[first], shards);
        page_settle(&counts);
    }
    if (pid)
        add_process(view, pid, &counts, &page->slot[index]);
}

static void add_listener(struct view *view, const struct page_listener *listener)
{
    static const char *const states[PAGE_STATES] = {
        [PAGE_ACCEPTING] = "accepting",
        [PAGE_CLOSING] = "closing",
        [PAGE_STOPPED] = "stopped",
        [PAGE_KEPT] = "kept",
    };
    struct view_listener one = {.mode = mode_name(listener->mode),
                                .state =
                                    listener->state < PAGE_STATES ? states[listener->state] : "?"};
    if (listener->pid <= 0)
        return;
    snprintf(one.address, sizeof one.address, "%s", escaped(listener->address));
    for (size_t i = 0; i < view->listeners; i++) { /* SO_REUSEPORT: one for each worker */
        const struct view_listener *at = &view->listener[i];
        if (text_equal(at->address, one.address) && at->mode == one.mode && at->state == one.state)
            return;
    }
    view->listener = grow(view->listener, view->listeners, sizeof *view->listener);
    view->listener[view->listeners++] = one;
    view->accepting += listener->state == PAGE_ACCEPTING && listener->mode != MODE_OFF;
}

static void add_page(struct view *view, struct tree *tree)
{
    for (uint32_t i = 0; i < PAGE_SLOTS; i++)
        if (tree->page.slot[i].pid > 0)
            add_line(view, tree, i);
    add_line(view, tree, PAGE_SLOTS);
    page_add_gone(&view->totals, &tree->page.gone);
    for (uint32_t i = 0; i < PAGE_LISTENERS; i++)
        add_listener(view, &tree->page.listener[i]);
}

/*
 * Connections that one process has closed and another, which holds them too, has not touched yet
 * (page.h, gap): they are in use.
 */
static void add_handed_on(struct view *view, struct tree *tree)
{
    bool open[PAGE_HANDOFFS];
    struct budget *budget = budget_of(tree->uid);
    int64_t began = sys_now_ms();
    int32_t pid = tree->page.handoffs_used && budget->time_ms > 0 ? tree_any(tree) : 0;
    if (!pid)
        return;
    uint32_t count = proc_open_handoffs(tree->page.handoff, PAGE_HANDOFFS, pid, began, open);
    budget->time_ms -= sys_now_ms() - began;
    view->totals.tracked += count;
    view->totals.in_use += count;
    view->totals.closed_by_program -= count; /* who handed it on has counted a close */
}

/* ---- all of it ---- */

/* How the connections have ended of a drain that is on, or over. */
static void take_drained(struct view *view, const struct tree *tree)
{
    struct totals asked = {0};
    for (const struct tree *part = tree; part; part = part->attached)
        if (part->page.by_taken == 2 && part->page.asked.tracked != PAGE_NOT_COUNTED)
            page_add_totals(&asked, &part->page.asked);
    view->drained = page_drained(&view->at_end, &asked);
}

/* A tree of which no drain was asked, but of each of its processes alone (weir_drain(),
 * WEIR_SIGNAL), is where the last of them is. */
static void take_own_drains(struct view *view)
{
    uint32_t least = PHASES;
    for (size_t i = 0; i < view->processes; i++)
        least = view->process[i].phase < least ? view->process[i].phase : least;
    if (view->phase != PHASE_SERVING || least == PHASES)
        return;
    view->phase = least;
    view->phase_name = view_phases[least];
}

/* Since the process began that the tree is named after (the name of a page tells when). */
static int64_t age_of(const struct page *page)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t began = page->start * TICK_MS;
    return ms > began ? (int64_t)(ms - began) : 0;
}

void view_take(struct view *view, struct tree *tree, bool with_oldest)
{
    *view = (struct view){
        .pid = tree_pid(tree), .age = age_of(&tree->page), .with_oldest = with_oldest};
    process_unit(view->pid, view->unit, sizeof view->unit);
    snprintf(view->program, sizeof view->program, "%s", escaped(tree->page.program));
    snprintf(view->version, sizeof view->version, "%s", escaped(tree->page.version));
    view->mode = mode_name(tree->page.settings.mode);
    take_drain(view, &tree->page);
    for (struct tree *part = tree; part; part = part->attached) {
        struct totals others = view->totals;
        view->totals = (struct totals){0};
        add_page(view, part);
        add_handed_on(view, part);
        bool has_ended = part->page.phase == PHASE_DRAINED && part->page.has_at_end;
        page_add_totals(&view->at_end, has_ended ? &part->page.at_end : &view->totals);
        page_add_totals(&view->totals, &others);
    }
    page_settle_tree(&view->totals);
    page_settle_tree(&view->at_end);
    take_drained(view, tree);
    take_own_drains(view);
    view->idle = view->totals.tracked - view->totals.in_use;
    if (!view->totals.in_use) /* by the kernel's word, in a drain */
        view->oldests = 0;
    if (view->oldests && view->oldest[0].in_use_ms > 0)
        view->oldest_ms = view->oldest[0].in_use_ms;
    sockets_forget();
}

void view_free(struct view *view)
{
    free(view->listener);
    free(view->process);
    free(view->oldest);
    *view = (struct view){0};
}
