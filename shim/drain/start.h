/* SPDX-License-Identifier: MIT */
/*
 * start.h - what is set up when: settings at load, the rest before the first connection.
 *
 *   load       the constructor: settings are read, the environment is put in order; in the first
 *              process of a tree the signals are taken. Any other process is dormant from here on.
 *   serving    the first bind, listen, accept or inherited socket: the table is made, the signals
 *              are taken, the log says "ready".
 *   forked     a child finds out that it is one (fork_detect.h).
 *
 * Where anything fails the shim stands aside: one line in the log, and the program runs as if it
 * weren't there.
 */
#ifndef WEIR_START_H
#define WEIR_START_H

#include "base/common.h"
#include "conn/fork_detect.h"
#include "drain/stage.h"

/* Makes sure that the settings are read: another library's constructor may come before ours. */
void start_settled(void);

/* Makes sure that the process is serving. Returns false if the shim stands aside. */
bool start_serving_first(void);

static inline bool start_serving(void)
{
    bool serves = LIKELY(atomic_load_explicit(&stage, memory_order_acquire) == STAGE_SERVING) &&
                  LIKELY(fork_thread.child == CHILD_NONE) && !in_vfork_child();
    return serves || start_serving_first();
}

/* Prepares for a fork that shares descriptors. Makes no system call. start_clones: for a clone by
 * the program itself, of whose child libc does not know the pid; one on this process's memory (a
 * thread, a vfork) is none. */
void start_forks(void);
void start_clones(uint64_t flags);

#endif
