// Serves lines, a client after the other, from inside a seccomp sandbox that it enters once it has
// accepted its first: "sandbox_seccomp strict|filter|syscall|again PORT". strict allows read, write
// and exit, and so serves that one client; a filter allows accept and close too. All else kills.
// syscall enters it by the call's number; again asks for another, in vain.
// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <err.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "listen.h"

#define ALLOW(call)                                        \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void enter(const char *how)
{
    struct sock_filter allowed[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read),
        ALLOW(write),
        ALLOW(close),
        ALLOW(accept),
        ALLOW(exit),
        ALLOW(exit_group),
        ALLOW(rt_sigreturn),
        ALLOW(restart_syscall),
        ALLOW(prctl),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof allowed / sizeof *allowed, allowed};
    long failed = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (strcmp(how, "strict") == 0)
        failed |= prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    else if (strcmp(how, "syscall") == 0)
        failed |= syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    else
        failed |= prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    if (failed)
        err(1, "seccomp");
    if (strcmp(how, "again") == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == 0)
        errx(1, "a filter at NULL");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: sandbox_seccomp strict|filter|syscall|again PORT");
    bool strict = strcmp(argv[1], "strict") == 0, inside = false;
    int listener = listen_on(argv[2], SOCK_STREAM, 64);
    do {
        char line[100];
        ssize_t got;
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        if (!inside)
            enter(argv[1]);
        inside = true;
        while ((got = read(client, line, sizeof line)) > 0)
            write(client, line, (size_t)got);
        if (!strict)
            close(client);
    } while (!strict);
    syscall(SYS_exit, 0); // exit_group is not allowed
}
