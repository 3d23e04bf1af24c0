/* SPDX-License-Identifier: MIT */
#include "drain/listener.h"

#include "conn/epoch.h"
#include "tree/coordinator.h"
#include "tree/holders.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/table.h"
#include "tree/membership.h"
#include "tree/process_slot.h"
#include "tree/listener_list.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/select.h>
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

/* How long an AF_UNIX listener is left open for its queue to become empty, so that its end is not
 * seen by who polls it: its door can't be closed without. */
#define UNIX_QUIET_MS 250

/* Who else holds a listener is looked up anew where what was found is older than that, before what
 * can't be undone; and now and then while its door is closed. */
#define HELD_MS 20
#define LOOK_AGAIN_MS 500

/* How long it may be unknown, and how often that is looked up anew: a process that can't be looked
 * into may be just between its setuid and its exec, as a CGI program is (proc(5), dumpable). */
#define UNKNOWN_MOST_MS 1000
#define UNKNOWN_AGAIN_MS 100

/* More than so many clients have left a queue without coming to this process: its threads may have
 * as many in their hands that are not counted yet. */
#define TAKEN_BY_OTHERS 64

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
    int64_t closed_at;   /* CLOSING: the door has been closed since */
    int64_t empty_since; /* and nobody has been seen in the queue since */
    uint64_t inode;      /* of its socket, as /proc tells it; 0: not asked yet */
    enum held { HELD_BY_NOBODY, HELD_UNKNOWN, HELD } held; /* by who goes on when this one drains */
    int64_t unknown_since;                                 /* 0: it is known */
    /* Where it is held, or AF_UNIX: since when its queue is waited for (0: it is not), how many
     * were in it then and when it was looked at last, since when it has not become shorter, and how
     * many had been accepted by this process. */
    int64_t waits_since, queued, queued_last, stands_since;
    uint64_t accepted;
    int in_page; /* listener_list_add */
    struct sockaddr_storage addr;
    socklen_t addr_len; /* 0: not known, for the program let the kernel choose */
} listeners[LISTENERS_MOST];

static BIG(6) struct registration {
    _Atomic int number; /* the listener's descriptor + 1; -1: being written */
    int epoll;
    bool is_shared; /* the epoll, with somebody who holds the listener and goes on */
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
    at->inode = 0;
    at->waits_since = 0;
    at->unknown_since = 0;
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
            listener_list_add((struct sockaddr *)&listener->addr, listener->addr_len,
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
    listener->inherited = !membership_listens_at((struct sockaddr *)&addr, len);
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
    listener_list_remove(listener->in_page);
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
    if (!at) {
        if (!(at = free_registration())) {
            atomic_store(&registrations_missed, true);
            return;
        }
        at->is_shared = false;
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

/*
 * Takes fd out of every epoll that holds it, or puts it back into those that held it. One that is
 * shared with somebody who goes on is left alone: he would not be told of clients any more.
 */
static void register_again(int fd, bool *held, int op)
{
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++) {
        struct registration *at = &registrations[i];
        if (op == EPOLL_CTL_DEL)
            held[i] = atomic_load(&at->number) == fd + 1 && !at->is_shared;
        if (held[i])
            held[i] = sys4(SYS_epoll_ctl, at->epoll, op, fd, &at->event) == 0;
    }
}

static bool is_in_shared_epoll(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++)
        if (atomic_load(&registrations[i].number) == fd + 1 && registrations[i].is_shared)
            return true;
    return false;
}

/* ---- who else holds it ---- */

static _Atomic bool sent; /* a listener was, to somebody */
static int64_t looked_at;
static bool is_alone; /* nobody else has one that is not held */

void listener_sent(int fd)
{
    if (table_kind(fd) == KIND_LISTENER || table_kind(fd) == KIND_BOUND)
        atomic_store(&sent, true);
}

/* Whether it takes part in a drain, and is not swapped yet. */
static bool is_to_stop(const struct listener *listener)
{
    int state = atomic_load(&listener->view.state);
    return atomic_load_explicit(&listener->number, memory_order_acquire) && state &&
           state != STOPPED && listener->view.mode != MODE_OFF;
}

static bool is_wanted(uint64_t inode)
{
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++)
        if (entry(i)->inode == inode && is_to_stop(entry(i)))
            return true;
    return false;
}

static void is_held_elsewhere(uint64_t inode)
{
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++)
        if (entry(i)->inode == inode)
            entry(i)->held = HELD;
}

static void has_epoll(int32_t pid, int fd)
{
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++) {
        struct registration *at = &registrations[i];
        if (atomic_load(&at->number) > 0 && !at->is_shared)
            at->is_shared = holders_share(at->epoll, pid, fd);
    }
}

/* waitid(2): WNOWAIT leaves a child that has ended to the program. */
static bool has_children(void)
{
    siginfo_t info; /* it may be NULL, which valgrind does not know */
    return sys5(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, NULL) != -ECHILD;
}

/*
 * Finds out of each listener whether somebody holds it who goes on when this process drains (or its
 * tree).
 */
static void look_for_holders(bool whole_tree)
{
    static const struct holders_visitor visitor = {is_wanted, is_held_elsewhere, has_epoll};
    is_alone = !atomic_load(&sent) && !membership_has_forked() && !has_children();
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++) {
        struct listener *listener = entry(i);
        listener->held = HELD_BY_NOBODY;
        if (!is_to_stop(listener))
            continue;
        listener->inode = sock_inode(atomic_load(&listener->number) - 1);
        is_alone = is_alone && listener->is_own && listener->epoch == epoch_now();
    }
    for (uint32_t i = 0; i < atomic_load(&registrations_used); i++)
        registrations[i].is_shared = false;
    bool complete = is_alone || holders_look(&visitor, whole_tree, atomic_load(&sent));
    for (uint32_t i = 0; i < atomic_load(&listeners_used) && !complete; i++)
        if (entry(i)->held == HELD_BY_NOBODY)
            entry(i)->held = HELD_UNKNOWN;
    is_alone = is_alone || (complete && (!whole_tree || process_slot_is_alone()));
    looked_at = sys_now_ms();
}

/*
 * Who can't look into all processes does as those of its tree do that can; or else the socket is
 * taken to be held after a while. (Then its queue is served all the same, and clients who come in
 * the last moment are worse off, who would otherwise be the successor's.)
 */
static enum held decide_unknown(struct listener *listener)
{
    enum page_listener_state state = listener_list_state(listener->in_page);
    int64_t now = sys_now_ms();
    if (atomic_load(&listener->view.state) == CLOSING || state == PAGE_CLOSING ||
        state == PAGE_STOPPED)
        return HELD_BY_NOBODY;
    if (!listener->unknown_since)
        listener->unknown_since = now;
    return state == PAGE_KEPT || now - listener->unknown_since >= UNKNOWN_MOST_MS ? HELD
                                                                                  : HELD_UNKNOWN;
}

/*
 * Whether somebody else goes on with it: then nothing is done to the socket itself. fresh: it is
 * about to be, for good.
 */
static enum held is_held(struct listener *listener, bool whole_tree, bool fresh)
{
    int64_t age = sys_now_ms() - looked_at;
    bool is_unknown = listener->held == HELD_UNKNOWN;
    if (!listener->inode || (fresh && !is_unknown && age > HELD_MS) ||
        (is_unknown && age > UNKNOWN_AGAIN_MS))
        look_for_holders(whole_tree);
    if (listener->held == HELD_UNKNOWN)
        return decide_unknown(listener);
    listener->unknown_since = 0;
    return listener->held;
}

/* ---- swapped ---- */

/* What is kept is held by a copy, for a successor that shares it: the one descriptor of ours. */
#define KEPT_LEAST 100

/* Puts another socket in fd's place, also in its epolls. */
static void put(int fd, int other)
{
    static LATE bool held[REGISTRATIONS_MOST];
    long on_exec = sys2(SYS_fcntl, fd, F_GETFD);
    register_again(fd, held, EPOLL_CTL_DEL);
    sys3(SYS_dup3, other, fd, on_exec & FD_CLOEXEC ? O_CLOEXEC : 0);
    register_again(fd, held, EPOLL_CTL_ADD);
}

enum then {
    THEN_KEEP,          /* the old one is held, for whoever shares it */
    THEN_LEAVE,         /* it is closed here, and others go on with it */
    THEN_CLOSE,         /* and others of the tree may do the same */
    THEN_SHUT,          /* nobody else has it */
    THEN_SHUT_IF_EMPTY, /* the same, where nobody is in its queue then */
};

/*
 * Puts a socket in the listener's place to which nobody comes. Returns false where somebody has
 * come into the queue that was to be empty: the listener is back in its place, and a thread that
 * has begun to wait on the other one meanwhile is to be woken.
 */
static bool swap(struct listener *listener, int fd, enum then then)
{
    int substitute = sock_unreachable_listener(fd);
    if (substitute < 0) {
        log_no_substitute(fd, substitute);
        atomic_store(&listener->view.state, STOPPED); /* as far as it can be */
        return true;
    }
    if (is_in_shared_epoll(fd)) /* which goes on telling of clients, who are the others' */
        sock_never_block(substitute);
    long old = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, then == THEN_KEEP ? KEPT_LEAST : 3);
    if (old < 0)
        old = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);

    if (atomic_exchange(&registrations_missed, false))
        log_say(LOG_ERROR,
                "listeners are in more epolls than there was room to remember: the event "
                "loop of another may spin");

    /* First quiet, then dead: an epoll that saw the old one shut would spin. */
    put(fd, substitute);
    sys1(SYS_close, substitute);
    atomic_store(&listener->view.state, STOPPED);
    atomic_fetch_add(&swaps, 1);
    if (old < 0 || then == THEN_KEEP)
        return true;
    /* Wakes who is blocked in accept, with EINVAL: the wrapper accepts again, on the new one. */
    bool if_empty = then == THEN_SHUT_IF_EMPTY;
    bool shut = then == THEN_SHUT || (if_empty && sock_queue_length((int)old) == 0);
    if (shut)
        sock_shut_read((int)old);
    bool is_over = !if_empty || (shut && sock_queue_length((int)old) == 0);
    if (!is_over) {
        atomic_store(&listener->is_dry, false);
        put(fd, (int)old);
        listener->empty_since = 0;
        listener->closed_at = sys_now_ms();
        atomic_store(&listener->view.state, shut ? CLOSING : LISTENING);
    }
    sys1(SYS_close, old);
    return is_over;
}

static bool is_kept(const struct listener *listener, enum listeners what)
{
    return what == LISTENERS_KEEP || (what == LISTENERS_AUTO && listener->inherited);
}

_Atomic bool listener_doors;

/* Nobody new: those who are in the queue are still accepted. */
static void close_door(struct listener *listener, int fd)
{
    listener->empty_since = 0;
    listener->closed_at = sys_now_ms();
    sock_stop_deferring(fd);
    atomic_store(&listener_doors, true); /* before: an accept may return a deaf one at once */
    /* AF_UNIX: a connect is refused from now on, accept hands out the queue and then fails with
     * EINVAL (net/unix/af_unix.c, unix_stream_connect and unix_accept). */
    if (!sock_close_door(fd))
        sock_shut_read(fd);
    atomic_store(&listener->view.state, CLOSING);
    listener_list_set(listener->in_page, PAGE_CLOSING);
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
 * Whether those who were in the queue when the drain began have been accepted, in which new ones
 * may follow: it is first in, first out. Or somebody else accepts, and goes on with the rest.
 */
static bool has_been_served(struct listener *listener, int fd)
{
    struct totals totals;
    int64_t now = sys_now_ms(), queued = sock_queue_length(fd);
    table_totals(&totals);
    if (!listener->waits_since) {
        listener->waits_since = listener->stands_since = now;
        listener->queued = listener->queued_last = queued;
        listener->accepted = totals.accepted;
    }
    if (queued < listener->queued_last)
        listener->stands_since = now;
    listener->queued_last = queued;
    if (queued >= 0 ? !queued : !sock_has_waiting(fd))
        return true;
    if (queued < 0 || listener->queued < 0) /* can't be told */
        return now - listener->waits_since >= HALF_OPEN_MS;
    if (now - listener->stands_since >= HALF_OPEN_MS && !totals.in_use)
        return true; /* nobody of ours accepts (any more) */
    int64_t here = (int64_t)(totals.accepted - listener->accepted);
    return here >= listener->queued || listener->queued - queued - here > TAKEN_BY_OTHERS;
}

/* AF_UNIX: whether its queue is empty, soon enough for an end that is not seen by who polls it. */
static bool is_quiet(struct listener *listener, int fd)
{
    int64_t now = sys_now_ms();
    if (!listener->waits_since)
        listener->waits_since = now;
    return now - listener->waits_since < UNIX_QUIET_MS && sock_queue_length(fd) == 0;
}

/*
 * Whether the others of the tree may still need it to answer what they have received: a helper that
 * has made an AF_UNIX listener of its own is asked by them (Apache's mod_cgid for each CGI request,
 * an application behind an nginx of the same tree), as long as one has a connection.
 */
static bool is_needed(const struct listener *listener)
{
    return listener->view.is_unix && listener->is_own && listener->epoch == epoch_now() &&
           !coordinator_is_here() && listener_list_others_serve();
}

/*
 * Does what can be done now for the queue of a listener that nobody goes on with. Returns whether
 * it is to be swapped, and how.
 */
static bool sees_to_queue(struct listener *listener, int fd, enum then *then)
{
    if (atomic_load(&listener->view.state) == LISTENING && listener->view.is_unix) {
        if (is_quiet(listener, fd)) {
            *then = THEN_SHUT_IF_EMPTY;
            return true;
        }
        if (sys_now_ms() - listener->waits_since < UNIX_QUIET_MS)
            return false;
    }
    if (atomic_load(&listener->view.state) == LISTENING)
        close_door(listener, fd);
    return queue_is_served(listener, fd);
}

/* Whether the queue may be found to be over in the next step, or a successor is kept waiting. */
static bool may_end(const struct listener *listener)
{
    bool is_closing = atomic_load(&listener->view.state) == CLOSING;
    int64_t now = sys_now_ms();
    if (listener->view.is_unix)
        return !is_closing || atomic_load(&listener->is_dry);
    return is_closing && (now - looked_at >= LOOK_AGAIN_MS ||
                          (listener->empty_since && now - listener->empty_since >= QUEUE_EMPTY_MS));
}

/* fd turns out to be somebody's who goes on, after its door was closed. */
static void open_door(struct listener *listener, int fd)
{
    if (listener->view.is_unix)
        return; /* a shutdown can't be taken back */
    sock_open_door(fd);
    atomic_store(&listener->view.state, LISTENING);
    listener_list_set(listener->in_page, PAGE_ACCEPTING);
}

/* Goes on with stopping one. Returns whether it is stopped. */
static bool stop(struct listener *listener, int fd, enum then then, bool now, bool *wake)
{
    if (!now && then == THEN_LEAVE && !has_been_served(listener, fd))
        return false;
    if (!now && then >= THEN_CLOSE && !sees_to_queue(listener, fd, &then))
        return false;
    /* Under a claim: the number is not to be another's when the substitute comes to it. */
    if (!table_claim(fd))
        return true;
    bool is_stopped = true, stays = then < THEN_CLOSE;
    if (atomic_load(&listener->number) == fd + 1 && sock_is_listener(fd) == 1)
        is_stopped = swap(listener, fd, then);
    table_release();
    log_send_kept();
    if (is_stopped)
        listener_list_set(listener->in_page, stays ? PAGE_KEPT : PAGE_STOPPED);
    *wake = *wake || then < THEN_SHUT || !is_stopped;
    return is_stopped;
}

bool listener_stop_all(enum listeners what, bool now, bool whole_tree, bool *wake)
{
    bool all = true;
    for (uint32_t i = 0; i < atomic_load(&listeners_used); i++) {
        struct listener *listener = entry(i);
        int fd = atomic_load_explicit(&listener->number, memory_order_acquire) - 1;
        if (fd < 0 || !is_to_stop(listener))
            continue;
        if (sock_is_listener(fd) != 1) { /* closed on a path that we don't see */
            forget(listener);
            continue;
        }
        bool keep = is_kept(listener, what);
        if (!keep && whole_tree && !now && is_needed(listener)) {
            atomic_store(&listener->is_dry, false); /* an empty queue is not its last */
            all = false;
            continue;
        }
        /* Before what can't be undone: a successor may have been started since. */
        enum held held = is_held(listener, whole_tree, now || may_end(listener));
        if (held == HELD_UNKNOWN && !keep && !now) {
            all = false;
            continue;
        }
        if (held && atomic_load(&listener->view.state) == CLOSING)
            open_door(listener, fd);
        enum then then = keep ? THEN_KEEP : held ? THEN_LEAVE : is_alone ? THEN_SHUT : THEN_CLOSE;
        all = stop(listener, fd, then, now, wake) && all;
    }
    return all;
}

bool listener_ran_dry(int fd)
{
    struct listener *listener = find(fd);
    if (!listener || !listener->view.is_unix || listener->view.mode == MODE_OFF)
        return false;
    int state = atomic_load(&listener->view.state);
    if (state == LISTENING ? !coordinator_tree_drains() : state != CLOSING)
        return false; /* LISTENING: who shares it has closed the door */
    atomic_store(&listener->is_dry, true);
    return true;
}

bool listener_is_stopped(int fd)
{
    struct listener *listener = find(fd);
    return listener && atomic_load(&listener->view.state) == STOPPED;
}

bool listener_would_wait(int fd)
{
    uint32_t now = atomic_load(&swaps);
    if (LIKELY(now == swaps_seen) || !listener_is_stopped(fd))
        return false;
    swaps_seen = now;
    return epoch_thread.was_told;
}

bool listener_is_in(const fd_set *set, int count)
{
    const unsigned long *words = (const void *)set;
    const int bits = 8 * (int)sizeof *words; /* select(2): the kernel takes count, not FD_SETSIZE */
    for (uint32_t i = 0; set && i < atomic_load(&listeners_used); i++) {
        int fd = atomic_load_explicit(&entry(i)->number, memory_order_relaxed) - 1;
        if (fd >= 0 && fd < count && words[fd / bits] >> fd % bits & 1)
            return true;
    }
    return false;
}
