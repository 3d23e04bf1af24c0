/* fork_lives: listens, and has a child that does one thing and nothing else.
 * SPDX-License-Identifier: MIT
 *
 *   fork_lives HOW PORT     HOW: pause, sleep, poll, read (from a pipe), lock (a file), thread
 * (which does nothing, and is waited for), child (has one, and waits for it)
 *
 * Prints "child PID". With "end" it has 200 children that end at once, one after the other, and
 * prints the page faults of each of the last 100, and its own: "faults CHILD OWN".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int pipes[2], locked;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void listen_on(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 16) < 0)
        fail("listen");
}

static long faults(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return usage.ru_minflt;
}

static void children_that_end(int count)
{
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            fail("fork");
    }
}

/* A call that the shim does not see. */
static void *rest(void *unused)
{
    for (;;)
        syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
    return unused;
}

static void live(const char *how)
{
    char byte;
    pthread_t thread;
    if (!strcmp(how, "sleep"))
        sleep(1000);
    if (!strcmp(how, "poll"))
        poll(NULL, 0, -1);
    if (!strcmp(how, "read") && read(pipes[0], &byte, 1) < 0)
        fail("read");
    if (!strcmp(how, "lock")) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        fcntl(locked, F_SETLKW, &whole);
    }
    if (!strcmp(how, "thread") && pthread_create(&thread, NULL, rest, NULL) == 0)
        pthread_join(thread, NULL);
    if (!strcmp(how, "child")) {
        pid_t pid = fork();
        if (!pid)
            pause();
        waitpid(pid, NULL, 0);
    }
    pause();
}

int main(int argc, char **argv)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[] = "/tmp/fork_lives.XXXXXX";
    if (argc < 3)
        return 2;
    listen_on(atoi(argv[2]));
    if (!strcmp(argv[1], "end")) {
        children_that_end(100);
        long childrens = faults(RUSAGE_CHILDREN), own = faults(RUSAGE_SELF);
        children_that_end(100);
        printf("faults %.2f %.2f\n", (faults(RUSAGE_CHILDREN) - childrens) / 100.0,
               (faults(RUSAGE_SELF) - own) / 100.0);
        return 0;
    }
    if (pipe(pipes) < 0 || (locked = mkstemp(path)) < 0 || unlink(path) < 0 ||
        fcntl(locked, F_SETLK, &whole) < 0)
        fail("pipe");
    pid_t pid = fork();
    if (!pid)
        live(argv[1]);
    printf("child %d\n", pid);
    fflush(stdout);
    for (;;)
        pause();
}
