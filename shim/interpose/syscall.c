/* SPDX-License-Identifier: MIT */
/*
 * syscall(): the same calls by their numbers. Node closes its connections through it alone.
 *
 * A number that is not of interest must reach libc's syscall as if we weren't there, also one that
 * returns twice (clone, vfork): the call is a jump, made by the compiler because all arguments are
 * passed on unchanged.
 */
#include "conn/fork_detect.h"
#include "drain/stage.h"
#include "drain/trigger.h"
#include "drain/worker.h"
#include "base/libc.h"
#include "drain/start.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define P(x) ((void *)(x))

/* Declared without the "..." of unistd.h: the arguments must be named to be passed on. */
EXPORT long weir_syscall(long n, long a, long b, long c, long d, long e, long f) __asm__("syscall");

EXPORT long weir_syscall(long n, long a, long b, long c, long d, long e, long f)
{
    if (libc_is_behind()) /* its caller's call has come through us already */
        return libc_syscall(n, a, b, c, d, e, f);
    switch (n) {
    case SYS_accept:
        return accept((int)a, P(b), P(c));
    case SYS_accept4:
        return accept4((int)a, P(b), P(c), (int)d);
    case SYS_bind:
        return bind((int)a, P(b), (socklen_t)c);
    case SYS_listen:
        return listen((int)a, (int)b);
    case SYS_read:
        return read((int)a, P(b), (size_t)c);
    case SYS_readv:
        return readv((int)a, P(b), (int)c);
    case SYS_recvfrom:
        return recvfrom((int)a, P(b), (size_t)c, (int)d, P(e), P(f));
    case SYS_recvmsg:
        return recvmsg((int)a, P(b), (int)c);
    case SYS_recvmmsg:
        return recvmmsg((int)a, P(b), (unsigned int)c, (mmsg_flags)d, P(e));
    case SYS_write:
        return write((int)a, P(b), (size_t)c);
    case SYS_writev:
        return writev((int)a, P(b), (int)c);
    case SYS_sendto:
        return sendto((int)a, P(b), (size_t)c, (int)d, P(e), (socklen_t)f);
    case SYS_sendmsg:
        return sendmsg((int)a, P(b), (int)c);
    case SYS_sendmmsg:
        return sendmmsg((int)a, P(b), (unsigned int)c, (mmsg_flags)d);
    case SYS_sendfile:
        return sendfile((int)a, (int)b, P(c), (size_t)d);
    case SYS_splice:
        return splice((int)a, P(b), (int)c, P(d), (size_t)e, (unsigned int)f);
    case SYS_setsockopt:
        return setsockopt((int)a, (int)b, (int)c, P(d), (socklen_t)e);
    case SYS_getsockopt:
        return getsockopt((int)a, (int)b, (int)c, P(d), P(e));
    case SYS_shutdown:
        return shutdown((int)a, (int)b);
    case SYS_close:
        return close((int)a);
    case SYS_close_range:
        return close_range((unsigned int)a, (unsigned int)b, (int)c);
    case SYS_dup:
        return dup((int)a);
#ifdef SYS_dup2
    case SYS_dup2:
        return dup2((int)a, (int)b);
#endif
    case SYS_dup3:
        return dup3((int)a, (int)b, (int)c);
    case SYS_fcntl:
        return fcntl((int)a, (int)b, c);
    case SYS_prctl:
        return prctl((int)a, b, c, d, e);
    case SYS_seccomp: {
        /* seccomp(2): SECCOMP_SET_MODE_STRICT is 0, SECCOMP_SET_MODE_FILTER 1; others only ask. */
        if ((a != 0 && a != 1) || (a == 1 && !c)) /* nor does a filter at NULL do more */
            return libc_syscall(n, a, b, c, d, e, f);
        bool was_in = trigger_enters_sandbox();
        long result = libc_syscall(n, a, b, c, d, e, f);
        trigger_entered_sandbox(was_in,
                                result != 0); /* above 0: SECCOMP_FILTER_FLAG_TSYNC failed */
        return result;
    }
    case SYS_unshare:
        if (a == CLONE_NEWPID) /* as unshare has it */
            break;
        /* fall through */
    case SYS_setns:
    case SYS_setuid: /* of the caller alone, unlike libc's functions */
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
    case SYS_capset:
#ifdef SYS_landlock_restrict_self
    case SYS_landlock_restrict_self:
#endif
    {
        worker_steps_aside();
        long result = libc_syscall(n, a, b, c, d, e, f);
        worker_comes_back();
        return result;
    }
    case SYS_epoll_pwait: /* what aarch64 has in epoll_wait's place; a mask would be the kernel's */
        if (e)
            break;
        return epoll_wait((int)a, P(b), (int)c, (int)d);
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
        return epoll_wait((int)a, P(b), (int)c, (int)d);
    case SYS_poll:
        return poll(P(a), (nfds_t)b, (int)c);
#endif
#ifdef SYS_fork
    case SYS_fork:
#endif
    case SYS_clone:
    case SYS_clone3:
        start_clones(n == SYS_clone ? (uint64_t)a : n == SYS_clone3 && a ? *(uint64_t *)a : 0);
        break;
    case SYS_execve:
        return execve(P(a), P(b), P(c));
    case SYS_exit_group:
        if (!fork_is_new_child())
            stage_ends();
        break;
    case SYS_nanosleep:
        return nanosleep(P(a), P(b));
    case SYS_epoll_ctl:
        return epoll_ctl((int)a, (int)b, (int)c, P(d));
    default:
        break;
    }
    return libc_syscall(n, a, b, c, d, e, f);
}
