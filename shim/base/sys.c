/* SPDX-License-Identifier: MIT */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

_Atomic bool sys_sandboxed;

int64_t sys_now_ns(void)
{
    struct timespec now = {0, 0};
    sys2(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t sys_now_ms(void)
{
    return sys_now_ns() / 1000000;
}

int64_t sys_tick_ms(void)
{
    struct timespec tick = {0, 0};
    sys2(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, &tick);
    return (tick.tv_nsec + 999999) / 1000000;
}

void sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t ms)
{
    struct timespec limit = {ms / 1000, ms % 1000 * 1000000};
    sys4(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ms < 0 ? NULL : &limit);
}

void sys_futex_wake(const _Atomic uint32_t *word)
{
    sys3(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

long sys_move_up(long fd)
{
    if (fd < 0 || fd >= SYS_OWN_LEAST)
        return fd;
    long own = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, SYS_OWN_LEAST);
    if (own < 0)
        return fd;
    sys1(SYS_close, fd);
    return own;
}

long sys_pipe(int ends[2])
{
    long made = sys2(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK);
    for (int i = 0; made >= 0 && i < 2; i++)
        ends[i] = (int)sys_move_up(ends[i]);
    return made;
}

long sys_duplicate(int fd)
{
    long own = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, SYS_OWN_LEAST);
    return own == -EINVAL || own == -EMFILE ? sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3) : own;
}

bool sys_has_children(void)
{
    siginfo_t info; /* it may be NULL, which valgrind does not know */
    return sys5(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, NULL) != -ECHILD;
}

void sys_block_signals(uint64_t *old)
{
    const uint64_t all = ~UINT64_C(0);
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, sizeof all);
}

void sys_unblock_signals(const uint64_t *old)
{
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, sizeof *old);
}

void sys_quiet_begin(struct sys_quiet *quiet)
{
    sys_block_signals(&quiet->mask);
    quiet->pending = 0;
    sys2(SYS_rt_sigpending, &quiet->pending, sizeof quiet->pending);
}

long sys_quiet_end(const struct sys_quiet *quiet, long result)
{
    const struct timespec at_once = {0, 0};
    int sig = result == -EPIPE ? SIGPIPE : result == -EFBIG ? SIGXFSZ : 0;
    uint64_t set = sig ? UINT64_C(1) << (sig - 1) : 0;
    if (set & ~quiet->pending) /* one that was there before is the program's */
        sys4(SYS_rt_sigtimedwait, &set, NULL, &at_once, sizeof set);
    sys_unblock_signals(&quiet->mask);
    return result;
}
