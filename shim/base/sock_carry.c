/* SPDX-License-Identifier: MIT */
/* sock_carry.c - one listener in the place of another: whether it may be, and with its options. */
#include "base/sock.h"
#include "base/sock_option.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

/* Newer than the headers of some of the machines that we build on (asm-generic/socket.h). */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

/* What a program may set on a socket before its bind and listen, and what those who are accepted
 * inherit of it. What is not given is the kernel's default, and is carried as well. */
static const struct option {
    int level, name;
} options[] = {
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_REUSEPORT},
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_RCVTIMEO},
    {SOL_SOCKET, SO_SNDTIMEO},
    {SOL_SOCKET, SO_PASSCRED},
    {SOL_SOCKET, SO_BUSY_POLL},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MINTTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_TRANSPARENT},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_FASTOPEN},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_SAVE_SYN},
    {IPPROTO_TCP, TCP_CONGESTION},
};

static void carry_option(int from, int to, const struct option *option)
{
    char wanted[16], has[16]; /* TCP_CA_NAME_MAX, struct timeval */
    socklen_t len = sizeof wanted, has_len = sizeof has;
    if (sys5(SYS_getsockopt, from, option->level, option->name, wanted, &len) < 0 ||
        sys5(SYS_getsockopt, to, option->level, option->name, has, &has_len) < 0)
        return;
    if (len != has_len || !text_same_bytes(wanted, has, len))
        sys5(SYS_setsockopt, to, option->level, option->name, wanted, len);
}

/*
 * socket(7): the kernel tells twice of what was set, and of one that has been set no longer chooses
 * the size itself, unless SO_BUF_LOCK (Linux 5.14) says so.
 */
static void carry_buffer(int from, int to, int name, int forced)
{
    int wanted, has;
    if (get_int(from, SOL_SOCKET, name, &wanted) < 0 || get_int(to, SOL_SOCKET, name, &has) < 0 ||
        wanted == has)
        return;
    if (set_int(to, SOL_SOCKET, forced, wanted / 2) < 0)
        set_int(to, SOL_SOCKET, name, wanted / 2);
}

static void carry(int from, int to)
{
    sock_admit_syns(to);
    for (size_t i = 0; i < COUNT_OF(options); i++)
        carry_option(from, to, &options[i]);
    carry_buffer(from, to, SO_RCVBUF, SO_RCVBUFFORCE);
    carry_buffer(from, to, SO_SNDBUF, SO_SNDBUFFORCE);
    carry_option(from, to, &(struct option){SOL_SOCKET, SO_BUF_LOCK});
    const long flags = O_NONBLOCK | O_ASYNC;
    long wanted = sys2(SYS_fcntl, from, F_GETFL), has = sys2(SYS_fcntl, to, F_GETFL);
    if ((wanted ^ has) & flags)
        sys3(SYS_fcntl, to, F_SETFL, (has & ~flags) | (wanted & flags));
}

/* ---- the same address ---- */

static bool is_same_option(int a, int b, int level, int name)
{
    int one = 0, other = 0;
    get_int(a, level, name, &one);
    get_int(b, level, name, &other);
    return one == other;
}

/* unix(7): a path ends with a NUL, or with the address; an abstract name with the address alone. */
static size_t name_length(const struct sockaddr_un *un, socklen_t len)
{
    size_t room = len - offsetof(struct sockaddr_un, sun_path), length = 0;
    if (room && !*un->sun_path)
        return room;
    while (length < room && un->sun_path[length])
        length++;
    return length;
}

static bool is_same_address(const struct sockaddr *a, socklen_t a_len, const struct sockaddr *b,
                            socklen_t b_len)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *one = (const void *)a, *other = (const void *)b;
        return a_len >= sizeof *one && b_len >= sizeof *other && one->sin_port == other->sin_port &&
               one->sin_addr.s_addr == other->sin_addr.s_addr;
    }
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *one = (const void *)a, *other = (const void *)b;
        return a_len >= sizeof *one && b_len >= sizeof *other &&
               one->sin6_port == other->sin6_port && one->sin6_scope_id == other->sin6_scope_id &&
               text_same_bytes(&one->sin6_addr, &other->sin6_addr, sizeof one->sin6_addr);
    }
    if (a->sa_family != AF_UNIX || a_len <= sizeof a->sa_family || b_len <= sizeof b->sa_family)
        return false;
    const struct sockaddr_un *one = (const void *)a, *other = (const void *)b;
    size_t length = name_length(one, a_len);
    return length == name_length(other, b_len) &&
           text_same_bytes(one->sun_path, other->sun_path, length);
}

/* net/ipv6/af_inet6.c, inet6_bind: of any other address it is set by the kernel. */
static bool has_v4_as_well(const struct sockaddr *addr)
{
    const struct sockaddr_in6 *six = (const void *)addr;
    return addr->sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);
}

static bool is_same_kind(int listener, int fresh)
{
    return is_same_option(listener, fresh, SOL_SOCKET, SO_DOMAIN) &&
           is_same_option(listener, fresh, SOL_SOCKET, SO_TYPE) &&
           is_same_option(listener, fresh, SOL_SOCKET, SO_PROTOCOL);
}

/* Puts "all" in the place of loopback's address. */
static void widen(struct sockaddr_storage *addr)
{
    struct sockaddr_in *four = (void *)addr;
    struct sockaddr_in6 *six = (void *)addr;
    if (addr->ss_family == AF_INET && ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
        four->sin_addr.s_addr = INADDR_ANY;
    else if (addr->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr))
        six->sin6_addr = (struct in6_addr)IN6ADDR_ANY_INIT;
}

bool sock_leads_to(int listener, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_storage own, wide = {0};
    if (len < sizeof addr->sa_family || len > sizeof wide || !is_same_kind(listener, fd))
        return false;
    for (socklen_t i = 0; i < len; i++)
        ((char *)&wide)[i] = ((const char *)addr)[i];
    widen(&wide);
    socklen_t own_len = sock_own_address(listener, &own);
    const struct sockaddr *listens = (const void *)&own;
    return own_len && (is_same_address(listens, own_len, addr, len) ||
                       is_same_address(listens, own_len, (const void *)&wide, len));
}

bool sock_may_take_place(int listener, int fresh, const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_storage own;
    if (!is_same_kind(listener, fresh))
        return false;
    socklen_t own_len = sock_own_address(listener, &own);
    return own_len && is_same_address((struct sockaddr *)&own, own_len, addr, len) &&
           (!has_v4_as_well(addr) || is_same_option(listener, fresh, IPPROTO_IPV6, IPV6_V6ONLY)) &&
           sock_is_reached(listener);
}

static bool is_any(const struct sockaddr *addr)
{
    const struct sockaddr_in *four = (const void *)addr;
    return addr->sa_family == AF_INET ? four->sin_addr.s_addr == INADDR_ANY : has_v4_as_well(addr);
}

bool sock_is_in_way(int listener, int fresh, const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_storage at;
    socklen_t own_len = sock_own_address(listener, &at);
    const struct sockaddr *own = (const void *)&at;
    int is_six_alone = 0;
    if (!own_len || len < sizeof addr->sa_family || !sock_port(own, own_len) ||
        sock_port(own, own_len) != sock_port(addr, len))
        return false;
    if (own->sa_family == addr->sa_family)
        return is_any(own) || is_any(addr) || is_same_address(own, own_len, addr, len);
    bool is_six = own->sa_family == AF_INET6;
    get_int(is_six ? listener : fresh, IPPROTO_IPV6, IPV6_V6ONLY, &is_six_alone);
    return has_v4_as_well(is_six ? own : addr) && !is_six_alone;
}

bool sock_take_place(int listener, int fresh)
{
    carry(fresh, listener);
    long flags = sys2(SYS_fcntl, fresh, F_GETFD);
    return sys3(SYS_dup3, listener, fresh, flags & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
}

bool sock_is_path(const struct sockaddr *addr, socklen_t len, const char *path)
{
    const struct sockaddr_un *un = (const void *)addr;
    if (len <= sizeof un->sun_family || un->sun_family != AF_UNIX || !*un->sun_path)
        return false;
    for (size_t i = 0, length = name_length(un, len); i < length; i++)
        if (path[i] != un->sun_path[i])
            return false;
    return !path[name_length(un, len)];
}
