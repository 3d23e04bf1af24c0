/* SPDX-License-Identifier: MIT */
/* weir restart: a new process in the place of a tree, with its listening sockets. */
#include "base/sock.h"
#include "base/sys.h"
#include "base/text.h"
#include "command/act.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/restart_plan.h"
#include "command/say.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

static const char help[] =
    "Usage: weir restart PID|NAME [--timeout D] [--ready D] [--overlap] [-- COMMAND [ARG...]]\n"
    "\n"
    "Puts a new process in the place of the tree that PID belongs to, or that is of this systemd\n"
    "unit or program, and refuses nobody: takes its listening sockets, drains it, ends it, and "
    "starts\n"
    "COMMAND with them, or what the tree was started by. Who connects in between waits. Prints "
    "the\n"
    "new pid.\n"
    "\n"
    "  --timeout D   of the drain (250ms, 30s, 5m, 1h; 0: for ever), as in `weir drain`\n"
    "  --ready D     how long the new one may take until it listens (default 30s)\n"
    "  --overlap     start the new one first, and drain the old one when it listens\n"
    "\n"
    "Where COMMAND does not come up, what was there before is started again, or serves on.\n"
    "\n"
    "Exit codes: 0 done, and nothing was lost; 3 clients lost something; 1 the old one could not\n"
    "be drained, or the new one does not listen on all.\n"
    "\n"
    "Examples:\n"
    "  weir restart 4711 --overlap\n"
    "  weir restart your-daemon -- /opt/your-daemon/2.0/bin/your-daemon\n";

#define SOCKETS_MOST 256
#define POLL_MS 20
#define FORKS_MS 1000   /* between two processes of one that becomes a daemon */
#define LATE_MS 10000   /* an end by the stop signal that takes longer is worth a line */
#define CLOSES_MS 11000 /* the new one has bound its addresses by then (shim/drain/handed.h) */
#define SERVES_MS 5000  /* who listens for so long serves, whatever it waits in */
#define READY_DEFAULT 30000

struct restart {
    int32_t pid; /* as it was given */
    int64_t timeout, ready;
    bool overlaps;
    char **command; /* NULL: as it was started */
    struct plan plan;
    int socket[SOCKETS_MOST]; /* duplicates of the tree's listeners; -1: closed again */
    char *address[SOCKETS_MOST];
    uint64_t inode[SOCKETS_MOST];
    size_t sockets;
    pid_t started;
    struct tree *fresh; /* the new tree; NULL: it is not there yet */
};

static void print_help(const char *name)
{
    (void)name;
    fputs(help, stdout);
}

static void read_options(int argc, char **argv, struct restart *restart)
{
    static const struct option options[] = {
        {"timeout", required_argument, NULL, 't'},
        {"ready", required_argument, NULL, 'r'},
        {"overlap", no_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = next_option(argc, argv, options, print_help)) != -1;) {
        if (c == 't')
            restart->timeout = act_read_duration(*argv, "--timeout", optarg);
        if (c == 'r')
            restart->ready = act_read_duration(*argv, "--ready", optarg);
        restart->overlaps |= c == 'o';
    }
    if (optind == argc)
        die_usage(*argv, "which PID?");
    restart->command = argv[optind + 1] ? argv + optind + 1 : NULL;
}

/* ---- its sockets ---- */

enum wanted { IS_ACCEPTING = PAGE_ACCEPTING, IS_KEPT = PAGE_KEPT, IS_PICKED = PAGE_STATES };

/* Whether the tree has such a listener. The page has one line for sockets of a process that share
 * an address (SO_REUSEPORT): the first of them stands for all. IS_PICKED: the kernel has picked its
 * port, and the new one does not ask for it. */
static bool has_listener(const struct tree *tree, const char *address, enum wanted wanted)
{
    for (const struct tree *part = tree; part; part = part->attached)
        for (uint32_t i = 0; i < PAGE_LISTENERS; i++) {
            const struct page_listener *at = &part->page.listener[i];
            bool is_so = wanted == IS_PICKED ? at->is_picked : at->state == (uint32_t)wanted;
            if (at->pid > 0 && is_so && text_equal(at->address, address))
                return true;
        }
    return false;
}

/* Whether a drain that is on, or over, has left its listeners open, as an earlier restart wanted
 * that has not come to its end: who connects waits. */
static bool is_half_done(const struct tree *tree)
{
    bool any = false;
    for (const struct tree *part = tree; part; part = part->attached)
        for (uint32_t i = 0; i < PAGE_LISTENERS; i++) {
            const struct page_listener *at = &part->page.listener[i];
            if (at->pid <= 0 || at->mode == MODE_OFF || at->is_picked)
                continue;
            if (at->state != PAGE_KEPT)
                return false;
            any = true;
        }
    return any;
}

/* HAProxy binds its admin socket to one path, and gives it another: nobody can come by the first. A
 * path that begins where the program was started can't be looked up from here. */
static bool is_to_take(int fd)
{
    struct sockaddr_storage own;
    const struct sockaddr_un *un = (const void *)&own;
    if (sock_is_listener(fd) != 1)
        return false;
    bool is_relative = sock_own_address(fd, &own) && own.ss_family == AF_UNIX && *un->sun_path &&
                       *un->sun_path != '/';
    return is_relative || sock_is_reached(fd);
}

static bool has_inode(const struct restart *restart, uint64_t inode)
{
    for (size_t i = 0; i < restart->sockets; i++)
        if (restart->inode[i] == inode)
            return true;
    return false;
}

/* malloc'ed. */
static char *address_of(int fd)
{
    char into[480] = "";
    struct sockaddr_storage addr;
    socklen_t len = sock_own_address(fd, &addr);
    struct text text = TEXT_ON(into);
    if (len)
        text_address(&text, (struct sockaddr *)&addr, len);
    return strdup(into);
}

/* So that the new one may close one of them and bind its address anew. */
static void release_sockets(struct restart *restart)
{
    for (size_t i = 0; i < restart->sockets; i++) {
        close(restart->socket[i]);
        restart->socket[i] = -1;
    }
}

struct taking {
    struct restart *restart;
    const struct tree *tree;
    bool only_kept; /* by the page's word, not what stands in for it */
    int pidfd, error;
};

static bool is_wanted(const struct taking *taking, int fd, const char *address)
{
    return is_to_take(fd) && !has_listener(taking->tree, address, IS_PICKED) &&
           (!taking->only_kept || has_listener(taking->tree, address, IS_KEPT));
}

static void take_descriptor(int dir, const char *name, void *context)
{
    struct taking *taking = context;
    struct restart *restart = taking->restart;
    uint64_t inode = proc_socket(dir, name);
    if (!inode || has_inode(restart, inode) || restart->sockets == SOCKETS_MOST)
        return;
    int fd = (int)syscall(SYS_pidfd_getfd, taking->pidfd, atoi(name), 0);
    if (fd < 0 && errno != EBADF)
        taking->error = errno;
    char *address = fd < 0 ? NULL : address_of(fd);
    if (fd >= 0 && is_wanted(taking, fd, address)) {
        /* Nobody accepts for a while: as many as the kernel allows (somaxconn) may wait, until the
         * new one says how many it wants (listen(2) of a socket that listens sets that alone). */
        listen(fd, INT32_MAX);
        restart->socket[restart->sockets] = fd;
        restart->address[restart->sockets] = address;
        restart->inode[restart->sockets++] = inode;
    } else if (fd >= 0) {
        free(address);
        close(fd);
    }
}

static void take_sockets(struct restart *restart, const struct tree *tree, int32_t pid)
{
    char path[64];
    struct taking taking = {restart, tree, is_half_done(tree), (int)syscall(SYS_pidfd_open, pid, 0),
                            0};
    if (taking.pidfd < 0)
        return; /* it has ended */
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    long error = -proc_each_file(path, take_descriptor, &taking);
    close(taking.pidfd);
    if (!error)
        error = taking.error;
    if (error && error != ENOENT && error != ESRCH)
        die(exit_code((int)error), "pid %d: its sockets can't be taken: %s", pid,
            strerror((int)error));
}

static void take_all_sockets(struct restart *restart, struct tree *tree)
{
    for (struct tree *part = tree; part; part = part->attached)
        for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
            int32_t pid = tree_process(part, i);
            if (pid)
                take_sockets(restart, tree, pid);
        }
    if (!restart->sockets)
        die(EXIT_FAILED,
            "pid %d: it listens nowhere that the new one would ask for: there is nothing to "
            "hand over",
            restart->pid);
}

/* ---- the old one ends ---- */

/* The page is not to be trusted: it tells of one of three, and of no other. */
static int stop_signal(const struct tree *tree)
{
    static const int known[] = {SIGTERM, SIGQUIT, SIGINT};
    uint64_t stops = tree->page.settings.stop_signals;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (stops >> (known[i] - 1) & 1)
            return known[i];
    return SIGTERM;
}

static void send_stop_signal(struct tree *tree)
{
    for (struct tree *part = tree; part; part = part->attached)
        if (tree_any(part))
            kill(tree_pid(part), stop_signal(part));
}

/* It may have much to write before it ends: how long is for the caller to judge, who can kill it.
 */
static void end(struct tree *tree)
{
    int64_t says_at = sys_now_ms() + LATE_MS;
    int32_t told = 0;
    while (tree_lives(tree)) {
        int32_t head = tree_pid(tree);
        if (head != told) /* a shell that waits for its daemon ends without telling it */
            send_stop_signal(tree);
        told = head;
        if (says_at && sys_now_ms() >= says_at) {
            say("pid %d: was sent signal %d %d s ago, and has not ended yet: waiting",
                tree_pid(tree), stop_signal(tree), LATE_MS / 1000);
            says_at = 0;
        }
        usleep(POLL_MS * 1000);
        budget_renew();
        tree_copy(tree);
    }
}

/* Drains the old one, and ends it. stdout is for the new one's pid: what a drain prints goes to
 * stderr. *over: the old one is out of the way. */
static int drain(struct restart *restart, struct tree *tree, bool *over)
{
    fflush(stdout);
    int out = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    int code = act_drain_keeping(tree, restart->timeout, over);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    if (*over)
        end(tree);
    return code;
}

/* ---- the new one listens ---- */

static size_t count_taken(const struct restart *restart)
{
    size_t count = 0;
    for (size_t i = 0; i < restart->sockets; i++)
        count += has_listener(restart->fresh, restart->address[i], IS_ACCEPTING);
    return count;
}

/* Looks for the tree that began with the process that was started, which may have forked itself
 * away by now. */
static void find_fresh(struct restart *restart)
{
    if (restart->fresh)
        tree_copy(restart->fresh);
    else
        restart->fresh = find_begun_by(restart->started);
}

/* A daemon ends its first process when it has forked the one that goes on, which is in the page
 * from its first call that matters on. Returns whether any lives within that time. */
static bool fresh_lives(struct restart *restart)
{
    for (int64_t until = sys_now_ms() + FORKS_MS; !tree_lives(restart->fresh);) {
        if (sys_now_ms() >= until)
            return false;
        usleep(POLL_MS * 1000);
        budget_renew();
        tree_copy(restart->fresh);
    }
    return true;
}

/* A program may listen and then fail in the rest of its start (an address that somebody else has, a
 * file that can't be read). */
static bool fresh_serves(struct restart *restart)
{
    for (struct tree *part = restart->fresh; part; part = part->attached) {
        struct totals totals;
        page_add_all(&totals, &part->page);
        if (totals.accepted)
            return true;
        for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
            int32_t pid = tree_process(part, i);
            if (pid && process_waits(pid))
                return true;
        }
    }
    return false;
}

/* Whether what was there before can be started with the sockets, should this one fail. */
static bool has_way_back(const struct restart *restart)
{
    return !restart->overlaps && restart->plan.words != restart->plan.own_words;
}

/* Waits until the new one listens on all, and waits for clients. Returns whether it does. */
static bool wait_until_ready(struct restart *restart)
{
    int64_t began = sys_now_ms(), first = 0, all_at = 0, ended_at = 0;
    for (;;) {
        budget_renew();
        find_fresh(restart);
        size_t taken = count_taken(restart);
        int64_t now = sys_now_ms();
        if (taken == restart->sockets) {
            if (!all_at && !has_way_back(restart))
                release_sockets(restart);
            all_at = all_at ? all_at : now;
            if (now - all_at >= SERVES_MS ||
                (fresh_serves(restart) && !tree_first_execs(restart->fresh)))
                return true;
        }
        if (taken && !first)
            first = now;
        if ((first && now - first >= CLOSES_MS) || now - began >= restart->ready)
            return false;
        if (ended_at && (restart->fresh ? !fresh_lives(restart) : now - ended_at >= FORKS_MS))
            return false;
        if (!ended_at && waitpid(restart->started, NULL, WNOHANG) == restart->started)
            ended_at = now;
        usleep(POLL_MS * 1000);
    }
}

/* Says where the new one does not listen, and what becomes of that. A path is left: it may lead
 * elsewhere by now. */
static void say_lost(const struct restart *restart, const char *becomes)
{
    for (size_t i = 0; i < restart->sockets; i++)
        if (!has_listener(restart->fresh, restart->address[i], IS_ACCEPTING))
            say("%s: the new one does not listen there%s", restart->address[i], becomes);
}

/* Returns whether it listens on all. */
static bool start(struct restart *restart)
{
    restart->started = plan_start(&restart->plan, restart->socket, restart->sockets);
    return restart->started > 0 && wait_until_ready(restart);
}

/* The new one does not do what it was started for. Returns whether it lives; which is said. */
static bool is_left(struct restart *restart, const char *what)
{
    if (restart->fresh && fresh_lives(restart)) {
        say("pid %d: it is %s", tree_pid(restart->fresh), what);
        return true;
    }
    tree_free(restart->fresh);
    restart->fresh = NULL;
    if (restart->started > 0 && kill(restart->started, 0) == 0) {
        say("pid %d: it does not run under the shim, and is %s", restart->started, what);
        return true;
    }
    if (restart->started > 0)
        say("pid %d: it has ended: its own log may say why%s", restart->started,
            restart->plan.uid[0] == getuid() ? ""
                                             : "; it had the rights that the old one had kept");
    return false;
}

static void end_new(struct restart *restart)
{
    if (!is_left(restart, "ended again"))
        return;
    if (restart->fresh)
        end(restart->fresh);
    else
        kill(-restart->started, SIGTERM); /* its session */
    tree_free(restart->fresh);
    restart->fresh = NULL;
}

/* ---- both ---- */

static int fail_to_start(struct restart *restart)
{
    bool waits = is_left(restart, "left running") && !count_taken(restart);
    say_lost(restart, waits ? " yet: who connects waits" : ": it is closed");
    return EXIT_FAILED;
}

/* Another command has failed, and nobody serves: what was there before does again. */
static int go_back(struct restart *restart)
{
    end_new(restart);
    say("what was there before is started again");
    if (restart->ready < READY_DEFAULT)
        restart->ready = READY_DEFAULT;
    if (!plan_go_back(&restart->plan) || !start(restart))
        return fail_to_start(restart);
    say("pid %d: it serves as before", tree_pid(restart->fresh));
    return EXIT_FAILED;
}

static int one_after_the_other(struct restart *restart, struct tree *tree)
{
    bool over;
    int code = drain(restart, tree, &over);
    if (!over)
        return code ? code : EXIT_FAILED;
    if (start(restart))
        return code;
    return has_way_back(restart) && !count_taken(restart) ? go_back(restart)
                                                          : fail_to_start(restart);
}

static int overlapping(struct restart *restart, struct tree *tree)
{
    bool over;
    if (start(restart))
        return drain(restart, tree, &over);
    say_lost(restart, ", and the old one serves on");
    end_new(restart);
    return EXIT_FAILED;
}

static int restart_tree(struct restart *restart, struct tree *tree)
{
    act_check(tree, restart->pid, ACTION_DRAIN, restart->timeout);
    if (tree->page.phase != PHASE_SERVING && (restart->overlaps || !is_half_done(tree)))
        die(EXIT_FAILED, "pid %d: a drain of it is on already, or over", tree_pid(tree));
    if (tree_pid(tree) == 1) /* pid_namespaces(7) */
        die(EXIT_FAILED, "pid 1: with its end the kernel kills every process here");
    plan_make(&restart->plan, tree_pid(tree), restart->command);
    plan_try(&restart->plan);
    take_all_sockets(restart, tree);
    int code = restart->overlaps ? overlapping(restart, tree) : one_after_the_other(restart, tree);
    if (interrupted && tree_copy(tree) && is_half_done(tree))
        say("pid %d: who connects waits until `weir restart %d` goes on with it", tree_pid(tree),
            tree_pid(tree));
    if (restart->fresh && fresh_lives(restart))
        printf("%d\n", tree_pid(restart->fresh));
    return code;
}

int command_restart(int argc, char **argv)
{
    struct restart restart = {.timeout = -1, .ready = READY_DEFAULT};
    read_options(argc, argv, &restart);
    struct tree *tree = find_target(*argv, argv[optind], &restart.pid);
    return restart_tree(&restart, tree);
}
