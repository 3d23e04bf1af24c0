/* SPDX-License-Identifier: MIT */
#include "command/proc/memory.h"

#include "command/proc/process.h"
#include "command/say.h"
#include "conn/fdtable.h"

/* Of numbers that are read at a time. */
#define BLOCK 1024
#define LIMIT_MOST (UINT32_C(1) << 24) /* descriptors of a process: fs.nr_open is a million */

/* Where entry n of an array of the other process lies: whatever it is, it is no pointer here. */
#define ENTRY(array, n) ((uint64_t)(uintptr_t)(array) + (uint64_t)(n) * sizeof *(array))

static bool is_in_use(const struct conn *conn, uint32_t generation)
{
    uint64_t record = conn->record;
    return (record & CONN_GENERATION) == generation && !(record & (CONN_DISOWNED | CONN_FORCED)) &&
           (conn->state & STATE_IN_USE || record & CONN_READ_SINCE_SHUT);
}

/* A block of the table's arrays: what each number is, which record it leads to, and the records. */
static uint8_t kind[BLOCK];
static uint32_t alias[BLOCK];
static struct conn conn[BLOCK];

/* Lists a number of the block, if it leads to a record in use that has not been taken yet: a bit
 * for each, since several may lead to one. False: the record can't be read. */
static bool list(int32_t pid, const struct table *table, uint32_t from, uint32_t i,
                 uint32_t generation, uint8_t *taken, struct in_use *in_use)
{
    uint32_t number = from + i;
    struct conn seen = conn[i];
    if (kind[i] == KIND_ALIAS && alias[i] < table->limit) {
        number = alias[i];
        if (!process_memory(pid, ENTRY(table->conn, number), &seen, sizeof seen))
            return false;
    } else if (kind[i] != KIND_CONN) {
        return true;
    }
    if (!is_in_use(&seen, generation) || taken[number / 8] >> (number % 8) & 1 ||
        in_use->fds == IN_USE_MOST)
        return true;
    taken[number / 8] |= (uint8_t)(1 << (number % 8));
    in_use->fd = grow(in_use->fd, in_use->fds, sizeof *in_use->fd);
    in_use->fd[in_use->fds++] = (int32_t)(from + i);
    return true;
}

bool memory_in_use(int32_t pid, uint64_t address, uint32_t generation, bool lists,
                   struct in_use *in_use)
{
    struct table table;
    *in_use = (struct in_use){0};
    if (!generation || generation & ~CONN_GENERATION ||
        !process_memory(pid, address, &table, sizeof table) || table.limit % TABLE_BLOCK ||
        table.limit > LIMIT_MOST || table.high > table.limit)
        return false;
    uint8_t *taken = lists ? calloc(table.limit / 8 + 1, 1) : NULL;
    bool could_read = taken || !lists;
    for (uint32_t from = 0; could_read && from < table.high; from += BLOCK) {
        uint32_t count = table.high - from < BLOCK ? table.high - from : BLOCK;
        could_read = process_memory(pid, ENTRY(table.conn, from), conn, count * sizeof *conn) &&
                     (!lists || (process_memory(pid, ENTRY(table.kind, from), kind, count) &&
                                 process_memory(pid, ENTRY(table.alias, from), alias,
                                                count * sizeof *alias)));
        for (uint32_t i = 0; could_read && i < count; i++) {
            in_use->count += is_in_use(&conn[i], generation);
            could_read = !lists || list(pid, &table, from, i, generation, taken, in_use);
        }
    }
    free(taken);
    return could_read;
}
