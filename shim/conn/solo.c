/* SPDX-License-Identifier: MIT */
#include "conn/solo.h"

HOT_DATA(1) _Alignas(2 * CACHE_LINE) struct solo solo = {.owner = SOLO_ENDED};

static void (*on_end)(void);
static _Atomic uint32_t last_turn; /* begun, or about to */
static _Atomic uint64_t leaving;   /* who was the owner */

/*
 * What the owner has stored is seen by others within nanoseconds (a store buffer drains by itself),
 * and it is inside for no longer, if it is not preempted there.
 */
#define QUIET_PAUSES 200
#define PAUSES_MOST 1000000

void solo_begin(void (*ended)(void))
{
    on_end = ended;
    atomic_store(&solo.inside, false);
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
    bool mine = atomic_load(&leaving) == epoch_thread.word;
    for (int i = 0; i < PAUSES_MOST && !mine && atomic_load(&solo.owner) == SOLO_LEAVING; i++)
        spin_pause();
}

void solo_end(void)
{
    uint64_t owner = atomic_load(&solo.owner);
    do {
        if (owner == SOLO_ENDED)
            return;
        if (owner == SOLO_LEAVING) {
            wait_ended();
            return;
        }
        atomic_store(&leaving, owner);
    } while (!atomic_compare_exchange_weak(&solo.owner, &owner, SOLO_LEAVING));
    /* A signal's handler can't wait for its own thread. */
    if (owner != epoch_thread.word && owner != SOLO_NOBODY)
        wait_outside();
    on_end();
    atomic_store(&solo.owner, SOLO_ENDED);
}

bool solo_claim(void)
{
    if (LIKELY(atomic_load_explicit(&solo.owner, memory_order_relaxed) == SOLO_ENDED) ||
        epoch_is_borrowed())
        return false;
    uint64_t nobody = SOLO_NOBODY;
    struct epoch_thread me = {.turn = atomic_fetch_add(&last_turn, 1) + 1};
    if (!atomic_compare_exchange_strong(&solo.owner, &nobody, me.word)) {
        solo_end();
        return false;
    }
    epoch_thread.turn = me.turn;
    return true;
}
