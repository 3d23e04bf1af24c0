/* SPDX-License-Identifier: MIT */
/*
 * fork_detect.h - which process this is, told from its parent by one load.
 *
 * A child inherits a copy of everything here, also through a fork that no wrapper sees (libc's
 * daemon(), _Fork, a raw clone). One page is marked MADV_WIPEONFORK, so that the kernel hands the
 * child zeros instead (madvise(2), Linux 4.14): the first look at it after a fork finds 0 and
 * makes the child a process of its own. vfork shares memory and wipes nothing.
 */
#ifndef WEIR_FORK_DETECT_H
#define WEIR_FORK_DETECT_H

#include "base/common.h"

#define GENERATION_SHIFT 24
#define GENERATION_MASK (UINT64_C(0xff) << GENERATION_SHIFT)

struct fork_page {
    _Atomic uint64_t mine; /* this process's generation, at its place in a record; 0: forked */
    _Atomic uint32_t fast_limit; /* gate.h */
    _Atomic uint8_t fast_states; /* likewise */
    char rest[PAGE_MAX - sizeof(uint64_t) - sizeof(uint32_t) - 1];
};

extern HIDDEN struct fork_page fork_page;

/*
 * Called once, from start-up; on_fork is called in a child when it finds that it is one, and then
 * afterwards. In between generation_is_new: a signal's handler that comes then finds half of its
 * parent's state, and must put off what it has to do until afterwards.
 */
void fork_make(void (*on_fork)(void), void (*afterwards)(void));
bool generation_is_new(void);

/*
 * The kernel does not hand zeros instead of fork_page to a child (MADV_WIPEONFORK): then it is
 * wiped by the wrappers around fork, and a child of a fork that none of them sees is not told from
 * its parent.
 */
extern HIDDEN bool fork_wipes_by_hand;

/* Where that is so: asks the kernel whether this is such a child. When a signal of ours has come.
 */
void fork_compare_pids(void);

/*
 * This process's pid; 0: a child that was made by a raw clone does not know it. fork_ask_pid asks
 * the kernel where it is not known: at start-up, or when a signal of ours has come.
 */
int fork_pid(void);
int fork_ask_pid(void);

/* The program is about to clone by itself: its children's libc does not know their pids. */
extern HIDDEN _Atomic bool fork_cloned;

/* And into a pid namespace of its own: what they know of pids is not what others do. */
extern HIDDEN _Atomic bool fork_clones_foreigners;

/* This process's generation, shifted to its place in a record. Notices a fork. */
uint64_t generation_notices(void);

static inline uint64_t generation_now(void)
{
    uint64_t mine = atomic_load_explicit(&fork_page.mine, memory_order_acquire);
    return LIKELY(mine) ? mine : generation_notices();
}

/*
 * What a thread is. in_vfork_child: it is a vfork child for now, on its parent's memory and with
 * descriptors of its own: nothing that it does to a descriptor is to be written into its parent's
 * table.
 */
struct fork_thread {
    int in_vfork_child; /* first: vfork.S */
    bool interrupted;   /* signals_must_call_again */
    long cut_short;     /* signals_must_go_on */
    uint8_t child;      /* enum fork_child */
    bool was_told; /* of a listener that is ready, by its last poll or select; perhaps, by epoll */
};

extern HIDDEN __thread struct fork_thread fork_thread;

static inline bool in_vfork_child(void)
{
    return UNLIKELY(fork_thread.in_vfork_child);
}

/*
 * A child of a fork that we have seen. Most children end or exec at once, and what a page costs
 * that is written to in the child is half a per cent of all: so while it is NEW nothing is done at
 * all. It is NOTICED when it looks at its generation; and it lives on when it does what may take
 * long (it waits, reads, accepts, makes a thread or a child). The word lies where libc's fork
 * writes to as well.
 */
enum fork_child { CHILD_NONE, CHILD_NEW, CHILD_NOTICED };

/* The last generation that was given. Copied to a child like any other variable: tells it its
 * parent's.
 */
extern HIDDEN _Atomic uint64_t generation_last;

/* What the kernel does to the page in a child, where it does not. */
static inline void fork_wipe_by_hand(void)
{
    atomic_store(&fork_page.fast_limit, 0);
    atomic_store(&fork_page.fast_states, 0);
    atomic_store(&fork_page.mine, 0);
}

/*
 * For the wrappers around fork, in the child; before: generation_last before the call. (A signal's
 * handler may have noticed already. Inline, as all that a NEW child runs: it has none of our code
 * mapped yet, and gets it by 16 pages at a time.)
 */
static inline void fork_begins_child(uint64_t before)
{
    if (in_vfork_child())
        return;
    bool is_new = atomic_load(&generation_last) == before;
    fork_thread.child = is_new ? CHILD_NEW : CHILD_NOTICED;
    if (UNLIKELY(fork_wipes_by_hand) && is_new)
        fork_wipe_by_hand();
}

static inline bool fork_is_new_child(void)
{
    return UNLIKELY(fork_thread.child == CHILD_NEW);
}

/* Whoever lives on is told so once; on_life: called then. */
extern HIDDEN void (*fork_on_life)(void);
void fork_begins_life(void);

static inline void fork_lives_on(void)
{
    if (UNLIKELY(fork_thread.child != CHILD_NONE))
        fork_begins_life();
}

#endif
