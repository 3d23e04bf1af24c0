/* SPDX-License-Identifier: MIT */
/* weir status, weir list */
#include "command/command.h"

#include "command/proc/budget.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/print.h"
#include "command/say.h"

#include <getopt.h>

static const char status_help[] =
    "usage: weir status [PID] [--json | --prometheus] [--watch]\n"
    "\n"
    "What the process tree that PID belongs to is doing; without PID, every tree that this user "
    "may\n"
    "see. A drain that takes long shows here which connections it waits for.\n"
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

struct wish {
    int32_t pid; /* 0: every tree */
    print_fn *print;
    bool watch, has_help;
};

static int read_options(int argc, char **argv, struct wish *wish)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"prometheus", no_argument, NULL, 'p'},
        {"watch", no_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    print_fn *format = NULL;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        print_fn *asked = c == 'j' ? print_json : c == 'p' ? print_prometheus : NULL;
        if (c == 'h') {
            wish->has_help = true;
            return EXIT_DONE;
        }
        if (c == 'w')
            wish->watch = true;
        else if (!asked)
            return say_usage(argv[0], "\"%s\" is not an option", escaped(argv[optind - 1]));
        else if (format && format != asked)
            return say_usage(argv[0], "--json and --prometheus don't go together");
        else
            format = asked;
    }
    if (format)
        wish->print = format;
    if (argc - optind > 1)
        return say_usage(argv[0], "one PID at most");
    if (optind < argc && !(wish->pid = process_number(argv[optind])))
        return say_usage(argv[0], "\"%s\" is not a process's number", escaped(argv[optind]));
    return EXIT_DONE;
}

static void show(struct tree *trees, const struct wish *wish)
{
    size_t count = 0;
    for (struct tree *tree = trees; tree; tree = tree->next)
        count++;
    struct view *views = calloc(count + 1, sizeof *views);
    if (!views)
        return;
    count = 0;
    for (struct tree *tree = trees; tree; tree = tree->next) {
        tree_copy(tree); /* or the last figures that there were */
        view_take(&views[count++], tree, wish->print != print_list);
    }
    wish->print(views, count);
    for (size_t i = 0; i < count; i++)
        view_free(&views[i]);
    free(views);
}

/* Shows it again each second. */
static void watch(struct tree *tree, const struct wish *wish)
{
    bool redraw = isatty(STDOUT_FILENO);
    stop_when_interrupted(true);
    while (!interrupted && !ferror(stdout)) {
        budget_renew();
        struct tree *trees = wish->pid ? tree : find_trees();
        if (redraw)
            printf("\033[H\033[J");
        show(trees, wish);
        if (!redraw && (wish->print == print_tables || wish->print == print_list))
            printf("\n");
        fflush(stdout);
        if (!wish->pid)
            tree_free_list(trees);
        else if (!tree_lives(tree))
            break;
        sleep_ms(1000);
        if (wish->pid && !tree_copy(tree))
            break;
    }
    stop_when_interrupted(false);
}

static int run(int argc, char **argv, print_fn *print, const char *help)
{
    struct wish wish = {.print = print};
    struct tree *trees = NULL;
    int code = read_options(argc, argv, &wish);
    if (wish.has_help)
        fputs(help, stdout);
    if (code || wish.has_help)
        return code;
    if (wish.pid && (code = find_tree(wish.pid, &trees)))
        return code;
    if (wish.watch) {
        watch(trees, &wish);
    } else {
        if (!wish.pid)
            trees = find_trees();
        if (!trees && (wish.print == print_tables || wish.print == print_list))
            say("no %sprocess that this user may see runs under the shim",
                find_met_others() ? "other " : "");
        show(trees, &wish);
    }
    tree_free_list(trees);
    return EXIT_DONE;
}

int command_status(int argc, char **argv)
{
    return run(argc, argv, print_tables, status_help);
}

int command_list(int argc, char **argv)
{
    return run(argc, argv, print_list, list_help);
}
