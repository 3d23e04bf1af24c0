/* reuse: a connection's number is closed and given to somebody else at once, while close-idle runs
 * without pause; whoever got the number must never meet an end that nobody made.
 * SPDX-License-Identifier: MIT
 *
 *   reuse unseen|seen ROUNDS PORT [sleep]       WEIR_MODE=automatic,127.0.0.1:PORT+1=off
 *
 * "unseen" closes with a system call made inline, past every wrapper, "seen" with close(2). Who
 * gets the number: in turn an end of a socketpair, an outgoing connection, and a connection
 * accepted from the listener whose mode is off. A few idle connections beside keep the drainer
 * busy. With "sleep" it gives the drainer its time before and behind the close, and doesn't race
 * it. Prints
 *
 *   rounds R reused U passes P shut S hit H lost L
 *
 * U: rounds in which the number changed hands; S: rounds in which the connection itself was shut in
 * time (else nothing was provoked); H: innocents that met an end (after 100 it gives up); L:
 * innocents whose byte, written to the number, did not come to their peer.
 */
#define _GNU_SOURCE
#include "inline_call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

enum { PAUSE_MOST = 64, PATIENCE_MS = 200, ENOUGH = 100 };

static atomic_bool over;
static atomic_long passes;
static struct sockaddr_in tracked_at = {.sin_family = AF_INET};
static struct sockaddr_in off_at = {.sin_family = AF_INET};
static int tracked, off;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_at(struct sockaddr_in *address, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    address->sin_port = htons(port);
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)address, sizeof *address) < 0 || listen(fd, 64) < 0)
        fail("reuse: listen");
    return fd;
}

/* An outgoing connection that leaves no TIME_WAIT behind: there are fewer ports than rounds. */
static int connect_to(const struct sockaddr_in *address)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0 ||
        connect(fd, (const struct sockaddr *)address, sizeof *address) < 0)
        fail("reuse: connect");
    return fd;
}

static int accept_from(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        fail("reuse: accept");
    return fd;
}

/* Has either direction an end? A half-close for reading shows on the socket itself alone. */
static bool has_end(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static bool cannot_send(int fd)
{
    return send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0;
}

static bool has_come(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, PATIENCE_MS) == 1;
}

static void *close_idle(void *argument)
{
    while (!over) {
        weir_close_idle();
        passes++;
    }
    return argument;
}

/* Somebody innocent who takes the lowest free number, and a peer of his. */
static void innocent(int kind, int waiting, int *pair)
{
    if (kind == 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
            fail("reuse: socketpair");
    } else if (kind == 1) {
        pair[0] = connect_to(&off_at);
        pair[1] = accept_from(off);
    } else {
        pair[1] = waiting;
        pair[0] = accept_from(off);
    }
}

static void wait_a_little(unsigned *seed, bool sleeps)
{
    int spins = rand_r(seed) % PAUSE_MOST;
    if (sleeps)
        usleep((useconds_t)spins * 20);
    for (; !sleeps && spins > 0; spins--)
        getppid();
}

int main(int argc, char **argv)
{
    bool sleeps = argc == 5 && !strcmp(argv[4], "sleep");
    if ((argc != 4 && !sleeps) || !weir_close_idle) {
        fprintf(stderr, "usage: reuse unseen|seen ROUNDS PORT [sleep], under the shim\n");
        return 2;
    }
    bool unseen = !strcmp(argv[1], "unseen");
    long rounds = atol(argv[2]), reused = 0, shut = 0, hit = 0, lost = 0;
    unsigned seed = 1;
    tracked = listen_at(&tracked_at, atoi(argv[3]));
    off = listen_at(&off_at, atoi(argv[3]) + 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, close_idle, NULL) != 0)
        fail("reuse: pthread_create");

    long round = 0;
    for (; round < rounds && hit + lost < ENOUGH; round++) {
        int kind = round % 3, pair[2];
        int waiting = kind == 2 ? connect_to(&off_at) : -1;
        int client = connect_to(&tracked_at);
        int fd = accept_from(tracked);
        /* The close is to fall anywhere in the drainer's look, its claim and its shutdown. */
        wait_a_little(&seed, sleeps);
        shut += has_end(fd);
        if (unseen)
            inline_call(SYS_close, fd, 0, 0, 0);
        else
            close(fd);
        innocent(kind, waiting, pair);
        reused += pair[0] == fd;
        wait_a_little(&seed, sleeps);
        if (has_end(pair[0]) || has_end(pair[1]) || cannot_send(pair[1]) || cannot_send(pair[0]))
            hit++;
        else if (!has_come(pair[0]) || !has_come(pair[1]))
            lost++;
        inline_call(SYS_close, pair[1], 0, 0, 0);
        inline_call(SYS_close, pair[0], 0, 0, 0);
        inline_call(SYS_close, client, 0, 0, 0);
    }
    over = true;
    pthread_join(thread, NULL);
    printf("rounds %ld reused %ld passes %ld shut %ld hit %ld lost %ld\n", round, reused,
           (long)passes, shut, hit, lost);
    return hit || lost;
}
