/* SPDX-License-Identifier: MIT */
/*
 * signals_mask.h - what the program blocks: by sigprocmask, in a wait, in a new thread, across
 * exec.
 */
#ifndef WEIR_SIGNALS_MASK_H
#define WEIR_SIGNALS_MASK_H

#include "base/common.h"

#include <signal.h>

/*
 * sigprocmask(how, set, old): *kernel is what to tell the kernel instead of *set. After the call
 * signals_masked, with what it gave in *old (which it puts right).
 */
struct signals_mask {
    uint64_t before, after, hidden;
};

void signals_mask(int how, const sigset_t *set, sigset_t *kernel, struct signals_mask *mask);
void signals_masked(const struct signals_mask *mask, bool failed, sigset_t *old);

/*
 * A call that replaces the mask while it waits (ppoll, sigsuspend). *kernel is the mask for it, to
 * be asked anew when it is made again. signals_wait_ends restores the view.
 */
void signals_wait_begins(const sigset_t *set, struct signals_mask *mask);
void signals_wait_mask(const sigset_t *set, sigset_t *kernel);
void signals_wait_ends(const struct signals_mask *mask);

/*
 * sigwait and its kin wait for set: *kernel is the set to tell the kernel, for now. Blocks for this
 * thread what of it is the program's by now: those the call can meet.
 */
void signals_accepts(const sigset_t *set, sigset_t *kernel);

/*
 * The calling thread is about to make another, which inherits its mask. NULL: that is to run as it
 * is; else it is to run signals_begin_thread with what is returned, and signals_no_thread is to be
 * told where it could not be made.
 */
struct signals_start *signals_before_thread(void *(*run)(void *), void *arg);
void *signals_begin_thread(void *start);
void signals_no_thread(struct signals_start *start);

/* In a child: no thread of its parent's begins here. */
void signals_forked(void);

/* In the parent: the mask is its own again. */
void signals_vfork_over(void);

/* Around exec and posix_spawn. */
struct signals_exec {
    uint64_t blocked, ignored;
    struct sigaction kept;
};
void signals_exec_begins(struct signals_exec *exec);
void signals_exec_ends(const struct signals_exec *exec);

#endif
