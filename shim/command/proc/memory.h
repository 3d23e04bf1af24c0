/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the connections in use of a process, read out of its memory (fdtable.h).
 */
#ifndef WEIR_COMMAND_MEMORY_H
#define WEIR_COMMAND_MEMORY_H

#include "base/common.h"

#define IN_USE_MOST 65536 /* so many are listed */

struct in_use {
    uint64_t count;
    int32_t *fd; /* malloc'ed: their descriptors, if they are listed */
    size_t fds;
};

/*
 * Counts the connections in use of a process, whose `struct table` lies at this address and whose
 * records are of this generation, and lists them, if asked to. Trusts nothing that it reads there.
 * False: the memory may not be read, or makes no sense.
 */
bool memory_in_use(int32_t pid, uint64_t table, uint32_t generation, bool lists,
                   struct in_use *in_use);

#endif
