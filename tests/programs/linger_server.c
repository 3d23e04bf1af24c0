/* linger_server: answers each connection with 1 MiB and closes it with input unread.
 * SPDX-License-Identifier: MIT
 *
 *   linger_server [OPTION...] ADDRESS      PORT on 127.0.0.1, or unix:PATH
 *     --wait HOW     threads (one a connection), poll, level, edge, fork (a process a connection)
 *     --close HOW    close, fclose, dup2 (of /dev/null over it), dup3, range, from; failed-dup2: a
 *                    dup2 of no descriptor over it before the answer, and close
 *     --answer N     bytes of the answer; 1048576
 *     --after MS     between the first byte of a request and the answer; 500
 *     --sandbox      right before its first answer it enters a seccomp filter, which kills it on
 *                    each call that serving does not need
 *
 * A connection is a structure whose address is the epoll event's data.ptr, overwritten when it is
 * closed. Prints "closed N M": the lowest free descriptor as it should be after the close, and as
 * it is; "ghost" for each event of a connection that was closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, OPEN = 0x11223344, CLOSED = 0x55667788 };

static struct {
    const char *wait, *close;
    size_t answer;
    long after;
    bool sandbox;
} options = {.wait = "threads", .close = "close", .answer = 1 << 20, .after = 500};

static struct connection {
    int fd, state;
} connections[MOST];
static int used;

static bool waits(const char *how)
{
    return strcmp(options.wait, how) == 0;
}

static bool closes(const char *how)
{
    return strcmp(options.close, how) == 0;
}

static void pause_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static void enter_sandbox(void)
{
    static const int allowed[] = {
        SYS_read,       SYS_write,  SYS_close,           SYS_dup,
        SYS_nanosleep,  SYS_exit,   SYS_clock_nanosleep, SYS_exit_group,
        SYS_epoll_wait, SYS_accept, SYS_rt_sigreturn,    SYS_restart_syscall};
    enum { ALLOWED = sizeof allowed / sizeof *allowed };
    struct sock_filter filter[2 * ALLOWED + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    int at = 1;
    for (int i = 0; i < ALLOWED; i++) {
        filter[at++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {(unsigned short)at, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        err(1, "seccomp");
}

static int lowest_free(void)
{
    int fd = dup(2);
    close(fd);
    return fd;
}

static void close_it(int fd)
{
    int null = open("/dev/null", O_RDONLY);
    if (closes("fclose")) {
        fclose(fdopen(fd, "r+"));
    } else if (closes("dup2")) {
        dup2(null, fd);
    } else if (closes("dup3")) {
        dup3(null, fd, O_CLOEXEC);
    } else if (closes("range")) {
        close_range((unsigned)fd, (unsigned)fd, 0);
    } else if (closes("from")) {
        close(null); /* whatever is above it */
        null = -1;
        closefrom(fd);
    } else {
        close(fd);
    }
    if (closes("dup2") || closes("dup3"))
        syscall(SYS_close, fd);
    close(null);
}

static void answer(struct connection *connection)
{
    static char bytes[65536];
    char first;
    if (read(connection->fd, &first, 1) != 1) {
        connection->state = CLOSED;
        close(connection->fd);
        return;
    }
    int before = lowest_free();
    pause_ms(options.after);
    if (options.sandbox && used == 1)
        enter_sandbox();
    if (closes("failed-dup2") && (dup2(-1, connection->fd) != -1 || errno != EBADF))
        puts("bad dup2");
    for (size_t left = options.answer; left;) {
        ssize_t wrote = write(connection->fd, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (wrote < 0)
            break;
        left -= (size_t)wrote;
    }
    int fd = connection->fd, expected = before < fd ? before : fd;
    connection->state = CLOSED;
    connection->fd = -1;
    if (options.sandbox)
        close(fd);
    else
        close_it(fd);
    char line[64];
    int len = snprintf(line, sizeof line, "closed %d %d\n", expected, lowest_free());
    if (write(1, line, (size_t)len) != len)
        _exit(1);
}

static void *attend(void *connection)
{
    answer(connection);
    return NULL;
}

/* NULL: it was told of a connection that is not there (accept(2), "Error handling"). */
static struct connection *accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 && errno == ECONNABORTED)
        return NULL;
    if (fd < 0)
        err(1, "accept");
    struct connection *connection = &connections[used++ % MOST];
    connection->fd = fd;
    connection->state = OPEN;
    return connection;
}

static void with_epoll(int listener)
{
    int other = epoll_create1(0), epoll = epoll_create(1);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    epoll_ctl(other, EPOLL_CTL_ADD, epoll, &event);
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue;
        struct connection *connection = event.data.ptr;
        if (!connection) {
            if (!(connection = accept_one(listener)))
                continue;
            event =
                (struct epoll_event){EPOLLIN | (waits("edge") ? EPOLLET : 0), {.ptr = connection}};
            epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
            epoll_ctl(other, EPOLL_CTL_ADD, connection->fd, &event);
        } else if (connection->state != OPEN) {
            puts("ghost");
            pause_ms(10);
        } else {
            answer(connection);
        }
    }
}

static void with_poll(int listener)
{
    for (;;) {
        struct pollfd polled[MOST + 1] = {{listener, POLLIN, 0}};
        int count = used < MOST ? used : MOST;
        for (int i = 0; i < count; i++)
            polled[i + 1] = (struct pollfd){connections[i].fd, POLLIN, 0};
        if (poll(polled, (nfds_t)count + 1, -1) < 0)
            continue;
        if (polled[0].revents)
            accept_one(listener);
        for (int i = 0; i < count; i++)
            if (polled[i + 1].revents)
                answer(&connections[i]);
    }
}

static void with_others(int listener)
{
    for (;;) {
        struct connection *connection = accept_one(listener);
        pthread_t thread;
        if (!connection)
            continue;
        if (waits("fork")) {
            if (fork() == 0) {
                close(listener);
                answer(connection);
                pause_ms(3000);
                _exit(0);
            }
            close(connection->fd);
        } else if (options.sandbox) {
            answer(connection);
        } else if (pthread_create(&thread, NULL, attend, connection)) {
            errx(1, "pthread_create");
        } else {
            pthread_detach(thread);
        }
    }
}

static int listen_on(const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    if (is_unix)
        strncpy(un.sun_path, address + 5, sizeof un.sun_path - 1);
    else
        in.sin_port = htons((uint16_t)atoi(address));
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, is_unix ? (void *)&un : (void *)&in, is_unix ? sizeof un : sizeof in) ||
        listen(fd, 64))
        err(1, "%s", address);
    return fd;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"wait", 1, NULL, 'w'},    {"close", 1, NULL, 'c'},
                                          {"answer", 1, NULL, 'a'},  {"after", 1, NULL, 't'},
                                          {"sandbox", 0, NULL, 's'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
        switch (option) {
        case 'w':
            options.wait = optarg;
            break;
        case 'c':
            options.close = optarg;
            break;
        case 'a':
            options.answer = (size_t)atol(optarg);
            break;
        case 't':
            options.after = atol(optarg);
            break;
        case 's':
            options.sandbox = true;
            break;
        default:
            errx(2, "usage: linger_server [OPTION...] ADDRESS");
        }
    }
    if (optind + 1 != argc)
        errx(2, "usage: linger_server [OPTION...] ADDRESS");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int listener = listen_on(argv[optind]);
    if (waits("level") || waits("edge"))
        with_epoll(listener);
    else if (waits("poll"))
        with_poll(listener);
    else
        with_others(listener);
}
