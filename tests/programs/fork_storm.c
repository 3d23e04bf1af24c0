/* fork_storm: threads that accept, echo and close beside a main thread that forks all the time.
 * SPDX-License-Identifier: MIT
 *
 *   fork_storm HOW FORKS PORT [drain]
 *
 * HOW: fork, _Fork, or work (forked, and after its closes a child works for a while; the last of
 * the connections stays, as the process may be killed when it has none, and has to print first).
 * With "drain" the forks fall into the middle of a drain: HELD connections are in use, and SIGUSR2
 * has been sent. Each child waits a moment, closes all of its descriptors one by one, and exits; a
 * close that hangs would keep it. Prints
 *
 *   forks N late L killed K served S wrong W tracked T
 *
 * L: children that did not end within 5 s; K: those that a signal ended; S and W: answers that the
 * clients got, right and wrong (a connection that ended without them among the wrong); T: what
 * weir_counts says is tracked, when the clients have gone (-1: no shim).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

enum { SERVERS = 4, CLIENTS = 4, HELD = 400, AT_ONCE = 20, PATIENCE_MS = 5000, MOST = 1000 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener;
static atomic_bool over;
static atomic_long served, wrong;
static bool draining;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

static void *serve(void *argument)
{
    char byte;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
            ;
        close(fd);
    }
    return argument;
}

static int come(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* As read(2). A SIGCHLD that nobody handles interrupts a read with a timeout where it comes while
 * the thread that forks has it blocked: glibc's fork, from 2.38 on. */
static ssize_t read_one(int fd, char *byte)
{
    ssize_t got;
    do
        got = read(fd, byte, 1);
    while (got < 0 && errno == EINTR);
    return got;
}

static void *ask(void *argument)
{
    while (!over) {
        char byte = 'x';
        int fd = come();
        if (fd < 0)
            break;
        if (write(fd, &byte, 1) == 1 && read_one(fd, &byte) == 1)
            served++;
        else
            wrong++;
        close(fd);
    }
    return argument;
}

/* The connections that a drain waits for: accepted and read from here, never answered. */
static void hold_some(int *clients, int *connections)
{
    for (int i = 0; i < HELD; i++) {
        char byte = 'x';
        clients[i] = come();
        connections[i] = clients[i] < 0 ? -1 : accept(listener, NULL, NULL);
        if (connections[i] < 0 || write(clients[i], &byte, 1) != 1 ||
            read(connections[i], &byte, 1) != 1)
            fail("fork_storm: hold");
    }
}

static pid_t start_child(const char *how)
{
    pid_t pid = !strcmp(how, "_Fork") ? _Fork() : fork();
    if (pid == 0) {
        struct weir_counts counts;
        if (weir_counts)
            weir_counts(&counts); /* a look at itself: it may set to work on a drain of its own */
        sleep_ms(5);
        for (int fd = 3; fd < MOST; fd++)
            close(fd);
        if (!strcmp(how, "work"))
            sleep_ms(200);
        _exit(0);
    }
    return pid;
}

static int killed;

static int wait_for(pid_t *pids, int count)
{
    int late = 0, waited = 0;
    for (int i = 0; i < count; i++) {
        int status = 0;
        while (waitpid(pids[i], &status, WNOHANG) == 0) {
            sleep_ms(2);
            waited += 2;
            if (waited > PATIENCE_MS) {
                late++;
                kill(pids[i], SIGKILL);
                waitpid(pids[i], NULL, 0);
                status = 0;
                break;
            }
        }
        killed += WIFSIGNALED(status);
    }
    return late;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: fork_storm HOW FORKS PORT [drain]\n");
        return 2;
    }
    int forks = atoi(argv[2]), late = 0, yes = 1, clients[HELD], connections[HELD];
    draining = argc > 4;
    address.sin_port = htons(atoi(argv[3]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 64) < 0)
        fail("fork_storm: listen");

    pthread_t threads[SERVERS + CLIENTS];
    if (draining)
        hold_some(clients, connections);
    for (int i = 0; !draining && i < SERVERS + CLIENTS; i++)
        if (pthread_create(&threads[i], NULL, i < SERVERS ? serve : ask, NULL) != 0)
            fail("fork_storm: pthread_create");
    if (draining) {
        kill(getpid(), SIGUSR2);
        sleep_ms(50);
    }

    for (int done = 0; done < forks && !late; done += AT_ONCE) {
        pid_t pids[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++)
            if ((pids[i] = start_child(argv[1])) < 0)
                fail("fork_storm: fork");
        late += wait_for(pids, AT_ONCE);
    }

    if (draining) {
        int released = strcmp(argv[1], "work") ? HELD : HELD - 1;
        for (int i = 0; i < released; i++) {
            char byte = 'y';
            if (write(connections[i], &byte, 1) == 1 && read_one(clients[i], &byte) == 1)
                served++;
            else
                wrong++;
            close(connections[i]);
            close(clients[i]);
        }
    } else {
        over = true;
        for (int i = SERVERS; i < SERVERS + CLIENTS; i++)
            pthread_join(threads[i], NULL);
        sleep_ms(200);
    }
    struct weir_counts counts = {0};
    if (weir_counts)
        weir_counts(&counts);
    printf("forks %d late %d killed %d served %ld wrong %ld tracked %lld\n", forks, late, killed,
           (long)served, (long)wrong, weir_counts ? (long long)counts.tracked : -1);
    fflush(stdout);
    _exit(0);
}
