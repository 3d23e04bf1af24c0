/* fork_in_handler: a program of one thread that lives in malloc and stdio, while a timer's handler
 * forks again and again; each child closes what it has inherited and exits.
 * SPDX-License-Identifier: MIT
 *
 *   fork_in_handler FORKS PORT [trigger]      trigger: SIGUSR2 is sent to it at a tenth of them
 *
 * Prints "forks N failed F threads T" (T: its tasks at the end), or is ended by SIGALRM where it
 * hangs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t forks, failed;
static int most;
static int listener, connection;

static void on_timer(int sig)
{
    int saved = errno, status;
    (void)sig;
    if (forks == most) // one more on a busy machine, before the timer is stopped
        return;
    pid_t pid = fork();
    if (pid == 0) {
        close(connection);
        close(listener);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        failed++;
    forks++;
    errno = saved;
}

static int tasks(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: fork_in_handler FORKS PORT [trigger]\n");
        return 2;
    }
    most = atoi(argv[1]);
    int yes = 1, triggered = argc == 3;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(atoi(argv[2])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    char byte = 'x';
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 64) < 0 ||
        connect(client, (struct sockaddr *)&address, sizeof address) < 0 ||
        (connection = accept(listener, NULL, NULL)) < 0 || write(client, &byte, 1) != 1 ||
        read(connection, &byte, 1) != 1) {
        perror("fork_in_handler");
        return 1;
    }
    alarm(100); // a busy machine needs longer than the test would wait on an idle one
    signal(SIGPROF, on_timer);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_PROF, &often, NULL);
    FILE *null = fopen("/dev/null", "w");
    while (forks < most) {
        void *some = malloc(1000 + rand() % 100000);
        fprintf(null, "%p\n", some);
        free(some);
        if (!triggered && forks >= most / 10) {
            triggered = 1;
            kill(getpid(), SIGUSR2);
        }
    }
    setitimer(ITIMER_PROF, &never, NULL);
    printf("forks %d failed %d threads %d\n", (int)forks, (int)failed, tasks());
    return 0;
}
