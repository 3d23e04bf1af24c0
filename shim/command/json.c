/* SPDX-License-Identifier: MIT */
#include "command/view.h"

void print_quoted(const char *before, const char *text)
{
    printf("%s\"", before);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

void print_seconds(const char *before, int64_t ms)
{
    if (ms < 0)
        printf("%snull", before);
    else
        printf("%s%ld.%03d", before, ms / 1000, (int)(ms % 1000));
}

/* An object for each group. */
static void print_figures(const struct view *view)
{
    int group = -1;
    for (size_t i = 0; i < figures_count && figure_groups[figures[i].group].key; i++) {
        if (figures[i].group != group)
            printf("%s, \"%s\": {", i ? "}" : "", figure_groups[figures[i].group].key);
        else
            printf(", ");
        printf("\"%s\": %lu", figures[i].key, figure_of(view, &figures[i]));
        group = figures[i].group;
    }
    printf("}");
}

static void print_lists(const struct view *view)
{
    printf(", \"oldest\": [");
    for (size_t i = 0; i < view->oldests; i++) {
        printf("%s{\"pid\": %d", i ? ", " : "", view->oldest[i].pid);
        print_quoted(", \"peer\": ", view->oldest[i].peer);
        print_seconds(", \"in_use_s\": ", view->oldest[i].in_use_ms);
        printf("}");
    }
    printf("], \"listeners\": [");
    for (size_t i = 0; i < view->listeners; i++) {
        print_quoted(i ? ", {\"address\": " : "{\"address\": ", view->listener[i].address);
        print_quoted(", \"mode\": ", view->listener[i].mode);
        print_quoted(", \"state\": ", view->listener[i].state);
        printf("}");
    }
    printf("], \"processes\": [");
    for (size_t i = 0; i < view->processes; i++)
        printf("%s{\"pid\": %d, \"tracked\": %lu, \"idle\": %lu, \"in_use\": %lu}", i ? ", " : "",
               view->process[i].pid, view->process[i].tracked, view->process[i].idle,
               view->process[i].in_use);
    printf("]");
}

void print_json(const struct view *views, size_t count)
{
    for (const struct view *view = views; view < views + count; view++) {
        print_quoted("{\"version\": ", view->version);
        printf(", \"pid\": %d", view->pid);
        print_quoted(", \"program\": ", view->program);
        print_quoted(", \"mode\": ", view->mode);
        print_quoted(", \"phase\": ", view->phase_name);
        print_figures(view);
        if (view->elapsed >= 0) {
            print_quoted(", \"drain\": {\"by\": ", view->by);
            print_seconds(", \"elapsed_s\": ", view->elapsed);
            print_seconds(", \"left_s\": ", view->left);
            printf("}");
        } else {
            printf(", \"drain\": null");
        }
        print_lists(view);
        printf("}\n");
    }
}
