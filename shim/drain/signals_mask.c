/* SPDX-License-Identifier: MIT */
#include "drain/signals_mask.h"

#include "base/libc.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/signals.h"
#include "drain/signals_view.h"

#include <errno.h>
#include <setjmp.h>

void signals_mask(int how, const sigset_t *set, sigset_t *kernel, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&signals_ours);
    if (UNLIKELY(in_vfork_child())) {
        /* A vfork child: its own mask, our parent's memory. Only the kernel is told, and hands it
         * on across exec. */
        uint64_t blocked = signals_hidden() & signals_own.blocked;
        if (set && blocked)
            sys4(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, NULL, sizeof blocked);
        signals_own.in_vfork_child = signals_own.in_vfork_child || set;
        mine = 0;
    } else {
        signals_settle();
    }
    mask->before = mask->after = signals_own.blocked;
    mask->hidden = signals_hidden();
    if (!set)
        return;
    *kernel = *set;
    uint64_t wanted = signals_word(set) & mine;
    switch (how) {
    case SIG_BLOCK:
        mask->after |= wanted;
        break;
    case SIG_UNBLOCK:
        mask->after &= ~wanted;
        break;
    case SIG_SETMASK:
        mask->after = (mask->after & ~mine) | wanted;
        break;
    }
    if (how !=
        SIG_UNBLOCK) /* what of ours the kernel blocks was handed over: let it be unblocked */
        signals_set_word(kernel, signals_word(set) & ~mask->hidden);
    /* Before the call: what it lets in comes in the middle of it. */
    signals_own.waits = false;
    signals_own.changes = true;
    if (mask->after != mask->before)
        signals_set_view(mask->after);
}

void signals_masked(const struct signals_mask *mask, bool failed, sigset_t *old)
{
    if (failed && mask->after != mask->before)
        signals_set_view(mask->before);
    if (!failed && old) /* what our handler has blocked meanwhile the program has not */
        signals_set_word(old, (signals_word(old) & ~signals_own.held_back) |
                                  (mask->before & mask->hidden));
    signals_own.changes = false;
    signals_let_through();
}

void signals_wait_begins(const sigset_t *set, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&signals_ours);
    signals_settle();
    mask->after =
        signals_own.base; /* of a wait that a handler has interrupted which makes this one */
    mask->before = signals_own.base = signals_own.blocked;
    signals_own.wait_set = signals_word(set);
    atomic_signal_fence(memory_order_seq_cst);
    signals_own.waits = true;
    atomic_signal_fence(memory_order_seq_cst);
    signals_set_view((mask->before & ~mine) | (signals_word(set) & mine));
}

void signals_wait_mask(const sigset_t *set, sigset_t *kernel)
{
    *kernel = *set;
    signals_set_word(kernel, signals_word(set) & ~signals_held());
}

void signals_wait_ends(const struct signals_mask *mask)
{
    signals_own.blocked = signals_own.base; /* what a handler has left of it */
    atomic_signal_fence(memory_order_seq_cst);
    signals_own.waits = false;
    atomic_signal_fence(memory_order_seq_cst);
    signals_own.base = mask->after;
    signals_let_through();
}

void signals_accepts(const sigset_t *set, sigset_t *kernel)
{
    signals_settle();
    signals_wait_mask(set, kernel);
}

/*
 * A thread believes that it blocks what its maker does. That is told to each by itself: for as long
 * as it takes to begin, in a place of these. One whose maker believes that it blocks nothing of
 * ours is told nothing.
 */
static LATE struct signals_start {
    _Atomic bool taken;
    void *(*run)(void *);
    void *arg;
    uint64_t blocked, settled;
} starts[256];
static _Atomic uint32_t starts_used;

static bool take_start(uint32_t i)
{
    return !atomic_load_explicit(&starts[i].taken, memory_order_relaxed) &&
           !atomic_exchange(&starts[i].taken, true);
}

struct signals_start *signals_before_thread(void *(*run)(void *), void *arg)
{
    fork_lives_on();
    signals_settle();
    if (LIKELY(!signals_own.blocked && !signals_own.settled))
        return NULL;
    uint32_t taken = list_take(&starts_used, COUNT_OF(starts), take_start);
    /* So many begin at once: as the kernel has it, for want of a better word. */
    if (taken == COUNT_OF(starts))
        return NULL;
    struct signals_start *found = &starts[taken];
    found->run = run;
    found->arg = arg;
    found->blocked = signals_own.blocked;
    found->settled = signals_own.settled;
    return found;
}

void signals_no_thread(struct signals_start *start)
{
    atomic_store(&start->taken, false);
}

void *signals_begin_thread(void *start)
{
    struct signals_start *at = start;
    void *(*run)(void *) = at->run;
    void *arg = at->arg;
    signals_own.blocked = at->blocked;
    signals_own.settled = at->settled;
    signals_no_thread(at);
    return run(arg);
}

void signals_forked(void)
{
    for (uint32_t i = 0; i < atomic_load(&starts_used); i++)
        atomic_store(&starts[i].taken, false); /* the threads are the parent's */
}

/* ---- exec ---- */

void signals_vfork_over(void)
{
    signals_own.in_vfork_child = false;
}

/*
 * What exec hands on is what the kernel has (signal(7)): the mask, and which signals are ignored.
 * For as long as it takes, that is what the program believes.
 */
void signals_exec_begins(struct signals_exec *exec)
{
    uint64_t mine = atomic_load(&signals_ours), mask = signals_own.blocked & signals_hidden();
    exec->blocked = exec->ignored = 0;
    if (!mine)
        return;
    for (int sig = 1; sig < SIGNALS; sig++) {
        struct sigaction now, ignore = {.sa_handler = SIG_IGN};
        if (!(mine & SIGNAL_BIT(sig)) || signals_program(sig)->sa_handler != SIG_IGN ||
            libc_sigaction(sig, NULL, &now) != 0 || now.sa_sigaction != signals_our_handler)
            continue; /* a vfork child may have set its own */
        libc_sigaction(sig, &ignore, &exec->kept);
        exec->ignored |= SIGNAL_BIT(sig);
    }
    if (mask) {
        uint64_t before = 0;
        sys4(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, sizeof mask);
        exec->blocked = mask & ~before;
    }
}

void signals_exec_ends(const struct signals_exec *exec)
{
    int saved = errno;
    for (int sig = 1; sig < SIGNALS; sig++)
        if (exec->ignored & SIGNAL_BIT(sig))
            libc_sigaction(sig, &exec->kept, NULL);
    if (exec->blocked)
        sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &exec->blocked, NULL, sizeof exec->blocked);
    errno = saved;
}

/* ---- jumps ---- */

#ifdef __GLIBC__
/*
 * The kernel's mask is the first word of a jmp_buf's sigset_t, and on x86-64 the place of a shadow
 * stack comes behind it (glibc, sysdeps/unix/sysv/linux/x86/setjmpP.h). The last words are
 * nobody's.
 */
#define JUMP_MARK UINT64_C(0x7765697276696577)

struct jump_mask {
    uint64_t kernel, rest[12];
    uint64_t mark, view, hidden;
};

_Static_assert(sizeof(struct jump_mask) == sizeof(((sigjmp_buf *)NULL)[0]->__saved_mask),
               "lies in its place");

static struct jump_mask *mask_of(struct __jmp_buf_tag *place)
{
    return (struct jump_mask *)(void *)&place->__saved_mask;
}

void signals_jump_marked(struct __jmp_buf_tag *place)
{
    struct jump_mask *mask = mask_of(place);
    mask->mark = JUMP_MARK;
    mask->view = signals_own.blocked;
    mask->hidden = signals_hidden();
}

void signals_jumps(struct __jmp_buf_tag *place)
{
    struct jump_mask *saved = mask_of(place);
    signals_own.waits = signals_own.changes = false; /* the call that it may have been in is left */
    if (!place->__mask_was_saved || saved->mark != JUMP_MARK)
        return;
    /* As if the program set the mask that it had there: some may have become ours since, or not be
     * so any more. */
    sigset_t set, kernel;
    struct signals_mask mask;
    sigemptyset(&set);
    signals_set_word(&set, saved->kernel | (saved->view & saved->hidden));
    signals_mask(SIG_SETMASK, &set, &kernel, &mask);
    saved->kernel = signals_word(&kernel);
    signals_jump_marked(place);
    signals_own.held_back = 0;
    signals_own.changes = false; /* nobody will say that the kernel has been told */
}
#endif
