/* SPDX-License-Identifier: MIT */
/* The drainer's side of conn.h: is a connection idle, and what is done to one that is. */
#include "conn/conn_own.h"

/*
 * How long ago the drainer first saw the connection since it last changed: it has been quiet for as
 * long at the least. The kernel has no times of AF_UNIX, and none of an accept.
 */
static int64_t seen_ms(record_t *slot, uint64_t record, const struct conn_limits *limits)
{
    uint32_t number = table_number(slot); /* the same for all its descriptors, as CONN_SEEN is */
    if (!limits->seen_at || number >= limits->seen_count)
        return INT64_MAX; /* who does not wait can't tell */
    if (!(record & CONN_SEEN)) {
        atomic_compare_exchange_strong(slot, &record, record | CONN_SEEN);
        limits->seen_at[number] = limits->now;
    }
    return limits->now - limits->seen_at[number];
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

/* Reply, AF_UNIX: no figures but the queues. */
static __attribute__((noinline)) enum conn_look judge_unix(record_t *slot, uint64_t record,
                                                           const struct conn_limits *limits)
{
    int64_t quiet = record & CONN_SEASONED ? limits->settle : limits->first_byte;
    return seen_ms(slot, record, limits) >= quiet ? LOOK_IDLE : LOOK_WAITING;
}

/*
 * A first request that was lost comes again after 1 s, and once more after 2 (RFC 6298, 2.1
 * and 5.7); each time after twice as long as before (5.5), so that one which has been tried for a
 * while comes after as long again, and a first time, at the latest.
 */
#define SENT_AGAIN_MS 3500

/*
 * The peer's first byte has not come in. If the connection was deaf, a first request may have been
 * dropped. The peer had tried it for `tried` ms when the drainer first saw the connection, which is
 * right after its accept.
 */
static __attribute__((noinline)) enum conn_look judge_silent(int fd, record_t *slot,
                                                             uint64_t record,
                                                             const struct conn_limits *limits,
                                                             const struct sock_info *info)
{
    int64_t silent = info->received_ms, seen = seen_ms(slot, record, limits);
    if (silent < limits->first_byte)
        return LOOK_WAITING;
    if (!sock_was_deaf(fd))
        return LOOK_IDLE;
    if (seen == INT64_MAX) /* no room for notes: the timeout is its limit */
        return LOOK_WAITING;
    int64_t tried = silent > seen ? silent - seen : 0;
    return silent >= limits->first_byte + SENT_AGAIN_MS + 2 * tried ? LOOK_IDLE : LOOK_WAITING;
}

static inline enum conn_look judge_reply(int fd, record_t *slot, uint64_t record,
                                         const struct conn_limits *limits,
                                         const struct sock_figures *figures)
{
    const struct sock_info *info = &figures->info;
    if (figures->queues.unread || figures->queues.unsent)
        return LOOK_IN_USE;
    if (record & CONN_IN_USE && !is_answered_unseen(record, info))
        return LOOK_IN_USE;
    if (UNLIKELY(!info->has_received)) {
        if (!info->has)
            return judge_unix(slot, record, limits);
        if (!(record & CONN_ANSWERED))
            return judge_silent(fd, slot, record, limits, info);
    }
    /* The peer spoke last, past our wrappers or theirs. (tcp_info's last_data_sent of who never has
     * counts from the handshake, so that who speaks at once seems to have been answered.) */
    if (info->received_ms < info->sent_ms || (info->has && !info->has_sent))
        return LOOK_IN_USE;

    int64_t quiet = record & CONN_SEASONED ? limits->settle : limits->first_byte;
    uint32_t four_rounds = info->rtt_us / (1000 / 4);
    return LIKELY(info->sent_ms >= quiet) && LIKELY(info->sent_ms >= four_rounds) ? LOOK_IDLE
                                                                                  : LOOK_WAITING;
}

static enum conn_look look_reply(int fd, record_t *slot, uint64_t record,
                                 const struct conn_limits *limits)
{
    struct sock_figures figures;
    sock_queues(fd, &figures.queues);
    sock_info(fd, &figures.info);
    return judge_reply(fd, slot, record, limits, &figures);
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
    if (info.has && !info.has_received)
        return judge_silent(fd, slot, record, limits, &info);
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

/* ---- a few at a time, by stores to the byte that is the drainer's (table.h) ---- */

/* Changes these bits of the byte, all of which `record` says as they are. */
static inline void flip_drainers(record_t *slot, uint64_t record, uint64_t bits)
{
    const int at = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 1 : 6;
    uint8_t *byte = (uint8_t *)slot + at;
#ifdef __x86_64__
    (void)record;
    __asm__ volatile("xorb %1, %0" : "+m"(*byte) : "qi"((uint8_t)(bits >> 8)) : "cc", "memory");
#else
    __atomic_store_n(byte, (uint8_t)((record ^ bits) >> 8), __ATOMIC_RELEASE);
#endif
}

/*
 * Where a plain record differs in nothing from one of this process's that has one descriptor and is
 * idle. (Of one that has more, the last can be closed under a claim on another.)
 */
#define PLAIN                                                                      \
    (CONN_EPOCH | CONN_REFS | CONN_IN_USE | CONN_OWED | CONN_FIN | CONN_DISOWNED | \
     CONN_CUT_SHORT | CONN_FORCED | CONN_POISED | CONN_SHUT)

/* Added to a mode, it leaves the mode's bits and sets the next where that is http, the last. */
#define PAST_HTTP ((uint64_t)(8 - MODE_HTTP) << CONN_MODE_SHIFT)
_Static_assert(MODE_HTTP == MODES - 1 && CONN_MODE >> CONN_MODE_SHIFT == 7 &&
                   CONN_FORCED == CONN_MODE + (UINT64_C(1) << CONN_MODE_SHIFT),
               "http is the last mode, and what is behind the mode a plain record does not have");

static inline bool is_plain(uint64_t record, uint64_t plain)
{
    return !(((record ^ plain) + PAST_HTTP) & PLAIN);
}

/* Whether nothing has happened to a poised one since it was seen first: then it is SHUT now. */
static inline bool settles(record_t *slot, uint64_t record)
{
    uint64_t poised = atomic_load(slot);
    if (UNLIKELY((poised ^ record) & ~(CONN_SEEN | CONN_POISED)))
        return false;
    flip_drainers(slot, poised, CONN_POISED | CONN_SHUT);
    return true;
}

static inline bool shuts(int fd, record_t *slot, uint64_t record, const struct conn_limits *limits)
{
    struct sock_figures figures;
    uint32_t identity = identity_of(record);
    enum identity kind = identity_kind_of(record);
    bool shuts;
    int pin;
    if (mode_of(record) == MODE_REPLY) {
        pin = sock_pin_asked(fd, identity, kind, SOCK_ALL, &figures);
        shuts =
            pin >= 0 && judge_reply(fd, slot, record & ~CONN_IN_USE, limits, &figures) == LOOK_IDLE;
    } else {
        pin = sock_pin_asked(fd, identity, kind, SOCK_UNREAD, &figures);
        shuts = pin >= 0 && (LIKELY(!figures.queues.unread) || mode_of(record) == MODE_MANUAL);
    }
    if (LIKELY(shuts) && settles(slot, record)) {
        sock_shut_pinned(fd, pin);
        return true;
    }
    if (pin >= 0)
        sock_unpin(fd, pin);
    return false;
}

/* The slots of numbers that follow each other, within a block of the table. */
_Static_assert(TABLE_BLOCK % CONN_FEW == 0, "a few numbers lie within a block");
struct slots {
    char *block;
    uint32_t at;
};

INLINE record_t *next_slot(struct slots *slots)
{
    record_t *slot = (record_t *)(void *)(slots->block + slots->at);
    slots->at = (slots->at + 9 * sizeof *slot) & (TABLE_BLOCK * sizeof *slot - 1);
    return slot;
}

uint32_t conn_shut_few(uint32_t first, const struct conn_limits *limits)
{
    uint64_t records[CONN_FEW]; /* as they were before, where they are poised */
    const _Atomic uint8_t *kinds = &table.kind[first];
    uint64_t plain = epoch_now() | CONN_REF;
    uint32_t place = table_place(first);
    struct slots all = {(char *)&table.record[place & ~(TABLE_BLOCK - 1)],
                        (place & (TABLE_BLOCK - 1)) * sizeof(record_t)};
    uint32_t left = 0;
    if (rhythm_is_noting()) /* then the program's threads half-close as well */
        return UINT32_MAX >> (32 - CONN_FEW);
    struct slots slots = all;
    for (uint32_t n = 0; n < CONN_FEW; n++) {
        enum kind kind = atomic_load_explicit(&kinds[n], memory_order_acquire);
        record_t *slot = next_slot(&slots);
        records[n] = atomic_load_explicit(slot, memory_order_relaxed);
        if (LIKELY(kind == KIND_CONN) && LIKELY(is_plain(records[n], plain))) {
            flip_drainers(slot, records[n], CONN_POISED);
            continue;
        }
        records[n] = 0;
        left |= (uint32_t)(kind != KIND_NONE) << n;
    }
    atomic_thread_fence(memory_order_seq_cst);
    slots = all;
    for (uint32_t n = 0; n < CONN_FEW; n++) {
        record_t *slot = next_slot(&slots);
        if (LIKELY(records[n]) && UNLIKELY(!shuts((int)(first + n), slot, records[n], limits)))
            atomic_fetch_and(slot, ~(CONN_POISED | CONN_OWED));
    }
    return left;
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
        atomic_compare_exchange_strong(slot, &record, record | CONN_FIN)) {
        if (!sock_unread_now(pin))
            sock_shut_write(pin);
        else
            atomic_fetch_and(slot, ~CONN_FIN);
    }
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
