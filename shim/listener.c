/* SPDX-License-Identifier: MIT */
#include "listener.h"

#include "epoch.h"
#include "head.h"
#include "log.h"
#include "sock.h"
#include "sys.h"
#include "table.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

/* More than any program is known to have; the drain of one that has more is not complete. Of what
 * is not used nothing is touched. */
#define LISTENERS_MOST 2048
#define REGISTRATIONS_MOST 8192

/* How long the queue of a closed door must have been empty, and where nothing tells of handshakes
 * that are half done; and how long those are waited for: past the first try again, after 1 s, of a
 * SYN-ACK whose answer was lost (or deferred). */
#define QUEUE_EMPTY_MS 50
#define QUEUE_EMPTY_BLIND_MS 200
#define HALF_OPEN_MS 2500

static _Atomic uint32_t listeners_used, registrations_used; /* list_grows */
static _Atomic bool registrations_missed;                   /* there were more; 0 again: told */

/* An entry is free where number is 0; it is taken by a compare-and-swap of number, filled in, and
 * read by others once state says so. */
static BIG(1) struct listener {
    _Atomic int number; /* descriptor + 1 */
    struct listener_view view;
    bool inherited;      /* across exec: whoever started the tree shares it with others */
    bool is_own;         /* the process `creator` has called listen itself */
    int creator;         /* the pid that listened; 0: not known */
    uint64_t epoch;      /* of the process that listened */
    _Atomic bool is_dry; /* AF_UNIX, CLOSING: accept has said that the queue is empty */
    int64_t closed_at;   /* CLOSING: the door has been closed since; or its queue is served since */
    int64_t empty_since; /* and nobody has been seen in the queue since */
    int in_page;         /* tree_add_listener */
    struct sockaddr_storage addr;
    socklen_t addr_len; /* 0: not known, for the program let the kernel choose */
} listeners[LISTENERS_MOST];

static BIG(6) struct registration {
    _Atomic int number; /* the listener's descriptor + 1; -1: being written */
    int epoll;
    struct epoll_event event;
} registrations[REGISTRATIONS_MOST];

/* Counts the swaps, so that a thread can tell that one has been made since it looked last. */
static _Atomic uint32_t swaps;
static __thread uint32_t swaps_seen;

/* The i-th that is used: they are used from the end on (BIG). */
static struct listener *entry(uint32_t i)
{
    return &listeners[LISTENERS_MOST - 1 - i];
}

/* A listener's descriptors have the number of its entry where a duplicate has its connection's. */
static struct listener *find(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_LISTENER && kind != KIND_BOUND)
        return NULL;
    struct listener *at = &listeners[atomic_load(&table.link[fd].alias) % LISTENERS_MOST];
    return atomic_load_explicit(&at->number, memory_order_acquire) == fd + 1 ? at : NULL;
}

/*
 * The entry of a socket that is bound, which may have been before there was a table: a process
 * that never listens is left alone (INTERFACE.md, "dormant").
 */
static struct listener *find_bound(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++)
        if (atomic_load_explicit(&entry(i)->number, memory_order_acquire) == fd + 1)
            return entry(i);
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
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++)
        if (take_entry(entry(i), fd, false))
            return entry(i);
    uint32_t fresh = list_grows(&listeners_used, LISTENERS_MOST);
    if (fresh < LISTENERS_MOST && take_entry(entry(fresh), fd, false))
        return entry(fresh);
    for (uint32_t i = 0; i < LISTENERS_MOST; i++)
        if (take_entry(entry(i), fd, true))
            return entry(i);
    return NULL;
}

/* An entry for fd. A socket that is bound and does not listen gives way where there is no room. */
static struct listener *take(int fd)
{
    struct listener *known = find_bound(fd), *at = known ? NULL : take_any(fd);
    if (!at)
        return known;
    atomic_store(&at->view.state, 0);
    at->view.mode = settings_now()->mode.rest; /* listen binds what is not bound (tcp(7)) */
    at->view.is_unix = false;
    at->view.address = 0;
    at->view.port = 0;
    at->inherited = false;
    at->is_own = false;
    at->in_page = 0;
    at->closed_at = 0;
    atomic_store(&at->is_dry, false);
    at->addr_len = 0;
    return at;
}

static void set_kind(int fd, const struct listener *listener, enum kind kind)
{
    if (!table_reaches(fd))
        return;
    table_set(fd, KIND_NONE); /* its link may still be a connection's */
    atomic_store(&table.link[fd].alias, (uint32_t)(listener - listeners));
    table_set(fd, kind);
}

static void describe(struct listener *listener, const struct sockaddr *addr, socklen_t len)
{
    listener->view.mode = settings_mode(&settings_now()->mode, addr, len);
    listener->view.is_unix = addr->sa_family == AF_UNIX;
    listener->view.address = sock_hash(addr, len);
    listener->view.port = sock_port(addr, len);
    listener->addr_len = 0;
    if (len > sizeof listener->addr || (!listener->view.port && !listener->view.is_unix))
        return;
    for (socklen_t i = 0; i < len; i++)
        ((char *)&listener->addr)[i] = ((const char *)addr)[i];
    listener->addr_len = len;
}

void listener_bound(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (len < sizeof(sa_family_t) ||
        (addr->sa_family != AF_INET && addr->sa_family != AF_INET6 && addr->sa_family != AF_UNIX))
        return;
    struct listener *listener = take(fd);
    if (!listener)
        return;
    atomic_store(&listener->view.state, 0);
    describe(listener, addr, len);
    set_kind(fd, listener, KIND_BOUND);
}

/* How many listen: told without a walk. */
static _Atomic int listening;

bool listener_any(void)
{
    return atomic_load(&listening) > 0;
}

/* For who asks for the tree's state. */
static void tell_tree(int fd, struct listener *listener)
{
    if (!listener->addr_len) /* the kernel has chosen the port, or the name */
        listener->addr_len = sock_own_address(fd, &listener->addr);
    if (listener->addr_len && !listener->in_page)
        listener->in_page =
            tree_add_listener((struct sockaddr *)&listener->addr, listener->addr_len,
                              listener->view.mode, listener->inherited);
}

static void listens(int fd, struct listener *listener)
{
    listener->creator = epoch_pid();
    listener->epoch = epoch_now();
    set_kind(fd, listener, KIND_LISTENER);
    int state = atomic_load(&listener->view.state);
    if (!state && listener->view.mode != MODE_OFF)
        atomic_fetch_add(&listening, 1);
    if (state != STOPPED)
        atomic_store(&listener->view.state, LISTENING);
}

void listener_listens(int fd)
{
    struct listener *listener = take(fd);
    if (!listener) {
        table_misses(fd);
        return;
    }
    listens(fd, listener);
    listener->is_own = true;
    tell_tree(fd, listener);
}

void listener_inherited(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sock_own_address(fd, &addr);
    struct listener *listener = len ? take(fd) : NULL;
    if (!listener) {
        table_misses(fd);
        return;
    }
    describe(listener, (struct sockaddr *)&addr, len);
    /* One that a process of ours has made and handed to this one is the tree's to close. */
    listener->inherited = !tree_listens_at((struct sockaddr *)&addr, len);
    listens(fd, listener);
    tell_tree(fd, listener);
}

void listener_duplicated(int fd, int to)
{
    struct listener *from = find(fd), *copy = from ? take(to) : NULL;
    if (from && !copy)
        table_misses(to);
    if (!copy)
        return;
    copy->view.mode = from->view.mode;
    copy->view.is_unix = from->view.is_unix;
    copy->inherited = from->inherited;
    copy->is_own = from->is_own;
    copy->view.address = from->view.address;
    copy->view.port = from->view.port;
    copy->creator = from->creator;
    copy->epoch = from->epoch;
    if (atomic_load(&from->view.state) && !atomic_load(&copy->view.state) &&
        from->view.mode != MODE_OFF)
        atomic_fetch_add(&listening, 1);
    set_kind(to, copy, table_kind(fd));
    atomic_store(&copy->view.state, atomic_load(&from->view.state));
}

static void forget(struct listener *listener)
{
    if (atomic_load(&listener->view.state) && listener->view.mode != MODE_OFF)
        atomic_fetch_sub(&listening, 1);
    tree_remove_listener(listener->in_page);
    listener->in_page = 0;
    atomic_store(&listener->view.state, 0);
    atomic_store(&listener->number, 0);
}

void listener_gone(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++) {
        int number = fd + 1;
        atomic_compare_exchange_strong(&registrations[i].number, &number, 0);
    }
    struct listener *listener = find_bound(fd);
    if (listener)
        forget(listener);
}

static bool hold(struct registration *at)
{
    int none = 0;
    return atomic_compare_exchange_strong(&at->number, &none, -1);
}

static struct registration *free_registration(void)
{
    uint32_t fresh;
    do {
        for (uint32_t i = 0; i < atomic_load(&registrations_used); i++)
            if (hold(&registrations[i]))
                return &registrations[i];
        fresh = list_grows(&registrations_used, REGISTRATIONS_MOST);
        if (fresh < REGISTRATIONS_MOST && hold(&registrations[fresh]))
            return &registrations[fresh]; /* else another thread has found it by then */
    } while (fresh < REGISTRATIONS_MOST);
    return NULL;
}

void listener_registered(int epoll, int op, int fd, const struct epoll_event *event)
{
    struct registration *at = NULL;
    for (uint32_t i = 0; i < atomic_load(&registrations_used) && !at; i++)
        if (atomic_load(&registrations[i].number) == fd + 1 && registrations[i].epoll == epoll)
            at = &registrations[i];
    if (op == EPOLL_CTL_DEL) {
        if (at)
            atomic_store(&at->number, 0);
        return;
    }
    if (!at && !(at = free_registration())) {
        atomic_store(&registrations_missed, true);
        return;
    }
    at->epoll = epoll;
    at->event = *event;
    atomic_store(&at->number, fd + 1);
}

const struct listener_view *listener_view(int fd)
{
    static struct listener_view unknown;
    const struct listener *listener = find(fd);
    if (LIKELY(listener))
        return &listener->view;
    unknown.mode = settings_now()->mode.rest;
    return &unknown;
}

static void log_no_substitute(int fd, int error)
{
    struct log_line line;
    log_begin(&line, LOG_ERROR);
    text_string(&line.text, "can't stop accepting on ");
    struct sockaddr_storage addr;
    socklen_t len = sock_own_address(fd, &addr);
    text_address(&line.text, (struct sockaddr *)&addr, len);
    text_string(&line.text, ": no socket to put in its place (error ");
    text_number(&line.text, (uint64_t)-error);
    text_string(&line.text, "); new connections are still served");
    log_keep(&line); /* fd is claimed */
}

/* Takes fd out of every epoll that holds it, or puts it back into those that held it. */
static void register_again(int fd, bool *held, int op)
{
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++) {
        struct registration *at = &registrations[i];
        if (op == EPOLL_CTL_DEL)
            held[i] = atomic_load(&at->number) == fd + 1;
        if (held[i])
            held[i] = sys4(SYS_epoll_ctl, at->epoll, op, fd, &at->event) == 0;
    }
}

/* waitid(2): WNOWAIT leaves a child that has ended to the program. */
static bool has_children(void)
{
    siginfo_t info; /* it may be NULL, which valgrind does not know */
    return sys5(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, NULL) != -ECHILD;
}

/* Whether who made it listen, or one of those between, is there still, and may have it too. */
static bool is_an_ancestors(const struct listener *listener)
{
    if (listener->epoch == epoch_now())
        return false;
    return !listener->creator || sys2(SYS_kill, listener->creator, 0) != -ESRCH ||
           tree_descends_from_the_living(listener->creator);
}

/*
 * Whether somebody who is not drained may go on accepting from it, so that it is not ours to shut:
 * a parent or a child. A daemon that forked to the background may be the only one left; if it has
 * workers, they share it.
 */
static bool is_shared(const struct listener *listener)
{
    return is_an_ancestors(listener) || has_children();
}

/* What is kept is held by a copy, for a successor that shares it: the one descriptor of ours. */
#define KEPT_LEAST 100

/* shut: nobody shares it. Otherwise, keep: hold it for whoever will. */
static void swap(struct listener *listener, int fd, bool keep, bool shut)
{
    static LATE bool held[REGISTRATIONS_MOST];
    int substitute = sock_unreachable_listener(fd);
    if (substitute < 0) {
        log_no_substitute(fd, substitute);
        atomic_store(&listener->view.state, STOPPED); /* as far as it can be */
        return;
    }
    long on_exec = sys2(SYS_fcntl, fd, F_GETFD);
    long old = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, keep ? KEPT_LEAST : 3);
    if (old < 0)
        old = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);

    if (atomic_exchange(&registrations_missed, false))
        log_say(LOG_ERROR,
                "listeners are in more epolls than there was room to remember: the event "
                "loop of another may spin");

    /* First quiet, then dead: an epoll that saw the old one shut would spin. */
    register_again(fd, held, EPOLL_CTL_DEL);
    sys3(SYS_dup3, substitute, fd, on_exec & FD_CLOEXEC ? O_CLOEXEC : 0);
    sys1(SYS_close, substitute);
    register_again(fd, held, EPOLL_CTL_ADD);
    atomic_store(&listener->view.state, STOPPED);
    atomic_fetch_add(&swaps, 1);
    if (keep || old < 0)
        return;
    /* Wakes who is blocked in accept, with EINVAL: the wrapper accepts again, on the new one. */
    if (shut)
        sock_shut_read((int)old);
    sys1(SYS_close, old);
}

static bool is_kept(const struct listener *listener, enum listeners what)
{
    return what == LISTENERS_KEEP || (what == LISTENERS_AUTO && listener->inherited);
}

/* Nobody new: those who are in the queue are still accepted. */
static void close_door(struct listener *listener, int fd)
{
    listener->empty_since = 0;
    listener->closed_at = sys_now_ms();
    sock_stop_deferring(fd);
    /* AF_UNIX: a connect is refused from now on, accept hands out the queue and then fails with
     * EINVAL (net/unix/af_unix.c, unix_stream_connect and unix_accept). */
    if (!sock_close_door(fd))
        sock_shut_read(fd);
    atomic_store(&listener->view.state, CLOSING);
    tree_set_listener(listener->in_page, PAGE_CLOSING);
}

static bool queue_is_served(struct listener *listener, int fd)
{
    if (listener->view.is_unix)
        return atomic_load(&listener->is_dry);
    int64_t now = sys_now_ms();
    if (sock_has_waiting(fd) || !listener->empty_since)
        listener->empty_since = now;
    if (now - listener->empty_since < QUEUE_EMPTY_MS)
        return false;
    if (now - listener->closed_at >= HALF_OPEN_MS)
        return true;
    int half_open = sock_half_open(fd);
    /* Looked at last: a handshake that was done meanwhile is in the queue since. */
    if (half_open > 0 || sock_has_waiting(fd)) {
        listener->empty_since = now;
        return false;
    }
    return half_open == 0 || now - listener->empty_since >= QUEUE_EMPTY_BLIND_MS;
}

/*
 * A listener that a parent or a child may hold stays open for them, but this process may be the
 * only one that accepts: who is in the queue is served before it stops, unless the queue never
 * becomes empty, for as long as a handshake is waited for.
 */
static bool shared_queue_is_served(struct listener *listener, int fd)
{
    int64_t now = sys_now_ms();
    if (!listener->closed_at)
        listener->closed_at = now;
    return !sock_has_waiting(fd) || now - listener->closed_at >= HALF_OPEN_MS;
}

/*
 * Whether the others of the tree may still need it to answer what they have received: a helper that
 * has made an AF_UNIX listener of its own is asked by them (Apache's mod_cgid for each CGI request,
 * an application behind an nginx of the same tree), as long as one has a connection.
 */
static bool is_needed(const struct listener *listener)
{
    return listener->view.is_unix && listener->is_own && listener->epoch == epoch_now() &&
           !head_is_here() && tree_others_serve();
}

bool listener_stop_all(enum listeners what, bool now, bool whole_tree, bool *wake)
{
    bool all = true;
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++) {
        struct listener *listener = entry(i);
        int fd = atomic_load_explicit(&listener->number, memory_order_acquire) - 1;
        int state = atomic_load(&listener->view.state);
        if (fd < 0 || state == 0 || state == STOPPED || listener->view.mode == MODE_OFF)
            continue;
        if (sock_is_listener(fd) != 1) { /* closed on a path that we don't see */
            forget(listener);
            continue;
        }
        bool keep = is_kept(listener, what), shared = is_shared(listener);
        bool closes = !keep && (!shared || whole_tree);
        if (state == LISTENING && closes && whole_tree && !now && is_needed(listener)) {
            atomic_store(&listener->is_dry, false); /* an empty queue is not its last */
            all = false;
            continue;
        }
        if (state == LISTENING && closes)
            close_door(listener, fd);
        bool served =
            closes ? queue_is_served(listener, fd) : keep || shared_queue_is_served(listener, fd);
        if (!now && !served) {
            all = false;
            continue;
        }
        /* Under a claim: the number is not to be another's when the substitute comes to it. */
        if (!table_claim(fd))
            continue;
        if (atomic_load(&listener->number) == fd + 1 && sock_is_listener(fd) == 1)
            swap(listener, fd, keep, !keep && !shared);
        table_release();
        log_send_kept();
        tree_set_listener(listener->in_page, closes ? PAGE_STOPPED : PAGE_KEPT);
        *wake = *wake || keep || shared;
    }
    return all;
}

bool listener_ran_dry(int fd)
{
    struct listener *listener = find(fd);
    if (!listener || !listener->view.is_unix || listener->view.mode == MODE_OFF)
        return false;
    int state = atomic_load(&listener->view.state);
    if (state == LISTENING ? !head_tree_drains() : state != CLOSING)
        return false; /* LISTENING: who shares it has closed the door */
    atomic_store(&listener->is_dry, true);
    return true;
}

bool listener_is_stopped(int fd)
{
    struct listener *listener = find(fd);
    return listener && atomic_load(&listener->view.state) == STOPPED;
}

bool listener_must_abort(int fd)
{
    uint32_t now = atomic_load(&swaps);
    if (LIKELY(now == swaps_seen) || !listener_is_stopped(fd))
        return false;
    swaps_seen = now;
    return epoch_thread.polls;
}
