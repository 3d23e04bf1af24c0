/* SPDX-License-Identifier: MIT */
#include "command/proc/memory.h"

#include "conn/fdtable.h"

#include <sys/uio.h>

/* Of numbers that are read at a time. */
#define BLOCK 1024
#define LIMIT_MOST (UINT32_C(1) << 24) /* descriptors of a process: fs.nr_open is a million */

static bool read_memory(int32_t pid, uint64_t address, void *into, size_t size)
{
    struct iovec local = {into, size};
    struct iovec remote = {(void *)(uintptr_t)address, size};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* Where entry n of an array of the other process lies: whatever it is, it is no pointer here. */
#define ENTRY(array, n) ((uint64_t)(uintptr_t)(array) + (uint64_t)(n) * sizeof *(array))

static bool is_in_use(const struct conn *conn, uint32_t generation)
{
    uint64_t record = conn->record;
    return (record & CONN_GENERATION) == generation && !(record & (CONN_DISOWNED | CONN_FORCED)) &&
           (conn->state & STATE_IN_USE || record & CONN_READ_SINCE_SHUT);
}

static bool read_table(int32_t pid, uint64_t address, uint32_t generation, struct table *table)
{
    return generation && !(generation & ~CONN_GENERATION) &&
           read_memory(pid, address, table, sizeof *table) && table->limit % TABLE_BLOCK == 0 &&
           table->limit <= LIMIT_MOST && table->high <= table->limit;
}

bool memory_count_in_use(int32_t pid, uint64_t address, uint32_t generation, uint64_t *count)
{
    static struct conn conn[BLOCK];
    struct table table;
    uint64_t found = 0;
    if (!read_table(pid, address, generation, &table))
        return false;
    for (uint32_t from = 0; from < table.high; from += BLOCK) {
        uint32_t n = table.high - from < BLOCK ? table.high - from : BLOCK;
        if (!read_memory(pid, ENTRY(table.conn, from), conn, n * sizeof *conn))
            return false;
        for (uint32_t i = 0; i < n; i++)
            found += is_in_use(&conn[i], generation);
    }
    *count = found;
    return true;
}

bool memory_in_use(int32_t pid, uint64_t address, uint32_t generation, struct in_use *in_use)
{
    static uint8_t kind[BLOCK];
    static uint32_t alias[BLOCK];
    static struct conn conn[BLOCK];
    struct table table;
    if (!in_use->fd && !(in_use->fd = malloc(IN_USE_MOST * sizeof *in_use->fd)))
        return false;
    if (!read_table(pid, address, generation, &table))
        return false;

    /* A bit for each record that has been taken, by an alias or by its own descriptor. */
    uint8_t *taken = calloc(table.limit / 8 + 1, 1);
    bool could_read = taken != NULL;
    for (uint32_t from = 0; could_read && from < table.high; from += BLOCK) {
        uint32_t count = table.limit - from < BLOCK ? table.limit - from : BLOCK;
        could_read = read_memory(pid, ENTRY(table.kind, from), kind, count) &&
                     read_memory(pid, ENTRY(table.conn, from), conn, count * sizeof *conn) &&
                     read_memory(pid, ENTRY(table.alias, from), alias, count * sizeof *alias);
        for (uint32_t i = 0; could_read && i < count && in_use->count < IN_USE_MOST; i++) {
            uint32_t number = from + i;
            struct conn seen = conn[i];
            if (kind[i] == KIND_ALIAS && alias[i] < table.limit) {
                number = alias[i];
                could_read = read_memory(pid, ENTRY(table.conn, number), &seen, sizeof seen);
            } else if (kind[i] != KIND_CONN) {
                continue;
            }
            if (!is_in_use(&seen, generation) || taken[number / 8] >> (number % 8) & 1)
                continue;
            taken[number / 8] |= (uint8_t)(1 << (number % 8));
            in_use->fd[in_use->count++] = (int32_t)(from + i);
        }
    }
    free(taken);
    return could_read;
}
