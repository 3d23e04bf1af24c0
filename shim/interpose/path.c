/* SPDX-License-Identifier: MIT */
/*
 * unlink, unlinkat, remove: the path of an AF_UNIX listener that goes from one program to the next
 * stays. The old program removes it at its end, the new one before its bind: after either no client
 * would find the socket.
 */
#include "base/libc.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/handed.h"
#include "drain/listener_kept.h"

#include <fcntl.h>

static bool is_kept(int dir, const char *path)
{
    if (LIKELY(!handed_any()) && LIKELY(!listener_any_is_kept()))
        return false;
    return path && (dir == AT_FDCWD || *path == '/') && !in_vfork_child() && !sys_is_sandboxed() &&
           (handed_keeps_path(path) || listener_keeps_path(path));
}

EXPORT int unlink(const char *path)
{
    return UNLIKELY(is_kept(AT_FDCWD, path)) ? 0 : libc_unlink(path);
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
    return !flags && UNLIKELY(is_kept(dir, path)) ? 0 : libc_unlinkat(dir, path, flags);
}

EXPORT int remove(const char *path)
{
    return UNLIKELY(is_kept(AT_FDCWD, path)) ? 0 : libc_remove(path);
}
