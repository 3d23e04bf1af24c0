/* SPDX-License-Identifier: MIT */
/* The memory of the table: where it lies, and how it grows. */
#include "conn/fdtable.h"

#include "base/room.h"
#include "base/sys.h"

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE_MAX - 1) & ~(size_t)(PAGE_MAX - 1);
}

/*
 * What one page table reaches. A fork makes one for each that has something in it to be copied, at
 * the price of a page: so the kinds and the first connections lie within the reach of one, before
 * the aliases, which are seldom used.
 */
#define REACH ((size_t)2 << 20)

static void lay_out(char *at, uint32_t most)
{
    table.kind = (_Atomic uint8_t *)at;
    table.conn = (struct conn *)(void *)(at + whole_pages(most));
    table.alias = (_Atomic uint32_t *)(table.conn + most);
    table.most = most;
}

/* Asks for the memory of these numbers, in each of the arrays. */
static bool commit(uint32_t from, uint32_t to)
{
    uint32_t n = to - from;
    return room_commit((char *)table.kind + from, n) &&
           room_commit((char *)(table.conn + from), n * sizeof *table.conn) &&
           room_commit((char *)(table.alias + from), n * sizeof *table.alias);
}

int table_make(uint32_t most, uint32_t first)
{
    first = table_whole_blocks(first + TABLE_BLOCK - 1);
    for (most = table_whole_blocks(most + TABLE_BLOCK - 1); most;
         most = table_whole_blocks(most / 4)) {
        size_t bytes = whole_pages(most) + most * (sizeof *table.conn + sizeof *table.alias);
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
            limit = table_whole_blocks(limit / 4);
        if (!has) {
            room_give_back(at, used);
            return -1;
        }
        __atomic_store_n(&table.limit, limit, __ATOMIC_RELEASE);
        gate_set_limit(limit);
        return 0;
    }
    return -1;
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
    gate_set_limit(table.limit);
    return true;
}
