/* SPDX-License-Identifier: MIT */
/*
 * fdtable.h - what is known of each descriptor, and of each connection.
 *
 * Arrays, reserved for the hard limit on descriptors or more, and touched only where used:
 *
 *   kind[fd]   What the descriptor is. Most are KIND_NONE, and a wrapper has to see no more.
 *   alias[fd]  Of a duplicate (KIND_ALIAS) the number of its connection; of a listener its entry.
 *   conn[n]    A connection, by its number: the descriptor that accept gave it. Each has a cache
 *              line of its own, for the threads of a server work on neighbours at the same time.
 *
 * A descriptor, and who makes which step:
 *
 *            accept, dup                        close, dup2 over it
 *   NONE ------------------> CONN or ALIAS ---------------------------> NONE
 *     |      bind, listen
 *     `----> BOUND, LISTENER        In a drain the worker claims numbers beside all that, a few at
 *                                   a time: a close waits there until the claim is released.
 *
 * A connection's state, and its record's flags in a drain:
 *
 *                     read
 *              .------------------.                 Outside of a drain a step is a plain store of
 *    idle      |                  v                 the state (gate.h). In a drain it is a
 *   (accept) --'    .-------- in use                compare-and-swap, and SHUT is set at the
 *      ^            |             ^                 half-close of an idle connection. A read after
 *      |   write, mark or option  | write cut short that sets READ_SINCE_SHUT, a write clears it. A
 *      `------------'-------------'                 read that meets the end of an idle connection
 *                                                   without it sets FIN. The last descriptor's
 *                                                   close frees the record.
 *
 * State and record are two words, and a half-close is for idle connections alone. So the drainer
 * sets SHUT and then looks at the state again (a fence is between the two, or both are sequentially
 * consistent); a read in a drain changes the state, fences, and looks for SHUT. One of the two sees
 * the other.
 *
 * Between a process and its child all that is copied: a record whose generation is not the current
 * one was another process's, until a read or a write here takes it over.
 */
#ifndef WEIR_FDTABLE_H
#define WEIR_FDTABLE_H

#include "base/common.h"
#include "base/state_page.h"
#include "conn/gate.h"
#include "http/tracker.h"

enum kind {
    KIND_NONE,
    KIND_CONN,     /* a connection, with the same number */
    KIND_ALIAS,    /* a connection, whose number alias[fd] tells */
    KIND_TIMED,    /* anything else with a read timeout: its EINTR may be ours (signal(7)) */
    KIND_SIGNALFD, /* what is read from it may be a stop signal that was sent on */
    KIND_RECEIVED, /* came over a socket (SCM_RIGHTS): what it is, is looked up when it matters */
    KIND_BOUND,    /* a socket with an address, not listening yet (listener.c) */
    KIND_LISTENER, /* (listener.c) */
};

/* A connection's state. */
#define STATE_IN_USE 0x01
#define STATE_ANSWERED 0x02        /* reply: has had an answer */
#define STATE_ANSWERED_BEFORE 0x04 /* reply: has had another: the first was whole */
#define STATE_CUT_SHORT 0x08       /* in use because a write was cut short */
#define STATE_HTTP 0x10            /* mode protocol: the bytes of its calls are followed */
#define STATE_SEEN 0x20            /* the drainer has seen it since it last changed */
#define STATE_LOOKED 0x40          /* nothing has happened on it since the drainer's last look */
#define STATE_SLOW 0x80            /* no fast path (first_state, table_forked) */
_Static_assert(STATE_SEEN == GATE_FAST_STATES, "the flags below it are the fast path's");

/* The two between which most requests make it go. */
#define STATE_REPLY_IDLE (STATE_ANSWERED | STATE_ANSWERED_BEFORE)
#define STATE_REPLY_IN_USE (STATE_REPLY_IDLE | STATE_IN_USE)

/*
 * A connection's record: flags 0-16, descriptors 17-23, generation 24-31, fingerprint 32-63.
 */
#define CONN_WRITES UINT64_C(0x01)   /* goodbye.h: a write of the program's is under way */
#define CONN_WARNED UINT64_C(0x02)   /* HTTP/2: it has been told to open no more streams */
#define CONN_TOLD UINT64_C(0x04)     /* the last word has been said, with our FIN */
#define CONN_FIN UINT64_C(0x08)      /* we have sent our FIN: what is written goes nowhere */
#define CONN_DISOWNED UINT64_C(0x10) /* the program's alone */
#define CONN_MET_END UINT64_C(0x20)  /* TLS: the program has met our end, and has the last word */
#define CONN_SPOKE UINT64_C(0x40)    /* and has said it */
#define CONN_WATCHED UINT64_C(0x80)  /* the program asks epoll for EPOLLRDHUP on it */
#define CONN_UNIX UINT64_C(0x100)    /* fingerprint is of the listener's address */
#define CONN_PORT UINT64_C(0x200)    /* fingerprint is of the peer's address and of our port */
#define CONN_MODE_SHIFT 10
#define CONN_MODE (UINT64_C(0x7) << CONN_MODE_SHIFT)
#define CONN_FORCED UINT64_C(0x2000)  /* we have shut it both ways while it may have been in use */
#define CONN_MAY_END UINT64_C(0x4000) /* AF_UNIX: conn_lets_answer_end */
#define CONN_SHUT UINT64_C(0x8000)    /* we have shut its reading side */
#define CONN_READ_SINCE_SHUT UINT64_C(0x10000) /* and not written to since then */
#define CONN_REF (UINT64_C(1) << 17)
#define CONN_REFS (UINT64_C(0x7f) << 17)
#define CONN_GENERATION GENERATION_MASK
#define CONN_FINGERPRINT_SHIFT 32

struct conn {
    _Alignas(CACHE_LINE) _Atomic uint64_t record; /* 0: free */
    _Atomic uint32_t shared; /* table.fork_counter at its accept, or SHARED_SENT (fdtable.c) */
    _Atomic uint8_t state;
    _Atomic bool counts; /* in a drain: among those in use, as the page has them */
    struct tracker http; /* mode protocol, and mode reply in a drain */
};
_Static_assert(sizeof(struct conn) <= CACHE_LINE, "one line for all that a call looks at");

/* Its layout counts as the state page's: weir(1) reads it (state_page.h, PAGE_LAYOUT). */
struct table {
    /* What each call looks at comes first. */
    _Atomic uint8_t *kind;
    struct conn *conn;
    uint32_t limit;       /* descriptors below it can be known; 0 until there is a table */
    uint32_t shard_mask;  /* of the shards' number, less one: a power of two */
    struct shard *shards; /* this process's: in the state page, where it has a line there */
    _Atomic uint32_t *alias;
    _Atomic uint32_t high; /* no descriptor at or above it was ever of a kind */

    void (*on_shared)(uint64_t record); /* such a one is about to be closed here */

    /*
     * fork_counter counts the forks: a connection that was accepted in another one (shared) may
     * be shared with a child. shares: whether this process has forked, or sent a connection to
     * another.
     */
    _Atomic uint32_t fork_counter;
    _Atomic bool has_this_one; /* a connection's: it is to be counted up at the next fork */
    _Atomic bool shares;

    uint32_t most; /* up to where limit can be raised */

    /* There was no room to know descriptors from ~missed_before on, below missed_to; 0, 0: none. */
    _Atomic uint32_t missed_before, missed_to;
};

extern HIDDEN struct table table;

/*
 * Reserves the table for descriptors below `most`, or fewer where there is no room. Memory for all
 * of it is asked for at once where nobody counts what is not used: first == most. Else for those
 * below `first` (or fewer), and for more when one above comes to be known, which is the one step
 * behind start-up that makes system calls (and only where the limit on descriptors was raised
 * since, or was higher than there is room for). -1: none.
 */
int table_make(uint32_t most, uint32_t first);

/* Whether there is room for fd, which is to be known, by now. */
bool table_reaches(int fd);

/* There is no room to know fd: table.missed_before, missed_to. */
void table_misses(int fd);

/* In a child, once: what it has inherited takes the slow path until it is the child's own. */
void table_forked(void);

/*
 * Counts there from now on; NULL: in the process's own memory, from 0. count: a power of two.
 */
void table_count_in(struct shard *shards, uint32_t count);

/* This process's figures. in_use is counted by a walk over the states. */
void table_totals(struct totals *totals);

/* Whether each close is in the figures, and what lingers of it is kept: a number leaves the table
 * first, and a thread may be held up in between. */
bool table_has_counted(void);

/* A walk alone; and tells the page, for those who can't walk here. */
uint64_t table_in_use(void);
void table_publish_in_use(void);

/*
 * In a drain, from now on: the page has each as it turns, for this process may be killed at any
 * moment; and one that is in use now, or is not (any more).
 */
void table_begins_to_count(void);
void table_counts(struct conn *conn, bool in_use);
void table_counts_as_it_is(struct conn *conn);

/* The connection of this record, which has one descriptor, has ended; unless the record has
 * changed. */
void table_end(struct conn *conn, uint64_t record);

/* A connection of this process, whose CONN_FORCED has just been set, has ended as it is counted. */
void table_count_forced(bool is_lost);

/* The same of one that was never the program's: it was turned away from an accept queue. */
void table_count_turned_away(void);

/* The same of one that the program has closed, or is about to. */
void table_count_lost(bool was_shut);

/*
 * fd is a new connection whose record is to be `fresh` (which counts one descriptor). Whatever was
 * known of the number is stale: it was closed on a path that we don't see. elsewhere: it was
 * accepted by another process of the tree, which has counted it, and has closed it or will.
 */
void table_add(int fd, uint64_t fresh, bool elsewhere);

/* fd is of this kind (BOUND, LISTENER) from now on. */
void table_set(int fd, enum kind kind);

/* `to` is another descriptor of fd's connection from now on. */
void table_alias(int fd, int to);

/* The same of `to` that is RECEIVED, and claimed by the drainer. */
void table_promote_alias(int fd, int to);

/*
 * fd is about to be closed in a process that shares (table.shares): tells on_shared where another
 * one may serve its connection, and returns whether that is so. Before table_take: so a drain never
 * sees it in neither.
 */
bool table_hand_on(int fd);

/* Each connection of this process on which it has done nothing yet, for an exec. */
void table_each_untouched(void (*visit)(uint64_t record));

/*
 * Takes fd out of the table, waiting for a claim on it to end, and returns what it was.
 * table_restore undoes it where the call that was to close it failed; table_drop lets go of its
 * connection for good. Callers: table_take before the system call that frees the number.
 */
enum kind table_take(int fd);
void table_restore(int fd, enum kind kind);
void table_drop(int fd, enum kind kind);

/* Takes fd, if it is RECEIVED, to find out what it is; then table_add or nothing.
 */
bool table_take_received(int fd);

/* fd, which was RECEIVED and is claimed, states out to be a connection, or something else. */
void table_promote(int fd, uint64_t fresh, bool elsewhere);
void table_forget(int fd);

/* The connection is this process's, or of mode reply, from now on: the fast path may be for it. */
void table_quicken(struct conn *conn);

/* The process forks: its connections are shared from now on. fd's is, being sent to somebody. */
void table_forks(void);
void table_sends(int fd);

/*
 * Claims a connection or a listener for the worker, or all of a few numbers: no close of
 * one that is still in the table goes ahead until table_release. There is one claim at a time.
 * False: not tracked.
 */
bool table_claim(int fd);
void table_claim_all(uint32_t first, uint32_t count);
void table_release(void);
bool table_is_claimed(int fd);

/* Waits until no claim stands on fd, which stays in the table. */
void table_await_claim(int fd);

/* Numbers are made room for by so many. */
#define TABLE_BLOCK 512

static inline uint32_t table_whole_blocks(uint32_t count)
{
    return count / TABLE_BLOCK * TABLE_BLOCK;
}

static inline struct conn *table_conn(uint32_t number)
{
    return &table.conn[number];
}

static inline uint32_t table_number(const struct conn *conn)
{
    return (uint32_t)(conn - table.conn);
}

/*
 * The counters that the calling thread adds to. Any will do, since a figure is the sum of all: so
 * each of the first threads has a cache line of its own, where there are SHARDS of them; all later
 * ones share the upper half.
 */
#define SHARDS_OWNED (SHARDS / 2 - 1)
extern HIDDEN __thread uint32_t table_thread; /* 0: it has not asked yet */
uint32_t table_take_thread(void);

static inline struct shard *table_shard(void)
{
    uint32_t thread = table_thread;
    return &table.shards[(LIKELY(thread) ? thread : table_take_thread()) & table.shard_mask];
}

/*
 * Whether there is room for fd: the table may just be made, by another thread. What is looked at
 * behind that was made before it.
 */
static inline bool table_has(int fd)
{
    return (uint32_t)fd < __atomic_load_n(&table.limit, __ATOMIC_ACQUIRE);
}

/*
 * Whether fd may take the fast path: false in a drain, and in a child that knows of no fork yet.
 */
static inline bool table_is_fast(int fd)
{
    return (uint32_t)fd < GLANCE(&fork_page.fast_limit);
}

/* Whether calls on fd, which is fast, are of no interest: all that most of them cost. */
static inline bool table_is_of_no_interest(int fd)
{
    atomic_signal_fence(memory_order_acquire); /* the table was made before fd could be fast */
    return GLANCE(&table.kind[(uint32_t)fd]) == KIND_NONE;
}

static inline bool table_ignores(int fd)
{
    return LIKELY(table_is_fast(fd)) && LIKELY(table_is_of_no_interest(fd));
}

/*
 * Whether the fast path is for a connection in this state, behind a call: a signal's handler may
 * have forked meanwhile, and the child return from the call as well; or a drain has begun while it
 * waited. (What lies under a number that is no connection's is STATE_SLOW.)
 */
INLINE bool table_is_fast_state(uint8_t state)
{
    return state < GLANCE(&fork_page.fast_states);
}

/* The fast path of a read that has returned `got`: an idle connection is in use from now on. False:
 * there is more to it. */
INLINE bool table_reads_fast(struct conn *conn, ssize_t got)
{
    uint8_t state = GLANCE(&conn->state);
    if (UNLIKELY(got <= 0) || UNLIKELY(!table_is_fast_state(state)))
        return false;
    atomic_store_explicit(&conn->state, state | STATE_IN_USE, memory_order_relaxed);
    return true;
}

/* The same of a write that took all of its bytes: what was in use is idle. */
INLINE bool table_writes_fast(struct conn *conn)
{
    if (UNLIKELY(GLANCE(&conn->state) != STATE_REPLY_IN_USE))
        return false;
    atomic_store_explicit(&conn->state, STATE_REPLY_IDLE, memory_order_relaxed);
    return true;
}

/*
 * Closes fd, which may take the fast path, where that is as simple as it is as a rule: a connection
 * of this process alone, by its one descriptor. False: it is not, and nothing has been done.
 */
INLINE bool table_closes_fast(int fd)
{
    const uint64_t odd = CONN_REFS | CONN_GENERATION | CONN_SHUT | CONN_FORCED | CONN_DISOWNED;
    _Atomic uint8_t *kind = &table.kind[(uint32_t)fd];
    struct conn *conn = table_conn((uint32_t)fd);
    uint64_t record = GLANCE(&conn->record);
    if (UNLIKELY(GLANCE(kind) != KIND_CONN) || UNLIKELY(GLANCE(&table.shares)) ||
        in_vfork_child() || UNLIKELY((record & odd) != (CONN_REF | GLANCE(&fork_page.mine))))
        return false;
    _Atomic uint64_t *closed = &table_shard()->closed_by_program;
    atomic_store_explicit(&conn->state, STATE_SLOW, memory_order_relaxed);
    atomic_fetch_add_explicit(closed, 1, memory_order_relaxed); /* count_closed */
    if (UNLIKELY(!atomic_compare_exchange_strong(&conn->record, &record, 0))) {
        atomic_fetch_sub_explicit(closed, 1, memory_order_relaxed);
        return false; /* another thread has duplicated it, and it stays slow */
    }
    atomic_store_explicit(kind, KIND_NONE, memory_order_release);
    return true;
}

/* The same of a mark: false where that is not all. */
INLINE bool table_marks_fast(int fd, bool in_use)
{
    if (!table_is_fast(fd) || GLANCE(&table.kind[(uint32_t)fd]) != KIND_CONN)
        return false;
    struct conn *conn = table_conn((uint32_t)fd);
    uint8_t state = GLANCE(&conn->state);
    if (UNLIKELY(!table_is_fast_state(state)))
        return false;
    state = in_use ? state | STATE_IN_USE : state & ~STATE_IN_USE;
    atomic_store_explicit(&conn->state, state, memory_order_relaxed);
    return true;
}

/* Whether the bytes of a call, which has returned, are followed, and no more has to be looked at.
 */
INLINE bool table_follows(const struct conn *conn)
{
    return table_is_fast_state(GLANCE(&conn->state));
}

static inline bool table_knows(int fd)
{
    return table_has(fd) &&
           atomic_load_explicit(&table.kind[(uint32_t)fd], memory_order_relaxed) != KIND_NONE;
}

static inline enum kind table_kind(int fd)
{
    if (!table_has(fd))
        return KIND_NONE;
    return atomic_load_explicit(&table.kind[(uint32_t)fd], memory_order_acquire);
}

/*
 * The number of the record of fd, which is of this kind (CONN or ALIAS). Another thread may be
 * making fd something else: whatever is read there, the number is one of the table's.
 */
static inline uint32_t table_number_of(int fd, enum kind kind)
{
    uint32_t number = (uint32_t)fd;
    if (UNLIKELY(kind == KIND_ALIAS))
        number = atomic_load_explicit(&table.alias[fd], memory_order_relaxed);
    return LIKELY(number < table.limit) ? number : (uint32_t)fd;
}

/* fd's connection, or NULL where it is none. */
static inline struct conn *table_find(int fd)
{
    enum kind kind = table_kind(fd);
    if (LIKELY(kind == KIND_CONN))
        return table_conn((uint32_t)fd);
    return kind == KIND_ALIAS ? table_conn(table_number_of(fd, kind)) : NULL;
}

#endif
