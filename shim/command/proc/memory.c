/* SPDX-License-Identifier: MIT */
#include "command/proc/memory.h"

#include "conn/table.h"

#include <sys/uio.h>

/* Of numbers that are read at a time: whole blocks of the table (table_place). */
#define BLOCK 4096
#define LIMIT_MOST (UINT32_C(1) << 24) /* descriptors of a process: fs.nr_open is a million */

static bool read_memory(int32_t pid, uint64_t address, void *into, size_t size)
{
    struct iovec local = {into, size};
    struct iovec remote = {(void *)(uintptr_t)address, size};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static bool is_in_use(uint64_t record, uint32_t epoch)
{
    return (record & CONN_EPOCH) == epoch && record & (CONN_IN_USE | CONN_OWED) &&
           !(record & CONN_DISOWNED);
}

bool memory_in_use(int32_t pid, uint64_t address, uint32_t epoch, struct in_use *in_use)
{
    static uint8_t kind[BLOCK];
    static uint64_t record[BLOCK];
    static struct table_link link[BLOCK];
    struct table table;
    if (!in_use->fd && !(in_use->fd = malloc(IN_USE_MOST * sizeof *in_use->fd)))
        return false;
    if (!epoch || epoch & ~CONN_EPOCH || !read_memory(pid, address, &table, sizeof table) ||
        table.limit % TABLE_BLOCK || table.limit > LIMIT_MOST || table.high > table.limit)
        return false;

    /* A bit for each record that has been taken, by an alias or by its own descriptor. */
    uint8_t *taken = calloc(table.limit / 8 + 1, 1);
    bool could_read = taken != NULL;
    for (uint32_t from = 0; could_read && from < table.high; from += BLOCK) {
        uint32_t count = table.limit - from < BLOCK ? table.limit - from : BLOCK;
        could_read =
            read_memory(pid, (uintptr_t)table.kind + from, kind, count) &&
            read_memory(pid, (uintptr_t)(table.record + from), record, count * sizeof *record) &&
            read_memory(pid, (uintptr_t)(table.link + from), link, count * sizeof *link);
        for (uint32_t i = 0; could_read && i < count && in_use->count < IN_USE_MOST; i++) {
            uint8_t what = kind[i];
            uint32_t slot = table_place(from + i);
            uint64_t seen = record[slot - from];
            uint32_t alias = atomic_load(&link[i].alias);
            if (what == KIND_ALIAS && alias < table.limit) {
                slot = table_place(alias);
                could_read = read_memory(pid, (uintptr_t)(table.record + slot), &seen, sizeof seen);
            } else if (what != KIND_CONN) {
                continue;
            }
            if (!is_in_use(seen, epoch) || taken[slot / 8] >> (slot % 8) & 1)
                continue;
            taken[slot / 8] |= (uint8_t)(1 << (slot % 8));
            in_use->fd[in_use->count++] = (int32_t)(from + i);
        }
    }
    free(taken);
    return could_read;
}
