/* SPDX-License-Identifier: MIT */
#include "conn/fdtable.h"

#include "conn/fork_detect.h"
#include "base/sys.h"

#include <time.h>

static struct shard own[SHARDS]; /* where there is no page */

_Alignas(CACHE_LINE) struct table table = {.shards = own, .shard_mask = SHARDS - 1};

static _Atomic uint64_t published; /* table_publish_in_use, last */

/* In a connection's shared, no generation: it was sent to another process. */
#define SHARED_SENT UINT32_MAX

static inline void raise_to(_Atomic uint32_t *most, uint32_t to)
{
    uint32_t now = atomic_load_explicit(most, memory_order_relaxed);
    while (UNLIKELY(now < to) && !atomic_compare_exchange_weak(most, &now, to))
        ;
}

void table_misses(int fd)
{
    raise_to(&table.missed_before, ~(uint32_t)fd);
    raise_to(&table.missed_to, (uint32_t)fd + 1);
}

void table_count_in(struct shard *shards, uint32_t count)
{
    static const struct shard nothing;
    if (!shards) {
        for (uint32_t i = 0; i < SHARDS; i++)
            own[i] = nothing;
        shards = own;
        count = SHARDS;
    }
    table.shards = shards;
    table.shard_mask = count - 1;
    atomic_store(&published, 0);
}

__thread uint32_t table_thread;

uint32_t table_take_thread(void)
{
    static _Atomic uint64_t threads;
    uint64_t nth = atomic_fetch_add(&threads, 1) + 1;
    table_thread =
        nth <= SHARDS_OWNED ? (uint32_t)nth : SHARDS / 2 + (uint32_t)(nth % (SHARDS / 2));
    return table_thread;
}

/* Whether a record counts in this process's figures. */
static bool counts_here(uint64_t record)
{
    return (record & CONN_GENERATION) == generation_now() && !(record & CONN_DISOWNED);
}

/* Whether a descriptor of this connection is left: for what CONN_REFS can't count. */
static bool has_descriptor(uint32_t number)
{
    uint32_t high = atomic_load(&table.high);
    for (uint32_t fd = 0; fd < high; fd++) {
        enum kind kind = table_kind((int)fd);
        if ((kind == KIND_CONN || kind == KIND_ALIAS) && table_number_of((int)fd, kind) == number)
            return true;
    }
    return false;
}

bool table_has_counted(void)
{
    uint32_t high = atomic_load(&table.high);
    for (uint32_t number = 0; number < high; number++) {
        uint64_t record = atomic_load(&table_conn(number)->record);
        if (record && counts_here(record) && !(record & CONN_FORCED) &&
            table_kind((int)number) != KIND_CONN && !has_descriptor(number))
            return false;
    }
    return true;
}

static bool is_in_use_here(struct conn *conn)
{
    uint64_t record = atomic_load_explicit(&conn->record, memory_order_relaxed);
    bool works = atomic_load_explicit(&conn->state, memory_order_relaxed) & STATE_IN_USE;
    return (works || record & CONN_READ_SINCE_SHUT) && record && counts_here(record) &&
           !(record & CONN_FORCED);
}

uint64_t table_in_use(void)
{
    uint64_t in_use = 0;
    uint32_t high = atomic_load(&table.high);
    for (uint32_t number = 0; number < high; number++)
        in_use += is_in_use_here(table_conn(number));
    return in_use;
}

static void publish(uint64_t now)
{
    atomic_fetch_add(&table.shards->in_use, now - atomic_exchange(&published, now));
}

void table_publish_in_use(void)
{
    if (!gate_drains())
        publish(table_in_use());
}

void table_counts(struct conn *conn, bool in_use)
{
    if (atomic_load(&conn->counts) != in_use && atomic_exchange(&conn->counts, in_use) != in_use)
        atomic_fetch_add(&table.shards->in_use, in_use ? 1 : UINT64_MAX);
}

/* Until what was counted is what is: another thread may turn it meanwhile, or end it. */
void table_counts_as_it_is(struct conn *conn)
{
    bool in_use;
    do {
        in_use = is_in_use_here(conn);
        table_counts(conn, in_use);
        atomic_thread_fence(memory_order_seq_cst);
    } while (is_in_use_here(conn) != in_use);
}

void table_begins_to_count(void)
{
    uint32_t high = atomic_load(&table.high);
    for (uint32_t number = 0; number < high; number++)
        if (is_in_use_here(table_conn(number)))
            table_counts_as_it_is(table_conn(number));
    publish(0);
}

void table_totals(struct totals *totals)
{
    *totals = (struct totals){0};
    page_add(totals, table.shards, table.shard_mask + 1);
    totals->in_use = table_in_use();
    page_settle(totals);
}

/*
 * What the worker has claimed: its process's generation, how many numbers, and from which
 * on. One that a child finds was its parent's and is void. A number's end takes it out of the table
 * first and looks here then, as a claim stands here before the table is looked at: one of the two
 * sees the other.
 */
static _Atomic uint64_t claim;

#define CLAIM_MOST 0xffff

bool table_is_claimed(int fd)
{
    uint64_t seen = atomic_load(&claim);
    return (seen & CONN_GENERATION) == generation_now() &&
           (uint32_t)fd - (uint32_t)(seen >> CONN_FINGERPRINT_SHIFT) < (seen & CLAIM_MOST);
}

void table_await_claim(int fd)
{
    /* It lasts for a few system calls that don't block. A yield would not do: it lets nobody of a
     * lower priority run (sched_yield(2), SCHED_FIFO), such as who has claimed may be. */
    static const struct timespec moment = {0, 50000};
    for (int spins = 0; UNLIKELY(table_is_claimed(fd)); spins++) {
        if (spins < 200 || sys_is_sandboxed())
            spin_pause();
        else
            sys2(SYS_nanosleep, &moment, NULL);
    }
}

/* What lies under the number of anything but a connection is not for the fast path. */
static void set_kind(int fd, enum kind kind)
{
    if (UNLIKELY(kind > KIND_CONN))
        atomic_fetch_or(&table_conn((uint32_t)fd)->state, STATE_SLOW);
    atomic_store_explicit(&table.kind[fd], (uint8_t)kind, memory_order_release);
}

/* Replaces fd's kind, once no claim stands on it: there is none while the gate is open. Returns the
 * old one. */
static enum kind swap_kind(int fd, enum kind kind)
{
    enum kind old = table_kind(fd);
    if (UNLIKELY(!gate_is_open())) {
        old = atomic_exchange(&table.kind[fd], KIND_NONE);
        table_await_claim(fd);
    }
    set_kind(fd, kind);
    return old;
}

/*
 * Whether a connection that this process has closed may be served by another one: it was sent to
 * it, or was there when it was forked; but not if it was served, or half-closed, here.
 */
static bool is_handed_on(const struct conn *conn, uint64_t record)
{
    uint32_t since = atomic_load_explicit(&conn->shared, memory_order_relaxed);
    uint8_t state = atomic_load_explicit(&conn->state, memory_order_relaxed);
    bool served = record & CONN_SHUT || (state & (STATE_ANSWERED | STATE_IN_USE)) == STATE_ANSWERED;
    return since == SHARED_SENT || (since != atomic_load(&table.fork_counter) && !served);
}

static void count(_Atomic uint64_t *at, uint64_t n)
{
    atomic_fetch_add_explicit(at, n, memory_order_relaxed);
}

/* A connection of this record is closed, which its counter says before the record is free
 * (table_has_counted). n is -1 where it has not come to that. */
static void count_closed(uint64_t record, uint64_t n)
{
    struct shard *shard = table_shard();
    count(record & CONN_SHUT ? &shard->closed_idle : &shard->closed_by_program, n);
}

void table_end(struct conn *conn, uint64_t record)
{
    uint64_t expected = record;
    atomic_store(&conn->state, STATE_SLOW); /* before the number can be another connection's */
    table_counts(conn, false);
    count_closed(record, 1);
    if (!atomic_compare_exchange_strong(&conn->record, &expected, 0))
        count_closed(record, (uint64_t)-1);
}

void table_count_forced(bool is_lost)
{
    struct shard *shard = table_shard();
    count(is_lost ? &shard->forced : &shard->closed_idle, 1);
}

void table_count_turned_away(void)
{
    count(&table_shard()->accepted, 1);
    table_count_forced(true);
}

void table_count_lost(bool was_shut)
{
    struct shard *shard = table_shard();
    count(was_shut ? &shard->closed_idle : &shard->closed_by_program, (uint64_t)-1);
    count(&shard->forced, 1);
}

/* fd's connection has one descriptor less. Frees its record with the last. */
static void unref(int fd, uint32_t number)
{
    struct conn *conn = table_conn(number);
    uint64_t record = atomic_load_explicit(&conn->record, memory_order_relaxed);
    uint64_t left, counted = 0;
    do {
        if (counted)
            count_closed(counted, (uint64_t)-1);
        if ((record & CONN_REFS) == CONN_REFS)
            left = has_descriptor(number) ? record : 0;
        else
            left = (record & CONN_REFS) > CONN_REF ? record - CONN_REF : 0;
        if (!left) /* before the number can be another connection's */
            atomic_store_explicit(&conn->state, STATE_SLOW, memory_order_relaxed);
        else if ((uint32_t)fd == number) /* which may be something else from now on */
            atomic_fetch_or(&conn->state, STATE_SLOW);
        bool ends = record && !left && counts_here(record);
        if (ends)
            table_counts(conn, false);
        if ((counted = ends && !(record & CONN_FORCED) ? record : 0))
            count_closed(counted, 1);
    } while (record && !atomic_compare_exchange_strong(&conn->record, &record, left));
    if (gate_drains())
        table_counts_as_it_is(conn);
}

void table_drop(int fd, enum kind kind)
{
    if (kind == KIND_CONN || kind == KIND_ALIAS)
        unref(fd, table_number_of(fd, kind));
}

/* Takes a record, if it is free. */
INLINE bool take_record(struct conn *conn, uint64_t fresh)
{
    uint64_t none = 0;
    return LIKELY(atomic_compare_exchange_strong(&conn->record, &none, fresh));
}

/* A free record for a connection whose number's own record still serves a duplicate elsewhere. */
static bool find_record(uint64_t fresh, uint32_t *number)
{
    /* Behind all that is used, where a drain has room for its notes as well (room.h). */
    uint32_t end = table_whole_blocks(atomic_load(&table.high)) + 2 * TABLE_BLOCK;
    if (end > table.limit)
        end = table.limit;
    for (uint32_t n = end - 1; n + TABLE_BLOCK >= end; n--) {
        if (take_record(table_conn(n), fresh)) {
            *number = n;
            return true;
        }
    }
    return false;
}

/* A connection that is accepted now is not shared with a child that was made before. */
INLINE void note_fork_counter(struct conn *conn)
{
    uint32_t counter = atomic_load_explicit(&table.fork_counter, memory_order_relaxed);
    if (LIKELY(!counter) && !atomic_load_explicit(&table.shares, memory_order_relaxed))
        return; /* neither forked nor sent: nothing is marked yet */
    if (!atomic_load_explicit(&table.has_this_one, memory_order_relaxed))
        atomic_store(&table.has_this_one, true);
    atomic_store_explicit(&conn->shared, counter, memory_order_relaxed);
}

/* A new connection's record begins, and is counted. */
INLINE void begin_record(struct conn *conn, uint8_t state, bool elsewhere)
{
    tracker_begin(&conn->http);
    atomic_store_explicit(&conn->state, state, memory_order_relaxed);
    note_fork_counter(conn);
    struct shard *shard = table_shard();
    if (UNLIKELY(elsewhere))
        count(&shard->closed_by_program, (uint64_t)-1);
    else
        count(&shard->accepted, 1);
}

/* In mode manual a read means nothing. Nor is the fast path for a connection whose number is none
 * of its descriptors'. */
static uint8_t first_state(uint64_t record, enum kind kind)
{
    enum mode mode = (enum mode)((record & CONN_MODE) >> CONN_MODE_SHIFT);
    if (mode == MODE_MANUAL || kind != KIND_CONN)
        return STATE_SLOW;
    return mode == MODE_PROTOCOL ? STATE_HTTP : 0;
}

/* Gives a new connection a record. Returns fd's kind from now on; NONE: no room. */
static enum kind make_record(int fd, uint64_t fresh, bool elsewhere)
{
    uint32_t number = (uint32_t)fd;
    enum kind kind = KIND_CONN;
    if (UNLIKELY(!take_record(table_conn(number), fresh))) {
        if (!find_record(fresh, &number))
            return KIND_NONE;
        kind = KIND_ALIAS;
        raise_to(&table.high, number + 1);
        atomic_store_explicit(&table.alias[fd], number, memory_order_relaxed);
    }
    tracker_reset(&table_conn(number)->http);
    begin_record(table_conn(number), first_state(fresh, kind), elsewhere);
    return kind;
}

static __attribute__((noinline)) void add_oddly(int fd, uint64_t fresh, bool elsewhere)
{
    if (UNLIKELY(!table_has(fd)) && !table_reaches(fd))
        return;
    if (UNLIKELY(GLANCE(&table.kind[fd]) != KIND_NONE))
        table_drop(fd, swap_kind(fd, KIND_NONE));
    raise_to(&table.high, (uint32_t)fd + 1);
    set_kind(fd, make_record(fd, fresh, elsewhere));
}

/* As it is as a rule: the number was known once, and is free. */
void table_add(int fd, uint64_t fresh, bool elsewhere)
{
    uint32_t number = (uint32_t)fd;
    if (UNLIKELY(number >= GLANCE(&table.high)) ||
        UNLIKELY(GLANCE(&table.kind[number]) != KIND_NONE) ||
        UNLIKELY(tracker_had_streams(&table_conn(number)->http)) ||
        UNLIKELY(!take_record(table_conn(number), fresh)))
        return add_oddly(fd, fresh, elsewhere);
    begin_record(table_conn(number), first_state(fresh, KIND_CONN), elsewhere);
    atomic_store_explicit(&table.kind[number], KIND_CONN, memory_order_release);
}

/* It has never been: fd, whose record was just made, is being closed. */
static void unmake_record(int fd, enum kind kind, bool elsewhere)
{
    struct shard *shard = table_shard();
    atomic_store(&table_conn(table_number_of(fd, kind))->record, 0);
    if (elsewhere)
        count(&shard->closed_by_program, 1);
    else
        count(&shard->accepted, (uint64_t)-1);
}

void table_promote(int fd, uint64_t fresh, bool elsewhere)
{
    uint8_t received = KIND_RECEIVED;
    enum kind kind = make_record(fd, fresh, elsewhere);
    if (!atomic_compare_exchange_strong(&table.kind[fd], &received, (uint8_t)kind) &&
        kind != KIND_NONE)
        unmake_record(fd, kind, elsewhere);
}

bool table_take_received(int fd)
{
    uint8_t received = KIND_RECEIVED;
    if (!atomic_compare_exchange_strong(&table.kind[fd], &received, KIND_NONE))
        return false;
    table_await_claim(fd);
    return true;
}

void table_forget(int fd)
{
    uint8_t received = KIND_RECEIVED;
    atomic_compare_exchange_strong(&table.kind[fd], &received, KIND_NONE);
}

void table_set(int fd, enum kind kind)
{
    if (!table_reaches(fd))
        return;
    raise_to(&table.high, (uint32_t)fd + 1);
    table_drop(fd, swap_kind(fd, kind));
}

/* Counts one more descriptor of fd's connection, whose number is told. False: fd is of none. */
static bool ref(int fd, uint32_t *number)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_CONN && kind != KIND_ALIAS)
        return false;
    struct conn *conn = table_conn(*number = table_number_of(fd, kind));
    uint64_t record = atomic_load(&conn->record);
    /* 127 descriptors of one connection: the count stays there (unref). */
    while (record && (record & CONN_REFS) != CONN_REFS &&
           !atomic_compare_exchange_strong(&conn->record, &record, record + CONN_REF))
        ;
    return record;
}

void table_promote_alias(int fd, int to)
{
    uint8_t received = KIND_RECEIVED;
    uint32_t number;
    if (!ref(fd, &number))
        return;
    atomic_store_explicit(&table.alias[to], number, memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&table.kind[to], &received, KIND_ALIAS))
        unref(to, number);
}

void table_alias(int fd, int to)
{
    uint32_t number;
    if (table_kind(fd) == KIND_RECEIVED)
        table_set(to, KIND_RECEIVED);
    if (!table_reaches(to) || !ref(fd, &number))
        return;
    if (table_knows(to)) /* stale: closed on a path that we don't see */
        table_drop(to, swap_kind(to, KIND_NONE));
    atomic_store_explicit(&table.alias[to], number, memory_order_relaxed);
    raise_to(&table.high, (uint32_t)to + 1);
    set_kind(to, KIND_ALIAS);
}

bool table_hand_on(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_CONN && kind != KIND_ALIAS)
        return false;
    const struct conn *conn = table_conn(table_number_of(fd, kind));
    uint64_t record = atomic_load(&conn->record);
    bool handed_on = record && (record & CONN_REFS) == CONN_REF && counts_here(record) &&
                     is_handed_on(conn, record);
    if (handed_on)
        table.on_shared(record);
    return handed_on;
}

void table_each_untouched(void (*visit)(uint64_t record))
{
    uint32_t high = atomic_load(&table.high);
    for (uint32_t fd = 0; fd < high; fd++) {
        struct conn *conn = table_conn(fd);
        uint64_t record = table_kind((int)fd) == KIND_CONN ? atomic_load(&conn->record) : 0;
        if (record && counts_here(record) && !(record & CONN_SHUT) &&
            !(atomic_load(&conn->state) & (STATE_IN_USE | STATE_ANSWERED)))
            visit(record);
    }
}

enum kind table_take(int fd)
{
    return table_knows(fd) ? swap_kind(fd, KIND_NONE) : KIND_NONE;
}

void table_restore(int fd, enum kind kind)
{
    if (kind != KIND_NONE)
        set_kind(fd, kind);
}

void table_quicken(struct conn *conn)
{
    enum kind kind = table_kind((int)table_number(conn));
    uint8_t first = first_state(atomic_load(&conn->record), kind),
            state = atomic_load(&conn->state);
    while (!atomic_compare_exchange_weak(&conn->state, &state,
                                         (state & ~(STATE_SLOW | STATE_HTTP)) | first))
        ;
}

void table_forks(void)
{
    if (!table.limit)
        return;
    /* Written to only where it has to be: after a fork each write costs a page. */
    if (!atomic_load(&table.fork_counter) || atomic_load(&table.has_this_one)) {
        atomic_store(&table.has_this_one, false);
        atomic_fetch_add(&table.fork_counter, 1);
    }
    if (!atomic_load(&table.shares))
        atomic_store(&table.shares, true);
}

void table_sends(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_CONN && kind != KIND_ALIAS)
        return;
    atomic_store(&table_conn(table_number_of(fd, kind))->shared, SHARED_SENT);
    atomic_store(&table.shares, true);
}

void table_forked(void)
{
    uint32_t high = atomic_load(&table.high);
    for (uint32_t number = 0; number < high; number++) {
        struct conn *conn = table_conn(number);
        uint8_t state = atomic_load_explicit(&conn->state, memory_order_relaxed);
        bool is_one = atomic_load_explicit(&conn->record, memory_order_relaxed);
        if (UNLIKELY(atomic_load_explicit(&conn->counts, memory_order_relaxed))) /* its parent's */
            atomic_store_explicit(&conn->counts, false, memory_order_relaxed);
        if (is_one && !(state & STATE_SLOW)) /* written to only where it must be: it costs a page */
            atomic_store_explicit(&conn->state, state | STATE_SLOW, memory_order_relaxed);
    }
    gate_forked();
}

void table_claim_all(uint32_t first, uint32_t count)
{
    atomic_store(&claim, generation_now() | (uint64_t)first << CONN_FINGERPRINT_SHIFT | count);
}

bool table_claim(int fd)
{
    table_claim_all((uint32_t)fd, 1);
    enum kind kind = table_kind(fd);
    if (kind == KIND_CONN || kind == KIND_ALIAS || kind == KIND_RECEIVED || kind == KIND_LISTENER)
        return true;
    table_release();
    return false;
}

void table_release(void)
{
    atomic_store_explicit(&claim, 0, memory_order_release);
}
