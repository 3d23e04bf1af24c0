/* SPDX-License-Identifier: MIT */
#include "drain/listener.h"

#include "base/libc.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "conn/fdtable.h"
#include "drain/listen_fds.h"
#include "drain/listener_entry.h"
#include "drain/listener_epolls.h"
#include "drain/listener_kept.h"
#include "tree/coordinator.h"
#include "tree/listener_list.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

_Atomic bool listener_dropped_syns;
__thread uint32_t listener_swaps_seen;

static void describe(struct listener *listener, const struct sockaddr *addr, socklen_t len)
{
    listener->view.mode = settings_mode(&settings_now()->mode, addr, len);
    listener->view.is_unix = addr->sa_family == AF_UNIX;
    listener->view.address = sock_hash(addr, len);
    listener->view.port = sock_port(addr, len);
    listener->addr_len = 0;
    bool is_unnamed = listener->view.is_unix && len <= sizeof addr->sa_family;
    if (len > sizeof listener->addr || is_unnamed ||
        (!listener->view.port && !listener->view.is_unix))
        return; /* the kernel chooses the port, or the name (unix(7), "Autobind feature") */
    for (socklen_t i = 0; i < len; i++)
        ((char *)&listener->addr)[i] = ((const char *)addr)[i];
    listener->addr_len = len;
}

void listener_bound(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (len < sizeof(sa_family_t) ||
        (addr->sa_family != AF_INET && addr->sa_family != AF_INET6 && addr->sa_family != AF_UNIX))
        return;
    struct listener *listener = listener_take(fd);
    if (!listener)
        return;
    atomic_store(&listener->view.state, 0);
    listener->origin =
        (struct listener_origin){.is_bound_here = true, .generation = generation_now()};
    describe(listener, addr, len);
    listener->origin.is_picked = !listener->addr_len;
    listener_set_kind(fd, listener, KIND_BOUND);
}

void listener_met(int fd, int got)
{
    const struct listener *listener = listener_find(fd);
    if (!listener || listener_list_may_serve_outside(listener->in_page))
        return;
    int32_t peer = sys_is_sandboxed() ? 0 : sock_peer_pid(got);
    if (peer <= 0 || !process_slot_of(peer))
        listener_list_serves_outside(listener->in_page);
}

bool listener_any(void)
{
    return atomic_load(&listener_count) > 0;
}

/*
 * Asks the socket for its address, where that is not known: the kernel has chosen the port or the
 * name, or its bind was not seen (before an exec, by another process, by listen itself).
 */
static void ask_address(int fd, struct listener *listener)
{
    struct sockaddr_storage addr;
    socklen_t len = listener->addr_len ? 0 : sock_own_address(fd, &addr);
    if (len)
        describe(listener, (struct sockaddr *)&addr, len);
}

void listener_ask_kernel(int fd, struct listener *listener)
{
    struct sockaddr_storage addr;
    enum mode mode = listener->view.mode; /* of the address that the program knows */
    if (listener->view.is_unix || sock_family(fd) != AF_UNIX)
        return;
    socklen_t len = sock_own_address(fd, &addr);
    if (!len)
        return;
    describe(listener, (struct sockaddr *)&addr, len);
    listener->view.mode = mode;
}

/* For who asks for the tree's state. */
static void tell_tree(struct listener *listener)
{
    if (listener->addr_len && !listener->in_page)
        listener->in_page = listener_list_add(
            (struct sockaddr *)&listener->addr, listener->addr_len, listener->view.mode,
            listener->origin.is_inherited, listener->origin.is_picked);
}

static void listens(int fd, struct listener *listener)
{
    listener->origin.generation = generation_now();
    listener_set_kind(fd, listener, KIND_LISTENER);
    int state = atomic_load(&listener->view.state);
    if (!state && listener->view.mode != MODE_OFF)
        atomic_fetch_add(&listener_count, 1);
    if (state != STOPPED)
        atomic_store(&listener->view.state, LISTENING);
}

void listener_listens(int fd)
{
    struct listener *listener = listener_take(fd);
    if (!listener) {
        table_misses(fd);
        return;
    }
    ask_address(fd, listener);
    sock_note_port(listener->view.port);
    /* A worker may listen on what its master has bound, before a fork or an exec (Hypercorn). */
    listener->origin.is_bound_here =
        listener->origin.is_bound_here && listener->origin.generation == generation_now();
    listens(fd, listener);
    listener->origin.is_own = true;
    membership_listens();
    tell_tree(listener);
    if (UNLIKELY(libc_listen_is_anothers())) /* and the kernel's addresses are its connections' */
        listener_ask_kernel(fd, listener);
}

/* Adds one that the program has not made. Returns its entry; NULL: there is no room. */
static struct listener *add_made(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sock_own_address(fd, &addr);
    struct listener *listener = len ? listener_take(fd) : NULL;
    if (!listener) {
        table_misses(fd);
        return NULL;
    }
    describe(listener, (struct sockaddr *)&addr, len);
    sock_note_port(listener->view.port);
    listens(fd, listener);
    return listener;
}

void listener_inherited(int fd)
{
    struct listener *listener = add_made(fd);
    if (!listener)
        return;
    /* One that a process of ours has made and handed to this one is the tree's to close. */
    listener->origin.is_inherited =
        !membership_listens_at((struct sockaddr *)&listener->addr, listener->addr_len);
    listener->origin.is_activated = listen_fds_has(fd);
    tell_tree(listener);
}

void listener_find_received(void)
{
    int high = (int)atomic_load(&table.high);
    for (int fd = 0; fd < high; fd++) {
        struct listener *listener =
            table_kind(fd) == KIND_RECEIVED && sock_is_listener(fd) == 1 ? add_made(fd) : NULL;
        if (!listener)
            continue;
        atomic_store(&listener_was_sent, true); /* whoever has sent it may have it still */
        tell_tree(listener);
    }
}

void listener_duplicated(int fd, int to)
{
    struct listener *from = listener_find(fd), *copy = from ? listener_take(to) : NULL;
    if (from && !copy)
        table_misses(to);
    if (!copy)
        return;
    copy->view.mode = from->view.mode;
    copy->view.is_unix = from->view.is_unix;
    copy->origin = from->origin;
    copy->view.address = from->view.address;
    copy->view.port = from->view.port;
    if (atomic_load(&from->view.state) && !atomic_load(&copy->view.state) &&
        from->view.mode != MODE_OFF)
        atomic_fetch_add(&listener_count, 1);
    listener_set_kind(to, copy, table_kind(fd));
    atomic_store(&copy->view.state, atomic_load(&from->view.state));
}

void listener_gone(int fd)
{
    listener_epolls_forget(fd);
    struct listener *listener = listener_find_bound(fd);
    if (listener) {
        listener_closes(listener, fd);
        listener_forget(listener);
    }
}

void listener_sent(int fd)
{
    if (table_kind(fd) == KIND_LISTENER || table_kind(fd) == KIND_BOUND)
        atomic_store(&listener_was_sent, true);
}

enum mode listener_mode_at(const struct sockaddr_storage *own, socklen_t len)
{
    const struct sockaddr *addr = (const void *)own;
    enum mode by_port = MODE_OFF;
    for (uint32_t i = 0; len && i < atomic_load(&listener_entries); i++) {
        const struct listener *at = listener_entry(i);
        const struct sockaddr *listens = (const void *)&at->addr;
        bool is_unix = addr->sa_family == AF_UNIX;
        if (!atomic_load(&at->number) || !atomic_load(&at->view.state) || !at->addr_len ||
            is_unix != at->view.is_unix)
            continue;
        if (sock_hash(addr, len) == sock_hash(listens, at->addr_len))
            return at->view.mode;
        if (!is_unix && sock_port(addr, len) == sock_port(listens, at->addr_len))
            by_port = at->view.mode; /* it listens on any address */
    }
    return by_port;
}

const struct listener_view *listener_view(int fd)
{
    static struct listener_view unknown;
    const struct listener *listener = listener_find(fd);
    if (LIKELY(listener))
        return &listener->view;
    unknown.mode = settings_now()->mode.rest;
    return &unknown;
}

bool listener_ran_dry(int fd)
{
    struct listener *listener = listener_find(fd);
    if (!listener || !listener->view.is_unix || listener->view.mode == MODE_OFF)
        return false;
    int state = atomic_load(&listener->view.state);
    if (state == LISTENING ? !coordinator_tree_drains() : state != CLOSING)
        return false; /* LISTENING: a process that shares it has stopped it */
    atomic_store(&listener->is_dry, true);
    return true;
}

bool listener_is_stopped(int fd)
{
    struct listener *listener = listener_find(fd);
    return listener && atomic_load(&listener->view.state) == STOPPED;
}

bool listener_was_swapped(int fd)
{
    uint32_t now = atomic_load(&listener_swaps);
    if (!listener_is_stopped(fd))
        return false;
    listener_swaps_seen = now;
    return fork_thread.was_told;
}

bool listener_is_in(const fd_set *set, int count)
{
    const unsigned long *words = (const void *)set;
    const int bits = 8 * (int)sizeof *words; /* select(2): the kernel takes count, not FD_SETSIZE */
    for (uint32_t i = 0; set && i < atomic_load(&listener_entries); i++) {
        int fd = atomic_load_explicit(&listener_entry(i)->number, memory_order_relaxed) - 1;
        if (fd >= 0 && fd < count && words[fd / bits] >> fd % bits & 1)
            return true;
    }
    return false;
}
