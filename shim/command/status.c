/* SPDX-License-Identifier: MIT */
/* weir status, weir list */

#include "base/sys.h"
#include "base/text.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/say.h"
#include "command/view.h"

#include <getopt.h>

static const char status_help[] =
    "Usage: weir status [PID|NAME] [--json | --prometheus] [--watch]\n"
    "\n"
    "What the process tree that PID belongs to is doing, or the one of that systemd unit or "
    "program;\n"
    "without one, every tree that this user may see, a line each. A drain that takes long shows "
    "here\n"
    "which connections it waits for.\n"
    "\n"
    "  --json         one object per tree, one a line\n"
    "  --prometheus   the text exposition format\n"
    "  --watch        again each second, with what was accepted and closed in it, until it is\n"
    "                 interrupted or the program has ended\n"
    "\n"
    "A connection is in use for as long as its peer has sent nothing: since the last byte of its\n"
    "request. Of AF_UNIX that is not known (null in JSON).\n"
    "\n"
    "Examples:\n"
    "  weir status --watch\n"
    "  weir status nginx.service --json\n";

static const char list_help[] = "Usage: weir list [PID|NAME] [--json | --prometheus] [--watch]\n"
                                "\n"
                                "The process trees that this user may see, a line each: since when "
                                "they run, in which unit, and\n"
                                "where they listen. The options are those of `weir status`.\n"
                                "\n"
                                "Examples:\n"
                                "  weir list\n"
                                "  weir list --watch\n";

typedef void print_fn(const struct view *views, size_t count);

struct request {
    int32_t pid; /* 0: every tree */
    print_fn *print;
    bool watch;
};

static void print_help(const char *name)
{
    fputs(text_equal(name, "list") ? list_help : status_help, stdout);
}

static void read_options(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"prometheus", no_argument, NULL, 'p'},
        {"watch", no_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    print_fn *standard = request->print;
    for (int c; (c = next_option(argc, argv, options, print_help)) != -1;) {
        print_fn *asked = c == 'j' ? print_json : print_prometheus;
        if (c == 'w')
            request->watch = true;
        else if (request->print != standard && request->print != asked)
            die_usage(*argv, "--json and --prometheus don't go together");
        else
            request->print = asked;
    }
    if (argc - optind > 1)
        die_usage(*argv, "one PID at most");
    if (optind < argc && request->print == print_trees)
        request->print = print_details;
}

/* What a tree had counted when it was shown last. */
struct sample {
    int32_t pid;
    int64_t at;
    uint64_t accepted, closed;
};

static int64_t rate_of(uint64_t before, uint64_t after, int64_t ms)
{
    return ms > 0 && after > before ? (int64_t)((after - before) * 10000 / (uint64_t)ms) : 0;
}

/* Fills in what has happened since the last time. */
static void take_rates(struct view *views, size_t count)
{
    static struct sample *last;
    static size_t lasts;
    struct sample *samples = calloc(count + 1, sizeof *samples);
    for (size_t i = 0; samples && i < count; i++) {
        struct view *view = &views[i];
        const struct totals *totals = &view->totals;
        samples[i] =
            (struct sample){view->pid, sys_now_ms(), totals->accepted,
                            totals->closed_by_program + totals->closed_idle + totals->forced};
        view->has_rates = true;
        view->accepted_rate = view->closed_rate = -1;
        for (size_t j = 0; j < lasts; j++) {
            const struct sample *at = &last[j];
            if (at->pid != view->pid)
                continue;
            int64_t ms = samples[i].at - at->at;
            view->accepted_rate = rate_of(at->accepted, samples[i].accepted, ms);
            view->closed_rate = rate_of(at->closed, samples[i].closed, ms);
        }
    }
    free(last);
    last = samples;
    lasts = samples ? count : 0;
}

static void show(struct tree *trees, const struct request *request)
{
    size_t count = 0;
    struct view *views = grow(NULL, 0, sizeof *views); /* so that it has an end when it is empty */
    for (struct tree *tree = trees; tree; tree = tree->next) {
        views = grow(views, count, sizeof *views);
        tree_copy(tree); /* or the last figures that there were */
        view_take(&views[count++], tree, request->print != print_list);
    }
    if (request->watch)
        take_rates(views, count);
    request->print(views, count);
    while (count)
        view_free(&views[--count]);
    free(views);
}

static bool is_for_people(const struct request *request)
{
    return request->print != print_json && request->print != print_prometheus;
}

/* Shows it again each second. */
static void watch(struct tree *tree, const struct request *request)
{
    bool redraw = isatty(STDOUT_FILENO);
    stop_when_interrupted(true);
    while (!interrupted && !ferror(stdout)) {
        budget_renew();
        struct tree *trees = request->pid ? tree : find_trees();
        if (redraw)
            printf("\033[H\033[J");
        show(trees, request);
        if (!redraw && is_for_people(request))
            printf("\n");
        fflush(stdout);
        if (!request->pid)
            tree_free(trees);
        else if (!tree_any(tree))
            break;
        sleep(1);
        if (request->pid && !tree_copy(tree))
            break;
    }
    stop_when_interrupted(false);
}

int command_status(int argc, char **argv)
{
    struct request request = {.print = text_equal(*argv, "list") ? print_list : print_trees};
    read_options(argc, argv, &request);
    struct tree *trees = optind < argc ? find_target(*argv, argv[optind], &request.pid) : NULL;
    if (request.watch) {
        watch(trees, &request);
    } else {
        if (!request.pid)
            trees = find_trees();
        if (!trees && is_for_people(&request))
            say("no %sprocess that this user may see runs under the shim",
                find_met_others ? "other " : "");
        show(trees, &request);
    }
    tree_free(trees);
    return EXIT_DONE;
}
