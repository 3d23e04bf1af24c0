// Forks in a signal's handler, again and again, while its main loop allocates and serves itself:
// "quiet_forks COUNT" prints how many of the children ended well.
// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t good, forked, wanted;

static void on_alarm(int signal)
{
    int status;
    (void)signal;
    if (forked >= wanted)
        return;
    forked++;
    pid_t child = fork();
    if (child == 0) {
        free(malloc(100)); // POSIX promises nothing here; glibc's fork keeps malloc whole
        _exit(0);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        good++;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: quiet_forks COUNT");
    wanted = atoi(argv[1]);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 8))
        err(1, "listen");
    getsockname(listener, (struct sockaddr *)&address, &length);

    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, NULL);
    while (forked < wanted) {
        char *memory[64], byte = 0;
        for (int i = 0; i < 64; i++)
            memory[i] = malloc((size_t)(i * 100 + 1));
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, (struct sockaddr *)&address, length) == 0) {
            int server = accept(listener, NULL, NULL);
            send(client, &byte, 1, 0);
            read(server, &byte, 1);
            write(server, &byte, 1);
            close(server);
        }
        close(client);
        for (int i = 0; i < 64; i++)
            free(memory[i]);
    }
    printf("%d\n", (int)good);
}
