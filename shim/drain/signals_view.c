/* SPDX-License-Identifier: MIT */
#include "drain/signals_view.h"

#include "base/sys.h"

/* What the program believes is installed, of those that were ever ours: the last is that of
 * the first of them, and the first stays empty. */
static BIG(3) struct sigaction actions[SIGNALS];
static uint8_t place[SIGNALS], places;
_Atomic uint64_t signals_ours, signals_handed_over, signals_ever_blocked;

__thread struct signals_thread signals_own;

struct sigaction *signals_program(int sig)
{
    return &actions[place[sig]];
}

void signals_set_view(uint64_t set)
{
    signals_own.blocked = set;
    if (set & ~atomic_load(&signals_ever_blocked))
        atomic_fetch_or(&signals_ever_blocked, set);
}

uint64_t signals_hidden(void)
{
    return signals_own.in_vfork_child ? 0 : atomic_load(&signals_ours) & ~signals_own.settled;
}

void signals_settle(void)
{
    uint64_t theirs = atomic_load(&signals_handed_over) & signals_hidden(),
             blocked = theirs & signals_own.blocked;
    if (LIKELY(!theirs))
        return;
    if (blocked)
        sys4(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, NULL, sizeof blocked);
    if (!signals_is_inside(sys_stack_pointer())) /* else it lasts as long as the handler does */
        signals_own.settled |= theirs;
}

void signals_let_through(void)
{
    uint64_t open = signals_own.held_back & ~signals_own.blocked;
    if (LIKELY(!signals_own.held_back))
        return;
    signals_own.held_back = 0;
    sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, NULL, sizeof open);
}

void signals_keep_action(int sig)
{
    if (!place[sig])
        place[sig] = (uint8_t)(SIGNALS - ++places);
}

uint64_t signals_held(void)
{
    return atomic_load(&signals_ours) & ~atomic_load(&signals_handed_over);
}

void signals_add_to_mask(void *context, uint64_t set)
{
    ucontext_t *at = context;
    signals_set_word(&at->uc_sigmask, signals_word(&at->uc_sigmask) | set);
}

void signals_settle_after(uint64_t set, void *context)
{
    signals_add_to_mask(context,
                        set & (signals_own.waits ? signals_own.base : signals_own.blocked));
    /* Else the call that is about to be made would undo it, or the end of the handler. */
    if (!signals_own.changes && !signals_is_inside(signals_stack_of(context)))
        signals_own.settled |= set;
}
