/* SPDX-License-Identifier: MIT */
#include "command/print.h"

#include <inttypes.h>

/* Texts come escaped to printable ASCII (view.h). */
static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

static void print_key(const char *key, const char *text)
{
    printf("\"%s\": ", key);
    print_text(text);
}

/* Seconds, to the millisecond; negative: null. */
static void print_seconds(const char *key, int64_t ms)
{
    if (ms < 0)
        printf("\"%s\": null", key);
    else
        printf("\"%s\": %" PRId64 ".%03d", key, ms / 1000, (int)(ms % 1000));
}

static void print_drain(const struct view *view)
{
    if (!view->has_drain) {
        printf("\"drain\": null");
        return;
    }
    printf("\"drain\": {");
    print_key("by", view->by);
    printf(", ");
    print_seconds("elapsed_s", view->elapsed);
    printf(", ");
    print_seconds("left_s", view->left);
    printf("}");
}

static void print_lists(const struct view *view)
{
    printf("\"oldest\": [");
    for (size_t i = 0; i < view->oldests; i++) {
        printf("%s{\"pid\": %" PRId32 ", ", i ? ", " : "", view->oldest[i].pid);
        print_key("peer", view->oldest[i].peer);
        printf(", ");
        print_seconds("in_use_s", view->oldest[i].in_use_ms);
        printf("}");
    }
    printf("], \"listeners\": [");
    for (size_t i = 0; i < view->listeners; i++) {
        printf(i ? ", {" : "{");
        print_key("address", view->listener[i].address);
        printf(", ");
        print_key("mode", view->listener[i].mode);
        printf(", ");
        print_key("state", view->listener[i].state);
        printf("}");
    }
    printf("], \"processes\": [");
    for (size_t i = 0; i < view->processes; i++)
        printf("%s{\"pid\": %" PRId32 ", \"tracked\": %" PRIu64 ", \"idle\": %" PRIu64
               ", \"in_use\": %" PRIu64 "}",
               i ? ", " : "", view->process[i].pid, view->process[i].tracked, view->process[i].idle,
               view->process[i].in_use);
    printf("]");
}

static void print_one(const struct view *view)
{
    const struct totals *totals = &view->totals;
    printf("{");
    print_key("version", view->version);
    printf(", \"pid\": %" PRId32 ", ", view->pid);
    print_key("program", view->program);
    printf(", ");
    print_key("mode", view->mode);
    printf(", ");
    print_key("phase", view->phase_name);
    printf(", \"connections\": {\"tracked\": %" PRIu64 ", \"idle\": %" PRIu64
           ", \"in_use\": %" PRIu64 "}",
           totals->tracked, totals->tracked - totals->in_use, totals->in_use);
    printf(", \"totals\": {\"accepted\": %" PRIu64 ", \"closed_by_program\": %" PRIu64
           ", \"closed_idle\": %" PRIu64 ", \"forced\": %" PRIu64 ", \"disowned\": %" PRIu64 "}",
           totals->accepted, totals->closed_by_program, totals->closed_idle, totals->forced,
           totals->disowned);
    printf(", \"losses\": {\"forced_in_use\": %" PRIu64 ", \"unread\": %" PRIu64
           ", \"unsent\": %" PRIu64 "}, ",
           view->forced_in_use, view->unread, view->unsent);
    print_drain(view);
    printf(", ");
    print_lists(view);
    printf("}\n");
}

void print_json(const struct view *views, size_t count)
{
    for (size_t i = 0; i < count; i++)
        print_one(&views[i]);
}
