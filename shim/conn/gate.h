/* SPDX-License-Identifier: MIT */
/*
 * gate.h - whether a call on a connection may take the fast path.
 *
 * Outside of a drain nobody acts on a connection but the program's own threads, and what a read or
 * a write changes is one byte (fdtable.h), by a plain store. The drainer shuts the gate before it
 * acts: from then on every call takes the slow path, whose steps are compare-and-swaps.
 *
 * A thread can be held between its look at the gate and its store, for as long as a debugger likes.
 * What it stores late is true all the same: its read has returned a request, or its write has taken
 * an answer. A late "in use" keeps the drainer from sending our FIN (that needs an idle
 * connection); a half-close before it takes nothing from the program that it has not read already.
 * A late "idle" is believed only with the kernel's queues and times (idle.c).
 */
#ifndef WEIR_GATE_H
#define WEIR_GATE_H

#include "conn/fork_detect.h"

enum gate { GATE_OPEN, GATE_CLOSES_IDLE, GATE_DRAINS };

extern HIDDEN _Atomic uint32_t gate;

/* While it is open: fork_page.fast_states, of which a connection's state has to be one less
 * (fdtable.h). So one comparison tells behind a call that the state is one for the fast path, that
 * no drain has begun, and that this is no child that knows of no fork yet: there it is 0. */
#define GATE_FAST_STATES 0x20

/* Whether a drain is on (a close-idle is none). */
static inline bool gate_drains(void)
{
    return UNLIKELY(atomic_load_explicit(&gate, memory_order_relaxed) == GATE_DRAINS);
}

static inline bool gate_is_open(void)
{
    return LIKELY(atomic_load_explicit(&gate, memory_order_relaxed) == GATE_OPEN);
}

/*
 * Tells the kernel that the gate will be shut (membarrier(2), Linux 4.14), also for children. Called
 * while there is one thread: beside others the kernel waits until each processor has been through
 * its scheduler (kernel/sched/membarrier.c, synchronize_rcu), 10 ms, and seconds on a busy machine.
 */
void gate_make(void);

/*
 * Shuts the gate, for a close-idle or a drain. When it returns, each running thread has seen that
 * (membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED); where the kernel has no such call or was not
 * told, it has waited for wait_ms. Called by our thread, or by a signal's handler where there is
 * none.
 */
void gate_shut(enum gate why, int64_t wait_ms);

/* Opens it again, when nothing is left that a close-idle has half-closed. */
void gate_open(void);

/* In a child: where it is open it stays so, and where not the child keeps to the slow path, for it
 * may have inherited what its parent has half-closed. */
void gate_forked(void);

/* Descriptors below `limit` may take the fast path, if the gate is open. */
void gate_set_limit(uint32_t limit);

#endif
