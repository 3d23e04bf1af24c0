/* SPDX-License-Identifier: MIT */
/* The drainer's side of conn.h: is a connection idle, and what is done to one that is. */
#include "conn_own.h"

/*
 * AF_UNIX: the kernel keeps no times. The drainer notes when it saw a connection first since it
 * last changed: it has been quiet since then at the least.
 */
static int64_t seen_ms(int fd, record_t *slot, uint64_t record, const struct conn_limits *limits)
{
    if (!limits->seen_at)
        return INT64_MAX; /* who does not wait can't tell */
    if (!(record & CONN_SEEN)) {
        atomic_compare_exchange_strong(slot, &record, record | CONN_SEEN);
        limits->seen_at[fd] = limits->now;
    }
    return limits->now - limits->seen_at[fd];
}

/*
 * An answer that was written past our wrappers (by stdio, by a system call made inline): the peer's
 * last byte is older than our last, on a connection that we have never seen answered.
 */
static bool is_answered_unseen(uint64_t record, const struct sock_info *info)
{
    return !(record & (CONN_ANSWERED | CONN_CUT_SHORT)) && info->has && info->has_sent &&
           info->sent_ms <= info->received_ms;
}

static enum conn_look look_reply(int fd, record_t *slot, uint64_t record,
                                 const struct conn_limits *limits)
{
    struct sock_queues queues;
    struct sock_info info;
    sock_queues(fd, &queues);
    sock_info(fd, &info);

    if (queues.unread || queues.unsent)
        return LOOK_IN_USE;
    if (record & CONN_IN_USE && !is_answered_unseen(record, &info))
        return LOOK_IN_USE;
    if (!info.has) {
        int64_t quiet = record & CONN_SEASONED ? limits->settle : limits->first_byte;
        return seen_ms(fd, slot, record, limits) >= quiet ? LOOK_IDLE : LOOK_WAITING;
    }
    if (!info.has_received && !(record & CONN_ANSWERED)) {
        int64_t more = rhythm_sent_again_ms(table_number(slot));
        return info.received_ms >= limits->first_byte + more ? LOOK_IDLE : LOOK_WAITING;
    }
    if (info.received_ms < info.sent_ms)
        return LOOK_IN_USE; /* the peer spoke last, past our wrappers or theirs */

    int64_t quiet = record & CONN_SEASONED ? limits->settle : limits->first_byte;
    int64_t rounds = info.rtt_us * INT64_C(4) / 1000;
    if (quiet < rounds)
        quiet = rounds;
    return info.sent_ms >= quiet && info.received_ms >= quiet ? LOOK_IDLE : LOOK_WAITING;
}

/*
 * Its requests or its answers go past our wrappers. Of what has just gone by, the thread may not
 * have come to tell yet.
 */
static bool passes_unseen(const struct http *http, uint64_t record, const struct sock_info *info,
                          const struct conn_limits *limits)
{
    if (!http)
        return true;
    if (http_has_answered(http))
        return false;
    if (record & CONN_IN_USE)
        return is_answered_unseen(record, info) && info->sent_ms >= limits->first_byte;
    return info->has && info->has_received && info->received_ms >= limits->first_byte;
}

/* Idle is what owes nothing and has begun nothing; it is left open while it can still be told. */
static enum conn_look look_http(int fd, record_t *slot, uint64_t record,
                                const struct conn_limits *limits)
{
    struct sock_queues queues;
    struct sock_info info;
    sock_queues(fd, &queues);
    sock_info(fd, &info);
    if (passes_unseen(framing_of(table_number(slot)), record, &info, limits)) {
        conn_becomes_reply(slot);
        return look_reply(fd, slot, record, limits);
    }
    if (record & CONN_IN_USE || queues.unread || queues.unsent)
        return LOOK_IN_USE;
    if (info.has && !info.has_received) {
        int64_t more = rhythm_sent_again_ms(table_number(slot));
        return info.received_ms >= limits->first_byte + more ? LOOK_IDLE : LOOK_WAITING;
    }
    return limits->now >= limits->notice_until ? LOOK_IDLE : LOOK_WAITING;
}

/* What conn_look has decided on last: conn_shut acts on nothing else. There is one drainer. */
static uint64_t looked_at;

enum conn_look conn_look(int fd, const struct conn_limits *limits, bool verify)
{
    record_t *slot = table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    looked_at = record;
    if (!record || record & CONN_DISOWNED || (record & CONN_EPOCH) != epoch_now())
        return LOOK_GONE;
    bool in_use = record & (CONN_IN_USE | CONN_OWED);
    if ((verify || !(in_use || record & CONN_SHUT)) && !conn_is_still(fd, record))
        return LOOK_GONE;
    if (record & CONN_FORCED)
        return LOOK_FORCED;
    /* In reply mode one that never had an answer that we saw is in use only if the kernel agrees.
     */
    enum mode mode = mode_of(record);
    if (in_use && ((mode != MODE_REPLY && mode != MODE_HTTP) ||
                   record & (CONN_SHUT | CONN_ANSWERED | CONN_CUT_SHORT)))
        return LOOK_IN_USE;
    if (record & CONN_SHUT)
        return LOOK_SHUT;
    if (mode == MODE_REPLY)
        return look_reply(fd, slot, record, limits);
    if (mode == MODE_HTTP)
        return look_http(fd, slot, record, limits);
    if (mode_of(record) != MODE_MANUAL) {
        /* A request that has arrived is about to be read, and is in use from then on. */
        struct sock_queues queues;
        sock_queues(fd, &queues);
        if (queues.unread)
            return LOOK_WAITING;
    }
    return LOOK_IDLE;
}

int64_t conn_quiet_ms(int fd)
{
    struct sock_info info;
    sock_info(fd, &info);
    return info.sent_ms < info.received_ms ? info.sent_ms : info.received_ms;
}

bool conn_shut(int fd)
{
    record_t *slot = table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    /* One that is in use here was answered unseen (look_reply). */
    if (!record || (record ^ looked_at) & ~CONN_SEEN || record & CONN_DISOWNED)
        return false;
    uint64_t shut = (record & ~CONN_IN_USE) | CONN_SHUT;
    if (!conn_change(slot, &record, shut))
        return false;
    if (sock_shut_read_of(fd, identity_of(record), identity_kind_of(record)))
        return true;
    /* The number is somebody else's by now. */
    if (!conn_change(slot, &shut, record))
        atomic_fetch_and(slot, ~CONN_SHUT);
    return false;
}

void conn_finish(int fd, bool late)
{
    record_t *slot = table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    bool may_answer = mode_of(record) == MODE_REPLY || mode_of(record) == MODE_HTTP;
    if (!(record & CONN_SHUT) || (may_answer && !late) ||
        record & (CONN_IN_USE | CONN_OWED | CONN_FIN))
        return;
    int pin = sock_pin(fd);
    if (pin < 0)
        return;
    struct sock_queues queues = {1, 0};
    if (conn_is_still(pin, record))
        sock_queues(pin, &queues);
    if (!queues.unread && !queues.unsent &&
        atomic_compare_exchange_strong(slot, &record, record | CONN_FIN))
        sock_shut_write(pin);
    sock_unpin(fd, pin);
}

void conn_force(int fd)
{
    record_t *slot = table_record(fd);
    uint64_t record = slot ? atomic_load(slot) : 0;
    int pin = record ? sock_pin(fd) : -1;
    if (pin < 0)
        return;
    bool still = conn_is_still(pin, record);
    do {
        if (!record || record & (CONN_FORCED | CONN_DISOWNED))
            still = false;
    } while (still &&
             !atomic_compare_exchange_weak(slot, &record, record | CONN_SHUT | CONN_FORCED));
    if (still)
        sock_shut_both(pin);
    sock_unpin(fd, pin);
}
