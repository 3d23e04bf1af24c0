/* SPDX-License-Identifier: MIT */
#include "conn/handoff.h"

#include "base/libc.h"
#include "conn/table.h"

#include <time.h>

static uint64_t coarse_ms(void)
{
    struct timespec now = {0, 0};
    libc_clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Where an identity may lie: a few slots in a row. */
#define GAP_PROBES 8

static _Atomic uint64_t *gap_slot(uint32_t identity, int probe)
{
    return &tree_page->handoff[((identity * 2654435761u >> 16) + (uint32_t)probe) % PAGE_HANDOFFS];
}

static uint64_t gap_entry(uint32_t identity, uint64_t flags)
{
    return (uint64_t)identity << 32 | flags | (coarse_ms() & HANDOFF_TIME);
}

/* Takes away an entry of this identity and kind. */
static bool take_gap(uint32_t identity, uint64_t adopted)
{
    for (int i = 0; i < GAP_PROBES; i++) {
        _Atomic uint64_t *slot = gap_slot(identity, i);
        uint64_t seen = atomic_load(slot);
        if (seen && seen >> 32 == identity && (seen & HANDOFF_ADOPTED) == adopted &&
            atomic_compare_exchange_strong(slot, &seen, 0))
            return true;
    }
    return false;
}

/* Puts one where there is room; a mark makes room for one that waits. */
static void put_gap(uint32_t identity, uint64_t flags)
{
    for (int i = 0; i < GAP_PROBES; i++) {
        _Atomic uint64_t *slot = gap_slot(identity, i);
        uint64_t seen = atomic_load(slot);
        if ((!seen || seen & HANDOFF_ADOPTED) &&
            atomic_compare_exchange_strong(slot, &seen, gap_entry(identity, flags)))
            return;
    }
}

void handoff_release(uint64_t record)
{
    uint32_t identity = (uint32_t)(record >> CONN_IDENTITY_SHIFT);
    if (!tree_page || !identity || take_gap(identity, HANDOFF_ADOPTED))
        return;
    put_gap(identity, record & CONN_UNIX ? HANDOFF_UNIX : 0);
    atomic_store(&tree_page->handoffs_used, 1);
}

void handoff_note_sent(void)
{
    if (tree_page)
        atomic_store(&tree_page->sends, 1);
}

bool handoff_any_sent(void)
{
    return tree_page && atomic_load_explicit(&tree_page->sends, memory_order_relaxed);
}

bool handoff_is_apart(void)
{
    return tree_page && tree_page->tree_pid != tree_page->pid;
}

bool handoff_take(uint32_t identity)
{
    return tree_page && atomic_load(&tree_page->handoffs_used) && take_gap(identity, 0);
}

void handoff_adopt(uint32_t identity)
{
    if (tree_page && identity && !take_gap(identity, 0))
        put_gap(identity, HANDOFF_ADOPTED);
}
