/* SPDX-License-Identifier: MIT */
/*
 * A process is forked while another of its parent's threads is in the first listen():
 * fork_starting. The child listens as well. Ends with 0 once it does; with 1 where it has not after
 * 20 s. (Whoever runs this draws the first listen() out.)
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_bool begins;

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static int listen_somewhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(fd, (struct sockaddr *)&at, sizeof at) == 0 ? listen(fd, 5) : -1;
}

static void *first(void *unused)
{
    atomic_store(&begins, true);
    listen_somewhere();
    return unused;
}

int main(void)
{
    pthread_t thread;
    int status = 1;
    pthread_create(&thread, NULL, first, NULL);
    while (!atomic_load(&begins))
        pause_ms(1);
    pause_ms(100);
    pid_t child = fork();
    if (child == 0)
        _exit(listen_somewhere() == 0 ? 0 : 2);
    for (int ms = 0; ms < 20000; ms += 10) {
        if (waitpid(child, &status, WNOHANG) == child) {
            pthread_join(thread, NULL);
            printf("the child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
            return status != 0;
        }
        pause_ms(10);
    }
    puts("the child does not end");
    kill(child, SIGKILL);
    return 1;
}
