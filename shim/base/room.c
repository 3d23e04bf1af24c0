/* SPDX-License-Identifier: MIT */
#include "base/room.h"

#include "base/sys.h"

#include <sys/mman.h>
#include <sys/resource.h>

/* What one array takes, at the most, of the address space that the program may have (RLIMIT_AS): it
 * wants the rest for itself. */
#define SHARE 32

/* For how many entries to reserve address space: `most`, or fewer, but `least`. */
static uint32_t entries(size_t each, uint32_t least, uint32_t most)
{
    struct rlimit limit;
    if (sys2(SYS_getrlimit, RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return most;
    uint64_t fit = limit.rlim_cur / SHARE / each;
    return fit >= most ? most : fit > least ? (uint32_t)fit : least;
}

void *room_reserve(size_t bytes)
{
    long at =
        sys6(SYS_mmap, NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return NULL;
    /* mm/mprotect.c: what is locked is filled when it becomes writable. */
    sys2(SYS_munlock, at, bytes);
    return (void *)at;
}

bool room_commit(void *at, size_t bytes)
{
    size_t before = (size_t)at % PAGE_MAX;
    return sys3(SYS_mprotect, (char *)at - before, bytes + before, PROT_READ | PROT_WRITE) == 0;
}

void room_give_back(void *at, size_t bytes)
{
    if (bytes)
        sys2(SYS_munmap, at, bytes);
}

/* So few at once that there are few steps. */
#define STEP_LEAST 1024

bool room_reach(struct room *room, size_t each, uint32_t count, uint32_t most)
{
    uint32_t had = atomic_load(&room->count);
    if (LIKELY(count <= had))
        return true;
    void *at = atomic_load(&room->at);
    if (!at)
        most = entries(each, count < most ? count : most, most);
    for (uint32_t n = most; !at && n >= count && n; n = n / 2 < count && n > count ? count : n / 2)
        if ((at = room_reserve(n * each)))
            room->most = n;
    if (!at || count > room->most)
        return false;
    uint64_t ahead = (uint64_t)count + (count / 2 > STEP_LEAST ? count / 2 : STEP_LEAST);
    uint32_t next = ahead < room->most ? (uint32_t)ahead : room->most;
    bool has = room_commit(at, next * each) || room_commit(at, (next = count) * each);
    if (!has)
        return false;
    atomic_store(&room->at, at);
    while (had < next && !atomic_compare_exchange_weak(&room->count, &had, next))
        ; /* another thread may have gone further */
    return true;
}
