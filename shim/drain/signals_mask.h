/* SPDX-License-Identifier: MIT */
/*
 * signals_mask.h - what the program blocks: by sigprocmask, in a wait, in a new thread, across
 * exec, in a sigjmp_buf.
 */
#ifndef WEIR_SIGNALS_MASK_H
#define WEIR_SIGNALS_MASK_H

#include "base/common.h"

#include <signal.h>

/*
 * Prepares sigprocmask(how, set, old): the kernel is to get *kernel instead of *set. After the call
 * signals_masked corrects what the kernel has put into *old.
 */
struct signals_mask {
    uint64_t before, after, hidden;
};

void signals_mask(int how, const sigset_t *set, sigset_t *kernel, struct signals_mask *mask);
void signals_masked(const struct signals_mask *mask, bool failed, sigset_t *old);

/*
 * Prepare a call that replaces the mask while it waits (ppoll, sigsuspend). *kernel is the mask for
 * it, to be asked for anew each time that the call is made. signals_wait_ends restores the view.
 */
void signals_wait_begins(const sigset_t *set, struct signals_mask *mask);
void signals_wait_mask(const sigset_t *set, sigset_t *kernel);
void signals_wait_ends(const struct signals_mask *mask);

/*
 * Prepares sigwait and its kin: the kernel is to get *kernel instead of *set, for now. Blocks what
 * of set is the program's by now in this thread: only a blocked signal is waited for.
 */
void signals_accepts(const sigset_t *set, sigset_t *kernel);

/*
 * Prepares a new thread, which inherits the mask of the calling one. Returns NULL if it can run as
 * it is. Else it is to run signals_begin_thread with what is returned; signals_no_thread undoes
 * that where it could not be made.
 */
struct signals_start *signals_before_thread(void *(*run)(void *), void *arg);
void *signals_begin_thread(void *start);
void signals_no_thread(struct signals_start *start);

/* Begins anew in a child, where no thread of its parent's begins. */
void signals_forked(void);

/* Ends a vfork, in the parent, whose mask is its own again. */
void signals_vfork_over(void);

/* Stand around exec and posix_spawn: the new program gets the mask and the ignored signals that
 * this one believes it has. */
struct signals_exec {
    uint64_t blocked, ignored;
    struct sigaction kept;
};
void signals_exec_begins(struct signals_exec *exec);
void signals_exec_ends(const struct signals_exec *exec);

/* sigsetjmp has saved, or is about to save, the mask there; siglongjmp is about to restore it: what
 * the kernel does not know of it is restored here. */
struct __jmp_buf_tag;
void signals_jump_marked(struct __jmp_buf_tag *place);
void signals_jumps(struct __jmp_buf_tag *place);

#endif
