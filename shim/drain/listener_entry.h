/* SPDX-License-Identifier: MIT */
/*
 * listener_entry.h - what is known of each listener: for listener*.c alone.
 */
#ifndef WEIR_LISTENER_ENTRY_H
#define WEIR_LISTENER_ENTRY_H

#include "conn/fdtable.h"
#include "drain/listener_view.h"

#include <sys/socket.h>

/* An entry is free where number is 0. It is taken by a compare-and-swap of number, filled in, and
 * read by others once state says so. */
struct listener {
    _Atomic int number; /* descriptor + 1 */
    struct listener_view view;
    struct listener_origin {
        bool is_inherited;   /* across exec: the process that started the tree shares it */
        bool is_activated;   /* a service manager has given it to the program (LISTEN_FDS) */
        bool is_own;         /* the process of this generation has called listen itself */
        bool is_picked;      /* the program left its port, or name, to the kernel */
        bool is_bound_here;  /* and bind: it shares it with nobody from whom it comes */
        uint64_t generation; /* of the process that bound it, or listened since */
    } origin;                /* of its socket, which its duplicates share */
    _Atomic bool is_dry;     /* AF_UNIX, CLOSING: accept has said that the queue is empty */
    int64_t closed_at;       /* CLOSING: SYNs have been dropped since */
    bool may_have_cookies; /* then handshakes may be under way of which the kernel knows nothing */
    int64_t moment_since;  /* a moment is waited for since (has_siblings); 0: it is not */
    int64_t empty_since;   /* and the queue has been empty since */
    int64_t needed_at;     /* AF_UNIX: when others of the tree might need it last; 0: not so far */
    uint64_t inode;        /* of its socket, as /proc tells it; 0: not asked yet */
    enum held { HELD_BY_NOBODY, HELD_UNKNOWN, HELD } held; /* by who goes on when this one drains */
    int64_t unknown_since;                                 /* 0: it is known */
    bool seeks_epolls, has_sought_epolls;                  /* listener_epolls_find */
    /* Where it is held, or AF_UNIX: since when its queue is waited for (0: it is not), how many
     * were in it then and when it was looked at last, since when it has not become shorter, and how
     * many had been accepted by this process. */
    int64_t waits_since, queued, queued_last, stands_since;
    uint64_t accepted;
    int in_page; /* listener_list_add */
    struct sockaddr_storage addr;
    socklen_t addr_len; /* 0: not known, for the program let the kernel choose */
};

/* How many entries have been used; the i-th of them. */
extern HIDDEN _Atomic uint32_t listener_entries;
struct listener *listener_entry(uint32_t i);

/* Returns the entry of a descriptor that the table knows as a listener or as bound; NULL: there is
 * none. */
struct listener *listener_find(int fd);

/*
 * The same for a socket that may have been bound before there was a table: a process that never
 * listens is left alone (INTERFACE.md, "dormant").
 */
struct listener *listener_find_bound(int fd);

/* Returns an entry for fd. A socket that is bound and does not listen gives way where there is no
 * room. */
struct listener *listener_take(int fd);

/* Says so in the table. */
void listener_set_kind(int fd, const struct listener *listener, enum kind kind);

/*
 * Describes fd as the kernel knows it, where another library has made an AF_UNIX socket of what the
 * program takes for TCP's (socket_wrapper): as such it is stopped, and its connections found.
 */
void listener_ask_kernel(int fd, struct listener *listener);

/* Frees an entry. */
void listener_forget(struct listener *listener);

/* How many listen: told without a walk. */
extern HIDDEN _Atomic int listener_count;

/* A listener was sent to somebody (SCM_RIGHTS). */
extern HIDDEN _Atomic bool listener_was_sent;

#endif
