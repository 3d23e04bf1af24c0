/* SPDX-License-Identifier: MIT */
#include "solo.h"

struct solo solo;

static void (*on_end)(void);
static const void *_Atomic last_owner; /* while LEAVING */

/*
 * What the owner has stored is seen by others within nanoseconds (a store buffer drains by itself),
 * and it is inside for no longer, if it is not preempted there.
 */
#define QUIET_PAUSES 200
#define PAUSES_MOST 1000000

void solo_begin(void (*ended)(void))
{
    on_end = ended;
    atomic_store(&solo.inside, 0);
    atomic_store(&solo.owner, SOLO_NOBODY);
}

bool solo_may_begin(void)
{
    return on_end;
}

static void wait_outside(void)
{
    for (int quiet = 0, i = 0; quiet < QUIET_PAUSES && i < PAUSES_MOST; i++) {
        spin_pause();
        quiet = atomic_load(&solo.inside) ? 0 : quiet + 1;
    }
}

/* The owner itself is who is waited for, if a signal's handler comes here in the middle of it. */
static void wait_ended(void)
{
    bool mine = atomic_load(&last_owner) == solo_me();
    for (int i = 0; i < PAUSES_MOST && !mine && atomic_load(&solo.owner) == SOLO_LEAVING; i++)
        spin_pause();
}

void solo_end(void)
{
    const void *owner = atomic_load(&solo.owner);
    do {
        if (!owner)
            return;
        if (owner == SOLO_LEAVING) {
            wait_ended();
            return;
        }
        atomic_store(&last_owner, owner);
    } while (!atomic_compare_exchange_weak(&solo.owner, &owner, SOLO_LEAVING));
    /* A signal's handler can't wait for its own thread. */
    if (owner != solo_me() && owner != SOLO_NOBODY)
        wait_outside();
    on_end();
    atomic_store(&solo.owner, NULL);
}

bool solo_claim(void)
{
    const void *owner = SOLO_NOBODY;
    if (LIKELY(!atomic_load_explicit(&solo.owner, memory_order_relaxed)))
        return false;
    if (atomic_compare_exchange_strong(&solo.owner, &owner, solo_me()))
        return true;
    solo_end();
    return false;
}
