/* pg_tree: a line server that is a tree of processes, grown in one of several ways.
 * SPDX-License-Identifier: MIT
 *
 *   pg_tree HOW PORT [GATE]    GATE: a FIFO, of which a child takes a byte before its first read
 *
 *   one              serves one connection after the other
 *   fork, _Fork, clone, handler, thread     a child for each: by a raw clone, forked in a signal's
 *                    handler, forked beside a second thread
 *   nobody, chroot   a child for each, which gives up its rights, or its root directory
 *   exec, vfork      a child for each, which execs this program again: "inetd"
 *   inetd            serves the connection on descriptor 0
 *   pass             one child, to which each connection is sent over a socket
 *   prefork          two children accept
 *   brief            listens, and ends
 *   dormant          listens not at all: one child, and both wait
 *   daemon, early    forks itself away twice, when it listens; before it listens
 *
 * Prints "server PID", "child PID". A line is answered with itself, but for: pid, exit, die (by
 * SIGKILL), raise (sends itself TERM; whether the handler has run when kill returns), env NAME,
 * fork N (children that do nothing, and close nothing), end (of them), become NAME (another
 * program), again (execs itself, as "one"). With PG_CATCH set TERM and
 * INT are caught: "got SIGNAL PID MS", in ms since 1970; if it is "exit" the process exits then.
 * PG_KEEPS is the number of a signal that is caught as well, PG_ROOT the directory of "chroot".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "listen.h"

#define CHILDREN_MOST 1000

static const char *how;
static char *port, *gate;
static int gate_fd = -1; /* opened at the start: a child may have no right to, later */
static int listener = -1;
static volatile sig_atomic_t caught, forked;
static pid_t idle_child[CHILDREN_MOST];
static int idle_children;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static bool is(const char *name)
{
    return !strcmp(how, name);
}

static void open_gate(char *path)
{
    gate = path;
    gate_fd = open(gate, O_RDWR); /* waits for nobody */
    if (gate_fd < 0)
        fail("pg_tree: the gate");
}

static void pass_gate(void)
{
    char byte;
    while (gate && read(gate_fd, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void on_signal(int sig)
{
    char line[100];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "got %d %d %lld\n", sig, (int)getpid(),
                          now.tv_sec * 1000LL + now.tv_nsec / 1000000);
    caught++;
    if (write(1, line, length) != length)
        _exit(1);
    if (!strcmp(getenv("PG_CATCH"), "exit"))
        exit(0); /* it has done nothing but wait */
}

static void fork_in_handler(int sig)
{
    (void)sig;
    forked = fork();
}

static void *do_nothing(void *argument)
{
    for (;;)
        pause();
    return argument;
}

/* ---- a connection ---- */

static void fork_idle(int count)
{
    for (int i = 0; i < count && idle_children < CHILDREN_MOST; i++) {
        pid_t pid = fork();
        if (pid == 0)
            do_nothing(NULL);
        if (pid > 0)
            idle_child[idle_children++] = pid;
    }
}

static void end_idle(void)
{
    while (idle_children > 0) {
        kill(idle_child[--idle_children], SIGTERM);
        waitpid(idle_child[idle_children], NULL, 0);
    }
}

/* What is answered, in the room of the line. */
static void answer(char *line, size_t room)
{
    char word[256];
    int before = caught, count;
    if (!strcmp(line, "pid\n")) {
        snprintf(line, room, "%d\n", (int)getpid());
    } else if (!strcmp(line, "exit\n")) {
        exit(0);
    } else if (!strcmp(line, "die\n")) {
        kill(getpid(), SIGKILL);
    } else if (!strcmp(line, "raise\n")) {
        kill(getpid(), SIGTERM);
        snprintf(line, room, "%d\n", (int)caught - before);
    } else if (sscanf(line, "env %255s", word) == 1) {
        snprintf(line, room, "%s\n", getenv(word) ? getenv(word) : "unset");
    } else if (sscanf(line, "fork %d", &count) == 1) {
        fork_idle(count);
        snprintf(line, room, "%d\n", idle_children);
    } else if (sscanf(line, "become %255s", word) == 1) {
        execlp(word, word, "100", NULL);
    } else if (!strcmp(line, "again\n")) {
        execl("/proc/self/exe", "pg_tree", "one", port, NULL);
    } else if (!strcmp(line, "end\n")) {
        end_idle();
    }
}

static void serve_one(int fd)
{
    char line[512];
    ssize_t length;
    while ((length = read(fd, line, sizeof line - 1)) > 0) {
        line[length] = '\0';
        answer(line, sizeof line);
        if (write(fd, line, strlen(line)) < 0)
            break;
    }
    close(fd);
}

/* ---- a child for each ---- */

static void exec_inetd(int fd)
{
    dup2(fd, 0);
    execl("/proc/self/exe", "pg_tree", "inetd", "0", gate, NULL);
    _exit(127);
}

static pid_t fork_somehow(int fd)
{
    if (is("_Fork"))
        return _Fork();
    if (is("clone"))
        return syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
    if (is("handler")) {
        raise(SIGALRM);
        return forked;
    }
    if (is("vfork")) {
        pid_t pid = vfork();
        if (pid == 0)
            exec_inetd(fd);
        return pid;
    }
    return fork();
}

static void be_child(int fd)
{
    signal(SIGALRM, SIG_DFL);
    close(listener);
    if (is("exec"))
        exec_inetd(fd);
    if (is("nobody") && (setgroups(0, NULL) || setgid(65534) || setuid(65534)))
        _exit(1);
    if (is("chroot") && (chroot(getenv("PG_ROOT")) || chdir("/")))
        _exit(1);
    pass_gate();
    serve_one(fd);
    _exit(0);
}

static void fork_for(int fd)
{
    pid_t pid = fork_somehow(fd);
    if (pid == 0)
        be_child(fd);
    if (pid < 0)
        fail("pg_tree: fork");
    close(fd);
    printf("child %d\n", (int)pid);
}

/* ---- the others ---- */

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

/* Sends fd (-1: receives one, and returns it). */
static int pass(int channel, int fd)
{
    char byte = 'x';
    struct iovec part = {&byte, 1};
    union control control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.room};
    if (fd < 0) {
        if (recvmsg(channel, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
            return -1;
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
        return fd;
    }
    control.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    return sendmsg(channel, &message, 0) == 1 ? 0 : -1;
}

/* The child to which connections are sent. Returns the parent's end. */
static int fork_receiver(void)
{
    int ends[2], fd;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        fail("pg_tree: socketpair");
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        close(listener);
        while ((fd = pass(ends[0], -1)) >= 0) {
            pass_gate();
            serve_one(fd);
        }
        _exit(0);
    }
    close(ends[0]);
    printf("child %d\n", (int)pid);
    return ends[1];
}

static void prefork(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0)
            return;
        printf("child %d\n", (int)pid);
    }
    do_nothing(NULL);
}

static void listen_at_port(void)
{
    listener = listen_on(port, SOCK_STREAM | SOCK_CLOEXEC, 64);
}

static void fork_away(void)
{
    if (fork() > 0)
        _exit(0);
    setsid();
    if (fork() > 0)
        _exit(0);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: pg_tree HOW PORT [GATE]\n");
        return 2;
    }
    how = argv[1];
    port = argv[2];
    if (argc > 3)
        open_gate(argv[3]);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    signal(SIGPIPE, SIG_IGN);
    if (is("inetd")) {
        pass_gate();
        serve_one(0);
        return 0;
    }
    signal(SIGCHLD, is("one") ? SIG_DFL : SIG_IGN); /* nobody waits for them */
    signal(SIGALRM, fork_in_handler);
    if (getenv("PG_CATCH")) {
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
    }

    if (getenv("PG_KEEPS"))
        signal(atoi(getenv("PG_KEEPS")), on_signal);
    if (is("dormant")) {
        pid_t pid = fork();
        if (pid > 0)
            printf("child %d\n", (int)pid);
        do_nothing(NULL);
    }
    if (is("early"))
        fork_away();
    listen_at_port();
    if (is("daemon"))
        fork_away();
    pthread_t thread;
    if (is("thread")) {
        if (pthread_create(&thread, NULL, do_nothing, NULL) != 0)
            fail("pg_tree: pthread_create");
        usleep(100000); /* what its own start costs is over before the first client comes */
    }
    printf("server %d\n", (int)getpid());
    if (is("brief"))
        return 0;
    int channel = is("pass") ? fork_receiver() : -1;
    if (is("prefork"))
        prefork();
    bool serves = is("one") || is("prefork") || is("daemon") || is("early");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (serves) {
            serve_one(fd);
        } else if (channel >= 0) {
            pass(channel, fd);
            close(fd);
        } else {
            fork_for(fd);
        }
    }
}
