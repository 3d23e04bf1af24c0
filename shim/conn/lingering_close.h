/* SPDX-License-Identifier: MIT */
/*
 * lingering_close.h - connections that the program has closed and the peer has not finished with.
 *
 * A close with input unread answers the peer with RST, and that destroys what of the answer it has
 * not read yet (DESIGN.md, "Closing with unread input"). While the process drains such a connection
 * is kept by a copy of ours, out of the program's sight: its write half closed, its input read and
 * thrown away, until the peer has taken everything or WEIR_LINGER is over. The drain, and so a stop
 * signal, waits for it: the end of the process would do what the close did not.
 */
#ifndef WEIR_LINGERING_CLOSE_H
#define WEIR_LINGERING_CLOSE_H

#include "base/common.h"

struct conn;

/* Whether any are to be kept from now on: a drain is on, and its thread there. */
void lingering_switch(bool on);

/*
 * The program is about to free fd, the last descriptor of a connection, on its own thread: keeps it
 * where there is need. The table has forgotten fd, so that no drainer acts on it, and not yet conn:
 * a drain does not end in between (table_has_counted). record: as the table has it.
 */
void lingering_before_close(int fd, const struct conn *conn, uint64_t record);

/*
 * Our FIN has gone out on fd, or, after it has met our end, the program's last word, and right
 * before nothing was found in its queue. What lies there now, in a drain, is a request that nobody
 * answers, which is counted and named, unless the answer before it has said that no more comes.
 * (What comes behind our FIN the kernel answers with RST: net/ipv4/tcp_input.c,
 * tcp_rcv_state_process.)
 * is_claimed: fd is (log.h, log_keep).
 */
void lingering_behind_end(int fd, struct conn *conn, bool is_claimed);

/* An epoll in which connections are registered: a copy must be in none, or its loop gets events of
 * a connection that it has freed. */
void lingering_remember_epoll(int epoll);

/* The least descriptor of a copy from this number on; -1: there is none. */
int lingering_next(unsigned int from);

/* In the worker: goes on with all of them. Returns whether any is left: who asks whether a
 * drain is over has looked into the table first. */
bool lingering_step(int64_t now);

/* In the worker: counts what the peers have still not taken as lost, for the drain ends. They are
 * kept all the same, for the rest of their time. */
void lingering_times_out(void);

/* Called for each that is given up while bytes are left, or is closed in use: NULL: nobody counts
 * them. */
extern HIDDEN void (*lingering_on_loss)(bool in_use, bool unread, bool unsent);

/* A child's copies are its parent's affair. */
void lingering_forked(void);

#endif
