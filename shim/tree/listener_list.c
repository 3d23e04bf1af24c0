/* SPDX-License-Identifier: MIT */
#include "tree/listener_list.h"

#include "base/proc.h"
#include "base/text.h"
#include "conn/fork_detect.h"
#include "conn/handoff.h"
#include "tree/process_slot.h"

#include <sys/un.h>

_Static_assert(sizeof((struct page_listener *)NULL)->address >
                   sizeof "unix:" + sizeof((struct sockaddr_un *)NULL)->sun_path,
               "any path has room");

static uint32_t listeners_used(void)
{
    return page_used(&tree_page->listeners_used, PAGE_LISTENERS);
}

/* Whether any process has said so of a listener of this address. */
static bool outside_is_served_at(const char *address)
{
    for (uint32_t i = 0; i < listeners_used(); i++)
        if (atomic_load(&tree_page->listener[i].serves_outside) &&
            text_equal(tree_page->listener[i].address, address))
            return true;
    return false;
}

/* An entry of this address whose process is gone: it is the successor's now. */
static int take_listener_over(const char *address, enum mode mode, bool from_outside,
                              bool is_picked)
{
    for (uint32_t i = 0; i < listeners_used(); i++) {
        struct page_listener *at = &tree_page->listener[i];
        int32_t pid = atomic_load(&at->pid);
        if ((pid == PAGE_LEFT || (pid > 0 && (pid == fork_pid() || !process_slot_of(pid)))) &&
            text_equal(at->address, address) &&
            atomic_compare_exchange_strong(&at->pid, &pid, fork_pid())) {
            at->mode = (uint16_t)mode;
            at->from_outside = from_outside;
            at->is_picked = is_picked;
            atomic_store(&at->state, PAGE_ACCEPTING);
            return (int)i + 1;
        }
    }
    return 0;
}

static bool take_free(uint32_t i)
{
    int32_t none = 0;
    return atomic_compare_exchange_strong(&tree_page->listener[i].pid, &none, -1);
}

static bool take_left(uint32_t i)
{
    int32_t left = PAGE_LEFT;
    return atomic_compare_exchange_strong(&tree_page->listener[i].pid, &left, -1);
}

/* An entry that is held (pid -1): one that is free, or else was left. NULL: there is neither. */
static struct page_listener *free_listener(void)
{
    uint32_t taken = list_take(&tree_page->listeners_used, PAGE_LISTENERS, take_free);
    if (taken == PAGE_LISTENERS)
        taken = list_take(&tree_page->listeners_used, PAGE_LISTENERS, take_left);
    return taken < PAGE_LISTENERS ? &tree_page->listener[taken] : NULL;
}

int listener_list_add(const struct sockaddr *addr, socklen_t len, enum mode mode, bool from_outside,
                      bool is_picked)
{
    char address[sizeof tree_page->listener->address];
    struct text wanted = TEXT_ON(address);
    text_address(&wanted, addr, len);
    if (!tree_page)
        return 0;
    int known = take_listener_over(address, mode, from_outside, is_picked);
    struct page_listener *at = known ? NULL : free_listener();
    if (!at)
        return known;
    bool outside = outside_is_served_at(address);
    struct text text = TEXT_ON(at->address);
    text_string(&text, address);
    at->mode = (uint16_t)mode;
    at->from_outside = from_outside;
    at->is_picked = is_picked;
    atomic_store(&at->serves_outside, outside);
    atomic_store(&at->state, PAGE_ACCEPTING);
    atomic_store(&at->pid, fork_pid());
    return (int)(at - tree_page->listener) + 1;
}

static bool is_listed(const struct page_listener *at)
{
    int32_t pid = atomic_load(&at->pid);
    return pid > 0 || pid == PAGE_LEFT;
}

static bool is_so(const struct page_listener *at, enum listener_is what)
{
    return what == LISTENER_IS_PICKED ? at->is_picked
                                      : at->from_outside == (what == LISTENER_IS_HANDED);
}

bool listener_list_has(const struct page *page, const struct sockaddr *addr, socklen_t len,
                       enum listener_is what)
{
    char address[sizeof tree_page->listener->address];
    struct text wanted = TEXT_ON(address);
    text_address(&wanted, addr, len);
    for (uint32_t i = 0; page && i < page_used(&page->listeners_used, PAGE_LISTENERS); i++) {
        const struct page_listener *at = &page->listener[i];
        if (is_listed(at) && is_so(at, what) && text_equal(at->address, address))
            return true;
    }
    return false;
}

void listener_list_serves_outside(int index)
{
    const char *address = tree_page->listener[index - 1].address;
    for (uint32_t i = 0; i < listeners_used(); i++)
        if (text_equal(tree_page->listener[i].address, address))
            atomic_store(&tree_page->listener[i].serves_outside, 1);
}

bool listener_list_may_serve_outside(int index)
{
    return !index || atomic_load(&tree_page->listener[index - 1].serves_outside);
}

/* Whether that process drains, or is still to: who does not may listen for ever. */
static bool is_to_drain(const struct page_slot *slot)
{
    return slot && atomic_load(&slot->phase) != PHASE_DRAINED &&
           !(atomic_load(&slot->flags) & (SLOT_SANDBOXED | SLOT_NOT_WOKEN)) &&
           proc_slot_lives(slot);
}

/* Whether a client from outside may still be accepted, but by process `but`. */
static bool may_be_accepted(int32_t but)
{
    for (uint32_t i = 0; i < listeners_used(); i++) {
        const struct page_listener *at = &tree_page->listener[i];
        uint32_t state = atomic_load(&at->state);
        int32_t pid = atomic_load(&at->pid);
        if ((state == PAGE_ACCEPTING || state == PAGE_CLOSING) && at->mode != MODE_OFF && pid > 0 &&
            pid != but && !text_after(at->address, "unix:") && is_to_drain(process_slot_of(pid)))
            return true;
    }
    return false;
}

/* What it has told may be older than its last accept, which of_tree tells, or its last close, by
 * which that is too high: then `outside` tells. */
static bool serves_outside(uint32_t index)
{
    const struct page_slot *slot = &tree_page->slot[index];
    uint32_t told = atomic_load(&slot->outside), of_tree = told ? atomic_load(&slot->of_tree) : 0;
    struct totals totals;
    page_slot_totals(&totals, tree_page, index);
    bool has_changed = atomic_load(&slot->outside) != told;
    return (told > 1 || totals.tracked > of_tree || has_changed) && proc_slot_lives(slot);
}

bool listener_list_tree_serves(int32_t but)
{
    uint32_t sends = tree_page ? atomic_load(&tree_page->sends) : 0;
    for (uint32_t i = 0; tree_page && i < process_slots_used(); i++) {
        int32_t pid = atomic_load(&tree_page->slot[i].pid);
        if (pid > 0 && pid != but && serves_outside(i))
            return true;
    }
    /* A client that has been sent meanwhile may have gone where nobody looks any more. */
    return tree_page && (may_be_accepted(but) || handoff_any_is_new() ||
                         atomic_load(&tree_page->sends) != sends);
}

bool listener_list_has_others(int32_t pid)
{
    for (uint32_t i = 0; i < listeners_used(); i++) {
        int32_t holder = atomic_load(&tree_page->listener[i].pid);
        const struct page_slot *slot = holder > 0 && holder != pid ? process_slot_of(holder) : NULL;
        if (slot && proc_slot_lives(slot))
            return true;
    }
    return false;
}

bool listener_list_is_last(int index)
{
    int32_t me = fork_pid();
    for (uint32_t i = 0; index && i < listeners_used(); i++) {
        const struct page_listener *at = &tree_page->listener[i];
        uint32_t state = atomic_load(&at->state);
        int32_t pid = atomic_load(&at->pid);
        if ((state == PAGE_ACCEPTING || state == PAGE_CLOSING) && pid > 0 && pid != me &&
            text_equal(at->address, tree_page->listener[index - 1].address) &&
            is_to_drain(process_slot_of(pid)))
            return false;
    }
    return index;
}

bool listener_list_is_of_tree(int32_t pid)
{
    return tree_page && pid > 0 && is_to_drain(process_slot_of(pid));
}

void listener_list_set(int index, enum page_listener_state state)
{
    if (index)
        atomic_store(&tree_page->listener[index - 1].state, state);
}

enum page_listener_state listener_list_state(int index)
{
    uint32_t state = index ? atomic_load(&tree_page->listener[index - 1].state) : PAGE_ACCEPTING;
    return state < PAGE_STATES ? (enum page_listener_state)state : PAGE_ACCEPTING;
}

void listener_list_remove(int index, bool has_children)
{
    generation_now(); /* a child closes its copies first of all */
    int32_t me = fork_pid();
    if (index && me)
        atomic_compare_exchange_strong(&tree_page->listener[index - 1].pid, &me,
                                       has_children ? PAGE_LEFT : 0);
}
