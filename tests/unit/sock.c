/* SPDX-License-Identifier: MIT */
/*
 * The last look before our FIN, and what meets a cut. A seccomp filter turns each look into a
 * SIGSYS, whose handler looks itself (with MSG_PEEK) and does what the machine might do between a
 * look and what comes of it.
 */
#include "unit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/sock.h"

static int ours, theirs;
static volatile int looks, away_until; /* looks, the first so many of which are followed by ... */
static volatile bool asks;             /* being away for a while, in which a request may come in */

static void looked(int signal, siginfo_t *info, void *context)
{
    static const struct timespec while_away = {0, 1000000};
    char byte[16];
    ssize_t unread = recv(ours, byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    /* The syscall's third argument; its result. */
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    *(int *)registers[REG_RDX] = unread > 0 ? (int)unread : 0;
    registers[REG_RAX] = 0;
    (void)signal, (void)info;
    if (looks++ < away_until) {
        nanosleep(&while_away, NULL);
        if (asks)
            CHECK(write(theirs, "PING\n", 5) == 5);
        asks = false;
    }
}

static void begin(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCINQ, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT_OF(filter), filter};
    struct sigaction action = {.sa_sigaction = looked, .sa_flags = SA_SIGINFO};
    int pair[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    ours = pair[0];
    theirs = pair[1];
    CHECK(!sigaction(SIGSYS, &action, NULL));
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
          !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void at_once(void)
{
    int again = 0;
    for (int i = 0; i < 100; i++) { /* the machine may be busy */
        looks = away_until = 0;
        CHECK(sock_unread_now(ours) == 0);
        again += looks > 1;
    }
    CHECK(again < 50, "%d", again);
}

static void preempted(void)
{
    for (int away = 1; away < 8; away++) {
        char byte[8];
        looks = 0;
        away_until = away;
        asks = true;
        CHECK(sock_unread_now(ours) == 5, "away %d times", away);
        CHECK(looks == 2 && read(ours, byte, sizeof byte) == 5);
    }
}

static void always_away(void)
{
    looks = 0;
    away_until = 1000;
    asks = false;
    CHECK(sock_unread_now(ours) == 0 && looks > 1 && looks < 20, "%d looks", looks);
}

/* ---- what meets our cut */

enum peer { SENDS_BEFORE, SENDS_AFTER, RESETS, CLOSES };

/* The peer does so as its connection has been cut; before it has our FIN, or behind that. */
static bool meets_cut(enum peer peer)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog nothing_comes = {1, &none};
    struct linger abort = {1, 0};
    struct sock_info info;
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(!bind(listener, (void *)&at, len) && !listen(listener, 1) &&
          !getsockname(listener, (void *)&at, &len) && !connect(client, (void *)&at, len));
    int server = accept(listener, NULL, NULL);
    CHECK(server >= 0);
    sock_info(server, &info);
    if (peer == SENDS_BEFORE)
        CHECK(!setsockopt(client, SOL_SOCKET, SO_ATTACH_FILTER, &nothing_comes,
                          sizeof nothing_comes));
    sock_shut_both(server);
    if (peer == RESETS)
        CHECK(!setsockopt(client, SOL_SOCKET, SO_LINGER, &abort, sizeof abort));
    else if (peer != CLOSES)
        CHECK(send(client, "PING\n", 5, 0) == 5);
    close(client);
    bool met = sock_has_met_cut(server, info.segments);
    close(server);
    close(listener);
    return met;
}

static void meets(void)
{
    CHECK(meets_cut(SENDS_BEFORE));
}

static void says_goodbye(void)
{
    CHECK(!meets_cut(SENDS_AFTER) && !meets_cut(RESETS) && !meets_cut(CLOSES));
}

static const struct unit_test tests[] = {
    {"who is not kept from the processor looks once before our FIN", at_once},
    {"who is preempted behind the last look looks again, and sees what has come in", preempted},
    {"where every look is slow it is not looked for ever", always_away},
    {"what a peer has sent before it had our FIN has met our cut", meets},
    {"what it says behind that is its goodbye, and a RST is none of it", says_goodbye},
};

int main(void)
{
    begin();
    return unit_main(tests, COUNT_OF(tests));
}
