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
    long result = signals_result_of(context);
    fork_thread.interrupted = result == -EINTR && !theirs;
    fork_thread.cut_short = theirs ? 0 : result;
}

bool signals_must_restart(void)
{
    bool was = fork_thread.interrupted;
    fork_thread.interrupted = false;
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
