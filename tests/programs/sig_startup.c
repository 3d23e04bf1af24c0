/* sig_startup: a trigger that comes at a random moment of a server's start-up.
 * SPDX-License-Identifier: MIT
 *
 *   sig_startup exec TRIES PORT LIBRARY
 *   sig_startup fork TRIES PORT
 *
 * "exec" runs without the shim, and starts itself as a server with it, SIGUSR2 blocked until the
 * shim is there to take it (sent to a program that has not come so far it is fatal); "fork" forks a
 * server. Each takes up to 20 ms between its steps; the trigger comes within 40 ms of the start.
 * Prints
 *
 *   tries N dead D served S
 *
 * D: servers that the signal killed; S: those that served somebody 500 ms later, as if it had not
 * come.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEP_US = 10000, TRIGGER_US = 40000, AT_ONCE = 20 };

static struct sockaddr_in address = {.sin_family = AF_INET};

static void rest(unsigned *seed)
{
    usleep(rand_r(seed) % STEP_US);
}

static void server(int port, unsigned seed)
{
    char byte;
    int yes = 1, fd, listener = socket(AF_INET, SOCK_STREAM, 0);
    alarm(100);
    rest(&seed);
    address.sin_port = htons(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        exit(1);
    rest(&seed);
    if (listen(listener, 8) < 0)
        exit(1);
    rest(&seed);
    for (;;) {
        if ((fd = accept(listener, NULL, NULL)) < 0)
            continue;
        while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
            ;
        close(fd);
    }
}

static bool is_served(int port)
{
    char byte = 'x';
    struct timeval patience = {0, 100000};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons(port);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    bool served = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                  send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
    close(fd);
    return served;
}

static pid_t start(const char *library, int port, unsigned seed)
{
    pid_t pid = fork();
    if (pid == 0 && library) {
        char port_text[16], seed_text[16];
        snprintf(port_text, sizeof port_text, "%d", port);
        snprintf(seed_text, sizeof seed_text, "%u", seed);
        setenv("LD_PRELOAD", library, 1);
        execl("/proc/self/exe", "sig_startup", "server", port_text, seed_text, NULL);
        _exit(1);
    }
    if (pid == 0)
        server(port, seed);
    return pid;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: sig_startup exec|fork TRIES PORT [LIBRARY]\n");
        return 2;
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!strcmp(argv[1], "server"))
        server(atoi(argv[2]), atoi(argv[3]));
    const char *library = argc > 4 ? argv[4] : NULL;
    int tries = atoi(argv[2]), port = atoi(argv[3]), dead = 0, served = 0;
    unsigned seed = 1;
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    if (library)
        sigprocmask(SIG_BLOCK, &usr2, NULL); /* the children inherit it */
    for (int done = 0; done < tries; done += AT_ONCE) {
        pid_t pids[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {
            pids[i] = start(library, port + done + i, done + i);
            usleep(rand_r(&seed) % TRIGGER_US);
            kill(pids[i], SIGUSR2);
        }
        usleep(500000);
        for (int i = 0; i < AT_ONCE; i++) {
            int status;
            if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
                fprintf(stderr, "try %d: status %x\n", done + i, status);
                dead++;
                continue;
            }
            if (is_served(port + done + i))
                fprintf(stderr, "try %d: served, %d\n", done + i, ++served);
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    }
    printf("tries %d dead %d served %d\n", tries, dead, served);
    return 0;
}
