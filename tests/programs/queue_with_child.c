/* queue_with_child: a server that drains itself while clients wait in its accept queue and a child
 * that has nothing to do with them lives. It accepts late.
 * SPDX-License-Identifier: MIT
 *
 *   queue_with_child PORT HOW
 *
 * HOW: close (the child does not hold the listener) or hold (it does, and never accepts).
 * Prints "drained N": what weir_drain() returned. Answers each byte with that byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/weir.h"
#include "listen.h"

enum { MOST = 64 };

static void *drains(void *unused)
{
    (void)unused;
    printf("drained %d\n", weir_drain ? weir_drain() : -2);
    fflush(stdout);
    return NULL;
}

/* One round: who waits is accepted, who has sent is answered, who has left is closed. */
static int serve(int listener, struct pollfd *polled, int count)
{
    char byte;
    poll(polled, (nfds_t)count, 50);
    for (int fd; polled[0].revents & POLLIN && count < MOST &&
                 (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;)
        polled[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    for (int i = 1; i < count; i++) {
        if (!polled[i].revents)
            continue;
        ssize_t got = read(polled[i].fd, &byte, 1);
        if (got == 1) {
            (void)!write(polled[i].fd, &byte, 1);
        } else if (got == 0 || errno != EAGAIN) {
            close(polled[i].fd);
            polled[i--] = polled[--count];
        }
    }
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int hold = !strcmp(argv[2], "hold");
    int listener =
        listen_on(argv[1], SOCK_STREAM | SOCK_NONBLOCK | (hold ? 0 : SOCK_CLOEXEC), MOST);
    if (fork() == 0) {
        execlp("sleep", "sleep", "30", (char *)NULL);
        _exit(1);
    }
    printf("listens\n");
    fflush(stdout);
    char byte;
    (void)!read(STDIN_FILENO, &byte, 1); /* the clients are in the queue */
    pthread_t thread;
    if (pthread_create(&thread, NULL, drains, NULL) != 0)
        return 1;
    usleep(200000); /* an event loop that is a little late */
    struct pollfd polled[MOST + 1] = {{.fd = listener, .events = POLLIN}};
    int count = 1;
    for (int round = 0; round < 400; round++)
        count = serve(listener, polled, count);
}
