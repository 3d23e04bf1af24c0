/* SPDX-License-Identifier: MIT */
/*
 * setuid and its relations, prctl: our thread has what the program's threads have. prctl is also
 * the way into a seccomp sandbox. fork and its relations: a child that inherits sockets has
 * its line in the tree's page as soon as it does more than to end or to exec (fork_detect.h).
 * _exit: it gives its line back. vfork: the child works on its parent's memory until it execs, so
 * that its close and dup2 would wipe its parent's table (CPython's subprocess is such a program). A
 * thread-local, which the two share, says that the child is running (vfork.S).
 */
#include "conn/fork_detect.h"
#include "drain/stage.h"
#include "drain/trigger.h"
#include "drain/worker.h"
#include "base/libc.h"
#include "drain/signals_mask.h"
#include "drain/start.h"
#include "base/sys.h"
#include "tree/membership.h"

#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>

#define CHANGES(name, params, args)    \
    EXPORT int name params             \
    {                                  \
        worker_steps_aside();          \
        int result = libc_##name args; \
        worker_comes_back();           \
        return result;                 \
    }

CHANGES(setuid, (uid_t uid), (uid))
CHANGES(setgid, (gid_t gid), (gid))
CHANGES(seteuid, (uid_t uid), (uid))
CHANGES(setegid, (gid_t gid), (gid))
CHANGES(setreuid, (uid_t real, uid_t effective), (real, effective))
CHANGES(setregid, (gid_t real, gid_t effective), (real, effective))
CHANGES(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
CHANGES(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
CHANGES(setgroups, (size_t count, const gid_t *groups), (count, groups))
CHANGES(initgroups, (const char *user, gid_t group), (user, group))
CHANGES(setns, (int fd, int kind), (fd, kind))

/* capset(2): libc declares it nowhere. */
EXPORT int capset(void *header, const void *data);
CHANGES(capset, (void *header, const void *data), (header, data))

/* After CLONE_NEWPID no thread can be made any more (kernel/fork.c, copy_process): one that is
 * there stays, as the program's own may. */
EXPORT int unshare(int flags)
{
    if (flags == CLONE_NEWPID)
        return libc_unshare(flags);
    worker_steps_aside();
    int result = libc_unshare(flags);
    worker_comes_back();
    return result;
}

EXPORT int prctl(int option, ...)
{
    va_list args;
    va_start(args, option);
    unsigned long a = va_arg(args, unsigned long), b = va_arg(args, unsigned long);
    unsigned long c = va_arg(args, unsigned long), d = va_arg(args, unsigned long);
    va_end(args);
    int result;
    switch (option) {
    case PR_SET_SECCOMP: {
        if (a == SECCOMP_MODE_FILTER && !b) /* only asks whether there are any */
            return libc_prctl(option, a, b, c, d);
        bool was_in = trigger_enters_sandbox();
        result = libc_prctl(option, a, b, c, d);
        trigger_entered_sandbox(was_in, result < 0);
        return result;
    }
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_SECUREBITS:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
        worker_steps_aside();
        result = libc_prctl(option, a, b, c, d);
        worker_comes_back();
        return result;
    default:
        return libc_prctl(option, a, b, c, d);
    }
}

#define FORKS(name)                                      \
    EXPORT pid_t name(void)                              \
    {                                                    \
        start_forks();                                   \
        uint64_t before = atomic_load(&generation_last); \
        pid_t pid = libc_##name();                       \
        if (pid == 0)                                    \
            fork_begins_child(before);                   \
        return pid;                                      \
    }

FORKS(fork)
FORKS(_Fork)
FORKS(__fork)

EXPORT int daemon(int nochdir, int noclose)
{
    start_forks();
    uint64_t before = atomic_load(&generation_last);
    int result = libc_daemon(nochdir, noclose);
    if (result == 0) {
        fork_begins_child(before);
        fork_lives_on();
    }
    return result;
}

#define ENDS(name)                \
    EXPORT void name(int status)  \
    {                             \
        if (!fork_is_new_child()) \
            stage_ends();         \
        libc_##name(status);      \
        __builtin_unreachable();  \
    }

ENDS(_exit)
ENDS(_Exit)

/* In vfork.S, the parent's return: the child is gone, or there was none. */
HIDDEN long vfork_returns(long result);
long vfork_returns(long result)
{
    fork_thread.in_vfork_child--;
    libc_behind = 0; /* the child's exec has not returned */
    membership_spawns();
    signals_vfork_over();
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

/* A child on its parent's memory, which waits for it: the same as vfork's. */
EXPORT int clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
    va_list args;
    va_start(args, arg);
    void *ptid = va_arg(args, void *), *tls = va_arg(args, void *), *ctid = va_arg(args, void *);
    va_end(args);
    bool borrows = (flags & CLONE_VM) && (flags & CLONE_VFORK) && !(flags & CLONE_THREAD);
    start_clones((unsigned int)flags);
    fork_thread.in_vfork_child += borrows;
    int result = libc_clone(run, stack, flags, arg, ptid, tls, ctid);
    fork_thread.in_vfork_child -= borrows;
    return result;
}
