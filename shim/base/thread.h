/* SPDX-License-Identifier: MIT */
/* thread.h - the beginning and the end of a thread that libc does not know (thread.S). */
#ifndef WEIR_THREAD_H
#define WEIR_THREAD_H

#include "base/common.h"

#include <sched.h>

#define THREAD_FLAGS                                                                    \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_SETTLS | CLONE_PARENT_SETTID)

/*
 * Starts a thread of this process on the given stack, with a TLS block of its own (tls: where the
 * thread pointer is to point), that runs entry and never returns from it. flags: THREAD_FLAGS. The
 * caller has blocked the signals that the thread is not to take. Returns its tid or -errno; the tid
 * is in *tid before the thread begins.
 */
HIDDEN long thread_clone(long flags, void *stack_top, _Atomic int32_t *tid, long nothing, void *tls,
                         void (*entry)(void));

/*
 * Ends the calling thread if *word is still expected, and sets it to next in the same instant: from
 * then on the thread's stack is free, for not one instruction after it uses the stack.
 * Returns only if *word was something else.
 */
HIDDEN void thread_exit_if(_Atomic uint32_t *word, uint32_t expected, uint32_t next);

#endif
