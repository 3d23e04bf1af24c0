/* SPDX-License-Identifier: MIT */
/* sock_syns.c - how a listener drops SYNs, and what that does to those who come in meanwhile. */
#include "base/sock.h"
#include "base/sock_option.h"

#include <linux/filter.h>
#include <netinet/in.h>

/* RFC 9293, 3.1: where a segment's flags are, and two of them. */
enum { FLAGS_AT = 13, FLAG_SYN = 0x02, FLAG_ACK = 0x10 };

/* Drops a segment with SYN and no ACK, takes any other. */
static const struct sock_filter drops_syns[] = {
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_AT),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, FLAG_SYN | FLAG_ACK),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FLAG_SYN, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
};

#define DROPS_SYNS (sizeof drops_syns / sizeof *drops_syns)

/* socket(7), SO_GET_FILTER; one that is longer, or of eBPF, is an error (net/core/filter.c,
 * sk_get_filter). */
static enum { NO_FILTER, OUR_FILTER, OTHER_FILTER } filter_of(int fd)
{
    struct sock_filter has[DROPS_SYNS];
    socklen_t count = DROPS_SYNS;
    if (sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_GET_FILTER, has, &count) < 0)
        return OTHER_FILTER;
    for (size_t i = 0; i < count; i++)
        if (count != DROPS_SYNS || has[i].code != drops_syns[i].code || has[i].k != drops_syns[i].k)
            return OTHER_FILTER;
    return count ? OUR_FILTER : NO_FILTER;
}

/* Both, for a dual-stack listener has clients of either kind. -ENOPROTOOPT: not of that family. */
static bool set_hops(int fd, int least)
{
    long v4 = set_int(fd, IPPROTO_IP, IP_MINTTL, least);
    long v6 = set_int(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, least);
    return v4 >= 0 || v6 >= 0;
}

bool sock_drop_syns(int fd)
{
    const struct sock_fprog program = {DROPS_SYNS, (struct sock_filter *)drops_syns};
    int family = sock_family(fd);
    if (family != AF_INET && family != AF_INET6)
        return false;
    /* Another process that shares the listener may have done it. */
    if (filter_of(fd) == OUR_FILTER ||
        (filter_of(fd) == NO_FILTER &&
         sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) >= 0) ||
        set_hops(fd, 255))
        return true;
    /* MPTCP and an emulator know neither: what still gets in is one at a time. */
    return sys2(SYS_listen, fd, 0) >= 0;
}

void sock_admit_syns(int fd)
{
    int value = 0;
    set_hops(fd, 0);
    if (filter_of(fd) == OUR_FILTER)
        sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_DETACH_FILTER, &value, sizeof value);
}

/* Drops no packet, for one that arrives has a hop left; marks a connection that had inherited
 * MINTTL. */
#define WAS_DEAF 1

static bool has_hops(int fd, int least)
{
    int v4 = 0, v6 = 0;
    get_int(fd, IPPROTO_IP, IP_MINTTL, &v4);
    get_int(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &v6);
    return v4 == least || v6 == least;
}

void sock_clear_minttl(int fd)
{
    if (has_hops(fd, 255))
        set_hops(fd, WAS_DEAF);
}

bool sock_is_deaf(int fd)
{
    return has_hops(fd, 255);
}

bool sock_had_minttl(int fd)
{
    return has_hops(fd, WAS_DEAF);
}
