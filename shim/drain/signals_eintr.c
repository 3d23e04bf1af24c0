/* SPDX-License-Identifier: MIT */
#include "drain/signals_eintr.h"

#include "base/sys.h"
#include "drain/signals_view.h"

/* signal(7): some calls fail with EINTR also under SA_RESTART. Then the interrupted context is
 * that of a system call which is about to return it. */
void signals_interrupted(const void *context)
{
    const ucontext_t *at = context;
    /* Another of the program's that has come with ours: its EINTR is to be seen. */
    uint64_t pending = 0;
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    uint64_t theirs = pending & ~signals_word(&at->uc_sigmask) & ~signals_held();
    epoch_thread.interrupted = signals_result_of(context) == -EINTR && !theirs;
}

#define EPOLL_WAIT_CODE "\xb8\xe8\x00\x00\x00\x0f\x05" /* mov $SYS_epoll_wait, %eax; syscall */
#define EPOLL_WAIT_CODE_LENGTH 7
#define EPOLL_WAIT_LENGTH 192 /* of glibc's, and a little more */
#define PAGE_LEAST 4096

HOT_DATA(5) bool signals_waits_on;

#ifdef __x86_64__
static bool is_epoll_wait(const uint8_t *end)
{
    for (int i = 0; i < EPOLL_WAIT_CODE_LENGTH; i++)
        if (end[i - EPOLL_WAIT_CODE_LENGTH] != (uint8_t)EPOLL_WAIT_CODE[i])
            return false;
    return true;
}

void signals_know_wait(const void *epoll_wait)
{
    const uint8_t *code = epoll_wait;
    signals_waits_on = false;
    if ((uintptr_t)code % PAGE_LEAST > PAGE_LEAST - EPOLL_WAIT_LENGTH)
        return; /* what lies on the next page, if there is one, may not be code */
    for (int i = EPOLL_WAIT_CODE_LENGTH; i < EPOLL_WAIT_LENGTH; i++) {
        if (code[i - 2] != 0x0f || code[i - 1] != 0x05)
            continue;
        signals_waits_on = is_epoll_wait(&code[i]);
        if (!signals_waits_on)
            return;
    }
}

/* Whether it has put the thread back to before an epoll_wait without a limit. */
static bool waits_on(ucontext_t *at)
{
    greg_t *regs = at->uc_mcontext.gregs;
    /* syscall leaves the address after it in rcx. */
    if (regs[REG_RCX] != regs[REG_RIP] || (int)regs[REG_R10] >= 0 ||
        !is_epoll_wait((const uint8_t *)regs[REG_RIP]))
        return false;
    regs[REG_RIP] -= 2;
    regs[REG_RAX] = SYS_epoll_wait;
    return true;
}
#else
void signals_know_wait(const void *epoll_wait)
{
    (void)epoll_wait;
}

static bool waits_on(ucontext_t *at)
{
    (void)at;
    return false;
}
#endif

void signals_goes_on(void *context)
{
    signals_interrupted(context);
    if (epoch_thread.interrupted && waits_on(context))
        epoch_thread.interrupted = false;
}

bool signals_must_restart(void)
{
    bool was = epoch_thread.interrupted;
    epoch_thread.interrupted = false;
    return was;
}

/* ---- a call that ends because of the program's handler ---- */

/*
 * Calls that end with EINTR when a handler without SA_RESTART has run (signal(7)). Not among them:
 * those that the kernel always begins again (clone, execve).
 */
static bool ends_with_eintr(long call)
{
    switch (call) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_futex:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_ioctl:
    case SYS_openat:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
    case SYS_getrandom:
#ifdef SYS_open
    case SYS_open:
#endif
        return true;
    }
    return false;
}

/*
 * The kernel has put the context of a call that our handler interrupted back to its beginning, for
 * SA_RESTART is set: where the program's own handler has not asked for that, the call has ended
 * with EINTR instead (arch/x86/kernel/signal.c, arch/arm64/kernel/signal.c).
 */
void signals_end_call(ucontext_t *at)
{
#ifdef __x86_64__
    greg_t *regs = at->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)regs[REG_RIP];
    /* syscall leaves the address after it in rcx: that tells one that was made already. */
    if (regs[REG_RCX] == regs[REG_RIP] + 2 && code[0] == 0x0f && code[1] == 0x05 &&
        ends_with_eintr(regs[REG_RAX])) {
        regs[REG_RAX] = -EINTR;
        regs[REG_RIP] += 2;
    }
#else
    const uint32_t *code = (const uint32_t *)at->uc_mcontext.pc;
    if (*code == 0xd4000001 /* svc #0 */ && ends_with_eintr((long)at->uc_mcontext.regs[8])) {
        at->uc_mcontext.regs[0] = (uint64_t)-EINTR;
        at->uc_mcontext.pc += 4;
    }
#endif
}
