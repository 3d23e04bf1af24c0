/* SPDX-License-Identifier: MIT */
#include "base/state_page.h"

#include "base/text.h"

struct page *tree_page;

static uint64_t get(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_acquire);
}

/* Adds one shard. A connection that is closed between two looks would be counted twice. */
static void add_shard(struct totals *totals, const struct shard *at)
{
    uint64_t accepted, closed, idle, forced, disowned, gone, again;
    for (int tries = 0; tries < 8; tries++) {
        closed = get(&at->closed_by_program);
        idle = get(&at->closed_idle);
        forced = get(&at->forced);
        disowned = get(&at->disowned);
        gone = closed + idle + forced + disowned;
        accepted = get(&at->accepted);
        again = get(&at->closed_by_program) + get(&at->closed_idle) + get(&at->forced) +
                get(&at->disowned);
        if (again == gone)
            break;
    }
    totals->tracked += accepted - gone;
    totals->in_use += get(&at->in_use);
    totals->accepted += accepted;
    totals->closed_by_program += closed;
    totals->closed_idle += idle;
    totals->forced += forced;
    totals->disowned += disowned;
}

void page_add(struct totals *totals, const struct shard *shards, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        add_shard(totals, &shards[i]);
}

void page_add_totals(struct totals *to, const struct totals *from)
{
    to->tracked += from->tracked;
    to->in_use += from->in_use;
    to->accepted += from->accepted;
    to->closed_by_program += from->closed_by_program;
    to->closed_idle += from->closed_idle;
    to->forced += from->forced;
    to->disowned += from->disowned;
    to->forced_in_use += from->forced_in_use;
    to->unread += from->unread;
    to->unsent += from->unsent;
}

void page_add_gone(struct totals *totals, const struct page_sums *gone)
{
    totals->accepted += atomic_load(&gone->accepted);
    totals->closed_by_program += atomic_load(&gone->closed_by_program);
    totals->closed_idle += atomic_load(&gone->closed_idle);
    totals->forced += atomic_load(&gone->forced);
    totals->disowned += atomic_load(&gone->disowned);
    totals->forced_in_use += atomic_load(&gone->forced_in_use);
    totals->unread += atomic_load(&gone->unread);
    totals->unsent += atomic_load(&gone->unsent);
}

void page_settle(struct totals *totals)
{
    if ((int64_t)totals->tracked < 0)
        totals->tracked = 0;
    if ((int64_t)totals->in_use < 0)
        totals->in_use = 0;
    if (totals->in_use > totals->tracked)
        totals->in_use = totals->tracked;
}

void page_lose(struct totals *one, uint64_t lost)
{
    one->tracked -= lost;
    one->in_use = one->in_use > lost ? one->in_use - lost : 0;
    one->forced += lost;
    one->forced_in_use += lost;
}

void page_add_slot(struct totals *totals, const struct page *page, uint32_t index, bool lives)
{
    uint32_t count, first = page_shards(index, &count);
    bool is_listed = index < PAGE_SLOTS;
    const struct page_slot *slot = is_listed ? &page->slot[index] : NULL;
    struct totals one = {0};
    if (atomic_load(is_listed ? &slot->given_up : &page->unlisted_given_up))
        return;
    page_add(&one, &page->shard[first], count);
    if (is_listed) {
        one.forced_in_use = atomic_load(&slot->forced_in_use);
        one.unread = atomic_load(&slot->unread);
        one.unsent = atomic_load(&slot->unsent);
    }
    if (!lives) {
        page_settle(&one);
        bool drains = atomic_load(&page->order) & ORDER_DRAIN;
        bool execs = is_listed && atomic_load(&slot->flags) & SLOT_EXECS;
        bool told = is_listed && atomic_load(&slot->counted) >= page_order_number(page);
        page_lose(&one, !drains || execs ? 0 : told ? one.in_use : one.tracked);
        one.closed_by_program += one.tracked;
        one.tracked = one.in_use = 0;
    }
    page_add_totals(totals, &one);
}

void page_add_all(struct totals *totals, const struct page *page)
{
    *totals = (struct totals){0};
    page_add_gone(totals, &page->gone);
    for (uint32_t i = 0; i <= PAGE_SLOTS; i++)
        if (i == PAGE_SLOTS || atomic_load(&page->slot[i].pid))
            page_add_slot(totals, page, i, true);
}

void page_slot_totals(struct totals *totals, const struct page *page, uint32_t index)
{
    *totals = (struct totals){0};
    page_add_slot(totals, page, index, true);
    page_settle(totals);
}

void page_settle_tree(struct totals *totals)
{
    page_settle(totals);
    if ((int64_t)totals->closed_by_program < 0)
        totals->closed_by_program = 0;
}

/* What was there at the beginning, and what has been accepted since, less what is still there. */
struct page_drained page_drained(const struct totals *now, const struct totals *asked)
{
    uint64_t forced = now->forced - asked->forced;
    int64_t ended = (int64_t)(asked->tracked + (now->accepted - asked->accepted) -
                              (now->disowned - asked->disowned) - now->tracked - forced);
    return (struct page_drained){ended > 0 ? (uint64_t)ended : 0, forced};
}

void page_name(struct text *text, int32_t pid, uint64_t start, uint32_t pid_namespace)
{
    text_add(text, "%d.%lu.%u", pid, start, pid_namespace);
}

bool page_is_sound(const struct page *page, size_t size)
{
    return size >= sizeof *page && text_same_bytes(page->magic, PAGE_MAGIC, sizeof page->magic) &&
           page->layout == PAGE_LAYOUT && page->size == sizeof *page && page->pid > 0;
}

/* ---- orders ---- */

uint32_t page_order_number(const struct page *page)
{
    uint64_t order = atomic_load(&page->order);
    return (uint32_t)(order << 2) | (uint32_t)(order >> 32 & 3);
}

bool page_ask(struct page *page, enum action action, const struct origin *origin, int64_t timeout,
              int64_t now, const struct totals *asked)
{
    uint64_t order = atomic_load(&page->order);
    if (action == ACTION_CLOSE_IDLE) {
        uint64_t next;
        do {
            bool drains = order & (ORDER_DRAIN | ORDER_DRAIN_ALL);
            if (drains && atomic_load(&page->phase) != PHASE_DELAYING)
                return false; /* what is idle is closed anyhow */
            page->idle_by = *origin;
            next = (order & ~ORDER_CLOSE_IDLE) | ((order + 1) & ORDER_CLOSE_IDLE);
        } while (!atomic_compare_exchange_weak(&page->order, &order, next));
        return true;
    }

    uint64_t wish = ORDER_DRAIN | (action == ACTION_DRAIN_ALL ? ORDER_DRAIN_ALL : 0);
    uint32_t none = 0;
    if ((order & wish) == wish)
        return false;
    if (atomic_compare_exchange_strong(&page->by_taken, &none, 1)) {
        page->by = *origin;
        page->asked = asked ? *asked : (struct totals){.tracked = PAGE_NOT_COUNTED};
        atomic_store(&page->timeout, timeout);
        atomic_store(&page->since, now);
        atomic_store(&page->by_taken, 2);
    }
    uint32_t phase = PHASE_SERVING;
    bool delays = action == ACTION_DRAIN && page->settings.delay;
    atomic_compare_exchange_strong(&page->phase, &phase, delays ? PHASE_DELAYING : PHASE_DRAINING);
    phase = PHASE_DELAYING;
    if (!delays)
        atomic_compare_exchange_strong(&page->phase, &phase, PHASE_DRAINING);
    return (atomic_fetch_or(&page->order, wish) & wish) != wish;
}
