// Signals that come while a thread is in vfork: "vfork_signals parent|child|handled|blocked PORT".
// parent: SIGTERM comes to the parent meanwhile. The others: to the child, before it execs; whose
// parent has the default action, a handler, or has blocked it.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int in_parent, in_child;
static int parent;

static void handler(int sig)
{
    (void)sig;
    *(syscall(SYS_getpid) == parent ? &in_parent : &in_child) += 1;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: vfork_signals parent|child|handled|blocked PORT");
    const char *how = argv[1];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[2])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), status;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8))
        err(1, "%s", argv[2]);
    sigset_t term, now;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    parent = getpid();
    if (strcmp(how, "child") != 0)
        signal(SIGTERM, handler);
    if (strcmp(how, "blocked") == 0)
        sigprocmask(SIG_BLOCK, &term, NULL);
    pid_t child = vfork();
    if (child == 0) {
        syscall(SYS_kill, strcmp(how, "parent") == 0 ? parent : (int)syscall(SYS_getpid), SIGTERM);
        execl("/bin/grep", "grep", "-E", "^(SigPnd|SigBlk|ShdPnd)", "/proc/self/status", NULL);
        _exit(4);
    }
    if (waitpid(child, &status, 0) != child)
        err(1, "waitpid");
    for (int i = 0; strcmp(how, "parent") == 0 && !in_parent && i < 1000; i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("child: %s %d\n", WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    printf("handled: %d in the parent, %d in the child; SIGTERM is %s\n", in_parent, in_child,
           sigismember(&now, SIGTERM) ? "blocked" : "open");
    return 0;
}
