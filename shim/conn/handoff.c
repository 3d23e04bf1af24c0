/* SPDX-License-Identifier: MIT */
#include "conn/handoff.h"

#include "base/libc.h"
#include "conn/fdtable.h"

/* Where a fingerprint may lie: a few slots in a row. */
#define GAP_PROBES 8

static _Atomic uint64_t *gap_slot(uint32_t fingerprint, int probe)
{
    return &tree_page
                ->handoff[((fingerprint * 2654435761u >> 16) + (uint32_t)probe) % PAGE_HANDOFFS];
}

static uint64_t gap_entry(uint32_t fingerprint, uint64_t flags)
{
    return (uint64_t)fingerprint << 32 | flags | ((uint64_t)libc_coarse_ms() & HANDOFF_TIME);
}

/* Takes away an entry of this fingerprint and kind. */
static bool take_gap(uint32_t fingerprint, uint64_t adopted)
{
    for (int i = 0; i < GAP_PROBES; i++) {
        _Atomic uint64_t *slot = gap_slot(fingerprint, i);
        uint64_t seen = atomic_load(slot);
        if (seen && seen >> 32 == fingerprint && (seen & HANDOFF_ADOPTED) == adopted &&
            atomic_compare_exchange_strong(slot, &seen, 0))
            return true;
    }
    return false;
}

/* Puts one where there is room; a mark makes room for one that waits. */
static void put_gap(uint32_t fingerprint, uint64_t flags)
{
    for (int i = 0; i < GAP_PROBES; i++) {
        _Atomic uint64_t *slot = gap_slot(fingerprint, i);
        uint64_t seen = atomic_load(slot);
        if ((!seen || seen & HANDOFF_ADOPTED) &&
            atomic_compare_exchange_strong(slot, &seen, gap_entry(fingerprint, flags)))
            return;
    }
}

void handoff_release(uint64_t record)
{
    uint32_t fingerprint = (uint32_t)(record >> CONN_FINGERPRINT_SHIFT);
    if (!tree_page || !fingerprint || take_gap(fingerprint, HANDOFF_ADOPTED))
        return;
    put_gap(fingerprint, record & CONN_UNIX ? HANDOFF_UNIX : 0);
    atomic_store(&tree_page->handoffs_used, 1);
}

void handoff_note_sent(void)
{
    if (tree_page)
        atomic_fetch_add(&tree_page->sends, 1);
}

bool handoff_any_sent(void)
{
    return tree_page && atomic_load_explicit(&tree_page->sends, memory_order_relaxed);
}

bool handoff_any_is_new(void)
{
    int64_t now = libc_coarse_ms();
    if (!tree_page || !atomic_load(&tree_page->handoffs_used))
        return false;
    for (uint32_t i = 0; i < PAGE_HANDOFFS; i++) {
        uint64_t entry = atomic_load(&tree_page->handoff[i]);
        if (entry && !(entry & HANDOFF_ADOPTED) && handoff_is_new(entry, now))
            return true;
    }
    return false;
}

bool handoff_is_apart(void)
{
    return tree_page && tree_page->tree_pid != tree_page->pid;
}

bool handoff_take(uint32_t fingerprint)
{
    return tree_page && atomic_load(&tree_page->handoffs_used) && take_gap(fingerprint, 0);
}

void handoff_adopt(uint32_t fingerprint)
{
    if (tree_page && fingerprint && !take_gap(fingerprint, 0))
        put_gap(fingerprint, HANDOFF_ADOPTED);
}
