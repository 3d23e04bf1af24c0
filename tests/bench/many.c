/* SPDX-License-Identifier: MIT */
/*
 * A server with many connections.
 *
 *   many close COUNT [CALL...]   closes what is idle: many ns=N cpu_ns=N. Under the shim by
 *                                weir_close_idle(); without it by a loop that makes the system
 *                                calls CALL... on each connection, as strace has seen the shim make
 *   many thread COUNT CALL...    the same loop in a thread of its own
 *   many first COUNT SIGNAL      under the shim: signals itself; many first_ns=N is the time until
 *                                the first connection is seen to be closed
 *   many memory COUNT DIRECTORY  many dirty=KIB page=KIB rss=KIB: what this process has written to,
 *                                and of it what belongs to a file in DIRECTORY (the state page)
 */
#include "clients.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MOST = 19900, CALLS = 32 };
static int fds[MOST];

/* ---- the same calls ---- */

enum call { GETPEERNAME, GETSOCKNAME, QUEUE, INFO, PIN, UNPIN, SHUTDOWN };

static const struct {
    const char *name; /* as strace has it */
    enum call call;
} known[] = {
    {"getpeername", GETPEERNAME},
    {"getsockname", GETSOCKNAME},
    {"ioctl", QUEUE},
    {"getsockopt", INFO},
    {"fcntl", PIN},
    {"close", UNPIN},
    {"shutdown", SHUTDOWN},
};

static enum call call_named(const char *name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name))
            return known[i].call;
    errx(1, "%s: many.c does not know how the shim calls it", name);
}

static void call_all(const enum call *calls, int count, int fd)
{
    struct sockaddr_storage addr;
    struct tcp_info info;
    socklen_t len = sizeof addr;
    int on = fd, bytes, queue = SIOCINQ;
    for (int i = 0; i < count; i++) {
        len = sizeof addr;
        switch (calls[i]) {
        case GETPEERNAME:
            syscall(SYS_getpeername, on, &addr, &len);
            break;
        case GETSOCKNAME:
            syscall(SYS_getsockname, on, &addr, &len);
            break;
        case QUEUE:
            syscall(SYS_ioctl, on, queue, &bytes);
            queue = queue == SIOCINQ ? SIOCOUTQ : SIOCINQ;
            break;
        case INFO:
            len = sizeof info;
            syscall(SYS_getsockopt, on, IPPROTO_TCP, TCP_INFO, &info, &len);
            break;
        case PIN:
            on = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100);
            break;
        case UNPIN:
            syscall(SYS_close, on);
            on = fd;
            break;
        case SHUTDOWN:
            syscall(SYS_shutdown, on, SHUT_RD);
            break;
        }
    }
}

/* ---- what is measured ---- */

static int watch(int count)
{
    int epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    return epoll;
}

static bool is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

struct loop {
    enum call calls[CALLS];
    int calls_count, count;
};

static void *run_loop(void *argument)
{
    const struct loop *loop = argument;
    for (int i = 0; i < loop->count; i++)
        call_all(loop->calls, loop->calls_count, fds[i]);
    return NULL;
}

static void run_loop_in_thread(struct loop *loop)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_loop, loop) || pthread_join(thread, NULL))
        errx(1, "no thread");
}

static void measure_close(int count, bool in_thread, char **names, int calls_count)
{
    int (*close_idle)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "weir_close_idle");
    struct loop loop = {.calls_count = calls_count, .count = count};
    if (calls_count > CALLS)
        errx(1, "more than %d calls", CALLS);
    for (int i = 0; i < calls_count; i++)
        loop.calls[i] = call_named(names[i]);
    watch(count);
    double begin = now_ns(), used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (close_idle)
        close_idle();
    else if (in_thread)
        run_loop_in_thread(&loop);
    else
        run_loop(&loop);
    double ns = now_ns() - begin;
    used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - used;
    for (int i = 0; i < count; i++)
        if (!is_closed(fds[i]))
            errx(1, "connection %d of %d is still open", i, count);
    printf("many ns=%.0f cpu_ns=%.0f\n", ns, used);
}

static void measure_first(int count, int sig)
{
    int epoll = watch(count), got;
    struct epoll_event event;
    double begin = now_ns();
    kill(getpid(), sig);
    while ((got = epoll_wait(epoll, &event, 1, 5000)) < 0)
        ;
    if (!got || !is_closed(event.data.fd))
        errx(1, "no connection was closed within 5 s");
    printf("many first_ns=%.0f\n", now_ns() - begin);
}

static void measure_memory(const char *directory)
{
    char line[512];
    long dirty = 0, page = 0, rss = 0, kib;
    bool in_directory = false;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    if (!smaps)
        err(1, "/proc/self/smaps");
    while (fgets(line, sizeof line, smaps)) {
        if (strchr(line, '-') && strchr(line, '/'))
            in_directory = strstr(line, directory);
        else if (strchr(line, '-'))
            in_directory = false;
        if (sscanf(line, "Rss: %ld kB", &kib) == 1) {
            rss += kib;
            page += in_directory ? kib : 0;
        }
        if (sscanf(line, "Private_Dirty: %ld kB", &kib) == 1 ||
            sscanf(line, "Shared_Dirty: %ld kB", &kib) == 1)
            dirty += in_directory ? 0 : kib;
    }
    printf("many dirty=%ld page=%ld rss=%ld\n", dirty + page, page, rss);
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[2]) : 0;
    if (argc < 3 || count < 1 || count > MOST)
        errx(2, "usage: many close|thread|first|memory COUNT ...");
    pid_t clients = clients_accept(fds, count);
    if (!strcmp(argv[1], "close") || !strcmp(argv[1], "thread"))
        measure_close(count, !strcmp(argv[1], "thread"), argv + 3, argc - 3);
    if (!strcmp(argv[1], "first"))
        measure_first(count, argc > 3 ? atoi(argv[3]) : SIGUSR2);
    if (!strcmp(argv[1], "memory"))
        measure_memory(argc > 3 ? argv[3] : "/run/weir");
    fflush(stdout);
    kill(clients, SIGKILL);
    waitpid(clients, NULL, 0);
    _exit(0);
}
