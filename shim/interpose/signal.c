/* SPDX-License-Identifier: MIT */
/* sigaction, signal and their older relations: the program's view of the signals that are ours. */
#include "handler.h"
#include "libc.h"

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return handler_sigaction(sig, action, old) ? 0 : libc_sigaction(sig, action, old);
}

static sighandler_t install(int sig, sighandler_t handler, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&action.sa_mask);
    return sigaction(sig, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}

/* signal(2): the BSD semantics, unless siginterrupt has said otherwise, which libc keeps. */
EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    return handler_sigaction(sig, NULL, NULL) ? install(sig, handler, SA_RESTART)
                                              : libc_signal(sig, handler);
}

EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
    return install(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

EXPORT int __sigaction(int sig, const struct sigaction *action, struct sigaction *old) __THROW
    __attribute__((alias("sigaction")));
EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler) __THROW
    __attribute__((alias("signal")));
EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler) __THROW
    __attribute__((alias("sysv_signal")));
