/* SPDX-License-Identifier: MIT */
#include "http/streams.h"

#define LISTS 16384
#define ENTRIES 15

/* A stream's number, of which one bit says that it is a client's; and what is left of it. */
enum { FREE, BOTH_OPEN, CLIENT_ENDED, SERVER_ENDED };
#define ENTRY(number, rest) (((number) >> 1) << 2 | (rest))
#define REST(entry) ((entry)&3)
#define NUMBER(entry) ((entry) >> 2 << 1 | 1)

static BIG(8) struct list {
    _Atomic uint32_t entry[ENTRIES];
    _Atomic uint32_t next; /* 0: none */
} __attribute__((aligned(CACHE_LINE))) lists[LISTS];

static _Atomic uint32_t used; /* of the lists, so far; the first is nobody's */

/* The first of those that were given back, below a number that no two changes have in common. */
static _Atomic uint64_t stock;

static uint32_t take_list(void)
{
    uint64_t first = atomic_load(&stock);
    while ((uint32_t)first) {
        uint64_t next = ((first >> 32) + 1) << 32 | atomic_load(&lists[(uint32_t)first].next);
        if (!atomic_compare_exchange_weak(&stock, &first, next))
            continue;
        atomic_store(&lists[(uint32_t)first].next, 0);
        return (uint32_t)first;
    }
    uint32_t fresh = list_grows(&used, LISTS - 1);
    return fresh < LISTS - 1 ? fresh + 1 : 0;
}

static void give_back_list(uint32_t list)
{
    uint64_t first = atomic_load(&stock), next;
    for (uint32_t i = 0; i < ENTRIES; i++)
        atomic_store_explicit(&lists[list].entry[i], FREE, memory_order_relaxed);
    do {
        atomic_store(&lists[list].next, (uint32_t)first);
        next = ((first >> 32) + 1) << 32 | list;
    } while (!atomic_compare_exchange_weak(&stock, &first, next));
}

void streams_give_back(union streams *streams)
{
    for (uint32_t list = atomic_load(&streams->list), next; list; list = next) {
        next = atomic_load(&lists[list].next);
        give_back_list(list);
    }
    atomic_store(&streams->all, 0);
}

/* A free entry of the connection's lists, or of one more; NULL: there is none. */
static _Atomic uint32_t *free_entry(union streams *streams)
{
    uint32_t last = 0, list = atomic_load(&streams->list);
    for (; list; last = list, list = atomic_load(&lists[list].next))
        for (uint32_t i = 0; i < ENTRIES; i++)
            if (atomic_load_explicit(&lists[list].entry[i], memory_order_relaxed) == FREE)
                return &lists[list].entry[i];
    list = take_list();
    if (!list)
        return NULL;
    if (last)
        atomic_store(&lists[last].next, list);
    else
        atomic_store(&streams->list, (uint16_t)list);
    return &lists[list].entry[0];
}

bool streams_open(union streams *streams, uint32_t number, bool has_ended)
{
    _Atomic uint32_t *entry = free_entry(streams);
    if (!entry)
        return false;
    atomic_store_explicit(&streams->last, number, memory_order_release);
    atomic_fetch_add(&streams->open, 1);
    atomic_store_explicit(entry, ENTRY(number, has_ended ? CLIENT_ENDED : BOTH_OPEN),
                          memory_order_release);
    return true;
}

/* What is left of one when this has happened to it. */
static uint32_t rest_behind(uint32_t rest, enum stream_end end)
{
    uint32_t ended = end == ENDED_BY_CLIENT ? CLIENT_ENDED : SERVER_ENDED;
    if (end == ENDED_BY_RESET || (rest != BOTH_OPEN && rest != ended))
        return FREE;
    return ended;
}

static void end_entry(union streams *streams, _Atomic uint32_t *at, uint32_t entry,
                      enum stream_end end)
{
    uint32_t rest, number = entry - REST(entry);
    do {
        if (REST(entry) == FREE || entry - REST(entry) != number)
            return; /* the other side has ended it meanwhile */
        rest = rest_behind(REST(entry), end);
    } while (!atomic_compare_exchange_weak(at, &entry, rest == FREE ? FREE : number + rest));
    if (rest == FREE)
        atomic_fetch_sub(&streams->open, 1);
}

void streams_end(union streams *streams, uint32_t number, enum stream_end end)
{
    for (uint32_t list = atomic_load(&streams->list); list; list = atomic_load(&lists[list].next))
        for (uint32_t i = 0; i < ENTRIES; i++) {
            uint32_t entry = atomic_load_explicit(&lists[list].entry[i], memory_order_relaxed);
            if (REST(entry) != FREE && NUMBER(entry) == number)
                return end_entry(streams, &lists[list].entry[i], entry, end);
        }
}

void streams_end_above(union streams *streams, uint32_t number)
{
    for (uint32_t list = atomic_load(&streams->list); list; list = atomic_load(&lists[list].next))
        for (uint32_t i = 0; i < ENTRIES; i++) {
            uint32_t entry = atomic_load_explicit(&lists[list].entry[i], memory_order_relaxed);
            if (REST(entry) != FREE && NUMBER(entry) > number)
                end_entry(streams, &lists[list].entry[i], entry, ENDED_BY_RESET);
        }
}
