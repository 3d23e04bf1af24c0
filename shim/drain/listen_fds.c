/* SPDX-License-Identifier: MIT */
#include "drain/listen_fds.h"

#include "base/sys.h"
#include "base/text.h"
#include "tree/sd_notify.h"

#include <fcntl.h>

#define FIRST 3        /* SD_LISTEN_FDS_START */
#define MOST 100000000 /* no descriptor, and no pid, is larger */

static int passed; /* so many are the program's */

static size_t name_length(const char *names)
{
    size_t length = 0;
    while (names[length] && names[length] != ':')
        length++;
    return length;
}

static bool is_ours(const char *name, size_t length)
{
    return length == sizeof SD_NOTIFY_STORED - 1 && text_same_bytes(name, SD_NOTIFY_STORED, length);
}

static void move(int from, int to)
{
    if (from == to)
        return;
    long flags = sys2(SYS_fcntl, from, F_GETFD);
    sys3(SYS_dup3, from, to, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
    sys1(SYS_close, from);
}

int listen_fds_take(char **envp, void (*take)(int fd))
{
    char *pid = text_variable(envp, "LISTEN_PID="), *fds = text_variable(envp, "LISTEN_FDS=");
    char *names = text_variable(envp, "LISTEN_FDNAMES="), *name = names, *to = names;
    int count = fds ? text_number_in(fds, MOST) : 0, own = 0;
    if (!pid || text_number_in(pid, MOST) != sys0(SYS_getpid) || count <= 0)
        return 0;
    passed = count;
    for (int i = 0; names && i < count; i++) {
        size_t length = name_length(name);
        bool ours = is_ours(name, length);
        char *from = name;
        name += length + (name[length] == ':');
        if (ours) {
            take(FIRST + i);
            continue;
        }
        move(FIRST + i, FIRST + own);
        if (own++)
            *to++ = ':';
        while (length--)
            *to++ = *from++;
    }
    if (!names || own == count)
        return 0;
    *to = '\0';
    passed = own;
    struct text text = {fds, 0, text_length(fds) + 1};
    if (own)
        text_number(&text, (uint64_t)own);
    else
        text_drop_variables(envp, "LISTEN_");
    return count - own;
}

bool listen_fds_has(int fd)
{
    return fd >= FIRST && fd < FIRST + passed;
}
