/* SPDX-License-Identifier: MIT */
/*
 * libc.h - the functions that we stand in front of, as the next library in line has them.
 *
 * For each NAME of the table libc_NAME is a function pointer with NAME's prototype. It begins as a
 * stub that finds them all, so that a wrapper that is called before our constructor (from another
 * library's) works, and later calls cost no test. A name that this libc lacks fails with ENOSYS.
 * They keep libc's contract whole: errno, cancellation point, restart.
 *
 * The next in line may be another library that stands in front of libc (a proxy's, a tracer's, a
 * sanitizer's). It may make the call by syscall(2), which we stand in front of as well: that one is
 * a part of the call that has come through us already (libc_is_behind).
 */
#ifndef WEIR_LIBC_H
#define WEIR_LIBC_H

#include "base/common.h"
#include "base/sys.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

struct __jmp_buf_tag; /* setjmp.h */

#ifdef __GLIBC__
typedef int mmsg_flags;
#else
/* musl has other types, has macros instead of second names, and lacks some of the functions: those
 * are found absent, and not exported (exports.map). */
typedef unsigned int mmsg_flags;
#undef sendfile64
#undef freopen64
#undef fcntl64
int close_range(unsigned int first, unsigned int last, int flags);
#endif

/* clang-format off */
#define LIBC_FUNCTIONS(F) \
    F(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n)) \
    F(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags)) \
    F(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n)) \
    F(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags)) \
    F(ssize_t, writev, (int fd, const struct iovec *iov, int count), (fd, iov, count)) \
    F(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags)) \
    F(int, epoll_wait, (int epoll, struct epoll_event *events, int most, int ms), (epoll, events, most, ms)) \
    F(int, accept, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
    F(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), (fd, addr, len, flags)) \
    F(int, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
    F(int, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
    F(int, listen, (int fd, int backlog), (fd, backlog)) \
    F(ssize_t, __read, (int fd, void *buf, size_t n), (fd, buf, n)) \
    F(ssize_t, __write, (int fd, const void *buf, size_t n), (fd, buf, n)) \
    F(ssize_t, __send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags)) \
    F(int, __close, (int fd), (fd)) \
    F(int, __dup2, (int fd, int to), (fd, to)) \
    F(int, __fcntl, (int fd, int command, long arg), (fd, command, arg)) \
    F(pid_t, __fork, (void), ()) \
    F(int, __poll, (struct pollfd *fds, nfds_t count, int ms), (fds, count, ms)) \
    F(int, __select, (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit), \
      (count, in, out, except, limit)) \
    F(int, __nanosleep, (const struct timespec *time, struct timespec *left), (time, left)) \
    F(int, __sigaction, (int sig, const struct sigaction *action, struct sigaction *old), (sig, action, old)) \
    F(int, __sigsuspend, (const sigset_t *set), (set)) \
    F(ssize_t, __read_chk, (int fd, void *buf, size_t n, size_t room), (fd, buf, n, room)) \
    F(ssize_t, readv, (int fd, const struct iovec *iov, int count), (fd, iov, count)) \
    F(ssize_t, __recv_chk, (int fd, void *buf, size_t n, size_t room, int flags), (fd, buf, n, room, flags)) \
    F(ssize_t, recvfrom, (int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len), \
      (fd, buf, n, flags, addr, len)) \
    F(ssize_t, __recvfrom_chk, (int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *addr, \
      socklen_t *len), (fd, buf, n, room, flags, addr, len)) \
    F(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags)) \
    F(int, recvmmsg, (int fd, struct mmsghdr *msgs, unsigned int count, mmsg_flags flags, struct timespec *limit), \
      (fd, msgs, count, flags, limit)) \
    F(ssize_t, sendto, (int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len), \
      (fd, buf, n, flags, addr, len)) \
    F(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned int count, mmsg_flags flags), (fd, msgs, count, flags)) \
    F(ssize_t, sendfile, (int out, int in, off_t *offset, size_t n), (out, in, offset, n)) \
    F(ssize_t, sendfile64, (int out, int in, off64_t *offset, size_t n), (out, in, offset, n)) \
    F(ssize_t, splice, (int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n, unsigned int flags), \
      (in, in_offset, out, out_offset, n, flags)) \
    F(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len)) \
    F(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len)) \
    F(int, shutdown, (int fd, int how), (fd, how)) \
    F(int, unlink, (const char *path), (path)) \
    F(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags)) \
    F(int, remove, (const char *path), (path)) \
    F(int, close, (int fd), (fd)) \
    F(int, fclose, (FILE *file), (file)) \
    F(FILE *, freopen, (const char *path, const char *mode, FILE *file), (path, mode, file)) \
    F(FILE *, freopen64, (const char *path, const char *mode, FILE *file), (path, mode, file)) \
    F(int, close_range, (unsigned int first, unsigned int last, int flags), (first, last, flags)) \
    F(void, closefrom, (int first), (first)) \
    F(int, dup, (int fd), (fd)) \
    F(int, dup2, (int fd, int to), (fd, to)) \
    F(int, dup3, (int fd, int to, int flags), (fd, to, flags)) \
    F(int, fcntl, (int fd, int command, long arg), (fd, command, arg)) \
    F(int, fcntl64, (int fd, int command, long arg), (fd, command, arg)) \
    F(int, epoll_ctl, (int epoll, int op, int fd, struct epoll_event *event), (epoll, op, fd, event)) \
    F(int, sigaction, (int sig, const struct sigaction *new_action, struct sigaction *old), (sig, new_action, old)) \
    F(int, setuid, (uid_t uid), (uid)) \
    F(int, setgid, (gid_t gid), (gid)) \
    F(int, seteuid, (uid_t uid), (uid)) \
    F(int, setegid, (gid_t gid), (gid)) \
    F(int, setreuid, (uid_t real, uid_t effective), (real, effective)) \
    F(int, setregid, (gid_t real, gid_t effective), (real, effective)) \
    F(int, setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved)) \
    F(int, setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved)) \
    F(int, setgroups, (size_t count, const gid_t *groups), (count, groups)) \
    F(int, initgroups, (const char *user, gid_t group), (user, group)) \
    F(int, capset, (void *header, const void *data), (header, data)) \
    F(int, unshare, (int flags), (flags)) \
    F(int, setns, (int fd, int kind), (fd, kind)) \
    F(int, prctl, (int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d), \
      (option, a, b, c, d)) \
    F(sighandler_t, signal, (int sig, sighandler_t handler), (sig, handler)) \
    F(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old)) \
    F(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old)) \
    F(int, sigsuspend, (const sigset_t *set), (set)) \
    F(int, sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *limit), (set, info, limit)) \
    F(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags)) \
    F(int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg), \
      (thread, attr, run, arg)) \
    F(int, pthread_getcpuclockid, (pthread_t thread, clockid_t *clock), (thread, clock)) \
    F(pid_t, fork, (void), ()) \
    F(pid_t, _Fork, (void), ()) \
    F(int, daemon, (int nochdir, int noclose), (nochdir, noclose)) \
    F(void, _exit, (int status), (status)) \
    F(void, _Exit, (int status), (status)) \
    F(int, epoll_pwait, (int epoll, struct epoll_event *events, int most, int ms, const sigset_t *set), \
      (epoll, events, most, ms, set)) \
    F(int, epoll_pwait2, (int epoll, struct epoll_event *events, int most, const struct timespec *limit, \
      const sigset_t *set), (epoll, events, most, limit, set)) \
    F(int, poll, (struct pollfd *fds, nfds_t count, int ms), (fds, count, ms)) \
    F(int, __poll_chk, (struct pollfd *fds, nfds_t count, int ms, size_t room), (fds, count, ms, room)) \
    F(int, ppoll, (struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *set), \
      (fds, count, limit, set)) \
    F(int, __ppoll_chk, (struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *set, \
      size_t room), (fds, count, limit, set, room)) \
    F(int, select, (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit), \
      (count, in, out, except, limit)) \
    F(int, pselect, (int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *limit, \
      const sigset_t *set), (count, in, out, except, limit, set)) \
    F(int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left)) \
    F(int, clock_nanosleep, (clockid_t clock, int flags, const struct timespec *time, struct timespec *left), \
      (clock, flags, time, left)) \
    F(int, clone, (int (*run)(void *), void *stack, int flags, void *arg, void *ptid, void *tls, void *ctid), \
      (run, stack, flags, arg, ptid, tls, ctid)) \
    F(int, execve, (const char *path, char *const *argv, char *const *envp), (path, argv, envp)) \
    F(int, execvpe, (const char *file, char *const *argv, char *const *envp), (file, argv, envp)) \
    F(int, fexecve, (int fd, char *const *argv, char *const *envp), (fd, argv, envp)) \
    F(int, execveat, (int dir, const char *path, char *const *argv, char *const *envp, int flags), \
      (dir, path, argv, envp, flags)) \
    F(int, system, (const char *command), (command)) \
    F(FILE *, popen, (const char *command, const char *mode), (command, mode)) \
    F(int, posix_spawn, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, \
      const posix_spawnattr_t *attr, char *const *argv, char *const *envp), (pid, path, actions, attr, argv, envp)) \
    F(int, posix_spawnp, (pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, \
      const posix_spawnattr_t *attr, char *const *argv, char *const *envp), (pid, file, actions, attr, argv, envp)) \
    F(int, semop, (int id, struct sembuf *ops, size_t count), (id, ops, count)) \
    F(int, semtimedop, (int id, struct sembuf *ops, size_t count, const struct timespec *limit), \
      (id, ops, count, limit)) \
    F(int, msgsnd, (int id, const void *message, size_t n, int flags), (id, message, n, flags)) \
    F(ssize_t, msgrcv, (int id, void *message, size_t n, long type, int flags), (id, message, n, type, flags)) \
    F(int, sem_timedwait, (sem_t *sem, const struct timespec *until), (sem, until)) \
    F(int, sem_clockwait, (sem_t *sem, clockid_t clock, const struct timespec *until), (sem, clock, until)) \
    F(int, siginterrupt, (int sig, int interrupts), (sig, interrupts)) \
    F(void, longjmp, (struct __jmp_buf_tag *place, int value), (place, value)) \
    F(void, _longjmp, (struct __jmp_buf_tag *place, int value), (place, value)) \
    F(void, siglongjmp, (struct __jmp_buf_tag *place, int value), (place, value)) \
    F(void, __longjmp_chk, (struct __jmp_buf_tag *place, int value), (place, value)) \
    F(int, usleep, (useconds_t us), (us)) \
    F(unsigned int, sleep, (unsigned int seconds), (seconds)) \
    F(int, pause, (void), ()) \
    F(int, clock_gettime, (clockid_t clock, struct timespec *now), (clock, now)) \
    F(long, syscall, (long n, long a, long b, long c, long d, long e, long f), (n, a, b, c, d, e, f))
/* clang-format on */

#define LIBC_DECLARE(type, name, params, args) extern HIDDEN type(*libc_##name) params;
LIBC_FUNCTIONS(LIBC_DECLARE)
#undef LIBC_DECLARE

/* __sigsetjmp, which returns twice and is never called but jumped to. NULL: not found yet. */
extern HIDDEN void *libc_sigsetjmp_at;

/*
 * Where on its stack the calling thread has called a function of a library that is not libc; 0:
 * nowhere. By the stack: where a signal's handler has left such a call by siglongjmp, what it says
 * ends with the frame.
 */
extern HIDDEN __thread uintptr_t libc_behind;

#define LIBC_BEHIND_REACH (64 * 1024)

/* Whether the calling thread is in such a function. */
static inline bool libc_is_behind(void)
{
    return UNLIKELY(libc_behind - sys_stack_pointer() < LIBC_BEHIND_REACH);
}

/*
 * A clock for a program's own thread, which needs no system call (vdso(7)), in ns and in ms:
 * CLOCK_MONOTONIC as of the last tick (clock_gettime(2)), so that sys_now_ms is up to one ahead.
 */
int64_t libc_coarse_ns(void);
int64_t libc_coarse_ms(void);

/* Whether another library's listen stands between ours and libc's, as socket_wrapper's does. */
bool libc_listen_is_anothers(void);

/* Finds them all. May be called more than once and from several threads at a time. */
void libc_find(void);

/* Returns what the program itself would find under a name that is among ours. NULL: not known. */
void *libc_default(const char *name);

/*
 * Memory that the program may free, by its own free, whichever that is. Once, at load: nothing else
 * of ours may wait for an allocator's lock. NULL: there is none.
 */
void *libc_allocate(size_t size);

#endif
