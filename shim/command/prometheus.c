/* SPDX-License-Identifier: MIT */
#include "command/print.h"

#include <inttypes.h>

/* A label's value: texts come escaped to printable ASCII (view.h). */
static void print_label(const char *name, const char *value)
{
    printf("%s=\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            putchar('\\');
        putchar(*value);
    }
    putchar('"');
}

/* A sample, with one more label where there is one. */
static void sample(const struct view *view, const char *metric, const char *label,
                   const char *value)
{
    printf("%s{pid=\"%" PRId32 "\",", metric, view->pid);
    print_label("program", view->program);
    if (label) {
        putchar(',');
        print_label(label, value);
    }
    printf("} ");
}

static void count_sample(const struct view *view, const char *metric, const char *label,
                         const char *value, uint64_t count)
{
    sample(view, metric, label, value);
    printf("%" PRIu64 "\n", count);
}

static void seconds_sample(const struct view *view, const char *metric, int64_t ms)
{
    sample(view, metric, NULL, NULL);
    printf("%" PRId64 ".%03d\n", ms / 1000, (int)(ms % 1000));
}

/* ---- the metrics ---- */

static void connections(const struct view *view, const char *metric)
{
    count_sample(view, metric, "state", "idle", view->totals.tracked - view->totals.in_use);
    count_sample(view, metric, "state", "in_use", view->totals.in_use);
}

static void accepted(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->totals.accepted);
}

static void closed_by_program(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->totals.closed_by_program);
}

static void closed_idle(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->totals.closed_idle);
}

static void forced(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->totals.forced);
}

static void disowned(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->totals.disowned);
}

static void losses(const struct view *view, const char *metric)
{
    count_sample(view, metric, "kind", "forced_in_use", view->forced_in_use);
    count_sample(view, metric, "kind", "unread", view->unread);
    count_sample(view, metric, "kind", "unsent", view->unsent);
}

static void phase(const struct view *view, const char *metric)
{
    static const char *const names[] = {"serving", "delaying", "draining", "drained"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        count_sample(view, metric, "phase", names[i], view->phase == i);
}

static void processes(const struct view *view, const char *metric)
{
    count_sample(view, metric, NULL, NULL, view->processes);
}

static void oldest(const struct view *view, const char *metric)
{
    int64_t ms = view->oldests ? view->oldest[0].in_use_ms : 0;
    seconds_sample(view, metric, ms < 0 ? 0 : ms);
}

static void elapsed(const struct view *view, const char *metric)
{
    if (view->has_drain)
        seconds_sample(view, metric, view->elapsed);
}

static void left(const struct view *view, const char *metric)
{
    if (view->has_drain && view->left >= 0)
        seconds_sample(view, metric, view->left);
}

static const struct {
    const char *name, *type, *help;
    void (*print)(const struct view *view, const char *metric);
} metrics[] = {
    {"weir_connections", "gauge", "Connections that are tracked, by what they are.", connections},
    {"weir_connections_accepted_total", "counter", "Connections that were accepted.", accepted},
    {"weir_connections_closed_by_program_total", "counter",
     "Connections that ended otherwise than by a drain.", closed_by_program},
    {"weir_connections_closed_idle_total", "counter", "Connections that were closed while idle.",
     closed_idle},
    {"weir_connections_forced_total", "counter", "Connections that were cut.", forced},
    {"weir_connections_disowned_total", "counter", "Connections that the program took over.",
     disowned},
    {"weir_losses_total", "counter",
     "Connections that were closed in use, with bytes unread, or with bytes unsent.", losses},
    {"weir_phase", "gauge", "1 for the phase that the process tree is in.", phase},
    {"weir_processes", "gauge", "Processes of the tree that serve.", processes},
    {"weir_oldest_in_use_seconds", "gauge", "How long the oldest connection has been in use.",
     oldest},
    {"weir_drain_elapsed_seconds", "gauge", "How long the drain has taken so far.", elapsed},
    {"weir_drain_left_seconds", "gauge", "How long until the drain forces what is left.", left},
};

static bool is_double(const struct view *views, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (views[i].pid == views[at].pid)
            return true;
    return false;
}

void print_prometheus(const struct view *views, size_t count)
{
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        printf("# HELP %s %s\n# TYPE %s %s\n", metrics[m].name, metrics[m].help, metrics[m].name,
               metrics[m].type);
        for (size_t i = 0; i < count; i++)
            if (!is_double(views, i))
                metrics[m].print(&views[i], metrics[m].name);
    }
}
