/* SPDX-License-Identifier: MIT */
/*
 * Calls that wait, and that a signal's handler ends with EINTR also under SA_RESTART (signal(7)):
 * where it was ours, which the program knows nothing of, they wait on.
 *
 * The time that is left is measured with the coarse clock, read without a system call (vdso(7)).
 * Those that are given a mask for the time of the wait have our signals taken out of it.
 */
#include "base/libc.h"
#include "drain/listener.h"
#include "drain/signals_eintr.h"
#include "drain/signals_mask.h"
#include "conn/fdtable.h"
#include "wait.h"

#include <errno.h>
#include <threads.h>

static bool again(int result)
{
    return UNLIKELY(result < 0) && signals_must_call_again();
}

/* When a wait of ms began. Nothing to measure where it ends at once or never. */
static int64_t begin_ms(int ms)
{
    signals_about_to_wait();
    fork_thread.was_told = true;
    return ms > 0 ? libc_coarse_ns() : 0;
}

/* A poll's result: whether a listener is among what is ready. */
static int polled(const struct pollfd *fds, nfds_t count, int result)
{
    bool told = false;
    for (nfds_t i = 0; result > 0 && i < count && !told; i++)
        told = UNLIKELY(fds[i].revents) && table_kind(fds[i].fd) == KIND_LISTENER;
    fork_thread.was_told = told;
    return result;
}

/* The same of select's. */
static int selected(const fd_set *in, int count, int result)
{
    fork_thread.was_told = result > 0 && listener_is_in(in, count);
    return result;
}

static int left_ms(int ms, int64_t began)
{
    if (ms <= 0)
        return ms;
    int64_t left = ms - (libc_coarse_ns() - began) / 1000000;
    return left > 0 ? (int)left : 0;
}

int64_t wait_begins(const struct timespec *limit)
{
    signals_about_to_wait();
    return limit && (limit->tv_sec || limit->tv_nsec) ? libc_coarse_ns() : 0;
}

const struct timespec *wait_left(const struct timespec *limit, int64_t began, struct timespec *left)
{
    if (!began)
        return limit;
    int64_t ns = (int64_t)limit->tv_sec * 1000000000 + limit->tv_nsec - (libc_coarse_ns() - began);
    if (ns < 0)
        ns = 0;
    *left = (struct timespec){ns / 1000000000, ns % 1000000000};
    return left;
}

EXPORT HOT int epoll_wait(int epoll, struct epoll_event *events, int most, int ms)
{
    int64_t began = begin_ms(ms);
    int result = libc_epoll_wait(epoll, events, most, ms);
    while (again(result))
        result = libc_epoll_wait(epoll, events, most, left_ms(ms, began));
    return result;
}

EXPORT HOT int poll(struct pollfd *fds, nfds_t count, int ms)
{
    int64_t began = begin_ms(ms);
    int result = libc_poll(fds, count, ms);
    while (again(result))
        result = libc_poll(fds, count, left_ms(ms, began));
    return polled(fds, count, result);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int ms, size_t room)
{
    int64_t began = begin_ms(ms);
    int result = libc___poll_chk(fds, count, ms, room);
    while (again(result))
        result = libc___poll_chk(fds, count, left_ms(ms, began), room);
    return polled(fds, count, result);
}

/* select(2): Linux leaves the time that is left in *limit, and so does glibc. musl does not. */
#ifdef __GLIBC__
EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit)
{
    signals_about_to_wait();
    int result = libc_select(count, in, out, except, limit);
    while (again(result))
        result = libc_select(count, in, out, except, limit);
    return selected(in, count, result);
}
#else
EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit)
{
    struct timespec whole, rest;
    struct timeval left;
    if (limit)
        whole = (struct timespec){limit->tv_sec, limit->tv_usec * 1000};
    int64_t began = wait_begins(limit ? &whole : NULL);
    int result = libc_select(count, in, out, except, limit);
    while (again(result)) {
        if (began) {
            wait_left(&whole, began, &rest);
            left = (struct timeval){rest.tv_sec, rest.tv_nsec / 1000};
        }
        result = libc_select(count, in, out, except, began ? &left : limit);
    }
    return selected(in, count, result);
}
#endif

/*
 * Makes a call that waits under `set`, which it sees as `masked` (without our signals; NULL: the
 * thread's own mask stays), until it is not our handler that ends it.
 */
#define MASKED(call)                                   \
    ({                                                 \
        sigset_t kernel;                               \
        struct signals_mask view;                      \
        const sigset_t *masked = set ? &kernel : NULL; \
        int result;                                    \
        fork_thread.was_told = true;                   \
        if (set)                                       \
            signals_wait_begins(set, &view);           \
        do {                                           \
            if (set)                                   \
                signals_wait_mask(set, &kernel);       \
            result = (call);                           \
        } while (again(result));                       \
        if (set)                                       \
            signals_wait_ends(&view);                  \
        result;                                        \
    })

EXPORT HOT int epoll_pwait(int epoll, struct epoll_event *events, int most, int ms,
                           const sigset_t *set)
{
    int64_t began = begin_ms(ms);
    int left = ms;
    return MASKED(({
        int once = libc_epoll_pwait(epoll, events, most, left, masked);
        left = once < 0 ? left_ms(ms, began) : left;
        once;
    }));
}

EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int most,
                        const struct timespec *limit, const sigset_t *set)
{
    struct timespec left;
    const struct timespec *now = limit;
    int64_t began = wait_begins(limit);
    return MASKED(({
        int once = libc_epoll_pwait2(epoll, events, most, now, masked);
        now = once < 0 ? wait_left(limit, began, &left) : now;
        once;
    }));
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *limit,
                 const sigset_t *set)
{
    struct timespec left;
    const struct timespec *now = limit;
    int64_t began = wait_begins(limit);
    int result = MASKED(({
        int once = libc_ppoll(fds, count, now, masked);
        now = once < 0 ? wait_left(limit, began, &left) : now;
        once;
    }));
    return polled(fds, count, result);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *limit,
                       const sigset_t *set, size_t room)
{
    struct timespec left;
    const struct timespec *now = limit;
    int64_t began = wait_begins(limit);
    int result = MASKED(({
        int once = libc___ppoll_chk(fds, count, now, masked, room);
        now = once < 0 ? wait_left(limit, began, &left) : now;
        once;
    }));
    return polled(fds, count, result);
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *limit,
                   const sigset_t *set)
{
    struct timespec left;
    const struct timespec *now = limit;
    int64_t began = wait_begins(limit);
    int result = MASKED(({
        int once = libc_pselect(count, in, out, except, now, masked);
        now = once < 0 ? wait_left(limit, began, &left) : now;
        once;
    }));
    return selected(in, count, result);
}

EXPORT int nanosleep(const struct timespec *time, struct timespec *left)
{
    struct timespec rest;
    signals_about_to_wait();
    int result = libc_nanosleep(time, &rest);
    while (again(result)) {
        struct timespec more = rest;
        result = libc_nanosleep(&more, &rest);
    }
    if (result < 0 && errno == EINTR && left)
        *left = rest;
    return result;
}

/* clock_nanosleep(2): returns the error; with TIMER_ABSTIME there is nothing left to measure. */
EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *left)
{
    struct timespec rest;
    signals_about_to_wait();
    int result = libc_clock_nanosleep(clock, flags, time, &rest);
    while (result == EINTR && signals_must_restart()) {
        struct timespec more = flags & TIMER_ABSTIME ? *time : rest;
        result = libc_clock_nanosleep(clock, flags, &more, &rest);
    }
    if (result == EINTR && left && !(flags & TIMER_ABSTIME))
        *left = rest;
    return result;
}

/* thrd_sleep(3): -1 where a signal ended it. */
EXPORT int thrd_sleep(const struct timespec *time, struct timespec *left)
{
    int result = nanosleep(time, left);
    return result == 0 ? 0 : errno == EINTR ? -1 : -2;
}

EXPORT int usleep(useconds_t us)
{
    struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
    return nanosleep(&time, NULL);
}

EXPORT unsigned int sleep(unsigned int seconds)
{
    struct timespec time = {seconds, 0}, left;
    int saved = errno;
    if (nanosleep(&time, &left) == 0) {
        errno = saved;
        return 0;
    }
    return (unsigned int)left.tv_sec;
}

EXPORT int pause(void)
{
    int result;
    do {
        signals_about_to_wait();
        result = libc_pause();
    } while (again(result));
    return result;
}

/* System V queues and semaphores are never restarted by the kernel. */
#define RESTARTED(type, name, params, args) \
    EXPORT type name params                 \
    {                                       \
        type result;                        \
        signals_about_to_wait();            \
        do {                                \
            result = libc_##name args;      \
        } while (again((int)result));       \
        return result;                      \
    }

RESTARTED(int, semop, (int id, struct sembuf *ops, size_t count), (id, ops, count))
RESTARTED(int, msgsnd, (int id, const void *message, size_t n, int flags), (id, message, n, flags))
RESTARTED(ssize_t, msgrcv, (int id, void *message, size_t n, long type, int flags),
          (id, message, n, type, flags))
/* These two are told when to stop, not after how long. */
RESTARTED(int, sem_timedwait, (sem_t *restrict sem, const struct timespec *restrict until),
          (sem, until))
RESTARTED(int, sem_clockwait,
          (sem_t *restrict sem, clockid_t clock, const struct timespec *restrict until),
          (sem, clock, until))

EXPORT int semtimedop(int id, struct sembuf *ops, size_t count, const struct timespec *limit)
{
    struct timespec left;
    int64_t began = wait_begins(limit);
    int result = libc_semtimedop(id, ops, count, limit);
    while (again(result))
        result = libc_semtimedop(id, ops, count, wait_left(limit, began, &left));
    return result;
}

/* Their other names: for a library behind us, which our own have called, libc's own. */
#define OTHER_NAME(name, of, params, args)                    \
    EXPORT int name params                                    \
    {                                                         \
        return libc_is_behind() ? libc_##name args : of args; \
    }

OTHER_NAME(__poll, poll, (struct pollfd * fds, nfds_t count, int ms), (fds, count, ms))
OTHER_NAME(__select, select,
           (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit),
           (count, in, out, except, limit))
OTHER_NAME(__nanosleep, nanosleep, (const struct timespec *time, struct timespec *left),
           (time, left))
