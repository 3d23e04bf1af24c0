/* SPDX-License-Identifier: MIT */
/*
 * What makes, duplicates and frees descriptors, and what is set on them.
 *
 * A number is taken out of the table before the system call that frees it: once that has returned
 * another thread may be given the number.
 */
#include "conn/conn.h"
#include "base/libc.h"
#include "conn/lingering_close.h"
#include "drain/handed.h"
#include "drain/listener.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

/* ---- freed ---- */

static void freed(int fd, enum kind kind)
{
    if (kind == KIND_LISTENER || kind == KIND_BOUND)
        listener_gone(fd);
    else
        table_drop(fd, kind);
}

static void free_now(int fd)
{
    if (in_vfork_child())
        return;
    bool handed_on = UNLIKELY(table.shares) && table_hand_on(fd);
    enum kind kind = table_take(fd);
    if (LIKELY(!handed_on)) /* else its end is another's affair */
        conn_closes(fd, kind);
    freed(fd, kind);
}

static void free_range(unsigned int first, unsigned int last)
{
    uint32_t high = in_vfork_child() ? 0 : atomic_load(&table.high);
    for (unsigned int fd = first; fd <= last && fd < high; fd++)
        free_now((int)fd);
}

/* Tells whether a program that closes everything has come to a socket that the next one needs. */
static bool is_handed(int fd)
{
    if (!handed_any() || fd < 0 || handed_next((unsigned int)fd) != fd)
        return false;
    errno = EBADF;
    return true;
}

#define CLOSE(name)                                                                    \
    EXPORT int name(int fd)                                                            \
    {                                                                                  \
        if (UNLIKELY(!table_is_fast(fd))) {                                            \
            if (table_knows(fd))                                                       \
                free_now(fd);                                                          \
            else if (is_handed(fd))                                                    \
                return -1;                                                             \
        } else if (UNLIKELY(!table_is_of_no_interest(fd)) && !table_closes_fast(fd)) { \
            free_now(fd);                                                              \
        }                                                                              \
        return libc_##name(fd);                                                        \
    }

CLOSE(close)
CLOSE(__close)

/* What stdio closes it closes inside libc. */
static void free_file(FILE *file)
{
    int saved = errno;
    int fd = table.limit ? fileno(file) : -1;
    errno = saved;
    if (UNLIKELY(table_knows(fd)))
        free_now(fd);
}

EXPORT int fclose(FILE *file)
{
    free_file(file);
    return libc_fclose(file);
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *file)
{
    free_file(file);
    return libc_freopen(path, mode, file);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *file)
{
    free_file(file);
    return libc_freopen64(path, mode, file);
}

/* Returns the least descriptor of ours from this number on that is to stay. -1: there is none. */
static int next_kept(unsigned int from)
{
    int lingers = in_vfork_child() ? -1 : lingering_next(from), handed = handed_next(from);
    return handed >= 0 && (lingers < 0 || handed < lingers) ? handed : lingers;
}

/* Closes in pieces around those. */
static int close_around(unsigned int first, unsigned int last)
{
    int result = 0;
    for (int kept; (kept = next_kept(first)) >= 0 && (unsigned int)kept <= last;) {
        if ((unsigned int)kept > first)
            result = libc_close_range(first, (unsigned int)kept - 1, 0);
        first = (unsigned int)kept + 1;
    }
    return first <= last ? libc_close_range(first, last, 0) : result;
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
    /* With a flag nothing is closed yet (CLOEXEC), or not in the table that the others share. */
    if (flags != 0 || first > last)
        return libc_close_range(first, last, flags);
    free_range(first, last);
    return UNLIKELY(next_kept(0) >= 0) ? close_around(first, last)
                                       : libc_close_range(first, last, 0);
}

EXPORT void closefrom(int first)
{
    unsigned int from = first < 0 ? 0 : (unsigned int)first;
    free_range(from, UINT32_MAX);
    if (UNLIKELY(next_kept(0) >= 0))
        close_around(from, UINT32_MAX);
    else
        libc_closefrom(first);
}

/* ---- duplicated ---- */

static int duplicated(int fd, int to)
{
    if (to < 0 || !table_knows(fd) || in_vfork_child())
        return to;
    enum kind kind = table_kind(fd);
    if (kind == KIND_LISTENER || kind == KIND_BOUND)
        listener_duplicated(fd, to);
    else
        table_alias(fd, to);
    return to;
}

EXPORT int dup(int fd)
{
    return duplicated(fd, libc_dup(fd));
}

/* dup2 is about to put fd in the place of `to`. Where it fails nothing is closed. */
static enum kind replaces(int fd, int to)
{
    enum kind kind = table_kind(to);
    bool handed_on = UNLIKELY(table.shares) && kind != KIND_NONE && table_hand_on(to);
    kind = table_take(to);
    if (UNLIKELY(kind != KIND_NONE) && !handed_on && conn_may_linger() &&
        sys2(SYS_fcntl, fd, F_GETFD) >= 0)
        conn_closes(to, kind);
    return kind;
}

#define DUP_OVER(name, params, args)      \
    EXPORT int name params                \
    {                                     \
        if (fd == to || in_vfork_child()) \
            return libc_##name args;      \
        enum kind was = replaces(fd, to); \
        int result = libc_##name args;    \
        if (result < 0)                   \
            table_restore(to, was);       \
        else                              \
            freed(to, was);               \
        return duplicated(fd, result);    \
    }

DUP_OVER(dup2, (int fd, int to), (fd, to))
DUP_OVER(__dup2, (int fd, int to), (fd, to))
DUP_OVER(dup3, (int fd, int to, int flags), (fd, to, flags))

/* Whatever the command, its argument is an int, a long or a pointer: a long carries each. */
#define FCNTL(name)                                                   \
    EXPORT int name(int fd, int command, ...)                         \
    {                                                                 \
        va_list args;                                                 \
        va_start(args, command);                                      \
        long arg = va_arg(args, long);                                \
        va_end(args);                                                 \
        if (UNLIKELY(command == F_SETLKW || command == F_OFD_SETLKW)) \
            fork_lives_on(); /* whose turn it is to accept */         \
        int result = libc_##name(fd, command, arg);                   \
        if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)         \
            duplicated(fd, result);                                   \
        return result;                                                \
    }

FCNTL(fcntl)
FCNTL(fcntl64)
FCNTL(__fcntl)

/* ---- set ---- */

/* The kernel's two numbers: with a 32-bit and with a 64-bit time_t (asm-generic/socket.h). */
enum { RCVTIMEO_OLD = 20, SNDTIMEO_OLD = 21, RCVTIMEO_NEW = 66, SNDTIMEO_NEW = 67 };

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    int result = libc_setsockopt(fd, level, name, value, len);
    bool receives = name == RCVTIMEO_OLD || name == RCVTIMEO_NEW;
    bool sends = name == SNDTIMEO_OLD || name == SNDTIMEO_NEW;
    if (level != SOL_SOCKET || result < 0 || !(receives || sends) || in_vfork_child())
        return result;
    if (!table_knows(fd))
        table_set(fd, KIND_TIMED);
    else if (receives)
        conn_event(fd, CONN_TIMEOUT);
    return result;
}

EXPORT int shutdown(int fd, int how)
{
    int result = libc_shutdown(fd, how);
    /* The program has said the last that it had to say, if we have not cut it off. */
    if (UNLIKELY(table_knows(fd)) && result == 0 && how != SHUT_RD && !conn_is_cut(fd))
        conn_event(fd, CONN_WROTE);
    return result;
}
