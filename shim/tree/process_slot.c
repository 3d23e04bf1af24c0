/* SPDX-License-Identifier: MIT */
#include "tree/process_slot.h"

#include "base/libc.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "conn/fdtable.h"

#include <time.h>

#define NO_SLOT (-1)
static _Atomic int my_slot = NO_SLOT; /* PAGE_SLOTS: there was none left */

/* Under which pid, and since when: not as the page has it. Known to its children as well. */
static int32_t slot_pid;
static uint64_t slot_since;

static bool foreign;       /* process_slot_is_foreign */
static _Atomic bool ended; /* it is in exit: the worker still runs, and takes no slot again */
static uint32_t own_flags; /* of this process's slot, which its children take along */

/* For times in the page, on a program's own thread: without a system call (vdso(7)). */
static uint64_t boot_ms(void)
{
    struct timespec now = {0, 0};
    libc_clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct page_slot *process_slot_now(void)
{
    if (!tree_page)
        return NULL;
    generation_now(); /* in a child that has not noticed it would be its parent's */
    int slot = atomic_load_explicit(&my_slot, memory_order_relaxed);
    return slot >= 0 && slot < PAGE_SLOTS ? &tree_page->slot[slot] : NULL;
}

struct page_slot *process_slot_of(int32_t pid)
{
    for (uint32_t i = 0; i < process_slots_used(); i++)
        if (atomic_load(&tree_page->slot[i].pid) == pid)
            return &tree_page->slot[i];
    return NULL;
}

bool process_slot_lives(int32_t pid)
{
    const struct page_slot *slot = tree_page ? process_slot_of(pid) : NULL;
    return slot && proc_slot_lives(slot);
}

bool process_slot_is_alone(void)
{
    int32_t me = fork_ask_pid();
    for (uint32_t i = 0; tree_page && i < PAGE_SLOTS; i++) {
        int32_t pid = atomic_load(&tree_page->slot[i].pid);
        if (pid && pid != me && proc_slot_lives(&tree_page->slot[i]))
            return false;
    }
    return true;
}

/* Adds to the page's sums. What is tracked has ended. */
static void add_to_sums(const struct totals *totals)
{
    struct page_sums *gone = &tree_page->gone;
    atomic_fetch_add(&gone->accepted, totals->accepted);
    atomic_fetch_add(&gone->closed_by_program, totals->closed_by_program + totals->tracked);
    atomic_fetch_add(&gone->closed_idle, totals->closed_idle);
    atomic_fetch_add(&gone->forced, totals->forced);
    atomic_fetch_add(&gone->disowned, totals->disowned);
    atomic_fetch_add(&gone->forced_in_use, totals->forced_in_use);
    atomic_fetch_add(&gone->unread, totals->unread);
    atomic_fetch_add(&gone->unsent, totals->unsent);
}

/* Adds what a process has left to the page's sums: one that has ended in good order, or died. The
 * slot is held (pid -1). Returns how many connections were lost with it. */
static uint64_t fold(uint32_t index, bool died)
{
    static const struct shard nothing;
    struct page_slot *slot = &tree_page->slot[index];
    struct totals totals = {0};
    uint32_t count, first = page_shards(index, &count);
    uint64_t told = atomic_load(&slot->given_up) ? 0 : atomic_load(&slot->forced_in_use);
    page_add_slot(&totals, tree_page, index, !died);
    page_settle(&totals);
    for (uint32_t i = 0; i < count; i++)
        tree_page->shard[first + i] = nothing;
    add_to_sums(&totals);
    atomic_store(&slot->forced_in_use, 0);
    atomic_store(&slot->unread, 0);
    atomic_store(&slot->unsent, 0);
    atomic_store(&slot->given_up, 0);
    atomic_store(&slot->counted, 0);
    return totals.forced_in_use - told;
}

static bool take(uint32_t index, int32_t from)
{
    return atomic_compare_exchange_strong(&tree_page->slot[index].pid, &from, -1);
}

/* Takes a slot of a process that has died, or has become another program. */
static bool reap(uint32_t index, bool is_missed)
{
    int32_t pid = atomic_load(&tree_page->slot[index].pid);
    if (pid <= 0 || pid == fork_pid() || proc_slot_lives(&tree_page->slot[index]) ||
        !take(index, pid))
        return false;
    uint64_t lost = fold(index, is_missed);
    if (lost)
        log_say(LOG_INFO, "pid %d has died in the middle of the drain: %lu connections were in use",
                pid, lost);
    return true;
}

void process_slot_give_up(uint32_t index)
{
    struct totals totals;
    struct page_slot *slot = index < PAGE_SLOTS ? &tree_page->slot[index] : NULL;
    int32_t pid = slot ? atomic_load(&slot->pid) : 0;
    if (slot && (pid <= 0 || !take(index, pid)))
        return; /* it ends just now */
    page_slot_totals(&totals, tree_page, index);
    page_lose(&totals, totals.tracked);
    atomic_store(slot ? &slot->given_up : &tree_page->unlisted_given_up, 1);
    add_to_sums(&totals);
    if (slot)
        atomic_store(&slot->pid, pid);
}

/* It makes system calls: only where no slot is free. */
static int reap_slot(void)
{
    for (uint32_t i = 0; i < process_slots_used(); i++)
        if (reap(i, true))
            return (int)i;
    return PAGE_SLOTS;
}

void process_slots_reap(bool is_missed)
{
    for (uint32_t i = 0; i < process_slots_used(); i++)
        if (reap(i, is_missed))
            atomic_store(&tree_page->slot[i].pid, 0);
}

static bool take_free(uint32_t index)
{
    return !atomic_load_explicit(&tree_page->slot[index].pid, memory_order_relaxed) &&
           take(index, 0);
}

static int free_slot(void)
{
    int found = (int)list_take(&tree_page->slots_used, PAGE_SLOTS, take_free);
    return found < PAGE_SLOTS || sys_is_sandboxed() ? found : reap_slot();
}

void process_slot_fold_own(int32_t pid)
{
    for (uint32_t i = 0; i < process_slots_used(); i++) {
        if (atomic_load(&tree_page->slot[i].pid) == pid && take(i, pid)) {
            fold(i, false);
            atomic_store(&tree_page->slot[i].pid, 0);
        }
    }
}

void process_slot_take(void)
{
    if (LIKELY(atomic_load_explicit(&my_slot, memory_order_relaxed) != NO_SLOT) || !tree_page ||
        atomic_load(&ended))
        return;
    int32_t pid = fork_pid();
    if (!pid && !sys_is_sandboxed())
        pid = fork_ask_pid(); /* a raw clone's child: its first connection is its start */
    int found = pid && !foreign ? free_slot() : PAGE_SLOTS, none = NO_SLOT;
    uint64_t since = boot_ms();
    uint32_t count = 1, shards = COUNT_OF(tree_page->shard) - 1;
    if (found < PAGE_SLOTS) {
        struct page_slot *slot = &tree_page->slot[found];
        atomic_store(&slot->phase, PHASE_SERVING);
        atomic_store(&slot->since, since);
        atomic_store(&slot->table, (uint64_t)(uintptr_t)&table);
        atomic_store(&slot->generation, (uint32_t)generation_now());
        atomic_store(&slot->flags, own_flags);
        atomic_store(&slot->outside, 0);
        shards = page_shards((uint32_t)found, &count);
    } else {
        atomic_fetch_add(&tree_page->unlisted, 1);
    }
    if (!atomic_compare_exchange_strong(&my_slot, &none, found)) {
        if (found < PAGE_SLOTS) /* a signal's handler, or another thread, was quicker */
            atomic_store(&tree_page->slot[found].pid, 0);
        return;
    }
    table_count_in(&tree_page->shard[shards], count);
    slot_pid = found < PAGE_SLOTS ? pid : 0;
    slot_since = since;
    if (found < PAGE_SLOTS)
        atomic_store(&tree_page->slot[found].pid, pid);
}

bool process_slot_is_foreign(void)
{
    return foreign;
}

bool process_slot_is_taken(void)
{
    return atomic_load(&my_slot) != NO_SLOT;
}

void process_slot_give_back(void)
{
    struct page_slot *slot = process_slot_now();
    int32_t pid = fork_pid();
    if (!slot || !pid || !take((uint32_t)(slot - tree_page->slot), pid))
        return;
    /* First: what its threads still count would be found by who takes the slot next. */
    atomic_store(&ended, true);
    atomic_store(&my_slot, NO_SLOT);
    table_count_in(NULL, 0);
    fold((uint32_t)(slot - tree_page->slot), false);
    slot_pid = 0;
    atomic_store(&slot->pid, 0);
}

bool process_slot_forked(struct process_slot_origin *parent)
{
    *parent = (struct process_slot_origin){slot_pid, slot_since};
    foreign = atomic_load(&fork_clones_foreigners);
    slot_pid = 0;
    atomic_store(&ended, false);
    atomic_store(&my_slot, NO_SLOT);
    table_count_in(NULL, 0);
    return parent->pid > 0;
}

/* ---- what a process says of itself ---- */

void process_slot_count(void)
{
    struct page_slot *slot = tree_page ? process_slot_now() : NULL;
    table_publish_in_use();
    if (!slot)
        return;
    atomic_store(&slot->counted, page_order_number(tree_page));
    atomic_fetch_add(&slot->counts, 1);
}

bool process_slots_have_counted(void)
{
    const uint32_t silent = SLOT_SANDBOXED | SLOT_NOT_WOKEN | SLOT_EXECS;
    for (uint32_t i = 0; i < process_slots_used(); i++) {
        const struct page_slot *slot = &tree_page->slot[i];
        if (atomic_load(&slot->pid) > 0 && !(atomic_load(&slot->flags) & silent) &&
            atomic_load(&slot->counted) < page_order_number(tree_page) && proc_slot_lives(slot))
            return false;
    }
    return true;
}

void process_slot_set_phase(enum phase phase)
{
    struct page_slot *slot = process_slot_now();
    if (slot)
        atomic_store(&slot->phase, phase);
}

static _Atomic uint32_t arrivals;

uint32_t process_slot_arrivals(void)
{
    return atomic_load(&arrivals);
}

void process_slot_arrived(void)
{
    struct page_slot *slot = process_slot_now();
    atomic_fetch_add(&arrivals, 1);
    if (slot)
        atomic_store(&slot->outside, 0);
}

void process_slot_tell_clients(uint64_t outside, uint64_t of_tree, uint32_t arrived)
{
    struct page_slot *slot = process_slot_now();
    if (!slot)
        return;
    atomic_store(&slot->of_tree, (uint32_t)of_tree);
    atomic_store(&slot->outside, (uint32_t)outside + 1);
    if (atomic_load(&arrivals) != arrived)
        atomic_store(&slot->outside, 0);
}

void process_slot_set_flag(uint32_t flag, bool on)
{
    struct page_slot *slot = process_slot_now();
    own_flags = on ? own_flags | flag : own_flags & ~flag;
    if (slot)
        atomic_store(&slot->flags, own_flags);
}

bool process_slot_any_has(uint32_t flag)
{
    for (uint32_t i = 0; i < process_slots_used(); i++)
        if (atomic_load(&tree_page->slot[i].pid) > 0 &&
            atomic_load(&tree_page->slot[i].flags) & flag)
            return true;
    return own_flags & flag;
}

void process_slot_count_loss(bool in_use, bool unread, bool unsent)
{
    struct page_slot *slot = process_slot_now();
    if (slot) {
        atomic_fetch_add(&slot->forced_in_use, in_use);
        atomic_fetch_add(&slot->unread, unread);
        atomic_fetch_add(&slot->unsent, unsent);
    } else if (tree_page && atomic_load(&my_slot) == PAGE_SLOTS) {
        atomic_fetch_add(&tree_page->gone.forced_in_use, in_use);
        atomic_fetch_add(&tree_page->gone.unread, unread);
        atomic_fetch_add(&tree_page->gone.unsent, unsent);
    }
}
