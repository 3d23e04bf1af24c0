/* SPDX-License-Identifier: MIT */
/*
 * A connection is cut, and what that costs its client is found out.
 *
 * No byte of the program's goes out behind the cut, so that what is found there is final, but for
 * what a thread did right before and has yet to note: the end of an answer, or the read of a
 * request. The program may be about to close it, and has taken it out of the table: all is asked of
 * the connection, not of the descriptor, which both stay until the drainer's claim ends.
 */
#include "base/sys.h"
#include "conn/conn.h"
#include "conn/conn_own.h"

#define JUST_NOW_MS 100

/* Its queues, without our FIN, which counts as a byte until it is acknowledged. */
static void queues_of(int fd, const struct conn *conn, struct sock_queues *queues)
{
    uint64_t record = atomic_load(&conn->record);
    sock_queues(fd, queues);
    if (record & (CONN_FIN | CONN_FORCED) && !(record & CONN_UNIX) && queues->unsent)
        queues->unsent--;
}

/* Whether something was noted since conn_classify. Mode manual notes no read. */
static bool has_moved(const struct conn *conn)
{
    return mode_now(conn) != MODE_MANUAL && !(atomic_load(&conn->state) & STATE_LOOKED);
}

/* Whether a thread may have answered just now, or have read what was unread or came in just now. */
static bool is_in_doubt(int fd, const struct conn *conn, bool was_unread)
{
    struct sock_info info;
    sock_info(fd, &info);
    if (is_in_use(conn))
        return info.has_sent && info.sent_ms <= info.received_ms && info.sent_ms <= JUST_NOW_MS;
    return !has_moved(conn) &&
           (was_unread || (info.received_ms < info.sent_ms && info.received_ms <= JUST_NOW_MS));
}

/*
 * Whether by mode reply the last answer may not have been the last of it: its framing says so, or
 * it was not quiet for as long as that mode wants. (Of AF_UNIX no times are known.)
 */
static bool may_say_more(int fd, const struct conn *conn, const struct conn_limits *limits)
{
    struct sock_info info;
    if (mode_now(conn) != MODE_REPLY)
        return false;
    sock_info(fd, &info);
    int64_t quiet = info.sent_ms < info.received_ms ? info.sent_ms : info.received_ms;
    return is_owed_more(conn) || (info.has_received && quiet < quiet_needed(conn, limits, &info));
}

static bool shut_both(int fd, struct conn *conn)
{
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    int pin = record ? sock_guard(fd) : -1;
    if (pin < 0)
        return false;
    bool still = conn_is_still(pin, record);
    do {
        if (!record || record & (CONN_FORCED | CONN_DISOWNED))
            still = false;
    } while (still && !atomic_compare_exchange_weak(&conn->record, &record,
                                                    record | CONN_SHUT | CONN_FORCED));
    if (still) {
        sock_shut_both(pin);
        table_counts(conn, false);
    }
    sock_unguard(fd, pin);
    return still;
}

bool conn_force(int fd, const struct conn_limits *limits, int64_t until, struct conn_cost *cost)
{
    static const struct timespec moment = {0, 1000000};
    struct conn *conn = table_find(fd);
    struct sock_queues before = {0, 0}, *now = &cost->queues;
    struct sock_info info;
    if (conn)
        queues_of(fd, conn, &before);
    sock_info(fd, &info);
    if (!shut_both(fd, conn))
        return false;
    bool has_rested = !may_say_more(fd, conn, limits);
    queues_of(fd, conn, now);
    while (!now->unread && !now->unsent && is_in_doubt(fd, conn, before.unread) &&
           sys_now_ms() < until) {
        sys2(SYS_nanosleep, &moment, NULL);
        queues_of(fd, conn, now);
    }
    if (!now->unread && !has_moved(conn))
        now->unread = before.unread;
    if (!now->unread && sock_has_met_cut(fd, info.segments))
        now->unread = 1; /* of how many bytes nobody tells */
    bool has_queues = now->unread || now->unsent;
    if (is_in_use(conn) || !has_rested)
        cost->look = CONN_IS_IN_USE;
    else if (cost->look == CONN_IS_IN_USE && !has_queues && (has_moved(conn) || before.unsent))
        cost->look = CONN_IS_IDLE; /* it has been answered, or was in use by what was unsent */
    return true;
}
