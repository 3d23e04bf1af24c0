/* SPDX-License-Identifier: MIT */
#include "drain/listener_entry.h"

#include "conn/fdtable.h"
#include "tree/listener_list.h"
#include "tree/membership.h"

/* More than any program is known to have; the drain of one that has more is not complete. Of what
 * is not used nothing is touched. */
#define LISTENERS_MOST 2048

static BIG(1) struct listener listeners[LISTENERS_MOST];
_Atomic uint32_t listener_entries; /* list_grows */
_Atomic int listener_count;
_Atomic uint32_t listener_swaps;
_Atomic bool listener_was_sent;

/* The i-th that is used: they are used from the end on (BIG). */
struct listener *listener_entry(uint32_t i)
{
    return &listeners[LISTENERS_MOST - 1 - i];
}

/* A listener's descriptors have the number of its entry where a duplicate has its connection's. */
struct listener *listener_find(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_LISTENER && kind != KIND_BOUND)
        return NULL;
    struct listener *at = &listeners[atomic_load(&table.alias[fd]) % LISTENERS_MOST];
    return atomic_load_explicit(&at->number, memory_order_acquire) == fd + 1 ? at : NULL;
}

struct listener *listener_find_bound(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++)
        if (atomic_load_explicit(&listener_entry(i)->number, memory_order_acquire) == fd + 1)
            return listener_entry(i);
    return NULL;
}

/* Takes an entry, if it is free; gives_way: also if its socket does not listen. */
static bool take_entry(struct listener *at, int fd, bool gives_way)
{
    int number = atomic_load(&at->number);
    return (!number || (gives_way && !atomic_load(&at->view.state))) &&
           atomic_compare_exchange_strong(&at->number, &number, fd + 1);
}

static struct listener *take_any(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++)
        if (take_entry(listener_entry(i), fd, false))
            return listener_entry(i);
    uint32_t fresh = list_grows(&listener_entries, LISTENERS_MOST);
    if (fresh < LISTENERS_MOST && take_entry(listener_entry(fresh), fd, false))
        return listener_entry(fresh);
    for (uint32_t i = 0; i < LISTENERS_MOST; i++)
        if (take_entry(listener_entry(i), fd, true))
            return listener_entry(i);
    return NULL;
}

struct listener *listener_take(int fd)
{
    struct listener *known = listener_find_bound(fd), *at = known ? NULL : take_any(fd);
    if (!at)
        return known;
    atomic_store(&at->view.state, 0);
    at->view.mode = settings_now()->mode.rest; /* listen binds what is not bound (tcp(7)) */
    at->view.is_unix = false;
    at->view.address = 0;
    at->view.port = 0;
    at->origin = (struct listener_origin){.generation = 0};
    at->in_page = 0;
    at->inode = 0;
    at->waits_since = at->moment_since = at->needed_at = 0;
    at->unknown_since = 0;
    at->has_sought_epolls = false;
    atomic_store(&at->is_dry, false);
    at->addr_len = 0;
    return at;
}

void listener_set_kind(int fd, const struct listener *listener, enum kind kind)
{
    if (!table_reaches(fd))
        return;
    table_set(fd, KIND_NONE); /* its link may still be a connection's */
    atomic_store(&table.alias[fd], (uint32_t)(listener - listeners));
    table_set(fd, kind);
}

void listener_forget(struct listener *listener)
{
    if (atomic_load(&listener->view.state) && listener->view.mode != MODE_OFF)
        atomic_fetch_sub(&listener_count, 1);
    listener_list_remove(listener->in_page, membership_has_forked());
    listener->in_page = 0;
    atomic_store(&listener->view.state, 0);
    atomic_store(&listener->number, 0);
}
