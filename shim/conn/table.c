/* SPDX-License-Identifier: MIT */
#include "conn/table.h"

#include "conn/epoch.h"
#include "base/room.h"
#include "base/sys.h"

#include <sys/mman.h>
#include <time.h>

static struct shard own[SHARDS]; /* where there is no page */

HOT_DATA(4)
_Alignas(CACHE_LINE) struct table table = {
    .shards = own, .shard_mask = SHARDS - 1, .busy = HINT_BUSY};

/* In a link's shared, no generation: the connection was sent to another process. */
#define SHARED_SENT UINT32_MAX

/* The hints of one thread, and those of many, in which no connection has any. */
static _Atomic int8_t *solo_hints, *crowd_hints;

static bool counts_with_others;

/* What one thread has noted is not followed by the others. */
static void solo_ended(void)
{
    atomic_store(&table.hint, crowd_hints);
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE_MAX - 1) & ~(size_t)(PAGE_MAX - 1);
}

static size_t hints_size(uint32_t limit)
{
    return whole_pages(limit);
}

static void begin_solo(uint32_t limit)
{
    atomic_store(&table.hint, crowd_hints);
    /* Without it a child would take its parent's hints for its own. */
    if (!epoch_wipe_on_fork(crowd_hints, 2 * hints_size(limit)) || !SOLO_IS_SAFE)
        return;
    atomic_store(&table.hint, solo_hints);
    solo_begin(solo_ended);
}

void table_solo_again(void)
{
    if (!solo_may_begin() || counts_with_others ||
        sys3(SYS_madvise, solo_hints, hints_size(table.limit), MADV_DONTNEED) < 0)
        return;
    atomic_store(&table.hint, solo_hints);
    solo_begin(solo_ended);
}

void table_forked(void)
{
    if (!solo_may_begin())
        return;
    atomic_store(&table.hint, solo_hints); /* which the kernel has wiped */
    solo_begin(solo_ended);
}

/*
 * What one page table reaches. A fork makes one for each that has something in it to be copied, at
 * the price of a page: so the first kinds and the first records lie within the reach of one,
 * between the hints, which are not copied, and the aliases, which are seldom used.
 */
#define REACH ((size_t)2 << 20)

static void lay_out(char *at, uint32_t most)
{
    size_t hints = hints_size(most);
    crowd_hints = (_Atomic int8_t *)at;
    solo_hints = crowd_hints + hints;
    table.kind = (_Atomic uint8_t *)(solo_hints + hints);
    table.record = (record_t *)(at + 3 * hints);
    table.link = (struct table_link *)(table.record + most);
    table.most = most;
}

/* Asks for the memory of these numbers, in each of the arrays. */
static bool commit(uint32_t from, uint32_t to)
{
    uint32_t n = to - from;
    return room_commit((char *)crowd_hints + from, n) &&
           room_commit((char *)solo_hints + from, n) && room_commit((char *)table.kind + from, n) &&
           room_commit((char *)(table.record + from), n * sizeof *table.record) &&
           room_commit((char *)(table.link + from), n * sizeof *table.link);
}

static uint32_t whole_blocks(uint32_t count)
{
    return count / TABLE_BLOCK * TABLE_BLOCK;
}

int table_make(uint32_t most, uint32_t first)
{
    first = whole_blocks(first + TABLE_BLOCK - 1);
    for (most = whole_blocks(most + TABLE_BLOCK - 1); most; most = whole_blocks(most / 4)) {
        size_t bytes = most * (sizeof(record_t) + sizeof(struct table_link)) + 3 * hints_size(most);
        size_t slack = bytes > REACH ? REACH : 0;
        char *at = room_reserve(bytes + slack);
        if (!at)
            continue; /* RLIMIT_AS: a smaller one will do for most programs */
        size_t before = slack ? -(size_t)at & (REACH - 1) : 0, used = whole_pages(bytes);
        room_give_back(at, before);
        at += before;
        room_give_back(at + used, whole_pages(bytes + slack) - used - before);
        lay_out(at, most);
        uint32_t limit = first < most ? first : most;
        bool has = limit == most && room_commit(at, bytes);
        while (!has && limit && !(has = commit(0, limit)))
            limit = whole_blocks(limit / 4);
        if (!has) {
            room_give_back(at, used);
            return -1;
        }
        begin_solo(most);
        __atomic_store_n(&table.limit, limit, __ATOMIC_RELEASE);
        return 0;
    }
    return -1;
}

void table_misses(int fd)
{
    uint32_t number = (uint32_t)fd, to = atomic_load(&table.missed_to);
    uint32_t before = atomic_load(&table.missed_before);
    while (before < ~number &&
           !atomic_compare_exchange_weak(&table.missed_before, &before, ~number))
        ;
    while (to <= number && !atomic_compare_exchange_weak(&table.missed_to, &to, number + 1))
        ;
}

bool table_reaches(int fd)
{
    uint32_t limit = __atomic_load_n(&table.limit, __ATOMIC_ACQUIRE), next = limit;
    if (LIKELY((uint32_t)fd < limit))
        return true;
    if (!limit || fd < 0)
        return false;
    while (next <= (uint32_t)fd && next < table.most)
        next = next < table.most / 2 ? next * 2 : table.most;
    if ((uint32_t)fd >= next || sys_is_sandboxed() || !commit(limit, next)) {
        table_misses(fd);
        return false;
    }
    while (limit < next && !__atomic_compare_exchange_n(&table.limit, &limit, next, true,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    if (table.on_grows)
        table.on_grows(next);
    return true;
}

void table_count_in(struct shard *shards, uint32_t count, bool shared)
{
    static const struct shard nothing;
    if (!shards) {
        for (uint32_t i = 0; i < SHARDS; i++)
            own[i] = nothing;
        shards = own;
        count = SHARDS;
    }
    counts_with_others = shared;
    if (shared)
        solo_end();
    table.shards = shards;
    table.shard_mask = count - 1;
}

__thread uint32_t table_turn;

uint32_t table_take_turn(void)
{
    static _Atomic uint64_t turns;
    uint64_t turn = atomic_fetch_add(&turns, 1) + 1;
    table_turn =
        turn <= SHARDS_OWNED ? (uint32_t)turn : SHARDS / 2 + (uint32_t)(turn % (SHARDS / 2));
    return table_turn;
}

void table_totals(struct totals *totals)
{
    *totals = (struct totals){0};
    page_add(totals, table.shards, table.shard_mask + 1);
    page_settle(totals);
}

static inline void raise_high(int fd)
{
    uint32_t high = atomic_load_explicit(&table.high, memory_order_relaxed);
    while (UNLIKELY(high <= (uint32_t)fd) &&
           !atomic_compare_exchange_weak(&table.high, &high, (uint32_t)fd + 1))
        ;
}

/*
 * What the handler thread has claimed: its process's epoch, how many numbers, and from which on.
 * One that a child finds was its parent's and is void. A number's end takes it out of the table
 * first and looks here then, as a claim stands here before the table is looked at: one of the two
 * sees the other.
 */
static _Atomic uint64_t claim;

#define CLAIM_MOST 0xffff

bool table_is_claimed(int fd)
{
    uint64_t seen = atomic_load(&claim);
    return (seen & CONN_EPOCH) == epoch_now() &&
           (uint32_t)fd - (uint32_t)(seen >> CONN_IDENTITY_SHIFT) < (seen & CLAIM_MOST);
}

/* Waits until the handler thread is done with fd, which is in the table no more. */
static void wait_for_claim(int fd)
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

/* The kind first: who finds the hint again, finds it out by that. */
static void set_hint(int fd, enum kind kind)
{
    atomic_store_explicit(table_hint_at((uint32_t)fd), kind == KIND_NONE ? HINT_NONE : HINT_ASK,
                          memory_order_release);
}

static void set_kind(int fd, uint8_t kind)
{
    atomic_store_explicit(&table.kind[fd], kind, memory_order_release);
    set_hint(fd, kind);
}

void table_ignores(int fd)
{
    /* In one order for all: either this sees that fd is somebody now, or who made it so comes later
     * with its hint. */
    if (!table_has(fd))
        return;
    atomic_store(table_hint_at((uint32_t)fd), HINT_NONE);
    if (atomic_load(&table.kind[fd]) != KIND_NONE)
        atomic_store(table_hint_at((uint32_t)fd), HINT_ASK);
}

/* Replaces fd's kind, once no claim stands on it. Returns the old one. */
static enum kind swap_kind(int fd, enum kind kind)
{
    enum kind old;
    if (LIKELY(solo_enter())) { /* who claims is not here */
        old = atomic_load_explicit(&table.kind[fd], memory_order_relaxed);
        set_kind(fd, (uint8_t)kind);
        solo_leave();
        return old;
    }
    old = atomic_exchange(&table.kind[fd], KIND_NONE);
    wait_for_claim(fd);
    set_kind(fd, (uint8_t)kind);
    return old;
}

/* Whether a record counts in this process's figures. */
static bool counts_here(uint64_t record)
{
    return (record & CONN_EPOCH) == epoch_now() && !(record & CONN_DISOWNED);
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

/*
 * Whether a connection that this process has closed may be served by another one: it was sent to
 * it, or was there when it was forked; but not if it was served, or half-closed, here.
 */
static bool is_handed_on(uint32_t number, uint64_t record)
{
    uint32_t since = atomic_load_explicit(&table.link[number].shared, memory_order_relaxed);
    bool served = record & CONN_SHUT || (record & (CONN_ANSWERED | CONN_IN_USE)) == CONN_ANSWERED;
    return since == SHARED_SENT || (since != atomic_load(&table.generation) && !served);
}

/* One descriptor less. Frees the record with the last. */
static void unref(uint32_t number)
{
    record_t *slot = table_slot(number);
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    uint64_t left;
    bool alone = solo_enter();
    do {
        if ((record & CONN_REFS) == CONN_REFS)
            left = has_descriptor(number) ? record : 0;
        else
            left = (record & CONN_REFS) > CONN_REF ? record - CONN_REF : 0;
    } while (record && !solo_change(alone, slot, &record, left));
    if (record && !left && counts_here(record)) {
        struct shard *shard = table_shard();
        _Atomic uint64_t *how = record & CONN_FORCED ? &shard->forced
                                : record & CONN_SHUT ? &shard->closed_idle
                                                     : &shard->closed_by_program;
        solo_count(alone, &shard->live, -(LIVE_TRACKED + (record & CONN_IN_USE ? LIVE_IN_USE : 0)));
        solo_count(alone, how, 1);
    }
    if (LIKELY(alone))
        solo_leave();
}

static void drop(int fd, enum kind kind)
{
    if (kind == KIND_CONN || kind == KIND_ALIAS)
        unref(table_number_of(fd, kind));
}

/* A free record for a connection whose number's own record still serves a duplicate elsewhere. */
static bool find_record(uint64_t fresh, uint32_t *number)
{
    /* Behind all that is used, where a drain has room for its notes as well (room.h). */
    uint32_t end = whole_blocks(atomic_load(&table.high)) + 2 * TABLE_BLOCK;
    if (end > table.limit)
        end = table.limit;
    for (uint32_t n = end - 1; n + TABLE_BLOCK >= end; n--) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong(table_slot(n), &none, fresh)) {
            *number = n;
            return true;
        }
    }
    return false;
}

/* A connection that is accepted now is not shared with a child that was made before. */
static inline void note_generation(uint32_t number)
{
    uint32_t generation = atomic_load_explicit(&table.generation, memory_order_relaxed);
    if (LIKELY(!generation) && !atomic_load_explicit(&table.shares, memory_order_relaxed))
        return; /* neither forked nor sent: nothing is marked yet */
    if (!atomic_load_explicit(&table.has_this_one, memory_order_relaxed))
        atomic_store(&table.has_this_one, true);
    atomic_store_explicit(&table.link[number].shared, generation, memory_order_relaxed);
}

/* Gives a new connection a record and counts it. Returns fd's kind from now on; NONE: no room. */
static enum kind make_record(int fd, uint64_t fresh, bool elsewhere)
{
    uint32_t number = (uint32_t)fd;
    enum kind kind = KIND_CONN;
    uint64_t none = 0;
    bool alone = solo_enter();
    if (UNLIKELY(!solo_change(alone, table_slot(number), &none, fresh))) {
        kind = find_record(fresh, &number) ? KIND_ALIAS : KIND_NONE;
        atomic_store_explicit(&table.link[fd].alias, number, memory_order_relaxed);
    }
    if (LIKELY(kind != KIND_NONE)) {
        note_generation(number);
        struct shard *shard = table_shard();
        solo_count(alone, &shard->live, LIVE_TRACKED);
        if (UNLIKELY(elsewhere))
            solo_count(alone, &shard->closed_by_program, (uint64_t)-1);
        else
            solo_count(alone, &shard->accepted, 1);
    }
    if (LIKELY(alone))
        solo_leave();
    return kind;
}

/* The usual case, all of it at once: a free number with a free record. */
static inline bool add_alone(int fd, uint64_t fresh)
{
    record_t *slot = table_slot((uint32_t)fd);
    if (!solo_enter_again())
        return false;
    bool usual = !atomic_load_explicit(slot, memory_order_relaxed) &&
                 atomic_load_explicit(&table.kind[fd], memory_order_relaxed) == KIND_NONE;
    if (LIKELY(usual)) {
        raise_high(fd);
        atomic_store_explicit(slot, fresh, memory_order_relaxed);
        solo_add(&table.shards->live, LIVE_TRACKED);
        solo_add(&table.shards->accepted, 1);
        note_generation((uint32_t)fd);
        set_kind(fd, KIND_CONN);
    }
    solo_leave();
    return usual;
}

static __attribute__((noinline)) void add_among(int fd, uint64_t fresh, bool elsewhere)
{
    if (UNLIKELY(table_knows(fd)))
        drop(fd, swap_kind(fd, KIND_NONE));
    raise_high(fd);
    enum kind kind = make_record(fd, fresh, elsewhere);
    set_kind(fd, (uint8_t)kind);
}

void table_add(int fd, uint64_t fresh, bool elsewhere)
{
    if ((LIKELY(table_has(fd)) || table_reaches(fd)) &&
        (UNLIKELY(elsewhere) || UNLIKELY(!add_alone(fd, fresh))))
        add_among(fd, fresh, elsewhere);
}

/* It has never been: fd, whose record was just made, is being closed. */
static void unmake_record(int fd, enum kind kind, bool elsewhere)
{
    uint32_t number = table_number_of(fd, kind);
    record_t *slot = table_slot(number);
    struct shard *shard = table_shard();
    atomic_store(slot, 0);
    atomic_fetch_sub(&shard->live, LIVE_TRACKED);
    if (elsewhere)
        atomic_fetch_add(&shard->closed_by_program, 1);
    else
        atomic_fetch_sub(&shard->accepted, 1);
}

void table_promote(int fd, uint64_t fresh, bool elsewhere)
{
    uint8_t received = KIND_RECEIVED;
    enum kind kind = make_record(fd, fresh, elsewhere);
    if (atomic_compare_exchange_strong(&table.kind[fd], &received, (uint8_t)kind))
        set_hint(fd, kind);
    else if (kind != KIND_NONE)
        unmake_record(fd, kind, elsewhere);
}

bool table_take_received(int fd)
{
    uint8_t received = KIND_RECEIVED;
    if (!atomic_compare_exchange_strong(&table.kind[fd], &received, KIND_NONE))
        return false;
    wait_for_claim(fd);
    return true;
}

void table_forget(int fd)
{
    uint8_t received = KIND_RECEIVED;
    if (atomic_compare_exchange_strong(&table.kind[fd], &received, KIND_NONE))
        set_hint(fd, KIND_NONE);
}

void table_set(int fd, enum kind kind)
{
    if (!table_reaches(fd))
        return;
    raise_high(fd);
    drop(fd, swap_kind(fd, kind));
}

void table_alias(int fd, int to)
{
    enum kind kind = table_kind(fd);
    if (kind == KIND_RECEIVED)
        table_set(to, KIND_RECEIVED);
    if ((kind != KIND_CONN && kind != KIND_ALIAS) || !table_reaches(to))
        return;
    uint32_t number = table_number_of(fd, kind);
    record_t *slot = table_slot(number);
    bool alone = solo_enter(); /* or the owner's next step could undo it */
    uint64_t record = atomic_load(slot);
    /* 127 descriptors of one connection: the count stays there (unref). */
    while (record && (record & CONN_REFS) != CONN_REFS &&
           !solo_change(alone, slot, &record, record + CONN_REF))
        ;
    if (alone)
        solo_leave();
    if (!record)
        return;
    if (table_knows(to)) /* stale: closed on a path that we don't see */
        drop(to, swap_kind(to, KIND_NONE));
    atomic_store_explicit(&table.link[to].alias, number, memory_order_relaxed);
    raise_high(to);
    set_kind(to, KIND_ALIAS);
    set_hint(fd, KIND_ALIAS); /* what becomes of it is no longer seen on fd alone */
}

bool table_hand_on(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_CONN && kind != KIND_ALIAS)
        return false;
    uint32_t number = table_number_of(fd, kind);
    uint64_t record = atomic_load(table_slot(number));
    bool handed_on = record && (record & CONN_REFS) == CONN_REF && counts_here(record) &&
                     is_handed_on(number, record);
    if (handed_on)
        table.on_shared(record);
    return handed_on;
}

void table_each_untouched(void (*visit)(uint64_t record))
{
    const uint64_t touched = CONN_IN_USE | CONN_ANSWERED | CONN_SHUT;
    uint32_t high = atomic_load(&table.high);
    for (uint32_t fd = 0; fd < high; fd++) {
        uint64_t record = table_kind((int)fd) == KIND_CONN ? atomic_load(table_slot(fd)) : 0;
        if (record && counts_here(record) && !(record & touched))
            visit(record);
    }
}

bool table_close_alone(int fd)
{
    const uint64_t odd = CONN_SHUT | CONN_FORCED | CONN_DISOWNED;
    if (!table_is_conn(fd) || UNLIKELY(table.shares) || !solo_enter_again())
        return false;
    record_t *slot = table_slot((uint32_t)fd);
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    bool usual = (record & (CONN_REFS | odd)) == CONN_REF && counts_here(record);
    if (LIKELY(usual)) {
        atomic_store_explicit(slot, 0, memory_order_relaxed);
        solo_add(&table.shards->live,
                 record & CONN_IN_USE ? -(LIVE_TRACKED + LIVE_IN_USE) : -LIVE_TRACKED);
        solo_add(&table.shards->closed_by_program, 1);
        set_kind(fd, KIND_NONE);
    }
    solo_leave();
    return usual;
}

enum kind table_take(int fd)
{
    return table_knows(fd) ? swap_kind(fd, KIND_NONE) : KIND_NONE;
}

void table_restore(int fd, enum kind kind)
{
    if (kind != KIND_NONE)
        set_kind(fd, (uint8_t)kind);
}

void table_drop(int fd, enum kind kind)
{
    drop(fd, kind);
}

void table_forks(void)
{
    if (!table.limit)
        return;
    /* Written to only where it has to be: after a fork each write costs a page. */
    if (!atomic_load(&table.generation) || atomic_load(&table.has_this_one)) {
        atomic_store(&table.has_this_one, false);
        atomic_fetch_add(&table.generation, 1);
    }
    if (!atomic_load(&table.shares))
        atomic_store(&table.shares, true);
}

void table_sends(int fd)
{
    enum kind kind = table_kind(fd);
    if (kind != KIND_CONN && kind != KIND_ALIAS)
        return;
    atomic_store(&table.link[table_number_of(fd, kind)].shared, SHARED_SENT);
    atomic_store(&table.shares, true);
}

void table_claim_all(uint32_t first, uint32_t count)
{
    atomic_store(&claim, epoch_now() | (uint64_t)first << CONN_IDENTITY_SHIFT | count);
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
