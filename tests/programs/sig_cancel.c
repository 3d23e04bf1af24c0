/* sig_cancel: threads that leave a call by another way than its return, while idle connections are
 * closed without pause; then each descriptor is closed, and a drain ends.
 * SPDX-License-Identifier: MIT
 *
 *   sig_cancel HOW ROUNDS PORT
 *
 * HOW: accept, read, ppoll (a thread is cancelled in it); jump_accept, jump_read, jump_ppoll (a
 * signal's handler leaves it with siglongjmp); exit (a thread closes its connection and exits at
 * once). Prints "rounds N closed C tracked T drained R": C: descriptors closed at the end; T:
 * connections that are tracked then; R: what weir_drain said.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

enum { KEPT = 64 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener;
static const char *call;
static bool jumps;
static atomic_bool over, waiting;
static __thread sigjmp_buf away;
static __thread volatile sig_atomic_t may_jump; /* away's frame is there */
static int clients[KEPT], connections[KEPT], kept;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void on_alarm(int sig)
{
    (void)sig;
    if (may_jump)
        siglongjmp(away, 1);
}

static void make_connection(int *client, int *connection)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    *client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(*client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(*client, (struct sockaddr *)&address, sizeof address) < 0 ||
        (*connection = accept(listener, NULL, NULL)) < 0)
        fail("sig_cancel: a connection");
}

static void wait_in_call(int fd)
{
    char byte;
    sigset_t none;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    sigemptyset(&none);
    waiting = true;
    if (!strcmp(call, "accept"))
        accept(listener, NULL, NULL);
    else if (!strcmp(call, "read"))
        (void)!read(fd, &byte, 1);
    else
        ppoll(&wait, 1, NULL, &none);
}

static void *waits(void *argument)
{
    int fd = (intptr_t)argument;
    if (!jumps || sigsetjmp(away, 1) == 0) {
        may_jump = jumps;
        wait_in_call(fd); /* a close-idle may end it before the signal comes */
    }
    may_jump = false;
    return NULL;
}

static void *closes(void *argument)
{
    close((intptr_t)argument);
    return NULL;
}

static void *close_idle(void *argument)
{
    while (!over && weir_close_idle)
        weir_close_idle();
    return argument;
}

static void one_round(void)
{
    pthread_t thread;
    int client, connection;
    bool exits = !strcmp(call, "exit");
    make_connection(&client, &connection);
    waiting = false;
    if (pthread_create(&thread, NULL, exits ? closes : waits, (void *)(intptr_t)connection) != 0)
        fail("sig_cancel: pthread_create");
    while (!exits && !waiting)
        usleep(10);
    if (!exits && jumps)
        pthread_kill(thread, SIGALRM);
    else if (!exits)
        pthread_cancel(thread);
    pthread_join(thread, NULL);
    if (exits) {
        close(client);
    } else if (kept < KEPT) {
        clients[kept] = client;
        connections[kept++] = connection;
    } else {
        close(connection);
        close(client);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: sig_cancel HOW ROUNDS PORT\n");
        return 2;
    }
    int rounds = atoi(argv[2]), yes = 1, closed = 0;
    jumps = !strncmp(argv[1], "jump_", 5);
    call = argv[1] + (jumps ? 5 : 0);
    if (!jumps)
        alarm(200);
    address.sin_port = htons(atoi(argv[3]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 64) < 0)
        fail(argv[3]);
    struct sigaction action = {.sa_handler = on_alarm};
    if (jumps)
        sigaction(SIGALRM, &action, NULL);

    pthread_t closer;
    if (pthread_create(&closer, NULL, close_idle, NULL) != 0)
        fail("sig_cancel: pthread_create");
    for (int i = 0; i < rounds; i++)
        one_round();
    over = true;
    pthread_join(closer, NULL);
    for (int i = 0; i < kept; i++) {
        close(clients[i]);
        closed += close(connections[i]) == 0;
    }
    struct weir_counts counts = {0};
    if (weir_counts)
        weir_counts(&counts);
    printf("rounds %d closed %d tracked %d drained %d\n", rounds, closed, (int)counts.tracked,
           weir_drain ? weir_drain() : 0);
    return 0;
}
