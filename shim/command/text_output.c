/* SPDX-License-Identifier: MIT */
#include "command/print.h"

#include "base/text.h"

#include <inttypes.h>

#define OLDEST_SHOWN 10

/* "3.1s", "2m 5s", "3h 20m". Valid until it has been called four times. */
static const char *duration(int64_t ms)
{
    static char ring[4][32];
    static unsigned int next;
    char *into = ring[next++ % COUNT_OF(ring)];
    struct text text = {into, 0, sizeof ring[0]};
    *into = '\0';
    if (ms < 120000)
        text_tenths(&text, ms);
    else if (ms < 7200000)
        snprintf(into, sizeof ring[0], "%" PRId64 "m %" PRId64 "s", ms / 60000, ms / 1000 % 60);
    else
        snprintf(into, sizeof ring[0], "%" PRId64 "h %" PRId64 "m", ms / 3600000, ms / 60000 % 60);
    return into;
}

static void print_phase(const struct view *view)
{
    printf("%s, pid %" PRId32 ": %s", view->program, view->pid, view->phase_name);
    if (view->has_drain) {
        printf(view->phase == PHASE_DRAINED ? " in %s" : " for %s", duration(view->elapsed));
        if (view->phase != PHASE_DRAINED)
            printf(view->left < 0 ? ", no timeout" : ", %s left", duration(view->left));
        printf(" (%s)", view->by);
    }
    printf("\n");
}

static int widest(int least, const char *text)
{
    int length = (int)strlen(text);
    return length > least ? length : least;
}

static void print_listeners(const struct view *view)
{
    int width = (int)strlen("LISTENER");
    for (size_t i = 0; i < view->listeners; i++)
        width = widest(width, view->listener[i].address);
    printf("\n  %-*s  %-9s  %s\n", width, "LISTENER", "MODE", "STATE");
    for (size_t i = 0; i < view->listeners; i++)
        printf("  %-*s  %-9s  %s\n", width, view->listener[i].address, view->listener[i].mode,
               view->listener[i].state);
}

static void print_processes(const struct view *view)
{
    printf("\n  %-8s %9s %9s %9s\n", "PROCESS", "TRACKED", "IDLE", "IN USE");
    for (size_t i = 0; i < view->processes; i++) {
        const struct view_process *process = &view->process[i];
        printf("  %-8" PRId32 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 "%s%s\n", process->pid,
               process->tracked, process->idle, process->in_use,
               process->is_sandboxed ? "  in a seccomp sandbox: it is waited for" : "",
               process->is_deaf ? "  uses the control signal itself: it is not reached" : "");
    }
}

static void print_oldest(const struct view *view)
{
    size_t shown = view->oldests < OLDEST_SHOWN ? view->oldests : OLDEST_SHOWN;
    if (shown)
        printf("\n  %-10s  %-8s  %s\n", "IN USE FOR", "PROCESS", "PEER");
    for (size_t i = 0; i < shown; i++) {
        const struct view_connection *one = &view->oldest[i];
        printf("  %10s  %-8" PRId32 "  %s\n", one->in_use_ms < 0 ? "?" : duration(one->in_use_ms),
               one->pid, one->peer);
    }
    if (shown < view->totals.in_use && shown == OLDEST_SHOWN)
        printf("  and %" PRIu64 " more\n", view->totals.in_use - shown);
    if (view->is_hidden)
        printf("\n  Which connections are in use can't be seen in every process: look as root.\n");
}

/* A line for each group: "connections  9: 7 idle, 2 in use". */
static void print_figures(const struct view *view)
{
    const char *title = NULL, *separator = "";
    for (size_t i = 0; i < figures_count; i++) {
        const struct figure *figure = &figures[i];
        if (!figure->group)
            continue;
        if (!title || !text_equal(title, figure->title))
            printf("\n  %-12s %" PRIu64, title = figure->title, figure_of(view, figure));
        else
            printf("%s%" PRIu64, separator, figure_of(view, figure));
        if (figure->words)
            printf(" %s", figure->words);
        separator = figure->words ? ", " : ": ";
    }
    printf("\n");
}

static void print_table(const struct view *view)
{
    print_phase(view);
    printf("  %-12s %s (weir %s)", "mode", view->mode, view->version);
    print_figures(view);
    if (view->listeners)
        print_listeners(view);
    if (view->processes)
        print_processes(view);
    print_oldest(view);
}

void print_tables(const struct view *views, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            printf("\n");
        print_table(&views[i]);
    }
}

void print_list(const struct view *views, size_t count)
{
    int width = (int)strlen("PROGRAM");
    for (size_t i = 0; i < count; i++)
        width = widest(width, views[i].program);
    if (count)
        printf("%-8s  %-*s  %-9s %9s %9s %9s\n", "PID", width, "PROGRAM", "PHASE", "TRACKED",
               "IDLE", "IN USE");
    for (size_t i = 0; i < count; i++) {
        printf("%-8" PRId32 "  %-*s  %-9s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 "\n", views[i].pid,
               width, views[i].program, views[i].phase_name, views[i].totals.tracked, views[i].idle,
               views[i].totals.in_use);
    }
}
