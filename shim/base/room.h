/* SPDX-License-Identifier: MIT */
/*
 * room.h - arrays by the number of a descriptor or record, whose memory follows what is used.
 *
 * Address space is reserved for as many entries as there may ever be, and memory asked for as far
 * as numbers are in use: where a kernel counts what is asked for, used or not (overcommit_memory=2,
 * RLIMIT_DATA), an array for the hard limit on descriptors could not be had, or would be counted
 * again in each child. What the program has said of memory that is mapped later (mlockall(2),
 * MCL_FUTURE) does not fill it.
 */
#ifndef WEIR_ROOM_H
#define WEIR_ROOM_H

#include "base/common.h"

struct room {
    void *_Atomic at;
    _Atomic uint32_t count; /* entries that there are */
    uint32_t most;          /* entries for which there is address space */
};

/*
 * Makes the first `count` entries, of so many bytes each, zeros where they are new; most: how many
 * there may ever be. Returns whether all of them are there. The
 * first call is one thread's alone.
 */
bool room_reach(struct room *room, size_t each, uint32_t count, uint32_t most);

/* The same by hand: address space, NULL where there is none; memory for a part of it; and
 * a part of it that is not needed, or none: each mapping is copied by each fork. */
void *room_reserve(size_t bytes);
bool room_commit(void *at, size_t bytes);
void room_give_back(void *at, size_t bytes);

#endif
