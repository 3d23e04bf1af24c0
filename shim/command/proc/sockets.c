/* SPDX-License-Identifier: MIT */
#include "command/proc/sockets.h"

#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>

static struct socket *add(struct sockets *sockets)
{
    if (sockets->count == sockets->room) {
        size_t room = sockets->room ? sockets->room * 2 : 256;
        struct socket *at = realloc(sockets->at, room * sizeof *at);
        if (!at)
            return NULL;
        sockets->at = at;
        sockets->room = room;
    }
    struct socket *socket = &sockets->at[sockets->count++];
    *socket = (struct socket){.quiet_ms = -1};
    return socket;
}

/* ---- TCP ---- */

/*
 * A netlink socket of the network that a process lives in: a socket stays in the one that it was
 * made in (setns(2); which is for root). -1: it may not be.
 */
static int open_netlink(int32_t pid)
{
    char path[64];
    int there = -1, own = -1;
    if (proc_namespace(pid, "ns/net") != proc_namespace(0, "ns/net")) {
        snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
        there = open(path, O_RDONLY | O_CLOEXEC);
        own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (there < 0 || own < 0 || setns(there, CLONE_NEWNET)) {
            close(there);
            close(own);
            return -1;
        }
    }
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (there >= 0) {
        if (setns(own, CLONE_NEWNET)) { /* never seen; weir's work is not tied to a network */
            close(fd);
            fd = -1;
        }
        close(there);
        close(own);
    }
    struct timeval limit = {5, 0};
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void add_tcp(struct sockets *sockets, const struct nlmsghdr *header)
{
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *message) || !message->idiag_inode)
        return;
    struct socket *socket = add(sockets);
    if (!socket)
        return;
    socket->inode = message->idiag_inode;
    if (message->idiag_family == AF_INET) {
        struct sockaddr_in *in = (void *)&socket->peer;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = message->id.idiag_dport};
        memcpy(&in->sin_addr, message->id.idiag_dst, sizeof in->sin_addr);
    } else {
        socket->peer =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = message->id.idiag_dport};
        memcpy(&socket->peer.sin6_addr, message->id.idiag_dst, sizeof socket->peer.sin6_addr);
    }

    const struct rtattr *attribute = (const void *)(message + 1);
    int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof *message));
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        struct tcp_info info = {0};
        if (attribute->rta_type != INET_DIAG_INFO)
            continue;
        size_t n = RTA_PAYLOAD(attribute);
        if (n >= offsetof(struct tcp_info, tcpi_last_ack_recv)) {
            memcpy(&info, RTA_DATA(attribute), n < sizeof info ? n : sizeof info);
            socket->quiet_ms = info.tcpi_last_data_recv;
        }
    }
}

static void dump(struct sockets *sockets, int fd, uint8_t family)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } ask = {
        .header = {.nlmsg_len = sizeof ask,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = ~(1u << TCP_LISTEN | 1u << TCP_TIME_WAIT | 1u << TCP_SYN_RECV |
                                      1u << TCP_SYN_SENT)},
    };
    static char buffer[65536] __attribute__((aligned(8)));
    if (send(fd, &ask, sizeof ask, 0) != sizeof ask)
        return;
    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0)
            return;
        const struct nlmsghdr *header = (const void *)buffer;
        for (size_t left = (size_t)got; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
                return;
            if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY)
                add_tcp(sockets, header);
        }
    }
}

/* ---- AF_UNIX ---- */

static void add_unix(struct sockets *sockets, int32_t pid)
{
    struct proc_lines lines;
    char *line;
    if (proc_open_lines(&lines, pid, "net/unix"))
        return;
    while ((line = proc_next_line(&lines))) {
        /* proc(5): "Num RefCount Protocol Flags Type St Inode Path" */
        uint64_t inode;
        int at = 0;
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu %n", &inode, &at) < 1 || !at || !inode)
            continue;
        struct socket *socket = add(sockets);
        if (!socket)
            break;
        socket->inode = inode;
        socket->path = strdup(line + at);
    }
    proc_close_lines(&lines);
}

/* ---- all ---- */

static int by_inode(const void *a, const void *b)
{
    const struct socket *one = a, *other = b;
    return one->inode < other->inode ? -1 : one->inode > other->inode;
}

void sockets_free(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++)
        free(sockets->at[i].path);
    free(sockets->at);
    *sockets = (struct sockets){0};
}

void sockets_read(struct sockets *sockets, int32_t pid)
{
    uint32_t namespace = proc_namespace(pid, "ns/net");
    if (sockets->at && sockets->namespace == namespace)
        return;
    sockets_free(sockets);
    sockets->namespace = namespace;
    int fd = open_netlink(pid);
    if (fd >= 0) {
        dump(sockets, fd, AF_INET);
        dump(sockets, fd, AF_INET6);
        close(fd);
    }
    add_unix(sockets, pid);
    if (sockets->count)
        qsort(sockets->at, sockets->count, sizeof *sockets->at, by_inode);
}

const struct socket *sockets_find(const struct sockets *sockets, uint64_t inode)
{
    struct socket key = {.inode = inode};
    return sockets->count ? bsearch(&key, sockets->at, sockets->count, sizeof key, by_inode) : NULL;
}
