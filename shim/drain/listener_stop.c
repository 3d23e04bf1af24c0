/* SPDX-License-Identifier: MIT */
#include "drain/listener_stop.h"

#include "base/log.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "conn/fdtable.h"
#include "drain/listener.h"
#include "drain/listener_epolls.h"
#include "drain/listener_holders.h"
#include "drain/listener_kept.h"
#include "tree/listener_list.h"
#include "tree/membership.h"
#include "tree/process_slot.h"


/* How long the queue must have been empty once SYNs are dropped; the same where nothing tells of
 * handshakes that are half done; and how long those are waited for. A SYN-ACK whose answer was lost
 * (or deferred) is sent again after 1 s. */
#define QUEUE_EMPTY_MS 50
#define QUEUE_EMPTY_BLIND_MS 200
#define HALF_OPEN_MS 2500

/* How long an AF_UNIX listener is left open for its queue to become empty. It can only be stopped
 * by a shutdown, which a poll would tell of. */
#define UNIX_QUIET_MS 250

/* How often it is looked up who else holds a listener while new clients are kept away from it. */
#define LOOK_AGAIN_MS 500

/* So many clients may have left a queue without being counted here: threads of this process have
 * accepted them just now. More have been accepted by other processes. */
#define TAKEN_BY_OTHERS 64

static void log_no_substitute(int fd, int error)
{
    struct log_line line;
    log_begin(&line, LOG_ERROR);
    text_string(&line.text, "can't stop accepting on ");
    struct sockaddr_storage addr;
    socklen_t len = sock_own_address(fd, &addr);
    int family = sock_family(fd);
    if (family == AF_INET || family == AF_INET6 || family == AF_UNIX)
        text_address(&line.text, (struct sockaddr *)&addr, len);
    else /* AF_VSOCK, SCTP */
        text_add(&line.text, "descriptor %d, of address family %d", fd, family);
    process_slot_set_flag(SLOT_UNCOVERED, true);
    text_add(&line.text,
             ": no socket to put in its place (error %d); new connections are still served",
             -error);
    log_keep(&line); /* fd is claimed */
}

/* ---- who still waits in a queue when nobody will accept any more ---- */

#define TURNED_AWAY_MOST 65536 /* the most that a backlog is set to, as a rule */

static void say_lost(int fd, uint32_t unread)
{
    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "forced ");
    sock_peer(fd, &line.text);
    if (unread)
        text_add(&line.text, ": in the accept queue, %u unread", unread);
    else /* it inherited MINTTL */
        text_string(&line.text, ": in the accept queue, and what it may have sent was dropped");
    log_keep(&line);
}

/*
 * Closes the connections in the queue of fd, which is the worker's own and out of the program's
 * reach. A client that has sent has lost that: it is counted as forced, and named in the log.
 */
static void turn_away(int fd)
{
    int got;
    sock_never_block(fd); /* another process may accept in between: those that share it drain too */
    for (int n = 0; n < TURNED_AWAY_MOST && (got = sock_accept(fd)) >= 0; n++) {
        /* What a connection that inherited MINTTL was sent has been dropped. */
        sock_clear_minttl(got);
        uint32_t unread = sock_unread(got);
        if (unread || sock_had_minttl(got)) {
            table_count_turned_away();
            process_slot_count_loss(false, true, false);
            say_lost(got, unread);
        }
        sys1(SYS_close, got);
    }
}

/* ---- swapped ---- */

/* What a swap has in hand: the substitute, the old one. A child that is forked in the middle of it
 * has both as well, and closes them when it drains: else it would keep the old one open. */
enum { SUBSTITUTE, OLD, IN_HAND };

static struct {
    _Atomic int number; /* the descriptor and one more; 0: none */
    uint64_t inode;
    uint64_t generation; /* of the process that has made it */
} in_hand[IN_HAND];

static void take_in_hand(int which, int fd)
{
    in_hand[which].inode = sock_inode(fd);
    in_hand[which].generation = generation_now();
    atomic_store(&in_hand[which].number, fd + 1);
}

/* Forgotten first: the number may be another's as soon as it is closed. */
static void let_go(int which)
{
    int fd = atomic_exchange(&in_hand[which].number, 0) - 1;
    if (fd >= 0)
        sys1(SYS_close, fd);
}

static void let_go_of_parents(void)
{
    for (int which = 0; which < IN_HAND; which++) {
        int fd = atomic_load(&in_hand[which].number) - 1;
        if (fd < 0 || in_hand[which].generation == generation_now())
            continue;
        if (sock_inode(fd) == in_hand[which].inode)
            let_go(which);
        atomic_store(&in_hand[which].number, 0);
    }
}

enum then {
    THEN_KEEP,          /* the old one stays open, for a successor */
    THEN_LEAVE,         /* it is closed here, and others go on with it */
    THEN_CLOSE,         /* the same, and others of the tree may close it as well */
    THEN_SHUT,          /* it is shut down: no other process has it */
    THEN_SHUT_IF_EMPTY, /* the same, if its queue is empty then */
};

/* Nobody is in its queue, or on the way to it. */
static bool is_deserted(int fd)
{
    return sock_half_open(fd) == 0 && sock_queue_length(fd) == 0;
}

/* Shuts the old one if nobody is on the way to it: SYNs are dropped for no longer than that takes.
 */
static bool shut_if_empty(const struct listener *listener, int old)
{
    bool is_unix = listener->view.is_unix;
    if (!is_unix) /* whose handshake ends in between may have inherited MINTTL (drop_syns) */
        atomic_store(&listener_dropped_syns, true);
    if (is_unix ? sock_queue_length(old) != 0 : !is_deserted(old) || !sock_drop_syns(old))
        return false;
    if (!is_unix && !is_deserted(old)) {
        sock_admit_syns(old);
        return false;
    }
    sock_shut_read(old);
    return true;
}

/*
 * Tells whether to shut the old one, which others of the tree close as well: it was bound before
 * this process, perhaps by one that has never listened, and whose copy nobody takes away (a master
 * whose workers call listen: Hypercorn). The last who listens on it does, for the accept
 * of another would fail.
 */
static bool is_last_of_bound(const struct listener *listener)
{
    const struct listener_origin *origin = &listener->origin;
    if (!origin->is_own || origin->is_bound_here || origin->generation != generation_now() ||
        membership_has_forked()) /* its children accept from it, and are no line in the page */
        return false;
    listener_list_set(listener->in_page, PAGE_STOPPED);
    return listener_list_is_last(listener->in_page);
}

/*
 * Puts a socket that nobody can reach in the listener's place. Returns false if a client has come
 * into the queue that was to be empty: the listener is back in its place, and a thread that has
 * begun to wait on the other one meanwhile is to be woken. now: whoever is in the queue is turned
 * away.
 */
static bool swap(struct listener *listener, int fd, enum then then, bool now)
{
    int substitute = sock_unreachable_listener(fd);
    if (substitute < 0) {
        log_no_substitute(fd, substitute);
        atomic_store(&listener->view.state, STOPPED); /* as far as it can be */
        return true;
    }
    take_in_hand(SUBSTITUTE, substitute);
    if (listener_epolls_is_shared(fd)) /* which goes on telling of clients, who are the others' */
        sock_never_block(substitute);
    long old = then == THEN_KEEP ? listener_keep(fd) : sys_duplicate(fd);
    if (old >= 0 && then != THEN_KEEP)
        take_in_hand(OLD, (int)old);

    if (listener_epolls_missed())
        log_say(LOG_ERROR,
                "listeners are in more epolls than there was room to remember: the event "
                "loop of another may spin");

    /* First quiet, then dead: an epoll that saw the old one shut would spin. */
    listener_epolls_put(fd, substitute);
    let_go(SUBSTITUTE);
    atomic_store(&listener->view.state, STOPPED);
    atomic_fetch_add(&listener_swaps, 1);
    if (old < 0 || then == THEN_KEEP)
        return true;
    if (now && then >= THEN_CLOSE)
        turn_away((int)old);
    /* Wakes who is blocked in accept, with EINVAL: the wrapper accepts again, on the new one. */
    bool if_empty = then == THEN_SHUT_IF_EMPTY;
    bool shut = if_empty && shut_if_empty(listener, (int)old);
    if (then == THEN_SHUT || (then == THEN_CLOSE && is_last_of_bound(listener)))
        sock_shut_read((int)old);
    bool is_over = !if_empty || (shut && sock_queue_length((int)old) == 0);
    if (!is_over) {
        atomic_store(&listener->is_dry, false);
        listener_epolls_put(fd, (int)old);
        listener->empty_since = 0;
        listener->closed_at = sys_now_ms();
        atomic_store(&listener->view.state, shut ? CLOSING : LISTENING);
    }
    let_go(OLD);
    return is_over;
}

static bool is_kept(const struct listener *listener, enum listeners what)
{
    /* For the next start, which will not ask for it: its clients have to look it up anew. */
    if (listener->origin.is_picked && atomic_load(&tree_page->keeps_listeners) == KEEPS_ALL)
        return false;
    return what == LISTENERS_KEEP || (what == LISTENERS_AUTO && listener->origin.is_inherited);
}

/* Keeps new clients out. Those who are in the queue are still accepted. */
static void drop_syns(struct listener *listener, int fd)
{
    listener->empty_since = 0;
    listener->closed_at = sys_now_ms();
    listener->may_have_cookies = proc_knows_syn_cookies();
    sock_stop_deferring(fd);
    atomic_store(&listener_dropped_syns,
                 true); /* before: an accept may return one with MINTTL at once */
    /* AF_UNIX: a connect is refused from now on, accept hands out the queue and then fails with
     * EINVAL (net/unix/af_unix.c, unix_stream_connect and unix_accept). */
    if (!sock_drop_syns(fd))
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
    return (half_open == 0 && !listener->may_have_cookies) ||
           now - listener->empty_since >= QUEUE_EMPTY_BLIND_MS;
}

/*
 * Tells whether the clients who were in the queue when the drain began have been accepted. New ones
 * may follow them: a queue is first in, first out. Or another process accepts, and goes on with the
 * rest.
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

/* AF_UNIX: tells whether its queue is empty within UNIX_QUIET_MS. */
static bool is_quiet(struct listener *listener, int fd)
{
    int64_t now = sys_now_ms();
    if (!listener->waits_since)
        listener->waits_since = now;
    return now - listener->waits_since < UNIX_QUIET_MS && sock_queue_length(fd) == 0;
}

/*
 * Tells whether other processes of the tree may still need it to answer what they have received, as
 * long as one has a connection, or may accept one: a helper's, by which they ask (Apache's mod_cgid
 * for each CGI request; Postfix' cleanup, which its master starts for the first mail). Nobody from
 * outside has connected to such a listener.
 */
static bool is_needed(struct listener *listener)
{
    if (!listener->view.is_unix || listener_list_may_serve_outside(listener->in_page))
        return false;
    int64_t now = sys_now_ms();
    if (listener_list_tree_serves(fork_pid()))
        listener->needed_at = now;
    /* A connection may be between two processes, which both don't count it. */
    return listener->needed_at && now - listener->needed_at < UNIX_QUIET_MS;
}

/*
 * Tells whether others listen on the same port: a SYN that is dropped here would have been served
 * there, so that the listener is to end in a moment in which nobody is on the way to it.
 */
static bool has_siblings(struct listener *listener, int fd)
{
    int64_t now = sys_now_ms();
    if (!listener->moment_since)
        listener->moment_since = now;
    return !listener->view.is_unix && now - listener->moment_since < HALF_OPEN_MS &&
           sock_has_sibling(fd) && !proc_knows_syn_cookies();
}

/*
 * Serves the queue of a listener that no other process goes on with, as far as it can now. Returns
 * whether it is to be swapped, and how.
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
    if (*then == THEN_SHUT && atomic_load(&listener->view.state) == LISTENING &&
        has_siblings(listener, fd)) {
        *then = THEN_SHUT_IF_EMPTY;
        return is_deserted(fd);
    }
    if (atomic_load(&listener->view.state) == LISTENING)
        drop_syns(listener, fd);
    return queue_is_served(listener, fd);
}

/* Tells whether the queue may end in the next step, or a successor is kept waiting. */
static bool may_end(const struct listener *listener)
{
    bool is_closing = atomic_load(&listener->view.state) == CLOSING;
    int64_t now = sys_now_ms();
    if (listener->view.is_unix)
        return !is_closing || atomic_load(&listener->is_dry);
    return is_closing && (listener_held_age() >= LOOK_AGAIN_MS ||
                          (listener->empty_since && now - listener->empty_since >= QUEUE_EMPTY_MS));
}

/* Admits new clients again: fd is also held by a process that goes on. */
static void admit_syns(struct listener *listener, int fd)
{
    if (listener->view.is_unix)
        return; /* a shutdown can't be taken back */
    sock_admit_syns(fd);
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
    /* Under a claim: the number must not be another socket's when the substitute takes it. */
    if (!table_claim(fd))
        return true;
    bool is_stopped = true, stays = then < THEN_CLOSE;
    if (atomic_load(&listener->number) == fd + 1 && sock_is_listener(fd) == 1)
        is_stopped = swap(listener, fd, then, now);
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
    let_go_of_parents();
    listener_epolls_find();
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++) {
        struct listener *listener = listener_entry(i);
        int fd = atomic_load_explicit(&listener->number, memory_order_acquire) - 1;
        if (fd < 0 || !listener_is_to_stop(listener))
            continue;
        if (sock_is_listener(fd) != 1) { /* closed on a path that we don't see */
            listener_forget(listener);
            continue;
        }
        listener_ask_kernel(fd, listener);
        bool keep = is_kept(listener, what);
        if (!keep && whole_tree && !now && is_needed(listener)) {
            atomic_store(&listener->is_dry, false); /* an empty queue is not its last */
            all = false;
            continue;
        }
        /* Before what can't be undone: a successor may have been started since. */
        enum held held = listener_is_held(listener, whole_tree, now || may_end(listener));
        if (held == HELD_UNKNOWN && !keep && !now) {
            all = false;
            continue;
        }
        if (held && atomic_load(&listener->view.state) == CLOSING)
            admit_syns(listener, fd);
        bool alone = listener_is_alone();
        enum then then = keep ? THEN_KEEP : held ? THEN_LEAVE : alone ? THEN_SHUT : THEN_CLOSE;
        all = stop(listener, fd, then, now, wake) && all;
    }
    return all;
}
