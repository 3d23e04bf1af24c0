/* call_steps: does each call that reads or writes make its connection in use, or idle?
 * SPDX-License-Identifier: MIT
 *
 *   call_steps alone|among
 *
 * It is to run under the shim, in any mode but http. It accepts one connection of its own, which
 * has been answered twice; among: beside a thread that reads from and writes to another one. Each
 * call is made at a point where the connection is idle, or in use, and weir_counts() says what
 * became of it: a line for each that is not as expected, then "N calls, N wrong". Three rounds, for
 * what has been learnt of a connection; then a read in the middle of which a signal's handler
 * forks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/weir.h"

enum { SIZE = 8, ROUNDS = 3 };

static int client, server, listener, file;
static char bytes[SIZE], much[16 << 20];
static struct iovec part = {bytes, SIZE}, parts[2] = {{bytes, 3}, {bytes + 3, SIZE - 3}};

static void open_one(int *ours, int *theirs)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    if (!listener) {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 5))
            err(1, "listen");
    }
    getsockname(listener, (struct sockaddr *)&address, &length);
    *theirs = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(*theirs, (struct sockaddr *)&address, length))
        err(1, "connect");
    *ours = accept(listener, NULL, NULL);
    if (*ours < 0)
        err(1, "accept");
    setsockopt(*theirs, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static uint64_t in_use(void)
{
    struct weir_counts counts;
    weir_counts(&counts);
    return counts.in_use;
}

/* What is not to be seen by the shim: the client's side is the same process. */
static void client_sends(int flags)
{
    if (syscall(SYS_sendto, client, bytes, SIZE, flags, NULL, 0) != SIZE)
        err(1, "send");
    usleep(1000);
}

static void client_takes(size_t n)
{
    for (long got; n; n -= (size_t)got)
        if ((got = syscall(SYS_recvfrom, client, much, n < sizeof much ? n : sizeof much, 0, NULL,
                           NULL)) <= 0)
            err(1, "recv");
}

/* ---- the calls ---- */

static ssize_t by_read(void)
{
    return read(server, bytes, SIZE);
}

static ssize_t by_readv(void)
{
    return readv(server, parts, 2);
}

static ssize_t by_recv(void)
{
    return recv(server, bytes, SIZE, 0);
}

static ssize_t by_recvfrom(void)
{
    return recvfrom(server, bytes, SIZE, MSG_DONTWAIT, NULL, NULL);
}

static ssize_t by_recvmsg(void)
{
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(server, &msg, 0);
}

static ssize_t by_recvmmsg(void)
{
    struct mmsghdr msgs = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    return recvmmsg(server, &msgs, 1, 0, NULL) == 1 ? (ssize_t)msgs.msg_len : -1;
}

static ssize_t by_peek(void)
{
    return recv(server, bytes, SIZE, MSG_PEEK);
}

static ssize_t by_syscall_read(void)
{
    return syscall(SYS_read, server, bytes, SIZE);
}

/* The last byte is out of band, and no part of the stream. */
static ssize_t out_of_band(void)
{
    return recv(server, bytes, 1, MSG_OOB) == 1 ? SIZE : -1;
}

static ssize_t nothing_there(void)
{
    return recv(server, bytes, SIZE, MSG_DONTWAIT) < 0 && errno == EAGAIN ? SIZE : -1;
}

/* Memory that is not there: the kernel says so, and nobody else looks. */
static ssize_t refused(ssize_t result)
{
    return result == -1 && errno == EFAULT ? SIZE : -1;
}

static void *volatile nowhere = (void *)8; /* volatile: the compiler is to believe it */

static ssize_t readv_nowhere(void)
{
    return refused(readv(server, nowhere, 1));
}

static ssize_t recvmsg_nowhere(void)
{
    return refused(recvmsg(server, nowhere, MSG_DONTWAIT));
}

static ssize_t writev_nowhere(void)
{
    return refused(writev(server, nowhere, 1));
}

static ssize_t sendmsg_nowhere(void)
{
    return refused(sendmsg(server, nowhere, 0));
}

static ssize_t by_write(void)
{
    return write(server, bytes, SIZE);
}

static ssize_t by_writev(void)
{
    return writev(server, parts, 2);
}

static ssize_t by_send(void)
{
    return send(server, bytes, SIZE, MSG_NOSIGNAL);
}

static ssize_t by_sendto(void)
{
    return sendto(server, bytes, SIZE, 0, NULL, 0);
}

static ssize_t by_sendmsg(void)
{
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(server, &msg, 0);
}

static ssize_t by_sendmmsg(void)
{
    struct mmsghdr msgs = {.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}};
    return sendmmsg(server, &msgs, 1, 0) == 1 ? (ssize_t)msgs.msg_len : -1;
}

static ssize_t by_sendfile(void)
{
    return sendfile(server, file, &(off_t){0}, SIZE);
}

static ssize_t by_syscall_write(void)
{
    return syscall(SYS_write, server, bytes, SIZE);
}

static ssize_t a_part(void)
{
    return send(server, bytes, SIZE, MSG_MORE);
}

static ssize_t a_part_by_sendmsg(void)
{
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(server, &msg, MSG_MORE);
}

static ssize_t nothing(void)
{
    return write(server, bytes, 0) == 0 ? SIZE : -1;
}

static ssize_t nothing_by_sendmsg(void)
{
    struct msghdr msg = {.msg_iov = &part};
    return sendmsg(server, &msg, 0) == 0 ? SIZE : -1;
}

/* Less than all of it is taken; the client takes that. */
static ssize_t cut_short(ssize_t done)
{
    if (done <= 0 || done >= (ssize_t)sizeof much)
        return -1;
    client_takes((size_t)done);
    return SIZE;
}

static ssize_t cut_send(void)
{
    return cut_short(send(server, much, sizeof much, MSG_DONTWAIT));
}

static ssize_t cut_sendmsg(void)
{
    struct iovec all = {much, sizeof much};
    struct msghdr msg = {.msg_iov = &all, .msg_iovlen = 1};
    return cut_short(sendmsg(server, &msg, MSG_DONTWAIT));
}

static const struct call {
    const char *name;
    ssize_t (*make)(void);
    enum { IDLE, BUSY } before, after; /* where a mark makes it idle, an answer does not */
    /* What the client does. STAYS: the bytes are not read, or there is no answer. */
    enum { SENDS = 1, SENDS_OOB, TAKES = 4, STAYS = 8 } does;
} calls[] = {
    {"read", by_read, IDLE, BUSY, SENDS},
    {"readv", by_readv, IDLE, BUSY, SENDS},
    {"recv", by_recv, IDLE, BUSY, SENDS},
    {"recvfrom", by_recvfrom, IDLE, BUSY, SENDS},
    {"recvmsg", by_recvmsg, IDLE, BUSY, SENDS},
    {"recvmmsg", by_recvmmsg, IDLE, BUSY, SENDS},
    {"syscall(read)", by_syscall_read, IDLE, BUSY, SENDS},
    {"recv(MSG_PEEK)", by_peek, IDLE, BUSY, SENDS | STAYS},
    {"recv(MSG_OOB)", out_of_band, IDLE, IDLE, SENDS_OOB | STAYS},
    {"recv, EAGAIN", nothing_there, IDLE, IDLE, 0},
    {"recv, EAGAIN, in use", nothing_there, BUSY, BUSY, 0},
    {"read, in use", by_read, BUSY, BUSY, SENDS},
    {"readv, EFAULT", readv_nowhere, IDLE, IDLE, 0},
    {"readv, EFAULT, in use", readv_nowhere, BUSY, BUSY, 0},
    {"recvmsg, EFAULT", recvmsg_nowhere, IDLE, IDLE, 0},
    {"recvmsg, EFAULT, in use", recvmsg_nowhere, BUSY, BUSY, 0},
    {"writev, EFAULT", writev_nowhere, IDLE, IDLE, 0},
    {"writev, EFAULT, in use", writev_nowhere, BUSY, BUSY, 0},
    {"sendmsg, EFAULT", sendmsg_nowhere, IDLE, IDLE, 0},
    {"sendmsg, EFAULT, in use", sendmsg_nowhere, BUSY, BUSY, 0},
    {"write", by_write, BUSY, IDLE, TAKES},
    {"writev", by_writev, BUSY, IDLE, TAKES},
    {"send", by_send, BUSY, IDLE, TAKES},
    {"sendto", by_sendto, BUSY, IDLE, TAKES},
    {"sendmsg", by_sendmsg, BUSY, IDLE, TAKES},
    {"sendmmsg", by_sendmmsg, BUSY, IDLE, TAKES},
    {"sendfile", by_sendfile, BUSY, IDLE, TAKES},
    {"syscall(write)", by_syscall_write, BUSY, IDLE, TAKES},
    {"write, idle", by_write, IDLE, IDLE, TAKES},
    {"sendmsg, idle", by_sendmsg, IDLE, IDLE, TAKES},
    {"send(MSG_MORE)", a_part, BUSY, BUSY, STAYS},
    {"sendmsg(MSG_MORE)", a_part_by_sendmsg, BUSY, BUSY, STAYS},
    {"write of nothing", nothing, BUSY, BUSY, 0},
    {"sendmsg of nothing", nothing_by_sendmsg, BUSY, BUSY, 0},
    {"send, cut short", cut_send, BUSY, BUSY, 0},
    {"sendmsg, cut short", cut_sendmsg, BUSY, BUSY, 0},
};

static bool marks; /* the mode: automatic, deadline */
static bool manual;

static void turn_to(int wanted)
{
    if (wanted == BUSY) {
        client_sends(0);
        by_read();
    }
    if (manual && wanted == BUSY)
        weir_mark_in_use(server);
}

/* Back to idle, with nothing on its way. */
static void answer_all(int does)
{
    char rest[64];
    if (does == (SENDS | STAYS) || does == (SENDS_OOB | STAYS))
        while (recv(server, rest, sizeof rest, MSG_DONTWAIT) > 0)
            ;
    by_write();
    client_takes(does == STAYS ? 2 * SIZE : SIZE);
    if (marks || manual)
        weir_mark_idle(server);
}

/* What is in use after it, in the mode. */
static uint64_t expected(const struct call *call)
{
    if (manual || (marks && call->before == BUSY))
        return call->before;
    return call->after;
}

static int step(const struct call *call)
{
    turn_to(call->before);
    int wrong = in_use() != call->before;
    if (wrong)
        printf("%s: before it %llu in use\n", call->name, (unsigned long long)in_use());
    if (call->does & (SENDS | SENDS_OOB))
        client_sends(call->does & SENDS_OOB ? MSG_OOB : 0);
    ssize_t got = call->make();
    if (got != SIZE)
        errx(1, "%s: returned %zd", call->name, got);
    uint64_t after = in_use();
    if (after != expected(call))
        printf("%s: after it %llu in use\n", call->name, (unsigned long long)after);
    if (call->does & TAKES)
        client_takes(SIZE);
    if (call->after == BUSY || after == BUSY || call->does & STAYS)
        answer_all(call->does & ~TAKES);
    return wrong + (after != expected(call));
}

static volatile pid_t forked = -1;

/* The child goes back to the read that the signal came into, and gets the first bytes. */
static void fork_here(int sig)
{
    int status = sig;
    forked = fork();
    if (!forked)
        return;
    usleep(20000);
    client_sends(0);
    if (waitpid(forked, &status, 0) != forked || status)
        printf("read, with a fork in it: the child's figures are wrong\n");
    forked = status ? -1 : forked;
    client_sends(0);
}

static int forks_in_a_read(void)
{
    struct sigaction action = {.sa_handler = fork_here, .sa_flags = SA_RESTART};
    struct itimerval once = {.it_value = {0, 50000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &once, NULL);
    if (by_read() != SIZE)
        err(1, "read");
    struct weir_counts counts;
    weir_counts(&counts);
    if (!forked)
        _exit(counts.tracked == 1 && counts.in_use == !manual ? 0 : 1);
    bool wrong = counts.in_use != !manual;
    if (wrong)
        printf("read, with a fork in it: %llu in use\n", (unsigned long long)counts.in_use);
    answer_all(0);
    return (forked < 0) + wrong + (in_use() != 0);
}

static pthread_barrier_t beside;

static void *serve_beside(void *nothing)
{
    int ours, theirs;
    char byte;
    open_one(&ours, &theirs);
    for (int i = 0; i < 3; i++) {
        syscall(SYS_write, theirs, "x", 1);
        read(ours, &byte, 1);
        write(ours, "y", 1);
        weir_mark_idle(ours);
    }
    pthread_barrier_wait(&beside);
    pthread_barrier_wait(&beside); /* for ever: it lives on */
    return nothing;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int made = 0, wrong = 0;
    if (argc != 2 || !weir_counts)
        errx(2, "usage: call_steps alone|among, under the shim");
    const char *mode = getenv("WEIR_MODE");
    marks = mode && (!strcmp(mode, "automatic") || !strcmp(mode, "deadline"));
    manual = mode && !strcmp(mode, "manual");
    file = memfd_create("answer", 0);
    if (write(file, bytes, SIZE) != SIZE)
        err(1, "memfd");
    open_one(&server, &client);
    for (int i = 0; i < 2; i++) {
        turn_to(BUSY);
        answer_all(0);
    }
    if (!strcmp(argv[1], "among")) {
        pthread_barrier_init(&beside, NULL, 2);
        if (pthread_create(&thread, NULL, serve_beside, NULL))
            errx(1, "no thread");
        pthread_barrier_wait(&beside);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++, made++)
            wrong += step(&calls[i]);
    wrong += forks_in_a_read();
    made++;
    printf("%d calls, %d wrong\n", made, wrong);
    fflush(stdout);
    _exit(wrong ? 1 : 0);
}
