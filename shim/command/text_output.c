/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include "base/text.h"
#include "command/table.h"

#define OLDEST_SHOWN 10
#define ADDRESSES_WIDE 40

static enum color phase_color(const struct view *view)
{
    static const enum color colors[PHASES] = {
        [PHASE_SERVING] = GOOD,
        [PHASE_DELAYING] = WARNING,
        [PHASE_DRAINING] = WARNING,
    };
    return colors[view->phase];
}

/* ---- one tree ---- */

static void print_phase(const struct view *view)
{
    printf("%s, pid %d: ", view->program, view->pid);
    print_in(phase_color(view), "%s", view->phase_name);
    if (view->elapsed >= 0) {
        printf(view->phase == PHASE_DRAINED ? " in %s" : " for %s", duration(view->elapsed));
        if (view->phase != PHASE_DRAINED)
            printf(view->left < 0 ? ", no timeout" : ", %s left", duration(view->left));
        printf(" (%s)", view->by);
    }
    printf("\n");
}

/* A line for each group: "connections  9: 7 idle, 2 in use". What is 0 is left out. */
static void print_figures(const struct view *view)
{
    int group = -1;
    const char *separator = "";
    for (size_t i = 0; i < figures_count && figure_groups[figures[i].group].title; i++) {
        const struct figure *figure = &figures[i];
        uint64_t value = figure_of(view, figure);
        bool is_bad = figure->group == LOSSES || text_equal(figure->key, "forced");
        if (!value && figure->words)
            continue;
        if (figure->group != group)
            printf("\n  %-12s ", figure_groups[figure->group].title);
        else
            printf("%s", separator);
        print_in(is_bad ? BAD : PLAIN, figure->words ? "%lu %s" : "%lu", value, figure->words);
        separator = figure->words ? ", " : ": ";
        group = figure->group;
    }
    printf("\n");
}

static void print_listeners(const struct view *view)
{
    table_begin(true, "LISTENER|MODE|STATE");
    for (size_t i = 0; i < view->listeners; i++) {
        const struct view_listener *listener = &view->listener[i];
        table_cell(PLAIN, "%s", listener->address);
        table_cell(PLAIN, "%s", listener->mode);
        table_cell(text_equal(listener->state, "accepting") ? GOOD : WARNING, "%s",
                   listener->state);
    }
    table_end();
}

/* Prints those that have connections, or of which there is something to say. */
static void print_processes(const struct view *view)
{
    table_begin(true, "PROCESS|>TRACKED|>IDLE|>IN USE|");
    for (size_t i = 0; i < view->processes; i++) {
        const struct view_process *process = &view->process[i];
        const char *note =
            process->flags & SLOT_SANDBOXED   ? "in a seccomp sandbox: it is waited for"
            : process->flags & SLOT_NOT_WOKEN ? "uses the control signal itself: it is not reached"
                                              : "";
        if (!process->tracked && !*note)
            continue;
        table_cell(PLAIN, "%d", process->pid);
        table_cell(PLAIN, "%lu", process->tracked);
        table_cell(PLAIN, "%lu", process->idle);
        table_cell(PLAIN, "%lu", process->in_use);
        table_cell(WARNING, "%s", note);
    }
    table_end();
}

static void print_oldest(const struct view *view)
{
    size_t shown = view->oldests < OLDEST_SHOWN ? view->oldests : OLDEST_SHOWN;
    table_begin(true, ">IN USE FOR|PROCESS|PEER");
    for (size_t i = 0; i < shown; i++) {
        const struct view_connection *one = &view->oldest[i];
        table_cell(PLAIN, "%s", one->in_use_ms < 0 ? "?" : duration(one->in_use_ms));
        table_cell(PLAIN, "%d", one->pid);
        table_cell(PLAIN, "%s", one->peer);
    }
    table_end();
    if (shown < view->totals.in_use && shown == OLDEST_SHOWN)
        printf("  and %lu more\n", view->totals.in_use - shown);
    if (view->is_hidden && view->totals.in_use)
        printf("\n  Which connections are in use can't be seen in every process: look as root.\n");
}

void print_details(const struct view *view, size_t count)
{
    if (!count)
        return;
    print_phase(view);
    printf("  %-12s %s (weir %s)\n", "mode", view->mode, view->version);
    printf("  %-12s %s%s%s", "age", duration(view->age), *view->unit ? ", unit " : "", view->unit);
    print_figures(view);
    if (view->has_rates && view->accepted_rate >= 0)
        printf("  %-12s %ld.%ld accepted, %ld.%ld closed\n", "a second", view->accepted_rate / 10,
               view->accepted_rate % 10, view->closed_rate / 10, view->closed_rate % 10);
    printf("  %-12s %lu\n", "processes", view->processes);
    print_listeners(view);
    print_processes(view);
    print_oldest(view);
}

/* ---- all of them ---- */

/* The addresses of its listeners, as many as have room, and how many there are besides. Valid until
 * the next call. */
static const char *addresses(const struct view *view)
{
    static char into[600];
    size_t used = 0, i = 0;
    for (; i < view->listeners; i++) {
        const char *address = view->listener[i].address;
        if (i && used + strlen(address) > ADDRESSES_WIDE)
            break;
        used += (size_t)snprintf(into + used, sizeof into - used, "%s%s", i ? "," : "", address);
    }
    if (i < view->listeners)
        snprintf(into + used, sizeof into - used, ",+%lu", view->listeners - i);
    return i ? into : "-";
}

static void add_rate(int64_t rate)
{
    if (rate < 0)
        table_cell(PLAIN, "-");
    else
        table_cell(PLAIN, "%ld.%ld", rate / 10, rate % 10);
}

void print_trees(const struct view *views, size_t count)
{
    bool has_rates = count && views->has_rates;
    table_begin(false, has_rates ? "PID|NAME|LISTENERS|MODE|PHASE|>IDLE|>IN USE|>OLDEST|>LEFT|"
                                   ">ACCEPTED/s|>CLOSED/s"
                                 : "PID|NAME|LISTENERS|MODE|PHASE|>IDLE|>IN USE|>OLDEST|>LEFT");
    for (const struct view *view = views; view < views + count; view++) {
        table_cell(PLAIN, "%d", view->pid);
        table_cell(PLAIN, "%s", *view->unit ? view->unit : view->program);
        table_cell(PLAIN, "%s", addresses(view));
        table_cell(PLAIN, "%s", view->mode);
        table_cell(phase_color(view), "%s", view->phase_name);
        table_cell(PLAIN, "%lu", view->idle);
        table_cell(PLAIN, "%lu", view->totals.in_use);
        table_cell(PLAIN, "%s", view->oldest_ms ? duration(view->oldest_ms) : "-");
        table_cell(PLAIN, "%s",
                   view->left < 0 || view->phase == PHASE_DRAINED ? "-" : duration(view->left));
        if (has_rates) {
            add_rate(view->accepted_rate);
            add_rate(view->closed_rate);
        }
    }
    table_end();
}

void print_list(const struct view *views, size_t count)
{
    table_begin(false, "PID|PROGRAM|PHASE|>TRACKED|>IDLE|>IN USE|>AGE|UNIT|LISTENERS");
    for (const struct view *view = views; view < views + count; view++) {
        table_cell(PLAIN, "%d", view->pid);
        table_cell(PLAIN, "%s", view->program);
        table_cell(phase_color(view), "%s", view->phase_name);
        table_cell(PLAIN, "%lu", view->totals.tracked);
        table_cell(PLAIN, "%lu", view->idle);
        table_cell(PLAIN, "%lu", view->totals.in_use);
        table_cell(PLAIN, "%s", duration(view->age));
        table_cell(PLAIN, "%s", *view->unit ? view->unit : "-");
        table_cell(PLAIN, "%s", addresses(view));
    }
    table_end();
}
