/* SPDX-License-Identifier: MIT */
/*
 * The program's handlers, and what they find and leave of the signals that are ours.
 *
 * The kernel saves the mask where it interrupts a thread, shows it to the handler (uc_sigmask) and
 * restores it, as the handler has edited it, when that returns. Of our signals it knows nothing. So
 * as long as a stop signal is ours it gets a function of ours for each handler that the program
 * installs. That one shows the handler the mask as the program believes it to be, takes the view
 * from there when it returns, and gives the kernel its own bits back. It makes no system call.
 *
 * While a handler runs, the kernel blocks what its action asks for (sa_mask), ours as well, as it
 * would without us. So a jump out of it by longjmp(3), which leaves the handler's mask in force,
 * does what it would do; one by siglongjmp(3) restores the view that sigsetjmp has left beside the
 * mask.
 *
 * A handler that the program installs by the system call itself (Go's runtime) is not wrapped. It
 * may find ours, and call it.
 */
#include "drain/signals_handlers.h"

#include "base/libc.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/signals_view.h"

/* ---- around a handler ---- */

/* What a handler has interrupted. */
struct frame {
    struct signals_thread thread; /* as it was */
    ucontext_t *at;
    uint64_t kernel; /* the mask as the kernel has saved it */
    uint64_t view;   /* and the part of it that the kernel does not know */
};

static void frame_begins(struct frame *frame, ucontext_t *at)
{
    frame->thread = signals_own;
    frame->at = at;
    frame->kernel = signals_word(&at->uc_sigmask);
    frame->view = signals_own.waits ? signals_own.base : signals_own.blocked;
    if (!signals_is_inside((uintptr_t)frame))
        frame->thread.frame = 0;
    signals_set_word(&at->uc_sigmask,
                     (frame->kernel & ~signals_own.held_back) | (frame->view & signals_hidden()));
    /* A wait's mask holds inside the system call: any other place has the one behind it. */
    if (!signals_wait_is_interrupted(at))
        signals_own.blocked = frame->view;
    signals_own.waits = false;
    signals_own.frame = (uintptr_t)frame;
}

static void frame_ends(const struct frame *frame)
{
    const struct signals_thread *thread = &frame->thread;
    uint64_t hidden = signals_hidden(), shown = signals_word(&frame->at->uc_sigmask);
    /* Blocked by the kernel itself: by the action of a handler that this one has interrupted. */
    uint64_t blocked = frame->kernel & ~thread->held_back;
    uint64_t view = (frame->view & ~hidden) | (shown & hidden & (frame->view | ~blocked));
    if (in_vfork_child()) /* a vfork child's mask is its own, the view its parent's */
        view = frame->view;
    uint64_t kernel = shown & ~(hidden & signals_held() & ~blocked);
    signals_set_word(&frame->at->uc_sigmask, kernel | (frame->kernel & thread->held_back));
    signals_own.held_back = thread->held_back;
    signals_own.wait_set = thread->wait_set;
    signals_own.changes = thread->changes;
    signals_own.base = thread->waits ? view : thread->base;
    signals_own.waits = thread->waits;
    signals_set_view(thread->waits ? thread->blocked : view);
    /* The outermost stays: until the kernel has restored the mask the thread is inside. */
    if (thread->frame)
        signals_own.frame = thread->frame;
}

void signals_call_program(const struct sigaction *action, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    struct frame frame;
    int sig = info->si_signo;
    uint64_t mask =
        signals_wait_is_interrupted(at) ? signals_own.wait_set : signals_word(&at->uc_sigmask);
    mask |= signals_word(&action->sa_mask);
    mask |= action->sa_flags & (int)SA_NODEFER ? 0 : SIGNAL_BIT(sig);
    frame_begins(&frame, at);
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(sig, info, context);
    else
        action->sa_handler(sig);
    frame_ends(&frame);
}

/* ---- the wrapped ones ---- */

/* The program's handlers where the kernel has `wrapper`; and those that were installed without
 * SA_SIGINFO, which some kernels want for a context (arch/arm64/kernel/signal.c). Who takes one
 * argument does not see the others: the kernel passes all three anyway, where it can. */
static _Atomic(signals_fn *) handlers[SIGNALS];
static _Atomic uint64_t plain;

static _Atomic bool wraps;
static _Atomic uint64_t installed; /* handlers that were installed before */

static void wrapper(int sig, siginfo_t *info, void *context)
{
    signals_fn *handler = atomic_load(&handlers[sig]);
    struct frame frame;
    frame_begins(&frame, context);
    handler(sig, info, context);
    frame_ends(&frame);
}

/* The program's handler for a signal, and whether it was installed without SA_SIGINFO. */
struct handler {
    signals_fn *function;
    bool plain;
};

static struct handler handler_of(int sig)
{
    return (struct handler){atomic_load(&handlers[sig]), atomic_load(&plain) & SIGNAL_BIT(sig)};
}

static void set_handler(int sig, struct handler handler)
{
    atomic_store(&handlers[sig], handler.function);
    if (handler.plain)
        atomic_fetch_or(&plain, SIGNAL_BIT(sig));
    else
        atomic_fetch_and(&plain, ~SIGNAL_BIT(sig));
}

/* A program that has it from the kernel may hand it back. */
static bool is_wrapped(const struct sigaction *action)
{
    return action->sa_sigaction == wrapper;
}

static void unwrap(struct sigaction *action, struct handler handler)
{
    if (!is_wrapped(action))
        return;
    action->sa_sigaction = handler.function;
    if (handler.plain)
        action->sa_flags &= ~SA_SIGINFO;
}

void signals_unwrap(int sig, struct sigaction *action)
{
    unwrap(action, handler_of(sig));
}

int signals_install(int sig, const struct sigaction *action, struct sigaction *old)
{
    bool is_signal = sig > 0 && sig < SIGNALS;
    bool handles = is_signal && action && signals_handles(action) && !is_wrapped(action);
    if (LIKELY(!atomic_load(&wraps)) || !is_signal) {
        if (handles && !in_vfork_child())
            signals_will_wrap(sig);
        return libc_sigaction(sig, action, old);
    }
    struct handler before = handler_of(sig);
    struct sigaction wrapping;
    bool wrap = handles && !in_vfork_child(); /* a vfork child's actions are its own */
    if (wrap) {
        wrapping = *action;
        wrapping.sa_sigaction = wrapper;
        wrapping.sa_flags |= SA_SIGINFO;
        set_handler(sig, (struct handler){action->sa_sigaction, !(action->sa_flags & SA_SIGINFO)});
        action = &wrapping;
    }
    int result = libc_sigaction(sig, action, old);
    if (result != 0 && wrap)
        set_handler(sig, before);
    if (result == 0 && old)
        unwrap(old, before);
    return result;
}

void signals_will_wrap(int sig)
{
    if (sig > 0 && sig < SIGNALS)
        atomic_fetch_or(&installed, SIGNAL_BIT(sig));
}

bool signals_wraps(void)
{
    return atomic_load(&wraps);
}

void signals_wrap(void)
{
    if (atomic_exchange(&wraps, true))
        return;
    uint64_t before = atomic_load(&installed);
    for (int sig = 1; sig < SIGNALS; sig++) {
        struct sigaction action;
        if (before & SIGNAL_BIT(sig) && !signals_is_ours(sig) &&
            libc_sigaction(sig, NULL, &action) == 0 && signals_handles(&action))
            signals_install(sig, &action, NULL);
    }
}
