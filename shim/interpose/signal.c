/* SPDX-License-Identifier: MIT */
/*
 * sigaction, the masks, sigwait and their relations: the program's view of the signals that are
 * ours. pthread_create, because a thread inherits its maker's mask.
 */
#include "conn/fork_detect.h"
#include "drain/stop_signals.h"
#include "drain/trigger.h"
#include "base/libc.h"
#include "drain/signals.h"
#include "drain/signals_eintr.h"
#include "drain/signals_handlers.h"
#include "drain/signals_mask.h"
#include "base/sys.h"
#include "conn/fdtable.h"
#include "wait.h"

#include <errno.h>

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    bool handles = action && action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
    if (handles && sig > 0 && sig < 65)
        trigger_yield(SIGNAL_BIT(sig), false);
    return signals_action(sig, action, old) ? 0 : signals_install(sig, action, old);
}

static sighandler_t install(int sig, sighandler_t handler, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&action.sa_mask);
    if (!(flags & (int)SA_NODEFER))
        sigaddset(&action.sa_mask, sig); /* as libc's own signal has it */
    return sigaction(sig, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static _Atomic uint64_t interrupting; /* what siginterrupt has said: libc keeps its own */

/* Whether libc's own functions may see to it: they call no other of libc's by way of us. */
static bool is_libcs(int sig)
{
    return !signals_wraps() && !signals_action(sig, NULL, NULL);
}

/* signal(2): the BSD semantics, unless siginterrupt has said otherwise. */
EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    bool interrupts = sig > 0 && sig < 65 && atomic_load(&interrupting) & SIGNAL_BIT(sig);
    if (handler != SIG_ERR && !is_libcs(sig))
        return install(sig, handler, interrupts ? 0 : SA_RESTART);
    signals_will_wrap(sig);
    return libc_signal(sig, handler);
}

EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
    return install(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

EXPORT int siginterrupt(int sig, int interrupts)
{
    struct sigaction action;
    bool libcs = is_libcs(sig);
    if ((libcs ? libc_siginterrupt(sig, interrupts) : sigaction(sig, NULL, &action)) < 0)
        return -1;
    if (interrupts)
        atomic_fetch_or(&interrupting, SIGNAL_BIT(sig));
    else
        atomic_fetch_and(&interrupting, ~SIGNAL_BIT(sig));
    if (libcs)
        return 0;
    action.sa_flags =
        interrupts ? action.sa_flags & (int)~SA_RESTART : action.sa_flags | (int)SA_RESTART;
    return sigaction(sig, &action, NULL);
}

#define MASKS(name)                                               \
    EXPORT int name(int how, const sigset_t *set, sigset_t *old)  \
    {                                                             \
        sigset_t kernel;                                          \
        struct signals_mask mask;                                 \
        signals_mask(how, set, &kernel, &mask);                   \
        int result = libc_##name(how, set ? &kernel : NULL, old); \
        signals_masked(&mask, result != 0, old);                  \
        return result;                                            \
    }

MASKS(sigprocmask)
MASKS(pthread_sigmask)

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    struct signals_start *start = signals_before_thread(run, arg);
    int result = start ? libc_pthread_create(thread, attr, signals_begin_thread, start)
                       : libc_pthread_create(thread, attr, run, arg);
    if (start && result != 0)
        signals_no_thread(start);
    return result;
}

EXPORT int sigsuspend(const sigset_t *set)
{
    sigset_t kernel;
    struct signals_mask mask;
    int result;
    signals_wait_begins(set, &mask);
    do {
        signals_about_to_wait();
        signals_wait_mask(set, &kernel);
        result = libc_sigsuspend(&kernel);
    } while (signals_must_restart());
    signals_wait_ends(&mask);
    return result;
}

/*
 * The call itself. musl's begins it again after EINTR, for the signals that it was given: what has
 * been handed over to the program meanwhile is none of them. So there we make it, and the program
 * sees no EINTR all the same; cancelled like any other of musl's, for as long as it waits.
 */
#ifdef __GLIBC__
#define SIGTIMEDWAIT_HIDES_EINTR false
#define wait_for_signal libc_sigtimedwait
#else
#define SIGTIMEDWAIT_HIDES_EINTR true
static int wait_for_signal(const sigset_t *set, siginfo_t *info, const struct timespec *limit)
{
    int type;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    long got = sys4(SYS_rt_sigtimedwait, set, info, limit, sizeof(uint64_t));
    pthread_setcanceltype(type, NULL);
    if (got >= 0)
        return (int)got;
    errno = (int)-got;
    return -1;
}
#endif

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *limit)
{
    sigset_t kernel;
    struct timespec left;
    const struct timespec *now = limit;
    trigger_yield(signals_word(set), true);
    int64_t began = wait_begins(limit);
    for (;;) {
        signals_accepts(set, &kernel);
        int sig = wait_for_signal(&kernel, info, now);
        if (sig > 0 && info)
            stop_signals_restore_code(info);
        if (sig >= 0 || errno != EINTR || (!signals_must_restart() && !SIGTIMEDWAIT_HIDES_EINTR))
            return sig;
        now = wait_left(limit, began, &left);
    }
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    return sigtimedwait(set, info, NULL);
}

/* sigwait(3): does not fail with EINTR. */
EXPORT int sigwait(const sigset_t *set, int *sig)
{
    int got;
    do {
        got = sigtimedwait(set, NULL, NULL);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno;
    *sig = got;
    return 0;
}

EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
    trigger_yield(signals_word(set), true);
    int result = libc_signalfd(fd, set, flags);
    if (result >= 0 && !in_vfork_child())
        table_set(result, KIND_SIGNALFD);
    return result;
}

/* System V's: sigset(3). */
static int mask_one(int how, int sig, sigset_t *old)
{
    sigset_t set;
    sigemptyset(&set);
    return sigaddset(&set, sig) < 0 ? -1 : sigprocmask(how, &set, old);
}

EXPORT int sighold(int sig)
{
    return mask_one(SIG_BLOCK, sig, NULL);
}

EXPORT int sigrelse(int sig)
{
    return mask_one(SIG_UNBLOCK, sig, NULL);
}

EXPORT int sigignore(int sig)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    return sigaction(sig, &action, NULL);
}

EXPORT sighandler_t sigset(int sig, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler}, old;
    sigset_t mask;
    if (handler == SIG_HOLD) {
        if (mask_one(SIG_BLOCK, sig, &mask) < 0 || sigaction(sig, NULL, &old) < 0)
            return SIG_ERR;
    } else if (sigaction(sig, &action, &old) < 0 || mask_one(SIG_UNBLOCK, sig, &mask) < 0) {
        return SIG_ERR;
    }
    return sigismember(&mask, sig) ? SIG_HOLD : old.sa_handler;
}

/*
 * BSD's: sigblock(3), the first 32 signals as bits. Old, but dash, a start script's shell, clears
 * its mask with sigsetmask behind each command that it starts.
 */
static int mask_word(int how, uint32_t word)
{
    sigset_t set, old;
    sigemptyset(&set);
    for (int sig = 1; sig <= 32; sig++)
        if (word & (uint32_t)SIGNAL_BIT(sig))
            sigaddset(&set, sig);
    return sigprocmask(how, &set, &old) < 0 ? -1 : (int)signals_word(&old);
}

EXPORT int sigblock(int mask)
{
    return mask_word(SIG_BLOCK, (uint32_t)mask);
}

EXPORT int sigsetmask(int mask)
{
    return mask_word(SIG_SETMASK, (uint32_t)mask);
}

EXPORT int siggetmask(void)
{
    return mask_word(SIG_BLOCK, 0);
}

/* X/Open's sigpause(3). */
EXPORT int __xpg_sigpause(int sig)
{
    sigset_t set;
    if (sigprocmask(SIG_BLOCK, NULL, &set) < 0 || sigdelset(&set, sig) < 0)
        return -1;
    return sigsuspend(&set);
}

/* For a library behind us, which our own have called, libc's own. */
EXPORT int __sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return libc_is_behind() ? libc___sigaction(sig, action, old) : sigaction(sig, action, old);
}

EXPORT int __sigsuspend(const sigset_t *set)
{
    return libc_is_behind() ? libc___sigsuspend(set) : sigsuspend(set);
}

EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler) __THROW
    __attribute__((alias("signal")));
EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler) __THROW
    __attribute__((alias("sysv_signal")));
