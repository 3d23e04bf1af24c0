/* sig_wait: every call that waits, while the shim's trigger comes: does it wait as it would
 * without? SPDX-License-Identifier: MIT
 *
 *   sig_wait trigger        SIGUSR2 after 200 ms: each call waits its 600 ms out (pause and
 * sigsuspend, which have no limit, end with a SIGALRM after 400 ms) sig_wait own            and a
 * SIGALRM of the program's own after 400 ms: each call ends with it sig_wait both           both
 * after 200 ms, one right after the other
 *
 * Each call is made in a process of its own, which listens (so that the shim is at work). Without
 * the shim the trigger is ignored. Prints a line for each: "NAME 600 ms, in time", or what differs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 600, TRIGGER_MS = 200, OWN_MS = 400, SLACK_MS = 150, TICKS_MS = 20 };

static const struct timespec limit = {0, LIMIT_MS * 1000000L};
static struct timeval limit_us = {0, LIMIT_MS * 1000L};
static int listener, connection, client, datagrams, epoll;
static sigset_t none, usr1;
static char buffer[1 << 20];

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static struct timespec until(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += limit.tv_nsec;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

static int error_of(int result)
{
    return result < 0 ? errno : 0;
}

/* ---- the calls: each waits LIMIT_MS, and returns 0 or its error ---- */

static int call_epoll_wait(void)
{
    struct epoll_event event;
    return error_of(epoll_wait(epoll, &event, 1, LIMIT_MS));
}

/* libc makes it in one way in a program of one thread, in another where there are more. */
static int call_epoll_wait_on(void)
{
    struct epoll_event event;
    return error_of(epoll_wait(epoll, &event, 1, -1));
}

static void *sleep_on(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pause();
    return unused;
}

static int call_epoll_wait_on_in_threads(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, sleep_on, NULL) ? -1 : call_epoll_wait_on();
}

static int call_epoll_pwait(void)
{
    struct epoll_event event;
    return error_of(epoll_pwait(epoll, &event, 1, LIMIT_MS, &none));
}

#ifdef __GLIBC__ /* musl has no such call */
static int call_epoll_pwait2(void)
{
    struct epoll_event event;
    return error_of(epoll_pwait2(epoll, &event, 1, &limit, &none));
}
#endif

static int call_poll(void)
{
    return error_of(poll(NULL, 0, LIMIT_MS));
}

static int call_ppoll(void)
{
    return error_of(ppoll(NULL, 0, &limit, &none));
}

static int call_select(void)
{
    struct timeval left = limit_us;
    return error_of(select(0, NULL, NULL, NULL, &left));
}

static int call_pselect(void)
{
    return error_of(pselect(0, NULL, NULL, NULL, &limit, &none));
}

static int call_nanosleep(void)
{
    return error_of(nanosleep(&limit, NULL));
}

static int call_clock_nanosleep(void)
{
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL);
}

static int call_clock_nanosleep_until(void)
{
    struct timespec end = until(CLOCK_REALTIME);
    return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL);
}

static int call_usleep(void)
{
    return error_of(usleep(LIMIT_MS * 1000));
}

static int call_sleep(void)
{
    return (int)sleep(1); /* it has no finer unit: less than a second left is 0 */
}

static int call_thrd_sleep(void)
{
    return thrd_sleep(&limit, NULL) == -1 ? EINTR : 0;
}

static int call_recv(void)
{
    return error_of(recv(connection, buffer, 1, 0));
}

static int call_read(void)
{
    return error_of(read(connection, buffer, 1));
}

static int call_recvmsg(void)
{
    struct iovec part = {buffer, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return error_of(recvmsg(connection, &message, 0));
}

static int call_recv_outgoing(void)
{
    return error_of(recv(client, buffer, 1, 0));
}

static int call_recv_datagram(void)
{
    return error_of(recv(datagrams, buffer, 1, 0));
}

/* Until nothing more goes, and the kernel's first looks whether there is room again, 0.2 s later,
 * have found none (tcp_send_probe0). The peer's buffer does not grow, for its size is set
 * (tcp(7)). */
static void fill(int fd)
{
    int size = 65536;
    setsockopt(fd == client ? connection : client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    for (int quiet = 0; quiet < 25; quiet++, usleep(20000))
        while (send(fd, buffer, sizeof buffer, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
            quiet = 0;
}

static int call_send(void)
{
    return error_of(send(connection, buffer, sizeof buffer, MSG_NOSIGNAL));
}

static int call_send_outgoing(void)
{
    return error_of(send(client, buffer, sizeof buffer, MSG_NOSIGNAL));
}

static int call_accept(void)
{
    return error_of(accept(listener, NULL, NULL));
}

static int call_accept4(void)
{
    return error_of(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static int call_sigtimedwait(void)
{
    return error_of(sigtimedwait(&usr1, NULL, &limit));
}

static int call_sem_timedwait(void)
{
    sem_t semaphore;
    struct timespec end = until(CLOCK_REALTIME);
    sem_init(&semaphore, 0, 0);
    return error_of(sem_timedwait(&semaphore, &end));
}

static int call_semtimedop(void)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf one_less = {0, -1, 0};
    int error = error_of(semtimedop(id, &one_less, 1, &limit));
    semctl(id, 0, IPC_RMID);
    return error;
}

/* These end with a signal of the program's own alone. */
static int call_pause(void)
{
    return error_of(pause());
}

static int call_sigsuspend(void)
{
    return error_of(sigsuspend(&none));
}

static const struct {
    const char *name;
    int (*function)(void);
    int error; /* that its limit gives it */
    int limit; /* ms; -1: it has none */
} calls[] = {
    {"epoll_wait", call_epoll_wait, 0, LIMIT_MS},
    {"epoll_pwait", call_epoll_pwait, 0, LIMIT_MS},
#ifdef __GLIBC__
    {"epoll_pwait2", call_epoll_pwait2, 0, LIMIT_MS},
#endif
    {"poll", call_poll, 0, LIMIT_MS},
    {"ppoll", call_ppoll, 0, LIMIT_MS},
    {"select", call_select, 0, LIMIT_MS},
    {"pselect", call_pselect, 0, LIMIT_MS},
    {"nanosleep", call_nanosleep, 0, LIMIT_MS},
    {"clock_nanosleep", call_clock_nanosleep, 0, LIMIT_MS},
    {"clock_nanosleep_until", call_clock_nanosleep_until, 0, LIMIT_MS},
    {"usleep", call_usleep, 0, LIMIT_MS},
    {"sleep", call_sleep, 0, 1000},
    {"thrd_sleep", call_thrd_sleep, 0, LIMIT_MS},
    {"recv", call_recv, EAGAIN, LIMIT_MS},
    {"read", call_read, EAGAIN, LIMIT_MS},
    {"recvmsg", call_recvmsg, EAGAIN, LIMIT_MS},
    {"recv_outgoing", call_recv_outgoing, EAGAIN, LIMIT_MS},
    {"recv_datagram", call_recv_datagram, EAGAIN, LIMIT_MS},
    {"send", call_send, EAGAIN, LIMIT_MS},
    {"send_outgoing", call_send_outgoing, EAGAIN, LIMIT_MS},
    {"accept", call_accept, EAGAIN, LIMIT_MS},
    {"accept4", call_accept4, EAGAIN, LIMIT_MS},
    {"sigtimedwait", call_sigtimedwait, EAGAIN, LIMIT_MS},
    {"sem_timedwait", call_sem_timedwait, ETIMEDOUT, LIMIT_MS},
    {"semtimedop", call_semtimedop, EAGAIN, LIMIT_MS},
    {"pause", call_pause, EINTR, -1},
    {"epoll_wait_on", call_epoll_wait_on, EINTR, -1},
    {"epoll_wait_on_in_threads", call_epoll_wait_on_in_threads, EINTR, -1},
    {"sigsuspend", call_sigsuspend, EINTR, -1},
};
enum { CALLS = sizeof calls / sizeof *calls };

static void on_alarm(int sig)
{
    (void)sig;
}

static void set_up(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    client = socket(AF_INET, SOCK_STREAM, 0);
    datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    epoll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 8) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
        connect(client, (struct sockaddr *)&address, sizeof address) < 0 ||
        (connection = accept(listener, NULL, NULL)) < 0) {
        perror("sig_wait");
        exit(1);
    }
    int sockets[] = {listener, client, connection, datagrams};
    for (int i = 0; i < 4; i++) {
        setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &limit_us, sizeof limit_us);
        setsockopt(sockets[i], SOL_SOCKET, SO_SNDTIMEO, &limit_us, sizeof limit_us);
    }
}

/* Whoever sends the signals must be no thread of the process that waits. */
static void send_signals(pid_t to, const char *mode, bool endless)
{
    bool both = !strcmp(mode, "both"), own = both || !strcmp(mode, "own");
    usleep(TRIGGER_MS * 1000);
    kill(to, SIGUSR2);
    if (!both)
        usleep((OWN_MS - TRIGGER_MS) * 1000);
    if (own || endless)
        kill(to, SIGALRM);
    _exit(0);
}

/*
 * A call that ends too late on a busy machine is tried again: where it is our fault it always does.
 * One that ends too early, or with another error, has failed.
 */
enum { TRIES = 6, LATE = 3 /* exit status: it is to be tried again */ };

static void try_call(int number, const char *mode, bool is_last)
{
    bool both = !strcmp(mode, "both"), endless = calls[number].limit < 0;
    bool own = both || endless || !strcmp(mode, "own");
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    set_up();
    if (!strncmp(calls[number].name, "send", 4))
        fill(calls[number].function == call_send ? connection : client);
    long began = now_ms(); /* before the sender's time begins */
    pid_t self = getpid(), sender = fork();
    if (sender == 0) {
        close(listener);
        send_signals(self, mode, endless);
    }
    int error = calls[number].function();
    long took = now_ms() - began;
    int status = 0;
    long wanted = both ? TRIGGER_MS : own ? OWN_MS : calls[number].limit;
    int wanted_error = !own || calls[number].function == call_sleep ? calls[number].error : EINTR;
    /* A socket's own time limit begins anew with the call: nobody but the kernel knows what is
     * left. */
    bool anew = !own && calls[number].error == EAGAIN &&
                calls[number].function != call_sigtimedwait &&
                calls[number].function != call_semtimedop;
    /* What is left of a wait is told by the coarse clock, which a busy machine's ticks move on. */
    long most = wanted + (anew ? TRIGGER_MS : 0) + SLACK_MS;
    if (error == wanted_error && took >= wanted - TICKS_MS && took <= most)
        printf("%s %ld ms, in time\n", calls[number].name, wanted);
    else if (took > most && !is_last)
        status = LATE;
    else
        printf("%s %ld ms, %s; expected %ld ms, %s\n", calls[number].name, took, strerror(error),
               wanted, strerror(wanted_error));
    fflush(stdout);
    signal(SIGALRM, SIG_IGN);
    waitpid(sender, NULL, 0);
    _exit(status);
}

/* Tries calls side by side, each until it is in time. */
static void try_calls(int from, int to, const char *mode)
{
    pid_t pids[CALLS], pid;
    int tries[CALLS] = {0}, status;
    for (int i = from; i < to; i++)
        if ((pids[i] = fork()) == 0)
            try_call(i, mode, false);
    while ((pid = wait(&status)) > 0) {
        int i = from;
        while (i < to && pids[i] != pid)
            i++;
        if (i == to || !WIFEXITED(status) || WEXITSTATUS(status) != LATE)
            continue;
        tries[i]++;
        if ((pids[i] = fork()) == 0)
            try_call(i, mode, tries[i] + 1 == TRIES);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: sig_wait trigger|own|both\n");
        return 2;
    }
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    if (!getenv("WEIR_ACTION"))
        signal(SIGUSR2, SIG_IGN);
    enum { AT_ONCE = 9 };
    for (int first = 0; first < CALLS; first += AT_ONCE)
        try_calls(first, first + AT_ONCE < CALLS ? first + AT_ONCE : CALLS, argv[1]);
    return 0;
}
