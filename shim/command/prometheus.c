/* SPDX-License-Identifier: MIT */
#include "command/view.h"

#include "base/text.h"

/* Whether one before it has the same pid. */
static bool is_repeated(const struct view *views, const struct view *view)
{
    while (views->pid != view->pid)
        views++;
    return views != view;
}

static void begin(const char *metric, const char *type, const char *help)
{
    printf("# HELP %s %s\n# TYPE %s %s\n", metric, help, metric, type);
}

/* The beginning of a sample, with one more label where there is one. */
static void sample(const struct view *view, const char *metric, const char *label,
                   const char *value)
{
    printf("%s{pid=\"%d\"", metric, view->pid);
    print_quoted(",program=", view->program);
    if (label) {
        printf(",%s", label);
        print_quoted("=", value);
    }
    printf("} ");
}

static void print_sample(const struct view *view, const struct figure *figure)
{
    uint64_t value = figure_of(view, figure);
    if (figure->group == TIMES && (int64_t)value < 0)
        return;
    sample(view, figure->metric, figure->label, figure->key);
    if (figure->group == TIMES)
        print_seconds("", (int64_t)value);
    else
        printf("%lu", value);
    printf("\n");
}

/* The figures of one metric lie side by side, and the first has its help. */
static void print_figures(const struct view *views, size_t count, const struct figure *first)
{
    begin(first->metric, figure_groups[first->group].type, first->help);
    for (const struct view *view = views; view < views + count; view++)
        for (const struct figure *figure = first;
             figure < figures + figures_count && text_equal(figure->metric, first->metric);
             figure++)
            if (!is_repeated(views, view))
                print_sample(view, figure);
}

void print_prometheus(const struct view *views, size_t count)
{
    static const char phase[] = "weir_phase";
    for (size_t i = 0; i < figures_count; i++)
        if (figures[i].help)
            print_figures(views, count, &figures[i]);
    begin(phase, "gauge", "1 for the phase that the process tree is in.");
    for (const struct view *view = views; view < views + count; view++)
        for (size_t i = 0; i < PHASES && !is_repeated(views, view); i++) {
            sample(view, phase, "phase", view_phases[i]);
            printf("%d\n", view->phase == i);
        }
}
