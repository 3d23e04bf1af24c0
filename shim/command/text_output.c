/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include "base/text.h"

#define OLDEST_SHOWN 10

/* "3.1s", "2m 5s", "3h 20m". Valid until the next call. */
static const char *duration(int64_t ms)
{
    static char into[32];
    struct text text = TEXT_ON(into);
    if (ms < 120000)
        text_tenths(&text, ms);
    else if (ms < 7200000)
        snprintf(into, sizeof into, "%ldm %lds", ms / 60000, ms / 1000 % 60);
    else
        snprintf(into, sizeof into, "%ldh %ldm", ms / 3600000, ms / 60000 % 60);
    return into;
}

static void print_phase(const struct view *view)
{
    printf("%s, pid %d: %s", view->program, view->pid, view->phase_name);
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
        printf("  %-8d %9lu %9lu %9lu%s%s\n", process->pid, process->tracked, process->idle,
               process->in_use,
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
        printf("  %10s  %-8d  %s\n", one->in_use_ms < 0 ? "?" : duration(one->in_use_ms), one->pid,
               one->peer);
    }
    if (shown < view->totals.in_use && shown == OLDEST_SHOWN)
        printf("  and %lu more\n", view->totals.in_use - shown);
    if (view->is_hidden)
        printf("\n  Which connections are in use can't be seen in every process: look as root.\n");
}

/* A line for each group: "connections  9: 7 idle, 2 in use". */
static void print_figures(const struct view *view)
{
    int group = -1;
    const char *separator = "";
    for (size_t i = 0; i < figures_count && figure_groups[figures[i].group].title; i++) {
        const struct figure *figure = &figures[i];
        if (figure->group != group)
            printf("\n  %-12s ", figure_groups[figure->group].title);
        else
            printf("%s", separator);
        printf(figure->words ? "%lu %s" : "%lu", figure_of(view, figure), figure->words);
        separator = figure->words ? ", " : ": ";
        group = figure->group;
    }
    printf("\n");
}

void print_tables(const struct view *views, size_t count)
{
    for (const struct view *view = views; view < views + count; view++) {
        if (view > views)
            printf("\n");
        print_phase(view);
        printf("  %-12s %s (weir %s)", "mode", view->mode, view->version);
        print_figures(view);
        if (view->listeners)
            print_listeners(view);
        if (view->processes)
            print_processes(view);
        print_oldest(view);
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
    for (const struct view *view = views; view < views + count; view++)
        printf("%-8d  %-*s  %-9s %9lu %9lu %9lu\n", view->pid, width, view->program,
               view->phase_name, view->totals.tracked, view->idle, view->totals.in_use);
}
