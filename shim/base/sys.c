/* SPDX-License-Identifier: MIT */
#include "base/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
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

#define THREAD_FLAGS                                                                    \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_SETTLS | CLONE_PARENT_SETTID)

void sys_await_end(int32_t tid, int64_t ms)
{
    static const _Atomic uint32_t word;
    long pid = sys0(SYS_getpid);
    int64_t until = sys_now_ms() + ms;
    for (int tries = 0; sys3(SYS_tgkill, pid, tid, 0) == 0 && sys_now_ms() < until; tries++)
        sys_futex_wait(&word, 0, tries < 10 ? 0 : 1);
}

#ifdef __x86_64__
long sys_spawn(void *stack_top, void *tls, void (*entry)(void), _Atomic int32_t *tid)
{
    register long r10 __asm__("r10") = 0;
    register void *r8 __asm__("r8") = tls;
    register void (*r9)(void) __asm__("r9") = entry;
    long ret;
    /* In the new thread every register but rax and rsp is as it was: r9 still holds entry. */
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%%r9\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "a"(SYS_clone), "D"((long)THREAD_FLAGS), "S"(stack_top), "d"(tid), "r"(r10),
                       "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

void sys_exit_if(_Atomic uint32_t *word, uint32_t expected, uint32_t next)
{
    __asm__ volatile("lock cmpxchgl %[next], (%[word])\n\t"
                     "jne 1f\n\t"
                     "mov %[exit], %%eax\n\t"
                     "xor %%edi, %%edi\n\t"
                     "syscall\n"
                     "1:"
                     : "+a"(expected)
                     : [word] "r"(word), [next] "r"(next), [exit] "i"(SYS_exit)
                     : "rdi", "rcx", "r11", "cc", "memory");
}
#else
long sys_spawn(void *stack_top, void *tls, void (*entry)(void), _Atomic int32_t *tid)
{
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = THREAD_FLAGS;
    register void *x1 __asm__("x1") = stack_top;
    register void *x2 __asm__("x2") = (void *)tid;
    register void *x3 __asm__("x3") = tls;
    register long x4 __asm__("x4") = 0;
    register void (*x5)(void) __asm__("x5") = entry;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "blr x5\n\t"
                     "brk 1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "x30");
    return x0;
}

void sys_exit_if(_Atomic uint32_t *word, uint32_t expected, uint32_t next)
{
    uint32_t seen, failed;
    __asm__ volatile(
        "0: ldaxr %w[seen], [%[word]]\n\t"
        "cmp %w[seen], %w[expected]\n\t"
        "b.ne 1f\n\t"
        "stlxr %w[failed], %w[next], [%[word]]\n\t"
        "cbnz %w[failed], 0b\n\t"
        "mov x0, xzr\n\t"
        "mov x8, %[exit]\n\t"
        "svc 0\n"
        "1: clrex"
        : [seen] "=&r"(seen), [failed] "=&r"(failed)
        : [word] "r"(word), [expected] "r"(expected), [next] "r"(next), [exit] "i"(SYS_exit)
        : "x0", "x8", "cc", "memory");
}
#endif
