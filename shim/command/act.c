/* SPDX-License-Identifier: MIT */
/* weir drain, weir close-idle, weir drain-all */

#include "command/act.h"

#include "base/sys.h"
#include "base/text.h"
#include "command/find.h"
#include "command/outside.h"
#include "command/proc/process.h"
#include "command/say.h"
#include "command/table.h"
#include "command/view.h"

#include <errno.h>
#include <getopt.h>
#include <sys/ioctl.h>

static const char help[] = "Usage: weir %s PID|NAME [--wait]%s\n"
                           "\n"
                           "%s, in the whole process tree that PID belongs to,\n"
                           "or that is of this systemd unit or program.\n"
                           "\n"
                           "  --wait        stay until it is done%s\n";

static const char timeout_help[] =
    "  --timeout D   force what is left after D (250ms, 30s, 5m, 1h; 0: never), this time only\n"
    "\n"
    "Exit codes with --wait: 0 drained, and nothing was lost; 3 clients lost something: what was\n"
    "in use was forced, who had sent was turned away from an accept queue, or a process died with\n"
    "requests in progress; 1 the program died in the middle, or something still accepts.\n";

static const char examples[] = "\n"
                               "Examples:\n"
                               "  weir %s 4711\n"
                               "  weir %s nginx.service --wait\n";

static const char *const does[] = {
    [ACTION_CLOSE_IDLE] = "Closes the connections that are idle now",
    [ACTION_DRAIN] = "Closes connections as they become idle and accepts no more",
    [ACTION_DRAIN_ALL] = "Closes every connection and accepts no more",
};

struct request {
    enum action action;
    int64_t timeout; /* ms; -1: as the program was started */
    bool wait;
};

static enum action action_of(const char *name)
{
    return text_equal(name, "close-idle")  ? ACTION_CLOSE_IDLE
           : text_equal(name, "drain-all") ? ACTION_DRAIN_ALL
                                           : ACTION_DRAIN;
}

static void print_help(const char *name)
{
    enum action action = action_of(name);
    bool idle = action == ACTION_CLOSE_IDLE;
    printf(help, name, idle ? "" : " [--timeout D]", does[action],
           idle ? ": until none is idle, or for a second none more was\n"
                  "                closed (one that has just been answered is left alone)"
                : "");
    fputs(idle ? "" : timeout_help, stdout);
    printf(examples, name, name);
}

/* As WEIR_TIMEOUT: whose words for what is wrong with it are used too. */
int64_t act_read_duration(const char *name, const char *option, const char *value)
{
    static const char variable[] = "WEIR_TIMEOUT";
    char entry[256];
    char *environment[] = {entry, NULL};
    struct settings settings;
    struct complaint complaint;
    if ((size_t)snprintf(entry, sizeof entry, "%s=%s", variable, value) >= sizeof entry ||
        !settings_read(&settings, environment, &complaint)) {
        const char *what = text_after(complaint.text, variable);
        die_usage(name, "%s%s", option, what ? what : ": this is no duration");
    }
    return settings.timeout;
}

static struct request read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {.action = action_of(*argv), .timeout = -1};
    for (int c; (c = next_option(argc, argv, options, print_help)) != -1;) {
        if (c == 't')
            request.timeout = act_read_duration(*argv, "--timeout", optarg);
        request.wait |= c == 'w';
    }
    if (request.timeout >= 0 && request.action == ACTION_CLOSE_IDLE)
        die_usage(*argv, "--timeout: close-idle forces nothing, and has none");
    if (argc - optind != 1)
        die_usage(*argv, "one PID, please");
    return request;
}

/* ---- waking ---- */

struct woken {
    int processes, refused;
    bool had_news; /* the last page had not had the order yet */
};

/* Leaves the order in one page and wakes its processes. */
static int ask_page(struct tree *tree, const struct request *request, struct woken *woken)
{
    struct origin origin = {0, getpid(), (int32_t)getuid()};
    int error = tree_ask(tree, request->action, &origin, request->timeout, &woken->had_news);
    if (error)
        return error;
    tree_copy(tree);
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        error = tree_wake(tree, i);
        woken->processes += error == 0;
        woken->refused += error == EPERM;
    }
    return 0;
}

/* ---- what stands in the way ---- */

void act_check(struct tree *tree, int32_t pid, enum action action, int64_t timeout)
{
    int32_t first = tree_pid(tree);
    if (tree->is_foreign)
        die(EXIT_FAILED,
            "pid %d lives in another pid namespace, whose processes can't be told apart from here: "
            "run `weir` inside its container",
            pid);
    if (tree->is_part && proc_start_time(tree->page.tree_pid) == tree->page.tree_start)
        die(EXIT_FORBIDDEN,
            "pid %d: it belongs to the tree of pid %d, whose state page this user may not open: "
            "use that one's user, or root",
            pid, tree->page.tree_pid);
    if (tree->page.settings.control_signal == 0)
        die(EXIT_FAILED,
            "pid %d: it was started with WEIR_CONTROL_SIGNAL=none, so that nothing can wake it: "
            "send it WEIR_SIGNAL, or start it with a control signal",
            first);
    if (!tree_signal_is_harmless(tree))
        die(EXIT_FAILED,
            "pid %d: its state page says that signal %d wakes it, which could do harm, and is not "
            "sent: send it WEIR_SIGNAL",
            first, tree->page.settings.control_signal);
    bool delays = action == ACTION_DRAIN && tree->page.phase == PHASE_SERVING;
    if (delays && timeout > 0 && tree->page.settings.delay >= timeout)
        die(EXIT_USAGE, "--timeout: it is not longer than WEIR_DELAY of pid %d (%ld ms)", first,
            tree->page.settings.delay);
}

static int not_reached(struct tree *tree, const struct woken *woken)
{
    char name[16];
    int sig = tree->page.settings.control_signal;
    if (woken->refused)
        return fail(EXIT_FORBIDDEN, "pid %d: not permitted to signal it: use its user, or root",
                    tree_pid(tree));
    if (!tree_any(tree))
        return fail(EXIT_FAILED, "pid %d: it ended before it could be told", tree_pid(tree));
    return fail(EXIT_FAILED,
                "pid %d: no process of it listens to the control signal (%s): send it WEIR_SIGNAL, "
                "or start it with another WEIR_CONTROL_SIGNAL",
                tree_pid(tree),
                sig > 0 && sig <= 64 ? settings_signal_name(sig, name) : "of no meaning");
}

/* ---- progress ---- */

#define POLL_MS 50
#define LINE_MS 1000
/* close-idle: nothing tells that a process has done it. One that has, closes all at once. */
#define STILL_MS 1000

/* On a terminal one line that is written over, elsewhere a line a second. */
struct progress {
    bool is_terminal;
    int64_t drawn_at; /* 0: never */
};

static void clear(const struct progress *progress)
{
    if (progress->is_terminal && progress->drawn_at)
        printf("\r\033[K");
    fflush(stdout);
}

#define BAR_MOST 40

/* Draws what has been closed of all there is to close, as wide as the line has room for it. */
static void draw_bar(const struct view *view, int room)
{
    uint64_t closed = view->drained.clean + view->drained.forced;
    uint64_t all = closed + view->totals.tracked;
    int wide = room < BAR_MOST ? room : BAR_MOST;
    int full = all ? (int)((double)closed / (double)all * wide) : wide;
    if (wide < 4)
        return;
    printf(" [");
    for (int i = 0; i < wide; i++)
        putchar(i < full ? '#' : '-');
    printf("]");
}

/* "redis-server, pid 41: draining [####--] 4 of 6 closed, 21.9s left" */
static void draw_on_terminal(const struct view *view)
{
    struct winsize size;
    char end[80];
    uint64_t closed = view->drained.clean + view->drained.forced;
    int used =
        snprintf(end, sizeof end, " %lu of %lu closed", closed, closed + view->totals.tracked);
    if (view->left >= 0)
        used += snprintf(end + used, sizeof end - (size_t)used, ", %s left", duration(view->left));
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
        size.ws_col = 80;
    used += printf("\r\033[K%s, pid %d: ", view->program, view->pid) - 4;
    print_in(WARNING, "%s", view->phase_name);
    draw_bar(view, size.ws_col - used - (int)strlen(view->phase_name) - 4);
    printf("%s", end);
}

static void draw(struct progress *progress, const struct view *view)
{
    int64_t now = sys_now_ms();
    if (now - progress->drawn_at < (progress->is_terminal ? 100 : LINE_MS))
        return;
    progress->drawn_at = now;
    if (progress->is_terminal) {
        draw_on_terminal(view);
    } else {
        printf("%s, pid %d: %s: %lu in use, %lu idle", view->program, view->pid, view->phase_name,
               view->totals.in_use, view->idle);
        if (view->elapsed >= 0)
            printf(", %s", duration(view->elapsed));
        if (view->left >= 0)
            printf(", %s left", duration(view->left));
        printf("\n");
    }
    fflush(stdout);
}

/* ---- the end ---- */

/* A part that has ended on its own has drained as well as it could. */
static bool is_over(struct tree *tree)
{
    bool over = tree->page.phase == PHASE_DRAINED, parts_are = true;
    for (struct tree *part = tree->attached; part; part = part->attached)
        parts_are = parts_are && (part->page.phase == PHASE_DRAINED || !tree_any(part));
    return over && (parts_are || tree->page.timed_out); /* nobody waits for them any more */
}

/* Names the processes without which the drain has ended. Returns whether there were any. */
static bool say_undone(const struct view *view)
{
    bool any = view->timed_out, is_named = false;
    for (size_t i = 0; i < view->processes; i++) {
        const struct view_process *process = &view->process[i];
        if (process->flags & SLOT_UNCOVERED) {
            any = true;
            say("pid %d: something of it could not be drained, and is still served: its log names "
                "it (WEIR_LOG)",
                process->pid);
        }
        if (!view->timed_out || (process->is_drained && !process->is_given_up))
            continue;
        is_named = true;
        if (process->is_drained)
            say("pid %d had not drained when the drain ended", process->pid);
        else
            say("pid %d has not drained: it has %lu connections, and may still accept",
                process->pid, process->tracked);
    }
    if (view->timed_out && !is_named)
        say("the drain ended before all of the tree had drained: its log names them (WEIR_LOG)");
    return any;
}

/* For so long something may be about to close that the drain has ended. */
#define OUTSIDE_MS 1000

/* Whether something of the tree still accepts, or has a connection: it is named. */
static bool say_outside(struct tree *tree)
{
    for (int ms = 0; ms < OUTSIDE_MS; ms += POLL_MS) {
        if (!outside_look(tree, false))
            return false;
        usleep(POLL_MS * 1000);
        tree_copy(tree);
    }
    return outside_look(tree, true);
}

static int say_drained(struct tree *tree, const struct view *view)
{
    bool undone = say_undone(view);
    if (say_outside(tree))
        undone = true;
    const struct totals *lost = &view->at_end;
    bool is_loss = lost->forced_in_use || lost->unread || lost->unsent;
    printf("%s, pid %d: ", view->program, view->pid);
    print_in(undone ? BAD : GOOD, "%sdrained", undone ? "not wholly " : "");
    printf(" in %s: %lu closed clean, ", duration(view->elapsed), view->drained.clean);
    print_in(is_loss ? BAD : PLAIN, "%lu forced, %lu of them in use", view->drained.forced,
             lost->forced_in_use);
    if (lost->unread || lost->unsent)
        print_in(BAD, "; %lu with bytes unread, %lu unsent", lost->unread, lost->unsent);
    printf("\n");
    if (is_loss)
        return EXIT_FORCED;
    return undone ? EXIT_FAILED : EXIT_DONE;
}

/* ---- waiting ---- */

struct still {
    uint64_t idle;
    int64_t since;
};

/* Whether as much is closed as a close-idle closes. */
static bool is_still(struct still *still, const struct view *view)
{
    if (view->idle != still->idle || !still->since)
        *still = (struct still){view->idle, sys_now_ms()};
    return !view->idle || sys_now_ms() - still->since >= STILL_MS;
}

/* --wait: stays until what was asked of the tree is done. Returns the exit code. */
static int wait_for(struct tree *tree, enum action action)
{
    struct progress progress = {.is_terminal = isatty(STDOUT_FILENO)};
    struct still still = {0};
    int code = -1;
    stop_when_interrupted(true);
    while (code < 0) {
        struct view view;
        budget_renew();
        bool lives = tree_lives(tree), is_there = tree_copy(tree);
        /* Of the last copy nobody may be left but those that they have made since. */
        if (!lives && !(lives = tree_lives(tree)))
            is_there = tree_copy(tree) && is_there; /* what they wrote before they ended */
        view_take(&view, tree, false);
        bool done = action == ACTION_CLOSE_IDLE ? is_still(&still, &view) : is_over(tree);
        if (done || !is_there || !lives || interrupted)
            clear(&progress);
        if (!is_there) {
            code =
                fail(EXIT_FAILED,
                     "pid %d: its state page was cut off: somebody has tampered with it", view.pid);
        } else if (action == ACTION_CLOSE_IDLE && (done || !lives)) {
            printf("%s, pid %d: %lu idle, %lu in use\n", view.program, view.pid, view.idle,
                   view.totals.in_use);
            code = EXIT_DONE;
        } else if (done) {
            code = say_drained(tree, &view);
        } else if (!lives) {
            code = fail(EXIT_FAILED,
                        "%s, pid %d: it died in the middle of the drain: its own log may say why",
                        view.program, view.pid);
        } else if (interrupted) {
            code = fail(128 + interrupted, "no longer waiting: the drain goes on (weir status %d)",
                        view.pid);
        } else {
            draw(&progress, &view);
            usleep(POLL_MS * 1000);
        }
        view_free(&view);
    }
    stop_when_interrupted(false);
    return code;
}

/* ---- acting ---- */

static int fail_to_write(struct tree *tree, int error)
{
    return fail(exit_code(error), "pid %d: its state page %s can't be written: %s", tree_pid(tree),
                escaped(tree->path), strerror(error));
}

static int act(struct tree *tree, const struct request *request)
{
    struct woken woken = {0};
    bool was_over = tree->page.phase == PHASE_DRAINED;
    int error = ask_page(tree, request, &woken);
    bool had_news = woken.had_news;
    if (error)
        return fail_to_write(tree, error);
    for (struct tree *part = tree->attached; part; part = part->attached)
        ask_page(part, request, &woken);
    if (was_over) {
        if (!request->wait)
            say("pid %d: it is drained already", tree_pid(tree));
    } else if (!woken.processes) {
        return not_reached(tree, &woken);
    } else if (!had_news) {
        say("pid %d: a drain of it is on already%s", tree_pid(tree),
            request->timeout >= 0 ? ", and keeps its timeout" : "");
    }
    return request->wait ? wait_for(tree, request->action) : EXIT_DONE;
}

/* ---- for a restart ---- */

int act_drain_keeping(struct tree *tree, int64_t timeout, bool *over)
{
    struct request request = {.action = ACTION_DRAIN, .timeout = timeout, .wait = true};
    int error = tree_keep(tree, true);
    int code = error ? fail_to_write(tree, error) : act(tree, &request);
    *over = tree_copy(tree) && (is_over(tree) || !tree_lives(tree));
    if (!*over)
        tree_keep(tree, false);
    return code;
}

int command_act(int argc, char **argv)
{
    struct request request = read_options(argc, argv);
    int32_t pid;
    struct tree *tree = find_target(*argv, argv[optind], &pid);
    act_check(tree, pid, request.action, request.timeout);
    int code = act(tree, &request);
    tree_free(tree);
    return code;
}
