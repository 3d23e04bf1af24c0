/* SPDX-License-Identifier: MIT */
/*
 * state_page.h - the state page: what a tree of processes shares with each other and with weir(1).
 *
 * One page is one file in the run directory (WEIR_RUN_DIR), named by the tree's first process, its
 * start time and its pid namespace. Each process of the tree has a slot in it, and counters of its
 * own: it writes no other's, so that the counts need no lock, and those of a process that died are
 * told by its absence. The command leaves its order here (page_ask) and wakes the processes by a
 * signal.
 *
 * A reader trusts nothing in it: a worker that was broken into can write what root will read. Take
 * a copy, check every number and escape every text. Before a pid of it is signalled, make sure that
 * it is still that process, and has this page among its maps (proc.h).
 *
 * The layout is the same for every program that is built from this header; a change of it is a
 * change of PAGE_LAYOUT, and so is one of struct table (fdtable.h), whose address a slot has.
 */
#ifndef WEIR_STATE_PAGE_H
#define WEIR_STATE_PAGE_H

#include "base/common.h"
#include "base/settings.h"

#define PAGE_MAGIC "weirpage"
#define PAGE_LAYOUT 14

#define PAGE_SLOTS 512    /* processes that are listed */
#define PAGE_WIDE 16      /* slots whose processes have SHARDS shards, the others one */
#define PAGE_LISTENERS 64 /* listeners that are listed */
#define PAGE_HANDOFFS 256
#define SHARDS 8

enum phase { PHASE_SERVING, PHASE_DELAYING, PHASE_DRAINING, PHASE_DRAINED, PHASES };

/* Who asked for an action: a signal's sender, weir(1) (signal 0), or the program itself (pid 0). */
struct origin {
    int32_t signal, pid, uid;
};

/* The counters of one shard of a process's records, on a cache line of their own. */
struct shard {
    /* accepted = tracked + the following four. Each connection is counted in one of them, once. */
    _Alignas(CACHE_LINE) _Atomic uint64_t accepted;
    _Atomic uint64_t closed_by_program; /* ended otherwise than by a drain of ours */
    _Atomic uint64_t closed_idle; /* half-closed by us while idle, then closed by the program; or
                                   * shut both ways, of which nothing was lost */
    _Atomic uint64_t forced;      /* cut by us, or closed with bytes that its peer did not take:
                                   * counted when that is done */
    _Atomic uint64_t disowned;
    /* As its process has told last, which it does in a drain; at other times its turns tell
     * (fdtable.h). */
    _Atomic uint64_t in_use;
};

/* A process. Written by it alone, but for pid when it is dead. */
struct page_slot {
    _Atomic int32_t pid; /* 0: free; -1: being taken or freed */
    _Atomic uint32_t phase;
    _Atomic uint64_t since; /* CLOCK_BOOTTIME, ms: a process that started later is another one */
    /* For status, which reads the process's memory (process_vm_readv): struct table, and
     * generation. */
    _Atomic uint64_t table;
    _Atomic uint32_t generation; /* of its records, in the place that it has there */
    _Atomic uint32_t flags;
    _Atomic uint32_t forced_in_use, unread, unsent; /* losses, in connections */
    _Atomic uint32_t given_up; /* by the tree's watcher: what it has counted is in the sums */
    _Atomic uint32_t counted;  /* of which order it has told what was in use (page_order_number) */
    _Atomic uint32_t counts;   /* how often it has told */
    /* In a drain, as it has told last: its connections whose clients are no processes of the tree,
     * and 1 (0: it has not told), and the others. */
    _Atomic uint32_t outside, of_tree;
};

#define SLOT_SANDBOXED 1u  /* in a seccomp sandbox: it is waited for, and does not drain */
#define SLOT_NOT_WOKEN 2u  /* the program uses the control signal itself: it is not to be sent */
#define SLOT_UNCOVERED 16u /* was drained, but for what it had no room to know */
#define SLOT_EXECS 4u      /* is about to be another program: what it counts is void */

/* Sums, and how they are added up. */
#define PAGE_NOT_COUNTED UINT64_MAX /* in struct page's asked.tracked */
struct totals {
    uint64_t tracked, in_use, accepted, closed_by_program, disowned, closed_idle, forced;
    uint64_t forced_in_use, unread, unsent; /* losses: of those forced, and of what lingered */
};

/* What the processes that are gone have left. */
struct page_sums {
    _Atomic uint64_t accepted, closed_by_program, closed_idle, forced, disowned;
    _Atomic uint64_t forced_in_use, unread, unsent;
};

struct page_listener {
    _Atomic int32_t pid;            /* who listened; 0: free; -1: being taken; or PAGE_LEFT */
    _Atomic uint32_t state;         /* enum page_listener_state */
    uint16_t mode;                  /* enum mode */
    uint8_t from_outside : 1;       /* it was inherited across exec from outside of the tree */
    uint8_t is_picked : 1;          /* the kernel has picked its port or name: no other start asks
                                     * for that */
    _Atomic uint8_t serves_outside; /* AF_UNIX: who is no process of the tree has connected */
    char address[116];              /* as text_address writes it, with a NUL */
};

/* Who listened has closed it, and has children, which may have it still (the workers of HAProxy's
 * master): who reads the page is to ask the kernel. */
#define PAGE_LEFT (-2)

enum page_listener_state { PAGE_ACCEPTING, PAGE_CLOSING, PAGE_STOPPED, PAGE_KEPT, PAGE_STATES };

/*
 * Lines for WEIR_LOG=FILE of processes that have no right to write there any more: the head writes
 * them, while its thread runs (log.h).
 */
#define PAGE_LOG_LINES 64

struct page_log {
    _Atomic int32_t taker; /* the pid of who writes them now; 0: nobody */
    _Atomic uint32_t lost; /* those for which there was no room */
    _Atomic uint32_t last; /* they are numbered, in their order */
    struct page_log_line {
        _Atomic uint32_t state; /* enum page_log_state */
        _Atomic uint32_t number;
        char text[312]; /* without an end of line, with a NUL */
    } line[PAGE_LOG_LINES];
};

enum page_log_state { PAGE_LOG_FREE, PAGE_LOG_CHANGES, PAGE_LOG_FULL };

/* What the settings were, as far as others need them. */
struct page_settings {
    uint32_t mode;          /* enum mode: of listeners without one of their own */
    int32_t signal;         /* 0: none */
    int32_t control_signal; /* what wakes the tree's processes */
    uint32_t action;        /* enum action */
    uint64_t stop_signals;
    int64_t timeout; /* ms; 0: for ever */
    int64_t delay;
    uint64_t leaves_children; /* WEIR_CHILDREN: what it starts is no part of the tree */
};

/* What has been asked of the tree, in one word: so two at once are one. It never goes back. */
#define ORDER_CLOSE_IDLE UINT64_C(0x00000000ffffffff) /* how often */
#define ORDER_DRAIN (UINT64_C(1) << 32)
#define ORDER_DRAIN_ALL (UINT64_C(1) << 33)

/* Whether it leaves the listeners open: not yet known or as in the settings, yes, no. */
enum page_keeps { KEEPS_AS_SET, KEEPS_ALL, KEEPS_NOT_STORED };

struct page {
    char magic[8];
    uint32_t layout, size; /* PAGE_LAYOUT, sizeof(struct page) */
    char version[16];      /* of the library that made it */
    char program[40];      /* what listens; until something does, what the first process was */
    int32_t pid;           /* of the first process, with its start time (proc(5), stat, field 22) */
    uint32_t pid_namespace; /* the inode of /proc/self/ns/pid there; 0: not known */
    uint64_t start;
    /* The tree that this page is a part of, whose own page could not be opened: as pid, start. */
    int32_t tree_pid;
    _Atomic uint32_t keeps_listeners; /* enum page_keeps: of the drain that is asked for */
    uint64_t tree_start;
    struct page_settings settings;

    _Atomic int32_t head; /* the pid of the process that acts for the tree */
    _Atomic uint32_t phase;
    _Atomic uint64_t order;
    _Atomic int64_t timeout;            /* of the drain, ms; 0: for ever; -1: as in the settings */
    _Atomic uint32_t by_taken;          /* 0: free, 1: being written, 2: there */
    struct origin by;                   /* who asked for the drain */
    struct origin idle_by;              /* who asked last to close what is idle */
    struct totals asked;                /* of the tree, when it was asked for */
    _Atomic int64_t since, ended;       /* of the drain: CLOCK_MONOTONIC, ms */
    struct totals at_end;               /* of the tree, as its log tells them */
    _Atomic uint32_t has_at_end;        /* before phase says that it is drained */
    _Atomic int64_t execs_at;           /* a process of the tree is becoming another program since:
                                           CLOCK_MONOTONIC, ms; 0: none is known to */
    _Atomic uint32_t has_stored;        /* another than the head has sent listeners to the store */
    _Atomic uint32_t timed_out;         /* it ended because its time was over */
    _Atomic uint32_t unlisted;          /* processes have found no free line since the start */
    _Atomic uint32_t is_named;          /* program is that of a process which listens */
    _Atomic uint32_t unlisted_given_up; /* as in struct page_slot, of all of those */
    _Atomic uint32_t handoffs_used;     /* a connection has been handed on, ever: look at handoff */
    _Atomic uint32_t sends;             /* and sent over a socket (SCM_RIGHTS): how often */
    _Atomic uint32_t slots_used, listeners_used; /* list_grows */

    struct page_sums gone;
    struct page_log log;

    /*
     * Connections that one process has closed and another, which shares them, has not read from
     * or written to yet: fingerprint << 32 | HANDOFF_ADOPTED | HANDOFF_UNIX | time
     * (CLOCK_MONOTONIC, ms). Where the other one comes first it leaves its mark, which the close
     * takes away.
     */
    _Atomic uint64_t handoff[PAGE_HANDOFFS];
    struct page_listener listener[PAGE_LISTENERS];
    struct page_slot slot[PAGE_SLOTS];
    /* Of slot i: from page_shards(i) on. The last one: of all that have no slot. */
    struct shard shard[PAGE_WIDE * SHARDS + (PAGE_SLOTS - PAGE_WIDE) + 1];
};

#define HANDOFF_ADOPTED (UINT64_C(1) << 31)
#define HANDOFF_UNIX                                                            \
    (UINT64_C(1) << 30) /* nothing tells whether it is open: it is, for a while \
                         */
#define HANDOFF_TIME (HANDOFF_UNIX - 1)
#define HANDOFF_UNIX_MS 2000

static inline bool handoff_is_new(uint64_t entry, int64_t now)
{
    return (((uint64_t)now - entry) & HANDOFF_TIME) < HANDOFF_UNIX_MS;
}

/* The page of this process's tree; NULL before membership_begin, and in weir(1). */
extern HIDDEN struct page *tree_page;

/* How many entries of a list are to be looked at. used: the page's own word, so it is checked. */
static inline uint32_t page_used(const _Atomic uint32_t *used, uint32_t most)
{
    uint32_t n = atomic_load(used);
    return n < most ? n : most;
}

/* The shards of a slot: the first's index; how many. PAGE_SLOTS: of those without one. */
static inline uint32_t page_shards(uint32_t line, uint32_t *count)
{
    *count = line < PAGE_WIDE ? SHARDS : 1;
    return line < PAGE_WIDE ? line * SHARDS : PAGE_WIDE * SHARDS + (line - PAGE_WIDE);
}

/*
 * Adds what is counted there. A step is counted after it is made, and two threads' steps may be
 * counted the other way round: so either sum may be below zero for a moment, until page_settle,
 * which is called at the end, makes that 0.
 */
void page_add(struct totals *totals, const struct shard *shards, uint32_t count);
void page_settle(struct totals *totals);

/*
 * The same of one slot, with its losses. PAGE_SLOTS: of all that have none. What a process that has
 * died was tracking has ended. In a drain what was in use there, as it had told last, was lost;
 * what it has not told was in use. Of one that was given up nothing counts any more.
 */
void page_add_slot(struct totals *totals, const struct page *page, uint32_t index, bool lives);

/* Of these, so many are cut, all of which were in use. */
void page_lose(struct totals *one, uint64_t lost);

/* The same of all, as if each process lived: *totals is overwritten. For proc_finish_asked. */
void page_add_all(struct totals *totals, const struct page *page);

/* Both, of one slot whose process lives. */
void page_slot_totals(struct totals *totals, const struct page *page, uint32_t index);
void page_add_totals(struct totals *to, const struct totals *from);
void page_add_gone(struct totals *totals, const struct page_sums *gone);

/* How the connections of a drain have ended. */
struct page_drained {
    uint64_t clean, forced;
};
struct page_drained page_drained(const struct totals *now, const struct totals *asked);

/* The same of a tree's sums: there a connection that changes hands may be adopted before the close
 * that it makes up for has been counted. */
void page_settle_tree(struct totals *totals);

/*
 * The name of a page's file, "PID.START.NAMESPACE": containers that share a run directory have a
 * process 1 each, and start in the same moment. text: at least 48 bytes.
 */
void page_name(struct text *text, int32_t pid, uint64_t start, uint32_t pid_namespace);

/* Whether a page of this size has this library's layout, and what it says of itself can be. */
bool page_is_sound(const struct page *page, size_t size);

/*
 * Leaves an order for the whole tree: to close what is idle, to drain, to drain all. timeout: of
 * this drain (ms; 0: for ever), or -1. now: CLOCK_MONOTONIC in ms. asked: the tree's sums as they
 * are (proc_totals); NULL: they have still to be counted. Who then wakes the processes is
 * the caller's affair. Returns false where there was nothing to be done: a drain is on (or over),
 * and the action is no stronger.
 */
bool page_ask(struct page *page, enum action action, const struct origin *origin, int64_t timeout,
              int64_t now, const struct totals *asked);

/* A number for what has been asked so far, which grows with it. */
uint32_t page_order_number(const struct page *page);

#endif
