/* SPDX-License-Identifier: MIT */
/* weir status, weir list */

#include "base/text.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/view.h"
#include "command/say.h"

#include <getopt.h>

static const char status_help[] =
    "usage: weir status [PID] [--json | --prometheus] [--watch]\n"
    "\n"
    "What the process tree that PID belongs to is doing; without PID, every tree that this user\n"
    "may see. A drain that takes long shows here which connections it waits for.\n"
    "\n"
    "  --json         one object per tree, one a line\n"
    "  --prometheus   the text exposition format\n"
    "  --watch        again each second, until it is interrupted or the program has ended\n"
    "\n"
    "A connection is in use for as long as its peer has sent nothing: since the last byte of its\n"
    "request. Of AF_UNIX that is not known (null in JSON).\n";

static const char list_help[] = "usage: weir list [PID] [--json | --prometheus] [--watch]\n"
                                "\n"
                                "The process trees that this user may see, a line each. The "
                                "options are those of `weir status`.\n";

typedef void print_fn(const struct view *views, size_t count);

struct request {
    int32_t pid; /* 0: every tree */
    print_fn *print;
    bool watch;
};

/* Returns an exit code, or -1: go on. */
static int read_options(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"prometheus", no_argument, NULL, 'p'},
        {"watch", no_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    print_fn *standard = request->print;
    for (int c; (c = next_option(argc, argv, options)) != -1;) {
        print_fn *asked = c == 'j' ? print_json : print_prometheus;
        if (c == 'h') {
            fputs(standard == print_list ? list_help : status_help, stdout);
            return EXIT_DONE;
        }
        if (c == '?')
            return EXIT_USAGE;
        if (c == 'w')
            request->watch = true;
        else if (request->print != standard && request->print != asked)
            return say_usage(*argv, "--json and --prometheus don't go together");
        else
            request->print = asked;
    }
    if (argc - optind > 1)
        return say_usage(*argv, "one PID at most");
    if (optind < argc && !(request->pid = process_number(argv[optind])))
        return say_usage(*argv, "\"%s\" is not a process's number", escaped(argv[optind]));
    return -1;
}

static void show(struct tree *trees, const struct request *request)
{
    size_t count = 0;
    struct view *views = NULL;
    for (struct tree *tree = trees; tree; tree = tree->next) {
        void *more = realloc(views, (count + 1) * sizeof *views);
        if (!more)
            break;
        views = more;
        tree_copy(tree); /* or the last figures that there were */
        view_take(&views[count++], tree, request->print != print_list);
    }
    request->print(views, count);
    while (count)
        view_free(&views[--count]);
    free(views);
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
        if (!redraw && (request->print == print_tables || request->print == print_list))
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
    struct request request = {.print = text_equal(*argv, "list") ? print_list : print_tables};
    struct tree *trees = NULL;
    int code = read_options(argc, argv, &request);
    if (code >= 0)
        return code;
    if (request.pid && (code = find_tree(request.pid, &trees)))
        return code;
    if (request.watch) {
        watch(trees, &request);
    } else {
        if (!request.pid)
            trees = find_trees();
        if (!trees && (request.print == print_tables || request.print == print_list))
            say("no %sprocess that this user may see runs under the shim",
                find_met_others ? "other " : "");
        show(trees, &request);
    }
    tree_free(trees);
    return EXIT_DONE;
}
