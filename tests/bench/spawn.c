/* SPDX-License-Identifier: MIT */
/*
 * What processes cost.
 *
 *   spawn start LIBRARY PROGRAM   PROGRAM's life with LIBRARY preloaded beside the same without:
 *                                 spawn_start bare=MS shim=MS more=MS
 *   spawn serve COUNT PROGRAM     a program with COUNT connections: for each line of its input,
 *                                 "fork" (a child that ends at once) or "exec" (a child that
 * becomes PROGRAM), the ns of one, the mean of a few; to be run twice, with the shim and without,
 * and asked in turn
 */
#include "clients.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static double life_ms(const char *program, char **env)
{
    char *argv[] = {(char *)program, NULL};
    pid_t pid;
    double begin = now_ns();
    if (posix_spawn(&pid, program, NULL, NULL, argv, env) || waitpid(pid, NULL, 0) != pid)
        err(1, "%s", program);
    return (now_ns() - begin) / 1e6;
}

static void measure_start(const char *library, const char *program)
{
    enum { PAIRS = 301 };
    static double bares[PAIRS], shims[PAIRS], mores[PAIRS];
    char preload[4096];
    char *bare[] = {"PATH=/usr/bin:/bin", NULL};
    char *shim[] = {"PATH=/usr/bin:/bin", preload, NULL};
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
    for (int i = 0; i < PAIRS; i++) {
        bares[i] = life_ms(program, bare);
        shims[i] = life_ms(program, shim);
        mores[i] = shims[i] - bares[i];
    }
    printf("spawn_start bare=%.3f shim=%.3f more=%.3f\n", median(bares, PAIRS),
           median(shims, PAIRS), median(mores, PAIRS));
}

static void child_of(const char *program)
{
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (!pid) {
        if (program)
            execl(program, program, (char *)NULL);
        _exit(program ? 127 : 0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status)
        errx(1, "a child ended with 0x%x", (unsigned int)status);
}

static void serve(int count, const char *program)
{
    static int fds[19900];
    char line[16];
    pid_t clients = clients_accept(fds, count);
    pin_to(0);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        bool execs = !strncmp(line, "exec", 4);
        enum { TIMES = 20 };
        double begin = now_ns();
        for (int i = 0; i < TIMES; i++)
            child_of(execs ? program : NULL);
        printf("%.0f\n", (now_ns() - begin) / TIMES);
        fflush(stdout);
    }
    kill(clients, SIGKILL);
    waitpid(clients, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "start"))
        measure_start(argv[2], argv[3]);
    else if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(atoi(argv[2]), argv[3]);
    else
        errx(2, "usage: spawn start LIBRARY PROGRAM | spawn serve COUNT PROGRAM");
    return 0;
}
