/* SPDX-License-Identifier: MIT */
#include "drain/signals.h"

#include "base/libc.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/text.h"
#include "conn/fork_detect.h"
#include "drain/signals_eintr.h"
#include "drain/signals_handlers.h"
#include "drain/signals_view.h"

#include <errno.h>

signals_fn *signals_our_handler;
static _Atomic uint64_t off_stack; /* our handler is not called on the thread's own signal stack */

/* The program has threads take signals that come at any time on signal stacks of their own. Go
 * does, whose threads may run on stacks too small for a handler. */
static _Atomic bool uses_stacks;

/* Of what a thread brings upon itself. A stack that is for these alone may be one for all threads
 * (Varnish): two of our handlers at once would destroy each other's frames there. */
#define FAULTS                                                                            \
    (SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGFPE) | \
     SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGSYS) | SIGNAL_BIT(SIGABRT))

static bool asks_for_stack(int sig, const struct sigaction *action)
{
    return sig > 0 && sig < SIGNALS && !(SIGNAL_BIT(sig) & FAULTS) && signals_handles(action) &&
           action->sa_flags & SA_ONSTACK;
}

/* Installs ours. A handler of the program's that it calls is to find the stack that it asked for.
 */
static bool install_ours(int sig, bool on_stack, struct sigaction *old)
{
    struct sigaction action = {.sa_sigaction = signals_our_handler,
                               .sa_flags = SA_SIGINFO | SA_RESTART | (on_stack ? SA_ONSTACK : 0)};
    sigfillset(&action.sa_mask);
    if (libc_sigaction(sig, &action, old) != 0)
        return false;
    if (on_stack)
        atomic_fetch_and(&off_stack, ~SIGNAL_BIT(sig));
    else
        atomic_fetch_or(&off_stack, SIGNAL_BIT(sig));
    return true;
}

static void choose_stack(int sig)
{
    const struct sigaction *action = signals_program(sig);
    bool on_stack =
        signals_handles(action) ? action->sa_flags & SA_ONSTACK : atomic_load(&uses_stacks);
    if (on_stack == !!(atomic_load(&off_stack) & SIGNAL_BIT(sig)))
        install_ours(sig, on_stack, NULL);
}

static void note_stacks(int sig, const struct sigaction *action)
{
    if (LIKELY(!asks_for_stack(sig, action)) || in_vfork_child() ||
        atomic_exchange(&uses_stacks, true))
        return;
    for (int ours = 1; ours < SIGNALS; ours++)
        if (signals_is_ours(ours))
            choose_stack(ours);
}

/* The kernel's struct sigaction. */
struct kernel_action {
    sighandler_t handler;
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* Reads the handler and the flags that the kernel has. Libc's sigaction would change errno. */
static bool read_action(int sig, struct sigaction *action)
{
    struct kernel_action kernel;
    if (sys4(SYS_rt_sigaction, sig, NULL, &kernel, sizeof kernel.mask) != 0)
        return false;
    *action = (struct sigaction){.sa_handler = kernel.handler, .sa_flags = (int)kernel.flags};
    return true;
}

/* Of handlers that were installed by the system call itself. */
static void look_for_stacks(void)
{
    struct sigaction action;
    for (int sig = 1; sig < SIGNALS && !atomic_load(&uses_stacks); sig++)
        if (!signals_is_ours(sig) && read_action(sig, &action))
            note_stacks(sig, &action);
}

bool signals_take(int sig)
{
    uint64_t mask = SIGNAL_BIT(sig), before = 0;
    atomic_fetch_and(&signals_handed_over, ~SIGNAL_BIT(sig)); /* it serves only now */
    if (signals_is_ours(sig))
        return true;
    signals_keep_action(sig);
    look_for_stacks();
    if (!install_ours(sig, atomic_load(&uses_stacks), signals_program(sig)))
        return false;
    signals_unwrap(sig, signals_program(sig));
    choose_stack(sig);
    atomic_fetch_or(&signals_ours, SIGNAL_BIT(sig));
    /* A mask is inherited across exec: who started us may have blocked it. */
    signals_own.settled &= ~mask;
    sys4(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &before, sizeof mask);
    if (before & mask) {
        signals_set_view(signals_own.blocked | mask); /* first: it may be pending */
        sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, NULL, sizeof mask);
    }
    return true;
}

bool signals_has_handler(int sig)
{
    if (signals_is_ours(sig))
        return signals_handles(signals_program(sig));
    struct sigaction action;
    return libc_sigaction(sig, NULL, &action) == 0 && signals_handles(&action);
}

bool signals_is_ignored(int sig)
{
    return signals_program(sig)->sa_handler == SIG_IGN;
}

bool signals_is_default(int sig)
{
    struct sigaction action;
    if (atomic_load(&signals_ever_blocked) & SIGNAL_BIT(sig))
        return false;
    if (signals_is_ours(sig))
        return signals_program(sig)->sa_handler == SIG_DFL;
    return read_action(sig, &action) && action.sa_handler == SIG_DFL;
}

bool signals_is_default_here(int sig)
{
    return signals_is_ours(sig) && !(signals_own.blocked & signals_hidden() & SIGNAL_BIT(sig)) &&
           signals_program(sig)->sa_handler == SIG_DFL;
}

void signals_hand_over(uint64_t set)
{
    atomic_fetch_or(&signals_handed_over, set & atomic_load(&signals_ours));
}

/* The kernel has the program's own action from now on. Libc would add a flag of its own to one that
 * it has never set, which the program would read back (SA_RESTORER). */
static void give_back(int sig)
{
    const struct sigaction *action = signals_program(sig);
    struct kernel_action plain = {action->sa_handler, (unsigned int)action->sa_flags, NULL,
                                  signals_word(&action->sa_mask)};
    if (signals_handles(action))
        signals_install(sig, action, NULL);
    else
        sys4(SYS_rt_sigaction, sig, &plain, NULL, sizeof plain.mask);
    atomic_fetch_and(&signals_ours, ~SIGNAL_BIT(sig));
}

void signals_give_back(uint64_t set)
{
    for (int sig = 1; sig < SIGNALS; sig++)
        if (set & atomic_load(&signals_ours) & SIGNAL_BIT(sig))
            give_back(sig);
}

void signals_send(int tid, const siginfo_t *info)
{
    long pid = sys0(SYS_getpid);
    siginfo_t again = *info;
    for (int tries = 0; tries < 2; tries++) {
        long result = tid ? sys4(SYS_rt_tgsigqueueinfo, pid, tid, again.si_signo, &again)
                          : sys3(SYS_rt_sigqueueinfo, pid, again.si_signo, &again);
        if (result != -EPERM)
            return;
        /* What kill(2) and tgkill(2) make, no thread may queue but for itself (kernel/signal.c,
         * do_rt_sigqueueinfo): where this process has sent it, the same call makes the same. */
        if (again.si_pid == pid && again.si_code == SI_USER && !tid) {
            sys2(SYS_kill, pid, again.si_signo);
            return;
        }
        if (again.si_pid == pid && again.si_code == SI_TKILL && tid) {
            sys3(SYS_tgkill, pid, tid, again.si_signo);
            return;
        }
        again.si_code = SI_QUEUE;
    }
}

bool signals_deliver(int sig, siginfo_t *info, void *context, bool is_directed)
{
    if (signals_hidden() & SIGNAL_BIT(sig)) {
        signals_settle_after(SIGNAL_BIT(sig), context);
        if (signals_view_at(context) & SIGNAL_BIT(sig)) {
            /* From here on the kernel blocks it in this thread as well. The signal waits for
             * another, for a signalfd or for a sigwait; or for the end of the call. */
            signals_add_to_mask(context, SIGNAL_BIT(sig));
            if (signals_own.changes || signals_wait_is_interrupted(context))
                signals_own.held_back |= SIGNAL_BIT(sig);
            signals_send(is_directed ? (int)sys0(SYS_gettid) : 0, info);
            return false;
        }
    }
    struct sigaction action = *signals_program(sig);
    if (action.sa_handler == SIG_IGN)
        return false;
    fork_thread.interrupted = false; /* the EINTR is the program's, as it would be without us */
    fork_thread.cut_short = 0;
    if (!signals_handles(&action)) {
        give_back(sig);
        signals_send((int)sys0(SYS_gettid), info);
        return true;
    }
    if (!(action.sa_flags & (int)SA_RESTART))
        signals_end_call(context);
    if (action.sa_flags & (int)SA_RESETHAND)
        signals_program(sig)->sa_handler = SIG_DFL;
    /* Where some thread has still to be stopped from taking it our handler stays. */
    if (!(atomic_load(&signals_ever_blocked) & SIGNAL_BIT(sig)))
        give_back(sig);
    signals_call_program(&action, info, context);
    return true;
}

void signals_deliver_in_vfork_child(int sig, siginfo_t *info, void *context)
{
    struct sigaction action = *signals_program(sig), none = {.sa_handler = SIG_DFL};
    if (signals_own.blocked & signals_hidden() & SIGNAL_BIT(sig)) {
        signals_add_to_mask(context, SIGNAL_BIT(sig));
        signals_send(0, info);
    } else if (signals_handles(&action)) {
        signals_call_program(&action, info, context);
    } else if (action.sa_handler == SIG_DFL && libc_sigaction(sig, &none, NULL) == 0) {
        signals_send(0, info);
    }
}

/* ---- what the program does ---- */

bool signals_action(int sig, const struct sigaction *action, struct sigaction *old)
{
    if (action)
        note_stacks(sig, action);
    if (!signals_is_ours(sig))
        return false;
    if (in_vfork_child()) {
        /* A vfork child's actions are its own, our memory is its parent's: it sees what the program
         * has where the kernel has our handler, and sets the kernel's. */
        struct sigaction kernel;
        if (libc_sigaction(sig, action, &kernel) != 0)
            return false; /* and again, for errno */
        if (old)
            *old = kernel.sa_sigaction == signals_our_handler ? *signals_program(sig) : kernel;
        return true;
    }
    struct sigaction before = *signals_program(sig);
    if (action) {
        *signals_program(sig) = *action;
#ifdef __x86_64__
        signals_program(sig)->sa_flags |=
            0x04000000; /* SA_RESTORER, which libc sets and reads back */
#endif
        if (SIGNAL_BIT(sig) & atomic_load(&signals_handed_over) &
            ~atomic_load(&signals_ever_blocked))
            give_back(sig); /* nobody has to be stopped from taking it */
        else if (signals_is_ours(sig))
            choose_stack(sig);
        else
            signals_install(sig, action, NULL); /* given back in the middle of this */
    }
    if (old)
        *old = before;
    return true;
}

/* ---- interrupting the program's threads ---- */

/* What a signal of ours carries that is only to interrupt; and the one of signals_yield. */
static char wake_cookie, yield_cookie;

bool signals_is_wake(const siginfo_t *info)
{
    return info->si_code == SI_QUEUE &&
           (info->si_value.sival_ptr == &wake_cookie || info->si_value.sival_ptr == &yield_cookie);
}

/* The signal to interrupt with: the kernel must have our handler for it. 0: there is none. */
static int wake_signal(void)
{
    uint64_t held = signals_held();
    for (int sig = 64; sig > 0; sig--)
        if (held & SIGNAL_BIT(sig))
            return sig;
    return 0;
}

struct sending {
    siginfo_t info;
    int threads;
};

static void send_to_thread(int dir, const char *name, void *context)
{
    struct sending *to = context;
    long tid = (long)text_take_number(&name, 10);
    (void)dir;
    if (tid && tid != sys0(SYS_gettid))
        to->threads += !to->info.si_signo || sys4(SYS_rt_tgsigqueueinfo, to->info.si_pid, tid,
                                                  to->info.si_signo, &to->info) == 0;
}

/* Sends a cookie to every other thread. Returns how many there are; -1: they can't be told. */
static int send_to_threads(char *cookie)
{
    struct sending to = {.info = {.si_signo = wake_signal(), .si_code = SI_QUEUE}};
    int pid = (int)sys0(SYS_getpid), sig = to.info.si_signo;
    to.info.si_pid = pid;
    to.info.si_value.sival_ptr = cookie;
    if (proc_each_file("/proc/self/task", send_to_thread, &to) < 0) {
        if (sig) /* a chroot: the first thread is the only one that we know */
            sys4(SYS_rt_tgsigqueueinfo, pid, pid, sig, &to.info);
        return -1;
    }
    return to.threads && !sig ? -1 : to.threads;
}

void signals_wake_threads(void)
{
    if (wake_signal())
        send_to_threads(&wake_cookie);
}

/* ---- a signal that is the program's ---- */

static _Atomic uint64_t yields;  /* to be given back once every thread has come by */
static _Atomic int yields_await; /* how many have still to */
#define BEING_SENT (1 << 24)

static void threads_came_by(int count)
{
    if (atomic_fetch_sub(&yields_await, count) == count)
        signals_give_back(atomic_exchange(&yields, 0));
}

void signals_woken(const siginfo_t *info, void *context)
{
    signals_settle_after(atomic_load(&signals_handed_over) & signals_hidden(), context);
    if (info->si_value.sival_ptr == &yield_cookie && !signals_own.changes)
        threads_came_by(1);
}

void signals_yield(uint64_t set)
{
    int none = 0;
    set &= atomic_load(&signals_ours);
    signals_hand_over(set);
    if (!(set & atomic_load(&signals_ever_blocked)) || sys_is_sandboxed()) {
        signals_settle();
        signals_give_back(set);
    } else if (atomic_compare_exchange_strong(&yields_await, &none, BEING_SENT)) {
        atomic_store(&yields, set);
        signals_settle();
        int threads = send_to_threads(&yield_cookie);
        threads_came_by(threads < 0 ? BEING_SENT - 1 : BEING_SENT - threads);
    }
}
