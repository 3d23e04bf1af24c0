/* SPDX-License-Identifier: MIT */
#include "command/proc/sockets.h"

#include "base/proc.h"
#include "base/sock.h"
#include "base/text.h"
#include "command/say.h"

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The connections of one network, by inode once they have all been read. */
static struct socket *sockets;
static size_t count;
static uint32_t network; /* whose they are; 0: nobody's */

static struct socket *add(void)
{
    sockets = grow(sockets, count, sizeof *sockets);
    struct socket *socket = &sockets[count++];
    *socket = (struct socket){.quiet_ms = -1};
    return socket;
}

/* ---- TCP ---- */

static void fill(struct sockaddr_in6 *into, uint8_t family, uint16_t port, const uint32_t *address)
{
    if (family == AF_INET) {
        struct sockaddr_in *in = (void *)into;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        memcpy(&in->sin_addr, address, sizeof in->sin_addr);
    } else {
        *into = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
        memcpy(&into->sin6_addr, address, sizeof into->sin6_addr);
    }
}

static void add_tcp(const struct nlmsghdr *header, void *context)
{
    (void)context;
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *message) || !message->idiag_inode)
        return;
    struct socket *socket = add();
    socket->inode = message->idiag_inode;
    socket->listens = message->idiag_state == TCP_LISTEN;
    socket->can_talk =
        message->idiag_state == TCP_ESTABLISHED || message->idiag_state == TCP_CLOSE_WAIT;
    socket->backlog = message->idiag_wqueue; /* net/ipv4/tcp_diag.c */
    fill(&socket->own, message->idiag_family, message->id.idiag_sport, message->id.idiag_src);
    fill(&socket->peer, message->idiag_family, message->id.idiag_dport, message->id.idiag_dst);

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

/*
 * In the network that a process lives in: a netlink socket is of the one in which it was made
 * (setns(2); which is for root).
 */
static void read_tcp(int32_t pid)
{
    char path[64];
    struct inet_diag_req_v2 ask = {
        .sdiag_protocol = IPPROTO_TCP,
        .idiag_ext = 1 << (INET_DIAG_INFO - 1),
        .idiag_states = ~(1u << TCP_TIME_WAIT | 1u << TCP_SYN_RECV | 1u << TCP_SYN_SENT),
    };
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    bool is_own = proc_namespace(pid, "ns/net") == proc_namespace(0, "ns/net");
    bool is_there = is_own || !setns(there, CLONE_NEWNET);
    for (int family = 0; is_there && family < 2; family++) {
        ask.sdiag_family = family ? AF_INET6 : AF_INET;
        sock_diag(&ask, sizeof ask, NLM_F_DUMP, add_tcp, NULL);
    }
    if (is_there && !is_own)
        setns(own, CLONE_NEWNET);
    close(there);
    close(own);
}

/* ---- AF_UNIX ---- */

static void add_unix(int32_t pid)
{
    struct proc_lines lines;
    char *line;
    if (proc_open_lines(&lines, pid, "net/unix"))
        return;
    while ((line = proc_next_line(&lines))) {
        /* proc(5): "Num RefCount Protocol Flags Type St Inode Path" */
        uint64_t inode;
        unsigned int flags, state;
        int at = 0;
        if (sscanf(line, "%*s %*s %*s %x %*s %x %lu %n", &flags, &state, &inode, &at) < 3 || !at ||
            !inode)
            continue;
        struct socket *socket = add();
        socket->inode = inode;
        socket->path = strdup(line + at);
        socket->listens = flags & 1 << 16; /* include/linux/net.h: __SO_ACCEPTCON */
        socket->can_talk = state == 3;     /* SS_CONNECTED */
    }
    proc_close_lines(&lines);
}

/* ---- all ---- */

static int by_inode(const void *a, const void *b)
{
    const struct socket *one = a, *other = b;
    return one->inode < other->inode ? -1 : one->inode > other->inode;
}

void sockets_forget(void)
{
    for (size_t i = 0; i < count; i++)
        free(sockets[i].path);
    count = network = 0;
}

/* Reads the connections of the network that a process lives in, unless they are there. */
static void read_sockets(int32_t pid)
{
    uint32_t theirs = proc_namespace(pid, "ns/net");
    if (network && network == theirs)
        return;
    sockets_forget();
    network = theirs;
    read_tcp(pid);
    add_unix(pid);
    if (count)
        qsort(sockets, count, sizeof *sockets, by_inode);
}

const struct socket *sockets_find(int32_t pid, uint64_t inode)
{
    struct socket key = {.inode = inode};
    read_sockets(pid);
    return count ? bsearch(&key, sockets, count, sizeof key, by_inode) : NULL;
}

const char *sockets_address(const struct socket *socket, const struct sockaddr_in6 *end)
{
    static char into[480];
    struct text text = TEXT_ON(into);
    *into = '\0';
    if (socket->path) {
        text_string(&text, "unix:");
        text_escaped(&text, socket->path, sizeof(((struct sockaddr_un *)0)->sun_path));
    } else {
        text_address(&text, (const struct sockaddr *)end, sizeof *end);
    }
    return into;
}

bool sockets_listen_at(int32_t pid, const char *address)
{
    read_sockets(pid);
    for (size_t i = 0; i < count; i++)
        if (sockets[i].listens &&
            text_equal(sockets_address(&sockets[i], &sockets[i].own), address))
            return true;
    return false;
}
