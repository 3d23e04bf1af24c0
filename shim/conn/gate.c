/* SPDX-License-Identifier: MIT */
#include "conn/gate.h"

#include "base/sys.h"

#include <linux/membarrier.h>
#include <time.h>

_Atomic uint32_t gate;

static _Atomic uint32_t limit_when_open;

static void set_fast(uint32_t limit, uint8_t states)
{
    atomic_store(&fork_page.fast_limit, limit);
    atomic_store(&fork_page.fast_states, states);
}

/* The gate is looked at again behind the stores: it may be shut meanwhile. */
static void set(void)
{
    set_fast(atomic_load(&limit_when_open), GATE_FAST_STATES);
    if (atomic_load(&gate) != GATE_OPEN)
        set_fast(0, 0);
}

void gate_set_limit(uint32_t limit)
{
    atomic_store(&limit_when_open, limit);
    set();
}

void gate_open(void)
{
    atomic_store(&gate, GATE_OPEN);
    set();
}

void gate_forked(void)
{
    if (atomic_load(&gate) != GATE_OPEN)
        atomic_store(&gate, GATE_CLOSES_IDLE);
    set();
}

void gate_make(void)
{
    sys3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void gate_shut(enum gate why, int64_t wait_ms)
{
    bool was_open = atomic_exchange(&gate, why) == GATE_OPEN;
    set_fast(0, 0);
    if (!was_open)
        return;
    struct timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    if (sys3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) < 0)
        sys2(SYS_nanosleep, &wait, NULL);
}
