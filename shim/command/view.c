/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include "command/oldest.h"
#include "command/say.h"
#include "base/text.h"

#include <inttypes.h>

/* A text of the page, which need not end. */
static void take_text(char *into, size_t room, const char *text, size_t size)
{
    char copy[256];
    struct text out = {into, 0, room};
    size_t length = strnlen(text, size);
    if (length >= sizeof copy)
        length = sizeof copy - 1;
    memcpy(copy, text, length);
    copy[length] = '\0';
    *into = '\0';
    text_escaped(&out, copy, length);
}

static const char *mode_name(uint32_t mode)
{
    const char *name = mode < MODES ? settings_mode_name((enum mode)mode) : NULL;
    return name ? name : "?";
}

/* ---- the drain ---- */

static const char *const phase_names[PHASES] = {
    [PHASE_SERVING] = "serving",
    [PHASE_DELAYING] = "delaying",
    [PHASE_DRAINING] = "draining",
    [PHASE_DRAINED] = "drained",
};

static void take_by(struct view *view, const struct origin *by)
{
    struct text text = TEXT_ON(view->by);
    *view->by = '\0';
    if (by->signal)
        settings_say_signal(&text, by->signal > 0 && by->signal <= 64 ? by->signal : 0);
    else if (by->pid)
        text_string(&text, "weir drain");
    else
        text_string(&text, "the program");
    if (by->signal || by->pid) {
        char from[48];
        snprintf(from, sizeof from, " from pid %" PRId32 " uid %" PRIu32, by->pid,
                 (uint32_t)by->uid);
        text_string(&text, from);
    }
}

static void take_drain(struct view *view, const struct page *page)
{
    int64_t since = page->since, end = page->ended ? page->ended : now_ms();
    int64_t timeout = page_timeout(page);
    view->phase = page->phase < PHASES ? page->phase : PHASE_SERVING;
    view->phase_name = page->phase < PHASES ? phase_names[page->phase] : "?";
    view->has_drain = page->by_taken == 2;
    view->timed_out = page->timed_out;
    if (!view->has_drain)
        return;
    take_by(view, &page->by);
    view->elapsed = since >= 0 && end > since ? end - since : 0;
    view->left = timeout <= 0 ? -1 : timeout > view->elapsed ? timeout - view->elapsed : 0;
}

/* ---- figures ---- */

static void add_totals(struct totals *to, const struct totals *from)
{
    to->tracked += from->tracked;
    to->in_use += from->in_use;
    to->accepted += from->accepted;
    to->closed_by_program += from->closed_by_program;
    to->closed_idle += from->closed_idle;
    to->forced += from->forced;
    to->disowned += from->disowned;
}

static void add_process(struct view *view, int32_t pid, const struct totals *counts,
                        const struct page_line *line)
{
    bool can_drain = !(line->flags & (LINE_SANDBOXED | LINE_DEAF));
    void *room = realloc(view->process, (view->processes + 1) * sizeof *view->process);
    if (!room)
        return;
    view->process = room;
    view->process[view->processes++] = (struct view_process){
        .pid = pid,
        .tracked = counts->tracked,
        .idle = counts->tracked - counts->in_use,
        .in_use = counts->in_use,
        .is_sandboxed = line->flags & LINE_SANDBOXED,
        .is_deaf = line->flags & LINE_DEAF,
        .is_drained = line->phase == PHASE_DRAINED || (!can_drain && !counts->tracked),
    };
}

static void add_line(struct view *view, struct tree *tree, uint32_t index)
{
    const struct page *page = &tree->page;
    struct totals counts = {0};
    uint32_t count, first = page_shards(index, &count);
    page_add(&counts, &page->shard[first], count);
    page_settle(&counts);
    if (index < PAGE_LINES) {
        const struct page_line *line = &page->line[index];
        int32_t pid = tree_process(tree, index);
        view->forced_in_use += line->forced_in_use;
        view->unread += line->unread;
        view->unsent += line->unsent;
        if (pid) {
            add_process(view, pid, &counts, line);
        } else {
            /* It was killed: the kernel has closed what it had. */
            counts.closed_by_program += counts.tracked;
            counts.tracked = counts.in_use = 0;
        }
    }
    add_totals(&view->totals, &counts);
}

static void add_gone(struct view *view, const struct page_sums *gone)
{
    struct totals counts = {
        .accepted = gone->accepted,
        .closed_by_program = gone->closed_by_program,
        .closed_idle = gone->closed_idle,
        .forced = gone->forced,
        .disowned = gone->disowned,
    };
    add_totals(&view->totals, &counts);
    view->forced_in_use += gone->forced_in_use;
    view->unread += gone->unread;
    view->unsent += gone->unsent;
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
    take_text(one.address, sizeof one.address, listener->address, sizeof listener->address);
    for (size_t i = 0; i < view->listeners; i++) { /* SO_REUSEPORT: one for each worker */
        const struct view_listener *at = &view->listener[i];
        if (text_equal(at->address, one.address) && at->mode == one.mode && at->state == one.state)
            return;
    }
    void *room = realloc(view->listener, (view->listeners + 1) * sizeof *view->listener);
    if (!room)
        return;
    view->listener = room;
    view->listener[view->listeners++] = one;
}

static void add_page(struct view *view, struct tree *tree)
{
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        if (tree->page.line[i].pid > 0)
            add_line(view, tree, i);
    add_line(view, tree, PAGE_LINES);
    add_gone(view, &tree->page.gone);
    for (uint32_t i = 0; i < PAGE_LISTENERS; i++)
        add_listener(view, &tree->page.listener[i]);
}

void view_take(struct view *view, struct tree *tree, bool with_oldest)
{
    struct sockets sockets = {0};
    *view = (struct view){.pid = tree_pid(tree)};
    take_text(view->program, sizeof view->program, tree->page.program, sizeof tree->page.program);
    take_text(view->version, sizeof view->version, tree->page.version, sizeof tree->page.version);
    view->mode = mode_name(tree->page.settings.mode);
    take_drain(view, &tree->page);
    for (struct tree *part = tree; part; part = part == tree ? tree->joined : part->next) {
        add_page(view, part);
        add_handed_on(view, part, &sockets);
    }
    page_settle_tree(&view->totals);
    if (with_oldest && view->totals.in_use)
        take_oldest(view, tree, &sockets);
    sockets_free(&sockets);
}

void view_free(struct view *view)
{
    free(view->listener);
    free(view->process);
    free(view->oldest);
    *view = (struct view){0};
}
