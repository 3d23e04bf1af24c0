/* SPDX-License-Identifier: MIT */
/*
 * sock.h - what the kernel knows of a socket, and does to it. No other file asks or tells it.
 *
 * Everything here makes system calls that do not block, and leaves errno alone.
 */
#ifndef WEIR_SOCK_H
#define WEIR_SOCK_H

#include "base/text.h"

/* A 32-bit hash of an address, never 0: a fingerprint that accept has for nothing. */
uint32_t sock_hash(const struct sockaddr *addr, socklen_t len);

/*
 * What tells a connection from another: its peer's address, and the port that it came to where that
 * is known (a client may use one port of its own towards two of ours); on AF_UNIX, whose clients
 * seldom have an address, its own.
 */
enum fingerprint { FINGERPRINT_PEER, FINGERPRINT_OWN, FINGERPRINT_PEER_AND_PORT };

/* A peer's sock_hash with the port mixed in, which is in network order. */
uint32_t sock_hash_port(uint32_t hash, uint16_t port);

/* An address's port in network order; 0: it has none. */
uint16_t sock_port(const struct sockaddr *addr, socklen_t len);

/*
 * Notes that one of ours listens at this port, which is in network order. A connection that was
 * steered to a listener (TPROXY, a BPF program) has another port than that: sock_is knows it by
 * this.
 */
void sock_note_port(uint16_t port);

/* Whether fd is the connection of this fingerprint; 0: it is not known, and nobody else's either.
 */
bool sock_is(int fd, uint32_t fingerprint, enum fingerprint kind);

/*
 * The fingerprint of the connection on fd, whatever fd may be; 0: it is no stream socket with a
 * peer. *kind tells which fingerprint.
 */
uint32_t sock_connection(int fd, enum fingerprint *kind);

/* The family of the socket on fd; -1: it is none. */
int sock_family(int fd);

struct sock_queues {
    uint32_t unread; /* received, not yet read by the program (SIOCINQ, tcp(7)) */
    uint32_t unsent; /* written, not yet acknowledged, on AF_UNIX not yet read (SIOCOUTQ) */
};

void sock_queues(int fd, struct sock_queues *queues);

/* The first of the two alone. */
uint32_t sock_unread(int fd);

/*
 * How many bytes are unread, at the last look before our FIN: what comes in between the two meets
 * that. So a thread that was preempted since it looked looks again; the caller acts at once.
 */
uint32_t sock_unread_now(int fd);

/* From TCP_INFO (linux/tcp.h); has is false on AF_UNIX, and before Linux 4.6. Times before now. */
struct sock_info {
    bool has;
    bool has_sent;     /* have we ever sent it a byte */
    bool has_received; /* has the peer ever sent a byte */
    bool is_whole;     /* neither side has sent a FIN or RST */
    uint32_t received_ms, sent_ms, rtt_us;
    uint64_t received; /* bytes, in so many segments */
    uint32_t segments;
};

void sock_info(int fd, struct sock_info *info);

/* The peer's address, on AF_UNIX our own. */
void sock_peer(int fd, struct text *text);

/*
 * Another descriptor of the same open file, for as long as a step lasts: what is found out of it
 * stays true when the program closes fd where no claim holds it back. Where no number is left it is
 * fd itself. -errno: fd is not open.
 */
int sock_guard(int fd);
void sock_unguard(int fd, int pin);

/* Returns the process that has connected an AF_UNIX socket (unix(7), SO_PEERCRED); 0: that is not
 * known, or it is in a pid namespace that we don't see. */
int32_t sock_peer_pid(int fd);

/* A socket that is no longer connected (or not yet): its peer can't be asked for. */
bool sock_is_unconnected(int fd);

/*
 * A half-close for reading: what is queued or still arrives can be read, then the program meets
 * the end of file (DESIGN.md, "Half-close"). For writing: the peer meets it once it has the rest.
 */
void sock_shut_read(int fd);

/*
 * The same where fd is the connection of this fingerprint (sock_is), under a pin.
 * False: it is not.
 */
bool sock_shut_read_of(int fd, uint32_t fingerprint, enum fingerprint kind);

struct sock_figures {
    struct sock_queues queues;
    struct sock_info info;
};

void sock_shut_write(int fd);

/* Sends these few bytes, all of them; false: there is no room for them now. */
bool sock_say(int fd, const void *bytes, size_t n);
void sock_shut_both(int fd);

/*
 * Whether what the peer had sent met our cut, before which so many segments had come: TCP resets it
 * (net/ipv4/tcp_input.c, tcp_rcv_state_process, TCPABORTONDATA). No request is what it sends when
 * it has our FIN, and acknowledges it (TLS's close_notify), nor a RST of its own. Takes the
 * socket's error away (SO_ERROR, socket(7)).
 */
bool sock_has_met_cut(int fd, uint32_t segments);

/*
 * Holds back the last segment of what is written from now on (TCP_CORK, tcp(7)): a shutdown then
 * sends it with the FIN in it, so that no peer has the one before the other. False: not TCP, or the
 * program does so itself. sock_uncork sends it.
 */
bool sock_cork(int fd);
void sock_uncork(int fd);

/*
 * Reads what has come in and throws it away. The bytes; 0: the end; -1: there is nothing now; less:
 * the connection is broken.
 */
long sock_throw_away(int fd);

/* Is it a socket that listens? -1: not a stream socket at all; 0: a stream socket that doesn't. */
int sock_is_listener(int fd);

/*
 * Has a listener drop SYNs: the client tries again after a second. Returns false if it is not TCP.
 *
 * By a filter (socket(7), SO_ATTACH_FILTER; net/ipv4/tcp_ipv4.c applies it to a listener, from the
 * TCP header on): whose handshake has begun, with or without a SYN cookie, ends it and comes into
 * the queue. Newer kernels want CAP_NET_ADMIN for that. Else by hop count: a packet with fewer hops
 * than 255 left is dropped (IP_MINTTL, ip(7); IPV6_MINHOPCOUNT), and a connection that is accepted
 * afterwards has inherited that, and receives nothing until sock_clear_minttl.
 */
bool sock_drop_syns(int fd);

/* Admits SYNs again. */
void sock_admit_syns(int fd);

/*
 * Clears the MINTTL that a connection has inherited, if it has. What its peer has sent was dropped,
 * and is sent again. The mark that sock_had_minttl finds lies in the socket, where each process
 * sees it.
 */
void sock_clear_minttl(int fd);
bool sock_had_minttl(int fd);

/* Tells whether a listener has the MINTTL by which it drops SYNs. */
bool sock_is_deaf(int fd);

/*
 * Tells whether a listener may take the place of a fresh socket that is to be bound to this
 * address: it is of the same kind, and has this address, by a path that still leads to a socket.
 */
bool sock_may_take_place(int listener, int fresh, const struct sockaddr *addr, socklen_t len);

/* Tells whether a fresh socket can't be bound to this address while this one listens: they have a
 * port in common, and one of them is for all addresses, or it is the same. */
bool sock_is_in_way(int listener, int fresh, const struct sockaddr *addr, socklen_t len);

/* Tells whether a socket would reach this listener by this address of its own: the listener's, or
 * loopback's where it listens on all. */
bool sock_leads_to(int listener, int fd, const struct sockaddr *addr, socklen_t len);

/* Has the listener take that place, with what has been set on the fresh socket. Undoes
 * sock_drop_syns. Returns whether it has. */
bool sock_take_place(int listener, int fresh);

/* Tells whether a client finds this listener: its path, if it has one, still leads to a socket. */
bool sock_is_reached(int listener);

/* Tells whether an address is AF_UNIX's with this path. */
bool sock_is_path(const struct sockaddr *addr, socklen_t len, const char *path);

/* Accepts the next in the queue. -1: there is none. Closed on exec. */
int sock_accept(int fd);

/* Is there somebody in the accept queue? */
bool sock_has_waiting(int fd);

/* How many there are: also where a listener's end makes it look readable. -1: can't be told. */
int sock_queue_length(int fd);

/* The inode by which /proc/PID/fd names a socket. 0: fd is not open. */
uint64_t sock_inode(int fd);

/*
 * How many handshakes of a TCP listener are half done: the peer's last ACK is on its way (or its
 * first data, where TCP_DEFER_ACCEPT is set). By sock_diag(7), of the port's. -1: can't be told.
 */
int sock_half_open(int fd);

/* Whether another socket listens on fd's port as well (socket(7), SO_REUSEPORT), and is known to.
 */
bool sock_has_sibling(int fd);

/* TCP_DEFER_ACCEPT (tcp(7)) is taken back: who has connected and sends nothing can be accepted. */
void sock_stop_deferring(int fd);

/* Its accepts fail with EAGAIN from now on where they would wait: fd is ours, not the program's. */
void sock_never_block(int fd);

/*
 * A listening socket of fd's family, with its flags and timeout, that nobody can reach: not by
 * address (loopback, an ephemeral port) nor by hop count (IP_MINTTL 255, ip(7): a packet of a
 * local peer has 64). Closed on exec. -errno: none.
 */
int sock_unreachable_listener(int fd);

/*
 * Asks the kernel for sockets of this network (sock_diag(7)), by a struct inet_diag_req_v2 or
 * unix_diag_req: for the one that it names, or for all that it describes (flags: NLM_F_DUMP). Calls
 * visit with each. False: not all of them could be told.
 */
struct nlmsghdr;
typedef void sock_diag_fn(const struct nlmsghdr *message, void *context);
bool sock_diag(const void *request, size_t size, int flags, sock_diag_fn *visit, void *context);

/* fd's own address. Its length, or 0. */
socklen_t sock_own_address(int fd, struct sockaddr_storage *addr);

#endif
