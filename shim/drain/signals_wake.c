/* SPDX-License-Identifier: MIT */
#include "drain/signals_wake.h"

#include "base/sys.h"
#include "drain/signals.h"
#include "drain/signals_view.h"

#include <fcntl.h>

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

/* getdents64(2) */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* Sends a cookie to every other thread. Returns how many there are; -1: they can't be told. */
static int send_to_threads(char *cookie)
{
    char buffer[2048] __attribute__((aligned(8)));
    siginfo_t info = {.si_signo = wake_signal(), .si_code = SI_QUEUE};
    long pid = sys0(SYS_getpid), own_tid = sys0(SYS_gettid), n;
    int threads = 0;
    info.si_pid = (int)pid;
    info.si_value.sival_ptr = cookie;
    long tasks =
        sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (tasks < 0) { /* a chroot: the first thread is the only one that we know */
        if (info.si_signo)
            sys4(SYS_rt_tgsigqueueinfo, pid, pid, info.si_signo, &info);
        return -1;
    }
    while ((n = sys3(SYS_getdents64, tasks, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length) {
            long tid = 0;
            for (const char *digit = ((struct entry *)(buffer + at))->name; *digit >= '0'; digit++)
                tid = tid * 10 + (*digit - '0');
            if (tid > 0 && tid != own_tid)
                threads += !info.si_signo ||
                           sys4(SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, &info) == 0;
        }
    }
    sys1(SYS_close, tasks);
    return threads && !info.si_signo ? -1 : threads;
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
