// What a program gives up in the middle of a drain, no thread of it keeps: "thread_creds HOW PORT".
// Serves two connections, triggers the drain, gives something up, compares its threads, answers.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <err.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534

int capset(void *header, const void *data);

// In it a thread may do no more than this program does afterwards.
static long enter_filter(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_nanosleep, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
               ? -1
               : syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static long gives_up(const char *how)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}};
    gid_t group = NOBODY;
#define HOW(name, call)         \
    if (strcmp(how, name) == 0) \
    return call
    HOW("setuid", setuid(NOBODY));
    HOW("seteuid", seteuid(NOBODY));
    HOW("setreuid", setreuid(NOBODY, NOBODY));
    HOW("setresuid", setresuid(NOBODY, NOBODY, NOBODY));
    HOW("setgid", setgid(NOBODY));
    HOW("setegid", setegid(NOBODY));
    HOW("setregid", setregid(NOBODY, NOBODY));
    HOW("setresgid", setresgid(NOBODY, NOBODY, NOBODY));
    HOW("setgroups", setgroups(1, &group));
    HOW("initgroups", initgroups("nobody", NOBODY));
    HOW("syscall", syscall(SYS_setuid, NOBODY));
    HOW("capset", capset(&header, none));
    HOW("bounding", prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0));
    HOW("privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    HOW("unshare", unshare(CLONE_NEWUSER));
    HOW("seccomp", enter_filter());
    errx(2, "%s?", how);
}

// What a thread has, or "" where it has ended meanwhile.
static void has(const char *task, char *text, size_t room)
{
    char path[300], line[200];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "r");
    *text = '\0';
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "Uid", 3) || !strncmp(line, "Gid", 3) || !strncmp(line, "Groups", 6) ||
            !strncmp(line, "Cap", 3) || !strncmp(line, "NoNew", 5))
            strncat(text, line, room - strlen(text) - 1);
    if (file)
        fclose(file);
}

// How many threads there are; and how many have something else than the first.
static int threads(int *others)
{
    char own[2000], that[2000], first[20];
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    snprintf(first, sizeof first, "%d", getpid());
    has(first, own, sizeof own);
    *others = 0;
    while ((entry = readdir(tasks))) {
        if (*entry->d_name == '.')
            continue;
        has(entry->d_name, that, sizeof that);
        count += *that != '\0';
        *others += *that && strcmp(own, that) != 0;
    }
    closedir(tasks);
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: thread_creds HOW PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[2])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), connections[2], clients[2], others;
    char byte = 'x';
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8))
        err(1, "%s", argv[2]);
    for (int i = 0; i < 2; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(clients[i], (struct sockaddr *)&address, sizeof address) ||
            (connections[i] = accept(listener, NULL, NULL)) < 0)
            err(1, "connection");
    }
    if (write(clients[0], &byte, 1) != 1 || read(connections[0], &byte, 1) != 1)
        err(1, "request");
    int before = threads(&others);
    kill(getpid(), SIGUSR2);
    if (read(connections[1], &byte, 1) != 0) // the drain has begun: this one is idle
        err(1, "idle connection");
    close(connections[1]);
    int meanwhile = threads(&others);
    long result = gives_up(argv[1]);
    if (strcmp(argv[1], "seccomp") == 0) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){1, 0}, NULL);
        _exit(result || write(1, "given up\n", 9) != 9);
    }
    int count = threads(&others);
    printf("before: %d, in the drain: %d; result %ld, threads %d, others %d\n", before, meanwhile,
           result, count, others);
    fflush(stdout);
    if (write(connections[0], &byte, 1) != 1)
        err(1, "answer");
    close(clients[0]);
    while (read(connections[0], &byte, 1) > 0)
        ;
    close(connections[0]);
    for (int i = 0; threads(&others) > 1 && i < 1000; i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    return 0;
}
