/* queue_server: accepts slowly, in any of the ways in which servers wait for clients.
 * SPDX-License-Identifier: MIT
 *
 *   queue_server [OPTION...] ADDRESS...    HOST:PORT, [HOST]:PORT, unix:PATH, or fd:N (inherited)
 *     --wait HOW       accept (a thread for each listener), threads (four for each), poll, select,
 *                      level, edge, oneshot, exclusive, nested (all epoll), sigio
 *     --pace US        between two accepts
 *     --backlog N      4096
 *     --defer S        TCP_DEFER_ACCEPT
 *     --reuseport      SO_REUSEPORT
 *     --workers N      they accept, the first process only waits for them
 *     --own            each worker has listeners of its own
 *     --answer TEXT    to each line, "pong"
 *
 * A connection's line is answered by a thread of its own, which then reads to the end and closes.
 * USR1: the thread that accepts is busy for three seconds (--busy S). HUP: it opens ADDRESS + 1
 * (ports) too. An error that a server may not see from accept or a wait ends it with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16 };

static struct {
    const char *wait, *answer;
    int pace, backlog, defer, workers, busy;
    bool reuseport, own;
} options = {.wait = "accept", .answer = "pong", .backlog = 4096, .busy = 3};

static int listeners[MOST], count;
static char **addresses;
static volatile sig_atomic_t wants_another;

static bool waits(const char *how)
{
    return strcmp(options.wait, how) == 0;
}

static void pause_us(long us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (us && nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* ---- connections ---- */

static void *attend(void *given)
{
    int fd = (int)(long)given;
    char line[200];
    ssize_t got = 0, used = 0;
    while (used < (ssize_t)sizeof line && !memchr(line, '\n', (size_t)used) &&
           (got = read(fd, line + used, sizeof line - (size_t)used)) > 0)
        used += got;
    if (used && memchr(line, '\n', (size_t)used)) {
        snprintf(line, sizeof line, "%s\n", options.answer);
        if (write(fd, line, strlen(line)) == (ssize_t)strlen(line))
            while (read(fd, line, sizeof line) > 0)
                ;
    }
    close(fd);
    return NULL;
}

static void start_thread(void *(*run)(void *), void *given)
{
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    sigset_t ours, before; /* they are the accepting thread's */
    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR1);
    sigaddset(&ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    errno = pthread_create(&thread, &small, run, given);
    if (errno)
        err(1, "pthread_create");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Returns whether there was one. */
static bool accept_one(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        err(1, "accept");
    if (fd < 0)
        return false;
    start_thread(attend, (void *)(long)fd);
    pause_us(options.pace);
    return true;
}

/* ---- listeners ---- */

static int listen_on(const char *address, int port_more)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } at = {0};
    socklen_t len;
    int fd;
    const char *colon = strrchr(address, ':');
    if (strncmp(address, "fd:", 3) == 0)
        return atoi(address + 3);
    if (strncmp(address, "unix:", 5) == 0) {
        at.un.sun_family = AF_UNIX;
        strncpy(at.un.sun_path, address + 5, sizeof at.un.sun_path - 1);
        len = sizeof at.un;
    } else if (*address == '[') {
        char host[64] = "";
        memcpy(host, address + 1, (size_t)(colon - address - 2));
        at.in6.sin6_family = AF_INET6;
        at.in6.sin6_port = htons((uint16_t)(atoi(colon + 1) + port_more));
        inet_pton(AF_INET6, host, &at.in6.sin6_addr);
        len = sizeof at.in6;
    } else {
        char host[64] = "";
        memcpy(host, address, (size_t)(colon - address));
        at.in.sin_family = AF_INET;
        at.in.sin_port = htons((uint16_t)(atoi(colon + 1) + port_more));
        inet_pton(AF_INET, host, &at.in.sin_addr);
        len = sizeof at.in;
    }
    fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (options.reuseport)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
    if (options.defer)
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &options.defer, sizeof(int));
    if (bind(fd, &at.any, len) || listen(fd, options.backlog))
        err(1, "%s", address);
    return fd;
}

static void open_all(void)
{
    for (count = 0; addresses[count] && count < MOST - 1; count++)
        listeners[count] = listen_on(addresses[count], 0);
    /* Those who wait for readiness take it for a promise only with epoll and sigio. */
    if (!waits("accept") && !waits("threads") && !waits("select"))
        for (int i = 0; i < count; i++)
            fcntl(listeners[i], F_SETFL, O_NONBLOCK);
}

/* HUP: whether there is one more since. */
static bool opens_another(void)
{
    if (!wants_another || count == MOST)
        return false;
    wants_another = 0;
    listeners[count] = listen_on(addresses[0], 1);
    fcntl(listeners[count++], F_SETFL, O_NONBLOCK);
    return true;
}

/* ---- the ways of waiting ---- */

static void *accept_for_ever(void *given)
{
    for (;;)
        accept_one(*(int *)given);
    return NULL;
}

static void with_accept(int threads)
{
    for (int i = 0; i < count; i++)
        for (int thread = 0; thread < threads; thread++)
            if (i || thread)
                start_thread(accept_for_ever, &listeners[i]);
    accept_for_ever(&listeners[0]);
}

static void with_poll(void)
{
    for (;;) {
        struct pollfd polled[MOST];
        opens_another();
        for (int i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
        if (poll(polled, (nfds_t)count, -1) < 0 && errno != EINTR)
            err(1, "poll");
        for (int i = 0; i < count; i++) {
            if (polled[i].revents & ~POLLIN)
                errx(1, "poll: %x of a listener", polled[i].revents);
            if (polled[i].revents)
                accept_one(listeners[i]);
        }
    }
}

static void with_select(void)
{
    for (;;) {
        fd_set in;
        FD_ZERO(&in);
        for (int i = 0; i < count; i++)
            FD_SET(listeners[i], &in);
        if (select(FD_SETSIZE, &in, NULL, NULL, NULL) < 0) {
            if (errno != EINTR)
                err(1, "select");
            continue;
        }
        for (int i = 0; i < count; i++)
            if (FD_ISSET(listeners[i], &in))
                accept_one(listeners[i]);
    }
}

static void with_epoll(uint32_t events)
{
    int outer = epoll_create1(EPOLL_CLOEXEC), epoll = outer;
    if (waits("nested")) {
        struct epoll_event inner = {.events = EPOLLIN};
        epoll = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &inner);
    }
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = events, .data.ptr = &listeners[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &event))
            err(1, "epoll_ctl");
    }
    for (;;) {
        struct epoll_event event;
        int got = epoll_wait(outer, &event, 1, -1);
        if (got < 0 && errno != EINTR)
            err(1, "epoll_wait");
        if (opens_another()) {
            struct epoll_event another = {.events = events, .data.ptr = &listeners[count - 1]};
            epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[count - 1], &another);
        }
        if (got <= 0 || (epoll != outer && epoll_wait(epoll, &event, 1, 0) <= 0))
            continue;
        int *listener = event.data.ptr;
        if (event.events & ~(uint32_t)EPOLLIN || listener < listeners ||
            listener >= listeners + count)
            errx(1, "epoll: %x of %p", event.events, event.data.ptr);
        if (events & EPOLLET)
            while (accept_one(*listener))
                ;
        else
            accept_one(*listener);
        if (events & EPOLLONESHOT) {
            event.events = events;
            if (epoll_ctl(epoll, EPOLL_CTL_MOD, *listener, &event))
                err(1, "epoll_ctl");
        }
    }
}

static void with_sigio(void)
{
    sigset_t io;
    sigemptyset(&io);
    sigaddset(&io, SIGIO);
    sigprocmask(SIG_BLOCK, &io, NULL);
    for (int i = 0; i < count; i++)
        if (fcntl(listeners[i], F_SETOWN, getpid()) ||
            fcntl(listeners[i], F_SETFL, O_NONBLOCK | O_ASYNC))
            err(1, "O_ASYNC");
    for (;;) {
        int signal;
        for (int i = 0; i < count; i++)
            while (accept_one(listeners[i]))
                ;
        sigwait(&io, &signal);
    }
}

static void serve(void)
{
    if (waits("accept"))
        with_accept(1);
    else if (waits("threads"))
        with_accept(4);
    else if (waits("poll"))
        with_poll();
    else if (waits("select"))
        with_select();
    else if (waits("sigio"))
        with_sigio();
    else
        with_epoll(waits("edge")        ? EPOLLIN | EPOLLET
                   : waits("oneshot")   ? EPOLLIN | EPOLLONESHOT
                   : waits("exclusive") ? EPOLLIN | EPOLLEXCLUSIVE
                                        : EPOLLIN);
}

static void be_busy(int signal)
{
    (void)signal;
    pause_us(options.busy * 1000000L);
}

static void want_another(int signal)
{
    (void)signal;
    wants_another = 1;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"wait", 1, NULL, 'w'},      {"pace", 1, NULL, 'p'},
                                          {"backlog", 1, NULL, 'b'},   {"defer", 1, NULL, 'd'},
                                          {"workers", 1, NULL, 'n'},   {"own", 0, NULL, 'o'},
                                          {"reuseport", 0, NULL, 'r'}, {"answer", 1, NULL, 'a'},
                                          {"busy", 1, NULL, 'B'},      {0}};
    for (int option; (option = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
        switch (option) {
        case 'w':
            options.wait = optarg;
            break;
        case 'p':
            options.pace = atoi(optarg);
            break;
        case 'b':
            options.backlog = atoi(optarg);
            break;
        case 'd':
            options.defer = atoi(optarg);
            break;
        case 'n':
            options.workers = atoi(optarg);
            break;
        case 'a':
            options.answer = optarg;
            break;
        case 'B':
            options.busy = atoi(optarg);
            break;
        case 'o':
            options.own = true;
            break;
        case 'r':
            options.reuseport = true;
            break;
        default:
            errx(2, "usage: queue_server [OPTION...] ADDRESS...");
        }
    }
    addresses = argv + optind;
    if (!*addresses)
        errx(2, "usage: queue_server [OPTION...] ADDRESS...");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, be_busy);
    sigaction(SIGHUP, &(struct sigaction){.sa_handler = want_another}, NULL); /* it interrupts */
    if (!options.own)
        open_all();
    for (int i = 0; i < options.workers; i++)
        if (fork() == 0) {
            if (options.own)
                open_all();
            serve();
        }
    if (!options.workers)
        serve();
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    return 1; /* no worker is left */
}
