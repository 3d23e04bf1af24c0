/* SPDX-License-Identifier: MIT */
#include "base/sock.h"
#include "base/sock_option.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

/* Multiplies by the golden ratio, so that each bit reaches the upper half, and brings that down. */
static uint64_t stir(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static uint64_t word_at(const void *at)
{
    uint64_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}

/* FNV-1a. */
static uint32_t hash_bytes(const unsigned char *at, socklen_t len)
{
    uint32_t hash = 2166136261u;
    for (socklen_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 16777619u;
    return hash;
}

uint32_t sock_hash(const struct sockaddr *addr, socklen_t len)
{
    const char *at = (const void *)addr;
    uint32_t hash;
    if (LIKELY(addr->sa_family == AF_INET) && len >= sizeof(struct sockaddr_in)) {
        hash = (uint32_t)stir(0, word_at(at)); /* family, port and address: the rest is padding */
    } else if (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        uint64_t sum = stir(stir(stir(0, word_at(at)), word_at(at + 8)), word_at(at + 16));
        hash = (uint32_t)stir(sum, ((const struct sockaddr_in6 *)(const void *)at)->sin6_scope_id);
    } else {
        if (len > sizeof(struct sockaddr_storage))
            len = sizeof(struct sockaddr_storage);
        if (addr->sa_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path) &&
            ((const struct sockaddr_un *)addr)->sun_path[0]) {
            /* unix(7), "Pathname sockets": what follows the NUL is nobody's. */
            socklen_t used = offsetof(struct sockaddr_un, sun_path);
            while (used < len && at[used])
                used++;
            len = used;
        }
        hash = hash_bytes((const unsigned char *)at, len);
    }
    return hash ? hash : 1;
}

uint32_t sock_hash_port(uint32_t hash, uint16_t port)
{
    hash = (hash ^ port) * 16777619u;
    return hash ? hash : 1;
}

uint16_t sock_port(const struct sockaddr *addr, socklen_t len)
{
    if (addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in))
        return ((const struct sockaddr_in *)(const void *)addr)->sin_port;
    if (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))
        return ((const struct sockaddr_in6 *)(const void *)addr)->sin6_port;
    return 0;
}

/* The fingerprint of the connection on fd as it is now. 0: no connection. */
static uint32_t identity(int fd, enum fingerprint kind)
{
    struct sockaddr_storage addr, own;
    socklen_t len = sizeof addr;
    if (sys3(kind == FINGERPRINT_OWN ? SYS_getsockname : SYS_getpeername, fd, &addr, &len) < 0)
        return 0;
    uint32_t hash = sock_hash((struct sockaddr *)&addr, len);
    if (kind != FINGERPRINT_PEER_AND_PORT)
        return hash;
    len = sock_own_address(fd, &own);
    return sock_hash_port(hash, sock_port((struct sockaddr *)&own, len));
}

/* A bit for each port at which one of ours has listened. Most of it is never touched. */
#define PORT_BITS 64
static _Atomic uint64_t noted_ports[65536 / PORT_BITS];

void sock_note_port(uint16_t port)
{
    if (port)
        atomic_fetch_or(&noted_ports[port / PORT_BITS], UINT64_C(1) << port % PORT_BITS);
}

static bool is_noted(uint16_t port)
{
    return atomic_load_explicit(&noted_ports[port / PORT_BITS], memory_order_relaxed) >>
               port % PORT_BITS &
           1;
}

/*
 * Whether fd, at whose own port nobody listens, has come to a listener at another one, and is the
 * connection of this fingerprint: Documentation/networking/tproxy.rst, bpf_sk_lookup.
 */
static __attribute__((noinline)) bool is_steered(int fd, uint32_t fingerprint,
                                                 enum fingerprint kind)
{
    struct sockaddr_storage own;
    if (kind != FINGERPRINT_PEER_AND_PORT)
        return false;
    socklen_t len = sock_own_address(fd, &own);
    uint32_t peer = identity(fd, FINGERPRINT_PEER);
    if (!peer || !len || is_noted(sock_port((struct sockaddr *)&own, len)))
        return false;
    for (uint32_t port = 1; port < 65536; port++) {
        if (port % PORT_BITS == 0 && !atomic_load(&noted_ports[port / PORT_BITS]))
            port += PORT_BITS - 1;
        else if (is_noted((uint16_t)port) && sock_hash_port(peer, (uint16_t)port) == fingerprint)
            return true;
    }
    return false;
}

bool sock_is(int fd, uint32_t fingerprint, enum fingerprint kind)
{
    if (!fingerprint)
        return true;
    return identity(fd, kind) == fingerprint || is_steered(fd, fingerprint, kind);
}

static uint32_t queue_of(int fd, int which)
{
    int bytes = 0;
    sys3(SYS_ioctl, fd, which, &bytes);
    return (uint32_t)bytes;
}

/*
 * Of an MPTCP socket the queue's length counts the peer's FIN, and our own half-close, as a byte
 * (net/mptcp/protocol.c, mptcp_ioctl): whether there is one, a look at it tells.
 */
uint32_t sock_unread(int fd)
{
    char byte;
    uint32_t unread = queue_of(fd, SIOCINQ);
    if (UNLIKELY(unread == 1) &&
        sys6(SYS_recvfrom, fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == 0)
        unread = 0;
    return unread;
}

void sock_queues(int fd, struct sock_queues *queues)
{
    queues->unread = sock_unread(fd);
    queues->unsent = queue_of(fd, SIOCOUTQ);
}

/* A look takes less than a microsecond; who was preempted is away for a hundred at the least. */
#define LOOK_NS 10000
#define LOOKS_MOST 8 /* where a clock or a call is slow (an emulator, valgrind) */

uint32_t sock_unread_now(int fd)
{
    uint32_t unread = 0;
    for (int i = 0; i < LOOKS_MOST && !unread; i++) {
        int64_t begun = sys_now_ns();
        unread = sock_unread(fd);
        if (sys_now_ns() - begun < LOOK_NS)
            break;
    }
    return unread;
}

void sock_info(int fd, struct sock_info *info)
{
    enum { ESTABLISHED = 1 }; /* net/tcp_states.h */
    struct tcp_info tcp;
    socklen_t len = sizeof tcp;
    *info = (struct sock_info){0};
    /* An older kernel, or an emulator (qemu-user: 4 bytes), fills in less. */
    if (sys5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &tcp, &len) < 0 ||
        len < offsetof(struct tcp_info, tcpi_data_segs_out) + sizeof tcp.tcpi_data_segs_out)
        return;
    info->has = true;
    info->has_sent = tcp.tcpi_data_segs_out > 0;
    info->has_received = tcp.tcpi_bytes_received > 0;
    info->is_whole = tcp.tcpi_state == ESTABLISHED;
    info->received_ms = tcp.tcpi_last_data_recv;
    info->sent_ms = tcp.tcpi_last_data_sent;
    info->rtt_us = tcp.tcpi_rtt;
    info->received = tcp.tcpi_bytes_received;
    info->segments = tcp.tcpi_data_segs_in;
}

void sock_peer(int fd, struct text *text)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    addr.ss_family = AF_UNSPEC;
    long result = sys3(SYS_getpeername, fd, &addr, &len);
    if (addr.ss_family == AF_UNIX) {
        len = sizeof addr;
        result = sys3(SYS_getsockname, fd, &addr, &len);
    }
    text_address(text, (struct sockaddr *)&addr, result < 0 ? 0 : len);
}

int sock_guard(int fd)
{
    long pin = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, SYS_OWN_LEAST);
    /* EINVAL: RLIMIT_NOFILE is below that. None left: the number itself has to do. */
    return pin == -EMFILE || pin == -ENFILE || pin == -EINVAL ? fd : (int)pin;
}

void sock_unguard(int fd, int pin)
{
    if (pin != fd)
        sys1(SYS_close, pin);
}

int32_t sock_peer_pid(int fd)
{
    struct ucred peer = {0, 0, 0};
    socklen_t len = sizeof peer;
    return sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? 0 : peer.pid;
}

bool sock_is_unconnected(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    return sys3(SYS_getpeername, fd, &addr, &len) == -ENOTCONN;
}

void sock_shut_read(int fd)
{
    sys2(SYS_shutdown, fd, SHUT_RD);
}

/* The pin of fd, which is the connection of this fingerprint, or -1. */
static int pin_of(int fd, uint32_t fingerprint, enum fingerprint kind)
{
    int pin = sock_guard(fd);
    if (pin < 0 || sock_is(pin, fingerprint, kind))
        return pin;
    sock_unguard(fd, pin);
    return -1;
}

bool sock_shut_read_of(int fd, uint32_t fingerprint, enum fingerprint kind)
{
    int pin = pin_of(fd, fingerprint, kind);
    if (pin < 0)
        return false;
    sock_shut_read(pin);
    sock_unguard(fd, pin);
    return true;
}

void sock_shut_write(int fd)
{
    sys2(SYS_shutdown, fd, SHUT_WR);
}

bool sock_say(int fd, const void *bytes, size_t n)
{
    /* Where that is so there is room for more than a few bytes (tcp: a third of the buffer). */
    struct pollfd polled = {fd, POLLOUT, 0};
    struct timespec now = {0, 0};
    if (sys5(SYS_ppoll, &polled, 1, &now, NULL, 8) < 1 || !(polled.revents & POLLOUT))
        return false;
    return sys6(SYS_sendto, fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) == (long)n;
}

void sock_shut_both(int fd)
{
    sys2(SYS_shutdown, fd, SHUT_RDWR);
}

bool sock_has_met_cut(int fd, uint32_t segments)
{
    struct sock_info info;
    int error = 0;
    sock_info(fd, &info);
    if (info.segments == segments || !queue_of(fd, SIOCOUTQ))
        return false;
    get_int(fd, SOL_SOCKET, SO_ERROR, &error);
    return error == ECONNRESET;
}

long sock_throw_away(int fd)
{
    char room[4096];
    long got = sys6(SYS_recvfrom, fd, room, sizeof room, MSG_DONTWAIT, NULL, NULL);
    return got >= 0 ? got : got == -EAGAIN ? -1 : -2;
}

int sock_family(int fd)
{
    int family;
    return get_int(fd, SOL_SOCKET, SO_DOMAIN, &family) < 0 ? -1 : family;
}

/*
 * Whether it was this side that connected: its SYN is acknowledged, but is no byte sent, so that
 * with nothing on its way the two sums differ by one (linux/tcp.h; tcpi_bytes_sent: Linux 4.19).
 */
static bool has_connected(int fd)
{
    struct tcp_info tcp;
    struct sock_queues queues;
    socklen_t len = sizeof tcp;
    sock_queues(fd, &queues);
    return sys5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &tcp, &len) == 0 &&
           len >= offsetof(struct tcp_info, tcpi_bytes_retrans) + 8 && !queues.unsent &&
           tcp.tcpi_bytes_acked == tcp.tcpi_bytes_sent - tcp.tcpi_bytes_retrans + 1;
}

/* unix(7): what was accepted has its listener's name; a socketpair, or who connected, has none. */
static bool is_unnamed(int fd)
{
    struct sockaddr_storage addr;
    return sock_own_address(fd, &addr) <= sizeof addr.ss_family;
}

uint32_t sock_connection(int fd, enum fingerprint *kind)
{
    if (sock_is_listener(fd) != 0 || !identity(fd, FINGERPRINT_PEER) || has_connected(fd) ||
        (sock_family(fd) == AF_UNIX && is_unnamed(fd)))
        return 0;
    *kind = sock_family(fd) == AF_UNIX ? FINGERPRINT_OWN : FINGERPRINT_PEER_AND_PORT;
    return identity(fd, *kind);
}

bool sock_cork(int fd)
{
    int corked = 1;
    return get_int(fd, IPPROTO_TCP, TCP_CORK, &corked) >= 0 && !corked &&
           set_int(fd, IPPROTO_TCP, TCP_CORK, 1) >= 0;
}

void sock_uncork(int fd)
{
    set_int(fd, IPPROTO_TCP, TCP_CORK, 0);
}

/* A path that is gone leads nobody to the socket that was bound to it. */
bool sock_is_reached(int listener)
{
    struct sockaddr_storage own;
    const struct sockaddr *addr = (const void *)&own;
    const struct sockaddr_un *un = (const void *)addr;
    struct stat status;
    if (!sock_own_address(listener, &own))
        return false;
    return addr->sa_family != AF_UNIX || !*un->sun_path ||
           (sys4(SYS_newfstatat, AT_FDCWD, un->sun_path, &status, 0) == 0 &&
            S_ISSOCK(status.st_mode));
}

int sock_is_listener(int fd)
{
    int type, listens;
    if (get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0 ||
        (type != SOCK_STREAM && type != SOCK_SEQPACKET) ||
        get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens) < 0)
        return -1;
    return listens;
}

socklen_t sock_own_address(int fd, struct sockaddr_storage *addr)
{
    socklen_t len = sizeof *addr;
    return sys3(SYS_getsockname, fd, addr, &len) < 0 ? 0 : len;
}

int sock_accept(int fd)
{
    long got = sys_move_up(sys4(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return got < 0 ? -1 : (int)got;
}

bool sock_has_waiting(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    struct timespec now = {0, 0};
    return sys5(SYS_ppoll, &polled, 1, &now, NULL, 8) > 0 && polled.revents & POLLIN;
}

uint64_t sock_inode(int fd)
{
    struct stat status;
    return sys2(SYS_fstat, fd, &status) < 0 ? 0 : status.st_ino;
}

/* As much as the kernel says at once to who has not asked for more (NLMSG_GOODSIZE). */
#define ANSWER_MOST (PAGE_MAX < 8192 ? 4096 : 8192)

bool sock_diag(const void *request, size_t size, int flags, sock_diag_fn *visit, void *context)
{
    const struct nlmsghdr head = {(uint32_t)NLMSG_LENGTH(size), SOCK_DIAG_BY_FAMILY,
                                  (uint16_t)(NLM_F_REQUEST | flags), 0, 0};
    const struct iovec ask[] = {{(void *)&head, sizeof head}, {(void *)request, size}};
    char answer[ANSWER_MOST] __attribute__((aligned(8)));
    const int type = SOCK_RAW | SOCK_CLOEXEC;
    long fd = sys_move_up(sys3(SYS_socket, AF_NETLINK, type, NETLINK_SOCK_DIAG));
    if (fd < 0)
        return false;
    bool more = sys3(SYS_writev, fd, ask, 2) == (long)head.nlmsg_len, is_whole = false;
    while (more) {
        long got = sys3(SYS_read, fd, answer, sizeof answer);
        size_t left = got > 0 ? (size_t)got : 0;
        const struct nlmsghdr *message = (void *)answer;
        more = left && flags & NLM_F_DUMP;
        for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
            bool is_socket = message->nlmsg_type == SOCK_DIAG_BY_FAMILY;
            if (is_socket)
                visit(message, context);
            more = more && is_socket;
            is_whole = message->nlmsg_type == NLMSG_DONE || (is_socket && !(flags & NLM_F_DUMP));
        }
    }
    sys1(SYS_close, fd);
    return is_whole;
}

static void take_queue(const struct nlmsghdr *message, void *length)
{
    const struct unix_diag_msg *socket = NLMSG_DATA(message);
    const struct rtattr *at = (const void *)(socket + 1);
    int left = (int)NLMSG_PAYLOAD(message, sizeof *socket);
    for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
        if (at->rta_type == UNIX_DIAG_RQLEN && RTA_PAYLOAD(at) >= sizeof(struct unix_diag_rqlen))
            *(int *)length = (int)((const struct unix_diag_rqlen *)RTA_DATA(at))->udiag_rqueue;
}

/* Of an AF_UNIX listener: what waits to be accepted is its receive queue. */
static int unix_queue_length(int fd)
{
    const struct unix_diag_req ask = {.sdiag_family = AF_UNIX,
                                      .udiag_states = UINT32_MAX,
                                      .udiag_ino = (uint32_t)sock_inode(fd),
                                      .udiag_show = UDIAG_SHOW_RQLEN,
                                      .udiag_cookie = {UINT32_MAX, UINT32_MAX}}; /* whichever */
    int length = -1;
    sock_diag(&ask, sizeof ask, 0, take_queue, &length);
    return length;
}

int sock_queue_length(int fd)
{
    struct tcp_info tcp;
    socklen_t len = sizeof tcp;
    if (sock_family(fd) == AF_UNIX)
        return unix_queue_length(fd);
    /* Of a listener these are the queue and its limit (net/ipv4/tcp.c, tcp_get_info). */
    if (sys5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &tcp, &len) < 0 ||
        len < offsetof(struct tcp_info, tcpi_sacked))
        return -1;
    return (int)tcp.tcpi_unacked;
}

/* net/tcp_states.h, which is not for programs */
enum { STATE_SYN_RECV = 3, STATE_LISTEN = 10 };

struct counted {
    uint32_t but;
    int found;
};

static void count_one(const struct nlmsghdr *message, void *context)
{
    const struct inet_diag_msg *socket = NLMSG_DATA(message);
    struct counted *counted = context;
    counted->found +=
        message->nlmsg_len >= NLMSG_LENGTH(sizeof *socket) && socket->idiag_inode != counted->but;
}

/* How many sockets of fd's port are in this state, but for the one of an inode. -1: can't be told.
 */
static int count_of_port(int fd, int state, uint32_t but)
{
    struct sockaddr_storage own;
    struct counted counted = {but, 0};
    socklen_t len = sock_own_address(fd, &own);
    struct inet_diag_req_v2 ask = {
        .sdiag_protocol = IPPROTO_TCP,
        .idiag_states = 1U << state,
        .id.idiag_sport = len ? sock_port((struct sockaddr *)&own, len) : 0,
    };
    if (!ask.id.idiag_sport)
        return 0; /* AF_UNIX has no handshake */
    for (int family = 0; family < 2; family++) {
        ask.sdiag_family = family ? AF_INET6 : AF_INET;
        if (!sock_diag(&ask, sizeof ask, NLM_F_DUMP, count_one, &counted))
            return -1;
    }
    return counted.found;
}

int sock_half_open(int fd)
{
    return count_of_port(fd, STATE_SYN_RECV, UINT32_MAX);
}

bool sock_has_sibling(int fd)
{
    return count_of_port(fd, STATE_LISTEN, (uint32_t)sock_inode(fd)) > 0;
}

void sock_stop_deferring(int fd)
{
    int seconds = 0;
    if (get_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds) >= 0 && seconds)
        set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
}

void sock_never_block(int fd)
{
    sys3(SYS_fcntl, fd, F_SETFL, sys2(SYS_fcntl, fd, F_GETFL) | O_NONBLOCK);
}

static long bind_out_of_reach(int fd, int family)
{
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        set_int(fd, IPPROTO_IP, IP_MINTTL, 255);
        return sys3(SYS_bind, fd, &in, sizeof in);
    }
    if (family == AF_INET6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        set_int(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, 255);
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        return sys3(SYS_bind, fd, &in6, sizeof in6);
    }
    /* unix(7), "Autobind feature": an abstract name that the kernel picks and nobody is told. */
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    return sys3(SYS_bind, fd, &un, sizeof un.sun_family);
}

int sock_unreachable_listener(int fd)
{
    int family, type;
    struct timeval limit = {0, 0};
    socklen_t len = sizeof limit;
    if (get_int(fd, SOL_SOCKET, SO_DOMAIN, &family) < 0 ||
        get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0)
        return -1;
    sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len);

    long flags = sys2(SYS_fcntl, fd, F_GETFL);
    long made = sys_move_up(sys3(SYS_socket, family, type | SOCK_CLOEXEC, 0));
    if (made < 0)
        return (int)made;
    long failed = bind_out_of_reach((int)made, family);
    if (failed >= 0) {
        sys5(SYS_setsockopt, made, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        sys3(SYS_fcntl, made, F_SETFL, flags & O_NONBLOCK);
        failed = sys2(SYS_listen, made, 0);
    }
    if (failed < 0) {
        sys1(SYS_close, made);
        return (int)failed;
    }
    return (int)made;
}
