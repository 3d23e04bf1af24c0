/* SPDX-License-Identifier: MIT */
#include "command/proc/process.h"

#include "base/sys.h"
#include "base/text.h"
#include "command/say.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

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

int32_t process_outer_pid(uint32_t uid, uint32_t namespace, int32_t inner)
{
    struct sought sought = {.namespace = namespace, .inner = inner};
    struct budget *budget = budget_of(uid);
    int64_t began = sys_now_ms();
    if (budget->time_ms > 0)
        proc_each_process(seek, &sought);
    budget->time_ms -= sys_now_ms() - began;
    return sought.outer;
}

#define PIDS_MOST (1 << 22) /* proc(5), pid_max */

static int32_t *parents; /* by pid: untouched pages of it are no memory; NULL: not read */

static void add_parent(int32_t pid, void *context)
{
    (void)context;
    if (pid <= PIDS_MOST)
        parents[pid] = proc_parent(pid);
}

void process_forget_parents(void)
{
    free(parents);
    parents = NULL;
}

int32_t process_parent(int32_t pid)
{
    if (!parents) {
        parents = calloc(PIDS_MOST + 1, sizeof *parents);
        if (!parents)
            die(EXIT_FAILED, "%s", strerror(errno));
        proc_each_process(add_parent, NULL);
    }
    return pid <= PIDS_MOST ? parents[pid] : 0;
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

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), more = strlen(end);
    return length > more && text_equal(text + length - more, end);
}

/* Finds the innermost unit of a path (systemd.unit(5)). A scope is no service of the one that it
 * lies in: user@1000.service has a user's sessions. */
static const char *unit_of(char *path)
{
    for (char *slash; (slash = strrchr(path, '/')); *slash = '\0')
        if (ends_with(slash, ".service"))
            return slash + 1;
        else if (ends_with(slash, ".scope"))
            return NULL;
    return NULL;
}

void process_unit(int32_t pid, char *into, size_t size)
{
    struct proc_lines groups;
    const char *unit = NULL;
    *into = '\0';
    if (proc_open_lines(&groups, pid, "cgroup"))
        return;
    /* cgroups(7): "0::/system.slice/nginx.service" */
    for (char *line; !unit && (line = proc_next_line(&groups));)
        unit = unit_of(line);
    if (unit)
        snprintf(into, size, "%s", escaped(unit));
    proc_close_lines(&groups);
}

bool process_memory(int32_t pid, uint64_t address, void *into, size_t size)
{
    struct iovec local = {into, size}, remote = {(void *)(uintptr_t)address, size};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static const long waits[] = {
#ifdef SYS_epoll_wait /* not on aarch64 */
    SYS_epoll_wait,  SYS_poll,  SYS_select,
#endif
    SYS_epoll_pwait, SYS_ppoll, SYS_pselect6, SYS_accept, SYS_accept4, SYS_io_uring_enter,
};

static void look_at_thread(int dir, const char *name, void *context)
{
    char path[48], said[24] = "";
    bool *found = context;
    snprintf(path, sizeof path, "%s/syscall", name);
    if (*name == '.')
        return;
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, said, sizeof said - 1);
    if (got < 0 && errno != ESRCH && errno != ENOENT)
        *found = true;
    for (size_t i = 0; got > 0 && *said != 'r' && i < COUNT_OF(waits); i++) /* "running" */
        *found |= atol(said) == waits[i];
    if (fd >= 0)
        close(fd);
}

bool process_waits(int32_t pid)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    proc_each_file(path, look_at_thread, &found);
    return found;
}

#define USERS_MOST 256 /* the others share one */

static const struct budget fresh = {.lines = 1 << 19, .pages = 64, .time_ms = 1000};
static const struct budget without_limit = {UINT32_MAX, UINT32_MAX, INT64_MAX};

static struct {
    uint32_t uid;
    struct budget left;
} users[USERS_MOST];
static size_t count;

struct budget *budget_of(uint32_t uid)
{
    static struct budget own;
    if (uid == geteuid()) {
        own = without_limit;
        return &own;
    }
    for (size_t i = 0; i < count; i++)
        if (users[i].uid == uid || i == USERS_MOST - 1)
            return &users[i].left;
    users[count].uid = uid;
    users[count].left = fresh;
    return &users[count++].left;
}

void budget_renew(void)
{
    count = 0;
}
