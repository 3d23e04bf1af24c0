/* SPDX-License-Identifier: MIT */
/*
 * table.h - what is known of each descriptor, and of each connection.
 *
 * Arrays, reserved for the hard limit on descriptors or more, and touched only where used:
 *
 *   kind[fd]      one byte: what the descriptor is. Most are KIND_NONE, and that is all that a
 *                 wrapper has to see of them.
 *   record[...]   one 64-bit word a connection. A connection's record is the one of the number
 *                 that accept gave it; a duplicate's kind is KIND_ALIAS and link[fd] says whose.
 *   link[...]     by descriptor: whose duplicate it is; and by a record's number: since when
 *                 another process may have its connection. They lie side by side because a fork
 *                 copies what is touched by the page.
 *
 * A descriptor, and who makes which step (each is one compare-and-swap on kind[fd]):
 *
 *            accept, dup                        close, dup2 over it
 *   NONE ------------------> CONN or ALIAS ---------------------------> NONE
 *     |      bind, listen
 *     `----> BOUND, LISTENER        The handler thread claims numbers beside all that, a few at a
 *                                   time: a close waits there until the claim is released.
 *
 * A connection, and who makes which step (each is one compare-and-swap on its record):
 *
 *                     read                          SHUT, by the handler thread alone, is
 *              .------------------.                 set beside either: the half-close. Then
 *    idle      |                  v                 a read that returns data sets OWED, a
 *   (accept) --'    .-------- in use (IN_USE)       write takes it away, and a read that
 *      ^            |             ^                 meets the end without OWED sets FIN.
 *      |   write, mark or option  | write cut short
 *      `------------'-------------'                 The last descriptor's close frees it.
 *
 * SHUT without a compare-and-swap. A close-idle of a million connections has no time for one each:
 * there the handler thread stores the record's byte 8-15, which nobody else ever changes (nor need
 * it be locked while it is changed: what others swap in has the same byte). (The mode
 * in it changes in mode http alone, and the program's threads set SHUT in it in a drain alone: both
 * are left to the compare-and-swap, and so is who has more than one descriptor.) For a few numbers
 * at a time, which it has claimed:
 *
 *   each kind is CONN, each record idle ---> POISED ---> fence ---> each is looked at, one by one:
 *   the kernel calls it idle, and the record is what it was ---> SHUT, then the half-close
 *                                                      else ---> neither, and not OWED
 *
 * Word and byte overlap, so each change of the program's comes before that byte or after it.
 * Before: the record is not what it was, and the handler thread sees that after its fence. After:
 * the program has seen POISED, and a read sets OWED as it does where it sees SHUT; nothing else
 * heeds POISED. The claim sees to it that the record is the same connection's all the while: no
 * number that is CONN leaves the table, nor is given anew, before the release, and its record lives
 * for as long. (x86-64: a locked instruction is atomic with respect to all other memory operations:
 * Intel SDM 3, 9.1.2.2, which advises one size for all the same. aarch64: a store to any byte of it
 * makes a store-exclusive or CAS fail, and ordering is by byte: Arm ARM, B2. Linux' queued spinlock
 * rests on the same, a word that is compared and swapped with a byte in it that its owner stores:
 * asm-generic/qspinlock.h. The unlocked instructions of solo.h are over before the handler thread
 * begins.)
 *
 * Between a process and its child the records are copied: one whose epoch is not the current one
 * was another process's, until a read or a write here takes it over.
 */
#ifndef WEIR_TABLE_H
#define WEIR_TABLE_H

#include "base/common.h"
#include "base/state_page.h"
#include "conn/solo.h"

enum kind {
    KIND_NONE,
    KIND_CONN,     /* a connection, in the record of the same number */
    KIND_ALIAS,    /* a connection, in the record that link[fd] tells */
    KIND_TIMED,    /* anything else with a read timeout: its EINTR may be ours (signal(7)) */
    KIND_SIGNALFD, /* what is read from it may be a stop signal that was sent on */
    KIND_RECEIVED, /* came over a socket (SCM_RIGHTS): what it is, is looked up when it matters */
    KIND_BOUND,    /* a socket with an address, not listening yet (listener.c) */
    KIND_LISTENER, /* (listener.c) */
};

/*
 * What a read or a write on a descriptor has to see first of all. Beside kind and record it can be
 * forgotten at any time; the kernel forgets it in a child (MADV_WIPEONFORK).
 *
 * BUSY and REST say all that the usual step of a connection depends on: one thread is alone, the
 * number is KIND_CONN, the record is this process's with that one descriptor, in a mode and with
 * flags of conn.h's keys. So whoever changes one of those makes it ASK. (In this order one
 * comparison with BUSY tells three of them apart.)
 */
enum hint {
    HINT_NONE = -2, /* of no interest */
    HINT_BUSY = -1, /* solo: a connection in use, which a read leaves as it is */
    HINT_ASK = 0,   /* kind tells */
    HINT_REST = 1,  /* solo: an idle connection, which a read makes one in use */
    HINT_HTTP = 2,  /* solo: one whose bytes are looked at: no more than where to look next */
};

/*
 * A connection's record: flags 0-7 and 16, the drainer's byte 8-15, descriptors 17-23, epoch 24-31,
 * identity 32-63.
 */
#define CONN_IN_USE UINT64_C(0x01)
#define CONN_ANSWERED UINT64_C(0x02)  /* reply: has had an answer */
#define CONN_SEASONED UINT64_C(0x04)  /* reply: asked again after an answer: it was whole */
#define CONN_FIN UINT64_C(0x08)       /* we have sent our FIN: what is written goes nowhere */
#define CONN_DISOWNED UINT64_C(0x10)  /* the program's alone */
#define CONN_CUT_SHORT UINT64_C(0x20) /* in use because a write was cut short */
#define CONN_SEEN UINT64_C(0x40)      /* the drainer has seen it since it last changed */
#define CONN_WATCHED UINT64_C(0x80)   /* the program asks epoll for EPOLLRDHUP on it */
#define CONN_UNIX UINT64_C(0x100)     /* identity is of the listener's address, not of the peer's */
#define CONN_PORT UINT64_C(0x200)     /* identity is of the peer's address and of our port */
#define CONN_MODE_SHIFT 10
#define CONN_MODE (UINT64_C(0x7) << CONN_MODE_SHIFT)
#define CONN_FORCED UINT64_C(0x2000) /* we have shut it both ways while it may have been in use */
#define CONN_POISED UINT64_C(0x4000) /* it may be SHUT in a moment */
#define CONN_SHUT UINT64_C(0x8000)   /* we have shut its reading side */
#define CONN_OWED UINT64_C(0x10000)  /* has been read from since then, and not written to */
#define CONN_REF (UINT64_C(1) << 17)
#define CONN_REFS (UINT64_C(0x7f) << 17)
#define CONN_EPOCH_SHIFT EPOCH_SHIFT
#define CONN_EPOCH EPOCH_MASK
#define CONN_IDENTITY_SHIFT 32

typedef _Atomic uint64_t record_t;

struct table_link {
    _Atomic uint32_t alias;  /* number of the record; of a listener, its entry (listener.c) */
    _Atomic uint32_t shared; /* table.generation, or that it was sent (table.c) */
};

/* Its layout counts as the state page's: weir(1) reads it (state_page.h, PAGE_LAYOUT). */
struct table {
    /* What each call looks at: the first 48 bytes (common.h, HOT_DATA). */
    uint32_t limit; /* descriptors below it can be known; 0 until there is a table */

    /* HINT_BUSY; HINT_ASK where a read timeout was set somewhere: a read may have to be made again
     * after EINTR (signal(7)). */
    _Atomic int8_t busy;
    _Atomic int8_t *_Atomic hint; /* those of one thread (solo.h), or of many */
    _Atomic uint8_t *kind;
    record_t *record;
    struct shard *shards;  /* this process's: in the state page, where it has a line there */
    uint32_t shard_mask;   /* of their number, less one: a power of two */
    _Atomic uint32_t high; /* no descriptor at or above it was ever of a kind */

    struct table_link *link;
    void (*on_shared)(uint64_t record); /* such a one is about to be closed here */

    /*
     * generation counts the forks: a connection that was accepted in another one (link, shared) may
     * be shared with a child. shares: whether this process has forked, or sent a connection to
     * another.
     */
    _Atomic uint32_t generation;
    _Atomic bool has_this_one; /* a connection's: it is to be counted up at the next fork */
    _Atomic bool shares;

    /* Up to where limit can be raised; called when it is, or NULL. */
    uint32_t most;
    void (*on_grows)(uint32_t limit);

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

/* One thread may work on it alone again; in a child, it does. */
void table_solo_again(void);
void table_forked(void);

/*
 * Counts there from now on; NULL: in the process's own memory, from 0. count: a power of two.
 * shared: other processes count there as well, so that no thread of ours is alone.
 */
void table_count_in(struct shard *shards, uint32_t count, bool shared);

void table_totals(struct totals *totals);

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

/*
 * fd is about to be closed in a process that shares (table.shares): tells on_shared where another
 * one may serve its connection, and returns whether that is so. Before table_take: so a drain never
 * sees it in neither.
 */
bool table_hand_on(int fd);

/* Each connection of this process on which it has done nothing yet, for an exec. */
void table_each_untouched(void (*visit)(uint64_t record));

/*
 * fd, which the table knows, is about to be closed: takes it out and lets go of its connection in
 * one step. False: it is not as simple as that, and nothing has been done.
 */
bool table_close_alone(int fd);

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

/* fd, which was RECEIVED and is claimed, turns out to be a connection, or something else. */
void table_promote(int fd, uint64_t fresh, bool elsewhere);
void table_forget(int fd);

/* The process forks: its connections are shared from now on. fd's is, being sent to somebody. */
void table_forks(void);
void table_sends(int fd);

/*
 * Claims a connection or a listener for the handler thread, or all of a few numbers: no close of
 * one that is still in the table goes ahead until table_release. There is one claim at a time.
 * False: not tracked.
 */
bool table_claim(int fd);
void table_claim_all(uint32_t first, uint32_t count);
void table_release(void);
bool table_is_claimed(int fd);

/*
 * Where the record of a number lies: numbers that follow each other, which a server's threads are
 * likely to work on at the same time, lie on different cache lines of the same page. So it is by
 * nines through each block of 512, around its end.
 */
#define TABLE_BLOCK 512

static inline uint32_t table_place(uint32_t number)
{
    return (number & ~(uint32_t)(TABLE_BLOCK - 1)) | (number * 9 & (TABLE_BLOCK - 1));
}

static inline record_t *table_slot(uint32_t number)
{
    return &table.record[table_place(number)];
}

/* The record's own number, which is not its connection's. */
static inline uint32_t table_number(const record_t *slot)
{
    return (uint32_t)(slot - table.record);
}

/*
 * The counters that the calling thread adds to. Any will do, since a figure is the sum of all: so
 * each of the first threads has a cache line of its own, where there are SHARDS of them; all later
 * ones share the upper half. (The first line is solo.h's.)
 */
#define SHARDS_OWNED (SHARDS / 2 - 1)
extern HIDDEN __thread uint32_t table_turn; /* 0: it has not asked yet */
uint32_t table_take_turn(void);

static inline uint32_t table_own_turn(void)
{
    uint32_t turn = table_turn;
    return LIKELY(turn) ? turn : table_take_turn();
}

static inline struct shard *table_shard(void)
{
    return &table.shards[table_own_turn() & table.shard_mask];
}

/*
 * Adds to the live connections, as the thread whose turn it is: without locking the bus where
 * nobody else writes to that line.
 */
static inline void table_count_live_in(uint32_t turn, uint64_t n)
{
    struct shard *shard = &table.shards[turn & table.shard_mask];
    if (LIKELY(turn <= SHARDS_OWNED) && table.shard_mask)
        solo_add(&shard->live, n);
    else
        atomic_fetch_add_explicit(&shard->live, n, memory_order_relaxed);
}

static inline void table_count_live(uint64_t n)
{
    table_count_live_in(table_own_turn(), n);
}

/*
 * Whether there is room for fd: the table may just be made, by another thread. What is looked at
 * behind that was made before it. (x86 loads in order, and a plain load can be compared in memory.)
 */
static inline bool table_has(int fd)
{
#ifdef __x86_64__
    return (uint32_t)fd < table.limit;
#else
    return (uint32_t)fd < __atomic_load_n(&table.limit, __ATOMIC_ACQUIRE);
#endif
}

static inline _Atomic int8_t *table_hint_at(size_t fd)
{
    return &atomic_load_explicit(&table.hint, memory_order_relaxed)[fd];
}

/*
 * The hint of a descriptor below the limit. A plain load, for the compilers compare an atomic one
 * in a register only, and that is two instructions more in each call; a byte is never torn.
 */
static inline int8_t table_hint_within(size_t fd)
{
    return *(const int8_t *)table_hint_at(fd);
}

static inline int8_t table_hint(int fd)
{
    return LIKELY(table_has(fd)) ? table_hint_within((uint32_t)fd) : (int8_t)HINT_NONE;
}

/* fd, of which the table knows nothing, is of no interest until it does. */
void table_ignores(int fd);

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

/* Of one below the limit: the case that is to be quick. */
static inline bool table_is_conn(int fd)
{
    return LIKELY(atomic_load_explicit(&table.kind[(uint32_t)fd], memory_order_acquire) ==
                  KIND_CONN);
}

/*
 * The number of the record of fd, which is of this kind (CONN or ALIAS). Another thread may be
 * making fd something else: whatever is read there, the number is one of the table's.
 */
static inline uint32_t table_number_of(int fd, enum kind kind)
{
    uint32_t number = (uint32_t)fd;
    if (UNLIKELY(kind == KIND_ALIAS))
        number = atomic_load_explicit(&table.link[fd].alias, memory_order_relaxed);
    return LIKELY(number < table.limit) ? number : (uint32_t)fd;
}

/* The record of fd's connection, or NULL where it is none. */
static inline record_t *table_record(int fd)
{
    enum kind kind = table_kind(fd);
    if (LIKELY(kind == KIND_CONN))
        return table_slot((uint32_t)fd);
    return kind == KIND_ALIAS ? table_slot(table_number_of(fd, kind)) : NULL;
}

#endif
