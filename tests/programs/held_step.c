/* held_step: a thread that is held by ptrace at each instruction of ours while a close-idle goes
 * by. SPDX-License-Identifier: MIT
 *
 *   held_step FIRST EACH    holds it at the FIRST, FIRST+EACH ... instruction of the shim's
 *   held_step serve         the server that is held; for held_step itself
 *
 * Each time a new server, under the shim, answers on a kept connection; its thread is held at one
 * instruction of the shim's between two requests' ends, a close-idle is asked for, and it goes on.
 * Its answer has to come whole. Where the connection is open still, a later request lasts until
 * a drain has begun, which has to tell it as in use, and its answer has to come as well. Ends
 * where there is no such instruction any more: "held N times, K closed when idle, 0 wrong".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 160, ROUNDS = 3, HOLD_US = 60000, STEPS_MOST = 2000000 };

/* ---- the server ---- */

static __attribute__((noinline)) void answered(void)
{
    __asm__ volatile("");
}

/* Gets the signals, so that they need not wait for the thread that is held. */
static void *other_thread(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

static int serve(void)
{
    pthread_t thread;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    char request, answer[SIZE];
    memset(answer, 'a', sizeof answer);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 5) ||
        getsockname(listener, (struct sockaddr *)&at, &length) ||
        pthread_create(&thread, NULL, other_thread, NULL))
        err(1, "serve");
    printf("%d %p\n", ntohs(at.sin_port), (void *)answered);
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (read(fd, &request, 1) == 1) {
        char go;
        if (request == 's' && read(0, &go, 1) != 1)
            err(1, "go");
        if (write(fd, answer, sizeof answer) != SIZE)
            err(1, "write");
        answered();
    }
    close(fd);
    pause();
    return 0;
}

/* ---- who holds it ---- */

static pid_t server;
static int port, client;
static uint64_t marker, from, to; /* `answered`; the shim's code */
static int go;               /* the server's standard input: what takes long is to end */
static char *log_file;

static bool start(const char *self)
{
    int out[2], in[2];
    char line[128] = "";
    if (pipe(out) || pipe(in))
        err(1, "pipe");
    unlink(log_file);
    server = fork();
    if (server == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(out[0]);
        close(in[0]);
        close(in[1]);
        setenv("LD_PRELOAD", getenv("HELD_PRELOAD"), 1);
        setenv("WEIR_LOG", log_file, 1);
        execl(self, self, "serve", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    close(in[0]);
    go = in[1];
    FILE *from_server = fdopen(out[0], "r");
    bool said =
        fgets(line, sizeof line, from_server) && sscanf(line, "%d %lx", &port, &marker) == 2;
    fclose(from_server);
    return said;
}

static void find_shim(void)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", server);
    FILE *maps = fopen(path, "r");
    from = to = 0;
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "libweir.so") && strstr(line, " r-xp "))
            sscanf(line, "%lx-%lx", &from, &to);
    fclose(maps);
    if (!from)
        errx(1, "the server runs without the shim");
}

static void ask(char what)
{
    if (send(client, &what, 1, MSG_NOSIGNAL) != 1)
        err(1, "send");
}

/* Whether the whole answer has come. */
static bool answer(void)
{
    char buffer[SIZE];
    return recv(client, buffer, SIZE, MSG_WAITALL) == SIZE;
}

static uint64_t step(void)
{
    struct user_regs_struct regs;
    int status;
    if (ptrace(PTRACE_SINGLESTEP, server, 0, 0) || waitpid(server, &status, __WALL) != server ||
        !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, server, 0, &regs))
        err(1, "step");
    return regs.rip;
}

/* Steps to the server's mark, or to the nth instruction of the shim's before it. Returns whether
 * there is one. */
static bool step_to(long nth)
{
    long ours = 0;
    for (long steps = 0; steps < STEPS_MOST; steps++) {
        uint64_t at = step();
        if (at == marker)
            return false;
        ours += at >= from && at < to;
        if (ours == nth)
            return true;
    }
    errx(1, "%d steps lead nowhere", STEPS_MOST);
}

static pid_t other_tid(void)
{
    char path[64];
    pid_t tid = 0;
    snprintf(path, sizeof path, "ls /proc/%d/task", server);
    FILE *tasks = popen(path, "r");
    for (int one; fscanf(tasks, "%d", &one) == 1;)
        tid = one == server || tid ? tid : one;
    pclose(tasks);
    return tid;
}

static void ask_weir(pid_t tid, int value)
{
    siginfo_t info = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_value.sival_int = value;
    if (syscall(SYS_rt_tgsigqueueinfo, server, tid, SIGUSR2, &info))
        err(1, "tgsigqueueinfo");
}

/* Whether a line of the log has both, within twenty seconds. */
static bool log_says(const char *text, const char *more)
{
    char line[512];
    for (int i = 0; i < 4000; i++, usleep(5000)) {
        FILE *file = fopen(log_file, "r");
        while (file && fgets(line, sizeof line, file)) {
            if (strstr(line, text) && strstr(line, more)) {
                fclose(file);
                return true;
            }
        }
        if (file)
            fclose(file);
    }
    return false;
}

/* Whether the peer has half-closed it. */
static bool is_closed(void)
{
    char byte;
    struct timeval limit = {0, 30000};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool closed = recv(client, &byte, 1, MSG_PEEK) == 0;
    limit.tv_sec = 20;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return closed;
}

static int wrong(long nth, const char *what)
{
    printf("held at the shim's instruction %ld: %s\n", nth, what);
    return 1;
}

static int after_it(long nth, pid_t tid, long *closed)
{
    if (!answer())
        return wrong(nth, "its answer was cut");
    if (is_closed()) {
        ++*closed;
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        ask('q');
        if (!answer())
            return wrong(nth, "an answer behind it was cut");
    }
    ask('s');
    usleep(50000);
    ask_weir(tid, 2);
    if (!log_says(" draining: ", ""))
        return wrong(nth, "no drain began");
    if (!log_says(" draining: ", "; 0 idle, 1 in use"))
        return wrong(nth, "a request in progress was told as idle");
    if (write(go, "", 1) != 1)
        err(1, "go");
    return answer() ? 0 : wrong(nth, "the next answer was cut");
}

/* 0, 1: held, and so many things went wrong; -1: there is no such instruction. */
static int hold(const char *self, long nth, long *closed)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval limit = {20, 0};
    int on = 1, status, result = -1;
    if (!start(self))
        errx(1, "the server does not start");
    at.sin_port = htons((uint16_t)port);
    client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(client, (struct sockaddr *)&at, sizeof at))
        err(1, "connect");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (int i = 0; i < ROUNDS; i++) {
        ask('q');
        if (!answer())
            errx(1, "no answer before anything was held");
    }
    usleep(30000); /* in read again, and quiet for longer than WEIR_SETTLE */
    find_shim();
    pid_t tid = other_tid();
    if (ptrace(PTRACE_SEIZE, server, 0, 0) || ptrace(PTRACE_INTERRUPT, server, 0, 0) ||
        waitpid(server, &status, __WALL) != server)
        err(1, "ptrace");
    ask('q');
    step_to(-1); /* from the end of one request ... */
    if (!answer())
        errx(1, "no answer in single steps");
    ask('q');
    if (step_to(nth)) { /* ... to that of the next */
        ask_weir(tid, 1);
        usleep(HOLD_US);
        ptrace(PTRACE_DETACH, server, 0, 0);
        result = after_it(nth, tid, closed);
    }
    kill(server, SIGKILL);
    while (waitpid(server, &status, __WALL) == server && !WIFSIGNALED(status) && !WIFEXITED(status))
        ;
    close(client);
    close(go);
    return result;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "serve"))
        return serve();
    if (argc != 3 || !getenv("HELD_PRELOAD") || !(log_file = getenv("HELD_LOG")))
        errx(2, "usage: held_step FIRST EACH, with HELD_PRELOAD and HELD_LOG");
    long held = 0, closed = 0, wrongs = 0, each = atol(argv[2]);
    for (long nth = atol(argv[1]);; nth += each) {
        int result = hold("/proc/self/exe", nth, &closed);
        if (result < 0)
            break;
        held++;
        wrongs += result;
    }
    printf("held %ld times, %ld closed when idle, %ld wrong\n", held, closed, wrongs);
    return wrongs > 0;
}
