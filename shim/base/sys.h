/* SPDX-License-Identifier: MIT */
/*
 * sys.h - system calls made by ourselves: no libc, no errno, no cancellation point.
 *
 * Each returns the kernel's result, -errno for an error. They may be called on any thread, in a
 * signal handler, and in the worker thread, which has no libc.
 */
#ifndef WEIR_SYS_H
#define WEIR_SYS_H

#include "base/common.h"

#include <sys/syscall.h>

#ifdef __x86_64__
static inline long sys_call(long n, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long sys_call(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "weir knows x86-64 and aarch64"
#endif

/* What the calling thread's thread-locals are found by (ELF TLS, "Thread pointer"). */
static inline char *sys_thread_pointer(void)
{
    char *at;
#ifdef __x86_64__
    __asm__("movq %%fs:0, %0" : "=r"(at));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(at));
#endif
    return at;
}

/* Where the calling thread's stack is. */
static inline uintptr_t sys_stack_pointer(void)
{
    uintptr_t at;
#ifdef __x86_64__
    __asm__("movq %%rsp, %0" : "=r"(at));
#else
    __asm__("mov %0, sp" : "=r"(at));
#endif
    return at;
}

#define SYS_ARG(x) ((long)(x))
#define sys0(n) sys_call(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys_call(n, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys_call(n, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys_call(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys_call(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys5(n, a, b, c, d, e) \
    sys_call(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)
#define sys6(n, a, b, c, d, e, f) \
    sys_call(n, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), SYS_ARG(f))

/*
 * Whether the process has entered a seccomp sandbox (seccomp(2)) since it was loaded: a system call
 * that the program doesn't make itself may kill it, so none is made on its threads.
 */
extern HIDDEN _Atomic bool sys_sandboxed;

static inline bool sys_is_sandboxed(void)
{
    return UNLIKELY(atomic_load_explicit(&sys_sandboxed, memory_order_relaxed));
}

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t sys_now_ms(void);
int64_t sys_now_ns(void);

/*
 * The kernel's tick, by which it counts what it tells in ms of a socket (tcp(7), TCP_INFO): such a
 * time may be too long by as much. (clock_getres(2): it is the resolution of the coarse clocks.)
 */
int64_t sys_tick_ms(void);

/*
 * Sleeps until *word is no longer value, somebody wakes it, or ms have passed (ms < 0: no limit).
 * The word is private to the process.
 */
void sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t ms);
void sys_futex_wake(const _Atomic uint32_t *word);

/* Tells whether this process has a child, which may have ended. waitid(2): WNOWAIT leaves it to the
 * program. */
bool sys_has_children(void);

/*
 * Descriptors of our own lie from there on: a program may count on the lowest free number being the
 * one that it gets (open(2)), and select(2) still reaches so far.
 */
#define SYS_OWN_LEAST 100

/*
 * Moves fd, which has just been opened, up there, and returns its new number; fd itself where none
 * is left (RLIMIT_NOFILE), and an error as it is. Until it returns the lower number is taken.
 */
long sys_move_up(long fd);

/* Makes a pipe up there, non-blocking and close-on-exec. -errno. */
long sys_pipe(int ends[2]);

/* Duplicates fd up there, or where none is left above the standard ones. -errno. */
long sys_duplicate(int fd);

/* Blocks every signal for the calling thread; the old mask goes to *old. Undone by sys_unblock. */
void sys_block_signals(uint64_t *old);
void sys_unblock_signals(const uint64_t *old);

/*
 * Around a call that writes to a file: what it may raise in the calling thread (SIGPIPE; SIGXFSZ,
 * setrlimit(2); SIGTTOU, which the kernel sends only to who does not block it) is not the
 * program's. sys_quiet_end takes away what this result tells of, and returns it.
 */
struct sys_quiet {
    uint64_t mask, pending;
};
void sys_quiet_begin(struct sys_quiet *quiet);
long sys_quiet_end(const struct sys_quiet *quiet, long result);

#endif
