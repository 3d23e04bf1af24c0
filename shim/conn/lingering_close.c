/* SPDX-License-Identifier: MIT */
#include "conn/lingering_close.h"

#include "base/log.h"
#include "base/settings.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/conn_own.h"
#include "conn/fdtable.h"

#include <sys/epoll.h>

#define KEPT_MOST 4096
#define EPOLLS_MOST 4096
#define OUR_FIN 1      /* counts as a byte unsent */
#define ROUNDS_MOST 16 /* of reading from one connection, in a step */

static LATE struct kept {
    _Atomic int number;     /* descriptor + 1; 0: free; -1: being written */
    _Atomic bool had_input; /* the peer was sending: it may send more */
    _Atomic bool is_lost;   /* has been counted as a loss */
    _Atomic bool was_shut;
    _Atomic int64_t until;
} kept[KEPT_MOST];

static _Atomic uint32_t kept_count;
static _Atomic bool is_on;

void lingering_switch(bool on)
{
    atomic_store(&is_on, on);
}

/* Numbers that were an epoll once. What has become of them does not matter: EPOLL_CTL_DEL on
 * anything else fails. */
static BIG(0) _Atomic int epolls[EPOLLS_MOST];
static _Atomic uint32_t epolls_used;
static _Atomic bool is_on_many; /* there are more: a copy can't be taken out of all of them */

void lingering_remember_epoll(int epoll)
{
    uint32_t used = atomic_load_explicit(&epolls_used, memory_order_acquire);
    for (uint32_t i = 0; i < used && i < EPOLLS_MOST; i++)
        if (atomic_load_explicit(&epolls[i], memory_order_relaxed) == epoll)
            return;
    if (used >= EPOLLS_MOST)
        atomic_store(&is_on_many, true);
    else if (atomic_compare_exchange_strong(&epolls_used, &used, used + 1))
        atomic_store(&epolls[used], epoll);
}

static void leave_epolls(int fd)
{
    struct epoll_event none = {0}; /* epoll_ctl(2), "BUGS": Linux before 2.6.9 wants one */
    uint32_t used = atomic_load(&epolls_used);
    for (uint32_t i = 0; i < used && i < EPOLLS_MOST; i++)
        sys4(SYS_epoll_ctl, atomic_load(&epolls[i]), EPOLL_CTL_DEL, fd, &none);
}

static struct kept *free_place(void)
{
    for (uint32_t i = 0; i < KEPT_MOST; i++) {
        int none = 0;
        if (!atomic_load_explicit(&kept[i].number, memory_order_relaxed) &&
            atomic_compare_exchange_strong(&kept[i].number, &none, -1))
            return &kept[i];
    }
    return NULL;
}

void (*lingering_on_loss)(bool in_use, bool unread, bool unsent);

/* Names a loss in the log, and counts it. */
static void say_unsent(const char *what, int fd, const struct sock_queues *queues, const char *why)
{
    struct log_line line;
    if (lingering_on_loss)
        lingering_on_loss(false, queues->unread, queues->unsent);
    log_begin(&line, LOG_INFO);
    text_string(&line.text, what);
    sock_peer(fd, &line.text);
    text_add(&line.text, ": the program has closed it, %u bytes unsent, %u unread%s",
             queues->unsent, queues->unread, why);
    log_send(&line);
}

/* The same, of a connection that counts as forced. was_shut: its close counts as one while idle. */
static void say_lost(const char *what, int fd, const struct sock_queues *queues, bool was_shut,
                     const char *why)
{
    table_count_lost(was_shut);
    say_unsent(what, fd, queues, why);
}

/* Where there is a framing it tells of an answer that is not whole; and of a request, unless the
 * answer before it has said that no more comes. */
static bool is_owed(const struct conn *conn, uint64_t record)
{
    bool by_reply = mode_of(record) == MODE_REPLY;
    if (by_reply && (record & CONN_READ_SINCE_SHUT || !is_owed_more(conn)))
        return record & CONN_READ_SINCE_SHUT;
    return tracker_state(&conn->http) == HTTP_IN_USE &&
           (tracker_is_half_answered(&conn->http) || tracker_said_close(&conn->http) == HTTP_STAYS);
}

/*
 * A request, or a part of it, arrived on a connection that was half-closed as idle: the program has
 * read it, met the end behind it, and closes. Who has left waits for no answer.
 */
static bool is_closed_in_use(int fd, const struct conn *conn, uint64_t record)
{
    struct sock_info info;
    if ((record & (CONN_SHUT | CONN_FIN)) != CONN_SHUT || !is_owed(conn, record))
        return false;
    sock_info(fd, &info);
    return info.has && info.is_whole;
}

static void say_closed_in_use(int fd, bool is_claimed)
{
    struct log_line line;
    if (lingering_on_loss)
        lingering_on_loss(true, false, false);
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "closed ");
    sock_peer(fd, &line.text);
    text_string(&line.text, ": in use, for it was sent something as it was closed");
    if (is_claimed)
        log_keep(&line);
    else
        log_send(&line);
}

/*
 * TLS: as long may the peer's own close_notify be, which answers the program's (RFC 5246 with a
 * nonce and a tag of AES-GCM: 5 + 8 + 2 + 16; RFC 8446, 5.2, has 24).
 */
#define CLOSE_NOTIFY_MOST 31

void lingering_behind_end(int fd, struct conn *conn, bool is_claimed)
{
    uint64_t record = atomic_load(&conn->record);
    if (!atomic_load(&is_on) || record & CONN_UNIX ||
        sock_unread(fd) <= (record & CONN_FIN ? 0 : CLOSE_NOTIFY_MOST) ||
        tracker_said_close(&conn->http) != HTTP_STAYS)
        return;
    do {
        if (!record || record & (CONN_FORCED | CONN_DISOWNED))
            return;
    } while (!atomic_compare_exchange_weak(&conn->record, &record, record | CONN_FORCED));
    table_counts(conn, false);
    table_count_forced(true);
    say_closed_in_use(fd, is_claimed);
}

void lingering_before_close(int fd, const struct conn *conn, uint64_t record)
{
    struct sock_queues queues;
    bool was_shut = record & CONN_SHUT;
    int64_t linger = settings_now()->linger;
    if (!atomic_load(&is_on) || sys_is_sandboxed())
        return;
    sock_queues(fd, &queues);
    bool is_empty = !queues.unread && (queues.unsent <= (record & CONN_FIN ? OUR_FIN : 0) ||
                                       record & CONN_MET_END); /* its last word */
    bool in_use = is_closed_in_use(fd, conn, record);
    if (in_use) {
        table_count_lost(true);
        say_closed_in_use(fd, false);
    }
    bool is_told =
        record & CONN_TOLD && linger; /* what the client still says is no reason to reset */
    if (is_empty && !is_told)
        return;
    struct kept *place = linger && !atomic_load(&is_on_many) ? free_place() : NULL;
    int copy = place ? sock_guard(fd) : -1;
    if (copy < 0 || copy == fd) { /* WEIR_LINGER=0, or no number is left, or too many epolls */
        if (place)
            atomic_store(&place->number, 0);
        if (!is_empty && !in_use)
            say_lost("closed ", fd, &queues, was_shut, "");
        return;
    }
    leave_epolls(fd);
    sock_shut_write(copy);
    atomic_store(&place->had_input, queues.unread || is_told);
    atomic_store(&place->is_lost, in_use);
    atomic_store(&place->was_shut, was_shut);
    atomic_store(&place->until, sys_now_ms() + linger);
    atomic_fetch_add(&kept_count, 1);
    atomic_store(&place->number, copy + 1);
}

int lingering_next(unsigned int from)
{
    int least = -1;
    for (uint32_t i = 0; atomic_load(&kept_count) && i < KEPT_MOST; i++) {
        int fd = atomic_load(&kept[i].number) - 1;
        if (fd >= 0 && (unsigned int)fd >= from && (least < 0 || fd < least))
            least = fd;
    }
    return least;
}

/* Returns whether the connection has to be kept. */
static bool attend(struct kept *at, int fd, int64_t now)
{
    struct sock_queues queues;
    bool ended = false;
    for (int round = 0; round < ROUNDS_MOST && !ended; round++) {
        long got = sock_throw_away(fd);
        if (got > 0)
            atomic_store(&at->had_input, true);
        ended = got == 0 || got < -1;
        if (got == -1)
            break;
    }
    sock_queues(fd, &queues);
    if (!queues.unsent && (ended || !atomic_load(&at->had_input)))
        return false;
    if (now < atomic_load(&at->until))
        return true;
    if ((queues.unsent <= OUR_FIN && !queues.unread) || atomic_exchange(&at->is_lost, true))
        return false;
    /* With nothing unread the kernel goes on sending behind our close (tcp(7), tcp_orphan_retries);
     * else it resets. */
    if (queues.unread)
        say_lost("gave up on ", fd, &queues, atomic_load(&at->was_shut), " after WEIR_LINGER");
    else
        say_unsent("gave up on ", fd, &queues, " after WEIR_LINGER");
    return false;
}

void lingering_times_out(void)
{
    for (uint32_t i = 0; atomic_load(&kept_count) && i < KEPT_MOST; i++) {
        int fd = atomic_load(&kept[i].number) - 1;
        struct sock_queues queues;
        if (fd < 0)
            continue;
        sock_queues(fd, &queues);
        if (queues.unsent > OUR_FIN && !atomic_exchange(&kept[i].is_lost, true))
            say_lost("gave up on ", fd, &queues, atomic_load(&kept[i].was_shut), " at the timeout");
    }
}

bool lingering_step(int64_t now)
{
    if (!atomic_load(&kept_count))
        return false;
    for (uint32_t i = 0; i < KEPT_MOST; i++) {
        int fd = atomic_load(&kept[i].number) - 1;
        if (fd < 0 || attend(&kept[i], fd, now))
            continue;
        sys1(SYS_close, fd);
        atomic_fetch_sub(&kept_count, 1);
        atomic_store(&kept[i].number, 0);
    }
    return atomic_load(&kept_count);
}

void lingering_forked(void)
{
    lingering_switch(false);
    if (!atomic_load(&kept_count))
        return;
    for (uint32_t i = 0; i < KEPT_MOST; i++)
        atomic_store(&kept[i].number, 0); /* its descriptors are closed on exec, or with it */
    atomic_store(&kept_count, 0);
}
