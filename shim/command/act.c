/* SPDX-License-Identifier: MIT */
/* weir drain, weir close-idle, weir drain-all */
#include "command/command.h"

#include "command/find.h"
#include "command/proc/process.h"
#include "command/say.h"
#include "base/text.h"
#include "command/wait.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/syscall.h>

static const char help[] = "usage: weir %s PID [--wait]%s\n"
                           "\n"
                           "%s, in the whole process tree that PID belongs to.\n"
                           "\n"
                           "  --wait        stay until it is done%s\n"
                           "%s";

static const char timeout_help[] =
    "  --timeout D   force what is left after D (250ms, 30s, 5m, 1h; 0: never), this time only\n"
    "\n"
    "Exit codes with --wait: 0 drained, and nothing in use was forced; 3 the timeout forced\n"
    "connections that were in use; 1 the program died in the middle.\n";

struct wish {
    int32_t pid;
    enum action action;
    int64_t timeout; /* ms; -1: as the program was started */
    bool wait, has_help;
};

static void print_help(const char *name, enum action action)
{
    bool idle = action == ACTION_CLOSE_IDLE;
    printf(help, name, idle ? "" : " [--timeout D]",
           idle ? "Closes the connections that are idle now"
           : action == ACTION_DRAIN_ALL
               ? "Closes every connection and accepts no more"
               : "Closes connections as they become idle and accepts no more",
           idle ? ": until none is idle, or for a second none more was\n"
                  "                closed (one that has just been answered is left alone)"
                : "",
           idle ? "" : timeout_help);
}

/* As WEIR_TIMEOUT: whose words for what is wrong with it are used too. */
static int read_timeout(const char *name, const char *value, int64_t *timeout)
{
    static const char variable[] = "WEIR_TIMEOUT";
    char entry[256];
    char *environment[] = {entry, NULL};
    struct settings settings;
    struct complaint complaint;
    if ((size_t)snprintf(entry, sizeof entry, "%s=%s", variable, value) >= sizeof entry ||
        !settings_read(&settings, environment, &complaint)) {
        const char *what = text_after(complaint.text, variable);
        return say_usage(name, "--timeout%s", what ? what : ": this is no duration");
    }
    *timeout = settings.timeout;
    return EXIT_DONE;
}

static int read_options(int argc, char **argv, struct wish *wish)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *wish = (struct wish){.timeout = -1,
                          .action = text_equal(argv[0], "close-idle")  ? ACTION_CLOSE_IDLE
                                    : text_equal(argv[0], "drain-all") ? ACTION_DRAIN_ALL
                                                                       : ACTION_DRAIN};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'h') {
            wish->has_help = true;
            return EXIT_DONE;
        } else if (c == 'w') {
            wish->wait = true;
        } else if (c == 't') {
            int code = read_timeout(argv[0], optarg, &wish->timeout);
            if (code)
                return code;
        } else {
            return say_usage(argv[0], c == ':' ? "\"%s\" wants a value" : "\"%s\" is not an option",
                             escaped(argv[optind - 1]));
        }
    }
    if (wish->timeout >= 0 && wish->action == ACTION_CLOSE_IDLE)
        return say_usage(argv[0], "--timeout: close-idle forces nothing, and has none");
    if (argc - optind != 1)
        return say_usage(argv[0], "one PID, please");
    if (!(wish->pid = process_number(argv[optind])))
        return say_usage(argv[0], "\"%s\" is not a process's number", escaped(argv[optind]));
    return EXIT_DONE;
}

/* ---- waking ---- */

struct woken {
    int processes, refused;
};

/*
 * By a pidfd (pidfd_open(2)), so that it is this process that gets the signal, whatever becomes of
 * its number: it is looked at once more after that.
 */
static void wake_line(struct tree *tree, uint32_t index, int sig, struct woken *woken)
{
    int32_t pid = tree_process(tree, index);
    if (!pid || tree->page.line[index].flags & LINE_DEAF)
        return;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return;
    /* Who has no handler for it would die of it. */
    if (proc_is_alive(pid, tree->page.line[index].since) == 1 && tree_is_mapped(tree, pid) == 1 &&
        proc_catches(pid, sig) == 1) {
        if (syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) == 0)
            woken->processes++;
        else if (errno == EPERM)
            woken->refused++;
    }
    close(fd);
}

/* Leaves the order in one page and wakes its processes. *news: whether it was any there. */
static int ask_page(struct tree *tree, const struct wish *wish, struct woken *woken, bool *news)
{
    struct origin origin = {0, getpid(), (int32_t)getuid()};
    int error = tree_ask(tree, wish->action, &origin, wish->timeout, news);
    if (error)
        return error;
    int sig = tree->page.settings.control_signal;
    tree_copy(tree);
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        wake_line(tree, i, sig, woken);
    return 0;
}

/* ---- what stands in the way ---- */

/* What a page says is not to be believed: a worker that was broken into could have root send its
 * master what that takes for an order. */
static bool is_harmless(int32_t sig)
{
    return sig >= SIGRTMIN || sig == SIGUSR1 || sig == SIGUSR2 || sig == SIGURG || sig == SIGWINCH;
}

static int check(struct tree *tree, const struct wish *wish)
{
    int32_t pid = tree_pid(tree);
    if (tree->is_foreign) {
        say("pid %" PRId32 " lives in another pid namespace, whose processes can't be told apart "
            "from here: run `weir` inside its container",
            wish->pid);
        return EXIT_FAILED;
    }
    if (tree->is_part && proc_start_time(tree->page.tree_pid) == tree->page.tree_start) {
        say("pid %" PRId32 ": it belongs to the tree of pid %" PRId32
            ", whose state page this user may not open: use that one's user, or root",
            wish->pid, tree->page.tree_pid);
        return EXIT_FORBIDDEN;
    }
    if (tree->page.settings.control_signal == 0) {
        say("pid %" PRId32 ": it was started with WEIR_CONTROL_SIGNAL=none, so that nothing can "
            "wake it: send it WEIR_SIGNAL, or start it with a control signal",
            pid);
        return EXIT_FAILED;
    }
    if (!is_harmless(tree->page.settings.control_signal)) {
        say("pid %" PRId32 ": its state page says that signal %" PRId32 " wakes it, which could do "
            "harm, and is not sent: send it WEIR_SIGNAL",
            pid, tree->page.settings.control_signal);
        return EXIT_FAILED;
    }
    if (wish->timeout > 0 && tree->page.settings.delay >= wish->timeout) {
        say("--timeout: it is not longer than WEIR_DELAY of pid %" PRId32 " (%" PRId64 " ms)", pid,
            tree->page.settings.delay);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

static int not_reached(struct tree *tree, const struct woken *woken)
{
    char name[16];
    int sig = tree->page.settings.control_signal;
    if (woken->refused) {
        say("pid %" PRId32 ": not permitted to signal it: use its user, or root", tree_pid(tree));
        return EXIT_FORBIDDEN;
    }
    if (!tree_lives(tree)) {
        say("pid %" PRId32 ": it ended before it could be told", tree_pid(tree));
        return EXIT_FAILED;
    }
    say("pid %" PRId32
        ": no process of it listens to the control signal (%s): send it WEIR_SIGNAL, "
        "or start it with another WEIR_CONTROL_SIGNAL",
        tree_pid(tree), sig > 0 && sig <= 64 ? settings_signal_name(sig, name) : "of no meaning");
    return EXIT_FAILED;
}

/* ---- acting ---- */

static int act(struct tree *tree, const struct wish *wish)
{
    struct woken woken = {0};
    bool was_over = tree->page.phase == PHASE_DRAINED, news, not_told;
    int error = ask_page(tree, wish, &woken, &news);
    if (error) {
        say("pid %" PRId32 ": its state page %s can't be written: %s", tree_pid(tree),
            escaped(tree->path), strerror(error));
        return exit_code(error);
    }
    for (struct tree *part = tree->joined; part; part = part->next)
        ask_page(part, wish, &woken, &not_told);
    if (was_over) {
        if (!wish->wait)
            say("pid %" PRId32 ": it is drained already", tree_pid(tree));
    } else if (!woken.processes) {
        return not_reached(tree, &woken);
    } else if (!news) {
        say("pid %" PRId32 ": a drain of it is on already%s", tree_pid(tree),
            wish->timeout >= 0 ? ", and keeps its timeout" : "");
    }
    return wish->wait ? wait_for(tree, wish->action) : EXIT_DONE;
}

int command_act(int argc, char **argv)
{
    struct wish wish;
    struct tree *tree = NULL;
    int code = read_options(argc, argv, &wish);
    if (wish.has_help)
        print_help(argv[0], wish.action);
    if (code || wish.has_help)
        return code;
    code = find_tree(wish.pid, &tree);
    if (!code)
        code = check(tree, &wish);
    if (!code)
        code = act(tree, &wish);
    tree_free(tree);
    return code;
}
