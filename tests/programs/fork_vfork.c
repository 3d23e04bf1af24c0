/* fork_vfork: children on their parent's memory, which close and replace their parent's numbers.
 * SPDX-License-Identifier: MIT
 *
 *   fork_vfork HOW PORT     HOW: vfork, clone (CLONE_VM and CLONE_VFORK, a stack of its own), spawn
 *
 * An echo server of one connection at a time; the line "go" makes a child in that way, which closes
 * the connection's number, puts /dev/null over it, closes everything else and execs /bin/true. It
 * is answered with weir_counts, or "child N" where the child failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen.h"
#include "../../shim/weir.h" /* weak: null without the shim */

static const char *how;
static int connection, listener;
static char *const command[] = {"/bin/true", NULL};

static void child(void)
{
    int null = open("/dev/null", O_RDWR);
    close(connection);
    dup2(null, connection);
    close(listener);
    dup2(null, listener);
    close_range(3, 40, 0);
    for (int fd = 3; fd < 40; fd++)
        close(fd);
    execv(*command, command);
    _exit(1);
}

static int cloned(void *argument)
{
    (void)argument;
    child();
    return 1;
}

static pid_t spawn(void)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, connection);
    posix_spawn_file_actions_adddup2(&actions, 0, connection);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (posix_spawn(&pid, *command, &actions, NULL, command, environ) != 0)
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static pid_t start_child(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    if (!strcmp(how, "spawn"))
        return spawn();
    if (!strcmp(how, "clone"))
        return clone(cloned, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    pid_t pid = vfork();
    if (pid == 0)
        child();
    return pid;
}

static int go(char *line, size_t room)
{
    int status = -1;
    pid_t pid = start_child();
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return snprintf(line, room, "child %d\n", status);
    struct weir_counts counts = {0};
    if (weir_counts)
        weir_counts(&counts);
    return snprintf(line, room, "%llu %llu %llu %llu\n", (unsigned long long)counts.tracked,
                    (unsigned long long)counts.idle, (unsigned long long)counts.in_use,
                    (unsigned long long)counts.accepted);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: fork_vfork HOW PORT\n");
        return 2;
    }
    how = argv[1];
    listener = listen_on(argv[2], SOCK_STREAM, 64);
    for (;;) {
        char line[512];
        ssize_t length;
        connection = accept(listener, NULL, NULL);
        while ((length = read(connection, line, sizeof line)) > 0) {
            if (!strncmp(line, "go", 2))
                length = go(line, sizeof line);
            if (write(connection, line, length) != length)
                break;
        }
        close(connection);
    }
}
