/* SPDX-License-Identifier: MIT */
/*
 * signals.h - the program's view of the signals that are ours.
 *
 * For each of them the kernel has our handler, and no thread's kernel mask blocks it. What the
 * program installs, blocks and waits for is kept here, read back to it as it would expect, and
 * made true once a signal is handed over to it: because it has a use for the trigger itself, or
 * because a stop signal has waited for the drain. Handing over is lazy: a thread that should have
 * blocked the signal does so when it comes by, and sends it on.
 *
 * All functions are async-signal-safe and leave errno alone.
 */
#ifndef WEIR_SIGNALS_H
#define WEIR_SIGNALS_H

#include "base/common.h"
#include "conn/epoch.h"

#include <errno.h>
#include <signal.h>

#define SIGNAL_BIT(sig) (UINT64_C(1) << ((sig)-1))

/* The kernel knows 64 signals, libc's set has room for more: the first word is the kernel's. */
static inline uint64_t signals_word(const sigset_t *set)
{
    return set ? *(const uint64_t *)(const void *)set : 0;
}

/* The lowest signal of a set; 0: it is empty. */
static inline int signals_lowest(uint64_t set)
{
    return set ? __builtin_ctzll(set) + 1 : 0;
}

/* A handler of ours: info and context as sigaction(2) has them. */
typedef void signals_fn(int sig, siginfo_t *info, void *context);

/* Takes sig, keeping the program's action aside. False: refused by the kernel. */
bool signals_take(int sig, signals_fn *handler);

/* Has the program a handler of its own for it? */
bool signals_has_handler(int sig);
bool signals_is_ignored(int sig);
/* Would its default action be the program's answer: no handler, and no thread that waits for it? */
bool signals_is_default(int sig);
/* The same of one that this thread has got: it has no handler, and is not blocked here. */
bool signals_is_default_here(int sig);

/* Those that are ours and have not been handed over. */
uint64_t signals_held(void);

/* From now on these are the program's: signals_deliver gives them to it. */
void signals_hand_over(uint64_t set);

/* At once, where the program makes no secret of what it wants: its actions are the kernel's. */
void signals_give_back(uint64_t set);

/*
 * The program has a use of its own for these. They are handed over, and given back as soon as the
 * kernel's masks are what the threads believe: every other thread is called for that, where any has
 * ever blocked one of them.
 */
void signals_yield(uint64_t set);

/* In our handler, for a signal that has been handed over: the program gets it. False: it ignores
 * it, or its thread blocks it and another one will get it; is_directed: this one, in the end. */
bool signals_deliver(int sig, siginfo_t *info, void *context, bool is_directed);

/* The same in a vfork child, to which it came: it does to that child what it would without us. */
void signals_deliver_in_vfork_child(int sig, siginfo_t *info, void *context);

/*
 * Sends the process (tid 0) or a thread of it a signal with all that it came with; but its si_code
 * becomes SI_QUEUE where the kernel lets nobody but the first thread claim to be somebody else
 * (kernel/signal.c, do_rt_sigqueueinfo), and this process has not sent it itself.
 */
void signals_send(int tid, const siginfo_t *info);

/*
 * Makes every other thread of the process leave the system call that it waits in and begin it
 * again, so that one that waits in accept finds what its listener has become.
 */
void signals_wake_threads(void);
/* Whether it is that, or signals_yield, which a handler of ours was called for: then, there. */
bool signals_is_wake(const siginfo_t *info);
void signals_woken(const siginfo_t *info, void *context);

/* ---- what the program does ---- */

/* sigaction(sig, action, old). False: not one of ours, to be made by signals_install. */
bool signals_action(int sig, const struct sigaction *action, struct sigaction *old);

/*
 * The same of another signal. From signals_wrap on the kernel gets a function of ours for the
 * program's handler, which shows that the mask that the program believes in (signals_handlers.c);
 * the program reads back its own. signals_will_wrap: a handler was installed by another way, which
 * is not to be taken any more once signals_wraps.
 */
int signals_install(int sig, const struct sigaction *action, struct sigaction *old);
void signals_wrap(void);
bool signals_wraps(void);
void signals_will_wrap(int sig);

/* sigsetjmp has saved, or is about to save, the mask there; siglongjmp is about to restore it: what
 * the kernel does not know of it is restored here. */
struct __jmp_buf_tag;
void signals_jump_marked(struct __jmp_buf_tag *place);
void signals_jumps(struct __jmp_buf_tag *place);

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

/*
 * Whether the EINTR with which a call has just failed was the doing of our handler alone, so that
 * the call is to be made again.
 */
bool signals_must_restart(void);

/* Whether our handler may have ended one; and the same, errno being asked (libc) only then. */
static inline bool signals_must_call_again(void)
{
    return UNLIKELY(EPOCH_THREAD.interrupted) && errno == EINTR && signals_must_restart();
}

/* Has a call failed, and not by our doing? (Most that fail have nothing to read: EAGAIN.) */
static inline bool signals_left_alone(ssize_t result)
{
    return result < 0 && LIKELY(!EPOCH_THREAD.interrupted);
}

/* To be called by our handler, first: tells the above. */
void signals_interrupted(const void *context);
/* The same, last: a wait that is made again there already (signals_waits_on) needs no telling. */
void signals_goes_on(void *context);

/*
 * Whether an epoll_wait without a limit waits on by itself where our handler ended it: our handler
 * puts the thread back to before the system call, as the kernel does under SA_RESTART for others.
 * For that it has to know the call by its code, which is looked at here, after epoch_make.
 */
extern HIDDEN bool signals_waits_on;
void signals_know_wait(const void *epoll_wait);
/* Before a call that waits: an earlier interruption was another call's. */
static inline void signals_about_to_wait(void)
{
    epoch_lives_on();
    epoch_thread.interrupted = false;
}

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
