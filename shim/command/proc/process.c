/* SPDX-License-Identifier: MIT */
#include "command/proc/process.h"

#include "base/text.h"

#include <inttypes.h>

int32_t process_number(const char *text)
{
    int64_t pid = 0;
    for (; *text; text++)
        if (*text < '0' || *text > '9' || (pid = pid * 10 + (*text - '0')) > INT32_MAX)
            return 0;
    return (int32_t)pid;
}

struct visit {
    void (*each)(int32_t pid, void *context);
    void *context;
};

static void visit_name(int dir, const char *name, void *context)
{
    const struct visit *visit = context;
    int32_t pid = process_number(name);
    (void)dir;
    if (pid)
        visit->each(pid, visit->context);
}

void process_each(void (*each)(int32_t pid, void *context), void *context)
{
    struct visit visit = {each, context};
    proc_each_file("/proc", visit_name, &visit);
}

struct sought {
    uint32_t namespace;
    int32_t inner, outer;
};

static void seek(int32_t pid, void *context)
{
    struct sought *sought = context;
    uint64_t inner;
    if (!sought->outer && proc_status(pid, "NSpid:\t", PROC_LAST, 10, &inner) &&
        (int32_t)inner == sought->inner && proc_namespace(pid, "ns/pid") == sought->namespace)
        sought->outer = pid;
}

int32_t process_outer_pid(uint32_t namespace, int32_t inner)
{
    struct sought sought = {.namespace = namespace, .inner = inner};
    process_each(seek, &sought);
    return sought.outer;
}

int64_t process_uid(int32_t pid)
{
    uint32_t uid;
    return proc_user(pid, &uid) ? (int64_t)uid : -1;
}

bool process_variable(int32_t pid, const char *name, char *into, size_t size)
{
    struct proc_lines entries;
    const char *entry, *value = NULL;
    if (proc_open_lines(&entries, pid, "environ"))
        return false;
    entries.end = '\0';
    while (!value && (entry = proc_next_line(&entries)))
        if ((value = text_after(entry, name)) && *value++ != '=')
            value = NULL;
    proc_close_lines(&entries);
    return value && (size_t)snprintf(into, size, "%s", value) < size;
}

uint64_t process_socket(int32_t pid, int32_t fd)
{
    char path[64], target[64];
    uint64_t inode;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = '\0';
    return sscanf(target, "socket:[%" SCNu64, &inode) == 1 ? inode : 0;
}
