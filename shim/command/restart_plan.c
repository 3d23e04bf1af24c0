/* SPDX-License-Identifier: MIT */
#include "command/restart_plan.h"

#include "base/start_record.h"
#include "base/text.h"
#include "command/check/program.h"
#include "command/proc/process.h"
#include "command/say.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4 /* linux/close_range.h, since 5.11 */
#endif

#define BLOCK_MOST (UINT64_C(8) << 20) /* execve(2): a quarter of the stack's limit */

/* ---- how it was started ---- */

/* Finds the record in one mapping of the library. */
static bool find_in(int32_t pid, const struct proc_mapping *mapping, struct start_record *record)
{
    size_t size = mapping->to - mapping->from, at = 0;
    char *copy = size < BLOCK_MOST ? malloc(size) : NULL;
    bool found = false;
    if (copy && process_memory(pid, mapping->from, copy, size))
        for (; !found && at + sizeof *record <= size; at += sizeof(void *)) {
            memcpy(record, copy + at, sizeof *record);
            found = !strncmp(record->mark, START_RECORD_MARK, sizeof record->mark) && record->block;
        }
    free(copy);
    return found && record->size && record->size < BLOCK_MOST;
}

/* Only memory of the process itself is looked at: no other process can write there. */
static bool find_record(int32_t pid, struct start_record *record)
{
    struct proc_lines maps;
    struct proc_mapping mapping;
    bool found = false;
    if (proc_open_lines(&maps, pid, "maps"))
        return false;
    while (!found && proc_next_mapping(&maps, &budget_of(geteuid())->lines, &mapping))
        found = !mapping.is_shared && !mapping.is_code &&
                text_equal(base_name(mapping.path), "libweir.so") && find_in(pid, &mapping, record);
    proc_close_lines(&maps);
    return found;
}

/* What is ours, or another manager's, and was said to that process alone. */
static bool is_inherited(const char *variable)
{
    static const char *const names[] = {
        HANDED_NAME, "WEIR_TREE=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES="};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (text_after(variable, names[i]))
            return false;
    return true;
}

/* Without the name that stands in front of each. "": there is none. */
static char *next_string(char **at, char *end)
{
    char *string = *at < end ? *at : end;
    *at = string + strlen(string) + 1;
    const char *after = text_after(string, START_RECORD_NAME);
    return after ? (char *)after : string + strlen(string);
}

static void read_start(struct plan *plan, int32_t pid)
{
    struct start_record record;
    if (!find_record(pid, &record))
        die(EXIT_FAILED,
            "pid %d: how it was started can't be read out of its memory: use its user or root, or "
            "say what to start (-- COMMAND)",
            pid);
    char *block = grow(NULL, record.size, 1);
    if (!process_memory(pid, (uintptr_t)record.block, block, record.size))
        die(EXIT_FAILED, "pid %d: its memory can't be read: %s", pid, strerror(errno));
    block[record.size] = '\0';
    size_t strings = 0;
    for (size_t i = 0; i < record.size; i++)
        strings += !block[i];
    char *end = block + record.size, *at = block;
    char **list = calloc(strings + 2, sizeof *list);
    if (!list)
        die(EXIT_FAILED, "%s", strerror(errno));
    uint64_t words = strtoul(next_string(&at, end), NULL, 10);
    plan->directory = next_string(&at, end);
    plan->words = plan->own_words = list;
    for (uint64_t i = 0; i < words && at < end; i++)
        *list++ = next_string(&at, end);
    plan->variables = ++list;
    while (at < end) {
        char *one = next_string(&at, end);
        if (is_inherited(one))
            *list++ = one;
    }
}

/* ---- what is to be started ---- */

/* Its own PATH, and its directory, tell which file is meant. False: none can be executed, and it is
 * said why. */
static bool find_program(struct plan *plan)
{
    struct check check = {0};
    const char *path = text_variable(plan->variables, "PATH="), *own = getenv("PATH");
    char before[PATH_MAX], copy[own ? strlen(own) + 1 : 1];
    strcpy(copy, own ? own : "");
    bool has_cwd = getcwd(before, sizeof before), works;
    if (chdir(plan->directory))
        return !fail(EXIT_FAILED, "its directory %s: %s", escaped(plan->directory),
                     strerror(errno));
    if (path)
        setenv("PATH", path, 1);
    works = check_find(*plan->words, plan->path, &check);
    if (!works && plan->words == plan->own_words && *plan->exe) {
        /* its first word is a name that it was given */
        memcpy(plan->path, plan->exe, sizeof plan->path);
        works = access(plan->path, X_OK) == 0;
    }
    works = works && check_command(plan->path, &check);
    bool may_work = works || check.exit == EXIT_FORBIDDEN;
    if (own)
        setenv("PATH", copy, 1);
    if (has_cwd && chdir(before))
        return !fail(EXIT_FAILED, "%s: %s", escaped(before), strerror(errno));
    return may_work || !fail(EXIT_FAILED, "%s: nothing was done", check.reason);
}

/* ---- as whom ---- */

/* Whether a program that we start sees and may do what that process does. */
static bool is_in_our_place(int32_t pid)
{
    static const char *const files[] = {"ns/user", "ns/mnt", "ns/pid", "ns/net"};
    char path[64], root[2] = "";
    uint64_t ours = 0, its = 0;
    for (size_t i = 0; i < COUNT_OF(files); i++)
        if (proc_namespace(pid, files[i]) != proc_namespace(0, files[i]))
            return false;
    snprintf(path, sizeof path, "/proc/%d/root", pid);
    return readlink(path, root, sizeof root) == 1 && *root == '/' &&
           proc_status(pid, "Seccomp:\t", 0, 10, &its) ==
               proc_status(0, "Seccomp:\t", 0, 10, &ours) &&
           its == ours;
}

static void read_status(struct plan *plan, int32_t pid)
{
    char path[64], line[4096];
    unsigned int mask = 022;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        die(exit_code(errno), "pid %d: %s", pid, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "Umask: %o", &mask);
        sscanf(line, "Uid: %u %u %u", &plan->uid[0], &plan->uid[1], &plan->uid[2]);
        sscanf(line, "Gid: %u %u %u", &plan->gid[0], &plan->gid[1], &plan->gid[2]);
        const char *groups = text_after(line, "Groups:");
        plan->groups = groups ? malloc(sizeof line * sizeof *plan->groups) : plan->groups;
        for (int used; groups && plan->groups &&
                       sscanf(groups, " %u%n", &plan->groups[plan->group_count], &used) == 1;
             groups += used)
            plan->group_count++;
    }
    fclose(file);
    plan->umask = mask;
    plan->bounding_set = UINT64_MAX;
    proc_status(pid, "CapBnd:\t", 0, 16, &plan->bounding_set);
    proc_status(pid, "NoNewPrivs:\t", 0, 10, &plan->no_new_privs);
}

void plan_make(struct plan *plan, int32_t pid, char **command)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        die(exit_code(errno), "pid %d: %s", pid, strerror(errno));
    for (int fd = 0; fd < 3; fd++)
        plan->std[fd] = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    int error = plan->std[0] < 0 && plan->std[1] < 0 && plan->std[2] < 0 ? errno : 0;
    close(pidfd);
    if (error == ENOSYS)
        die(EXIT_FAILED, "the kernel has no pidfd_getfd(2) (Linux 5.6): nothing was done");
    if (error == EPERM || error == EACCES)
        die(EXIT_FORBIDDEN,
            "pid %d: its sockets may not be taken: use its user, or root (ptrace(2), "
            "PTRACE_MODE_ATTACH)",
            pid);
    if (!is_in_our_place(pid))
        die(EXIT_FAILED,
            "pid %d: it has namespaces, a root directory or a seccomp filter of its own: call weir "
            "restart from in there (nsenter(1))",
            pid);
    read_start(plan, pid);
    read_status(plan, pid);
    char exe[64];
    snprintf(exe, sizeof exe, "/proc/%d/exe", pid);
    ssize_t length = readlink(exe, plan->exe, sizeof plan->exe - 1);
    plan->exe[length > 0 ? length : 0] = '\0';
    if (command)
        plan->words = command;
    if (!*plan->words)
        die(EXIT_USAGE, "pid %d: its command line is not known: -- COMMAND", pid);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (prlimit(pid, i, NULL, &plan->limit[i]))
            getrlimit(i, &plan->limit[i]);
    if (!find_program(plan))
        exit(EXIT_FAILED);
}

bool plan_go_back(struct plan *plan)
{
    plan->words = plan->own_words;
    if (!*plan->words)
        return !fail(EXIT_FAILED, "by what the old one was started is not known");
    return find_program(plan);
}

/* ---- started ---- */

static bool has_its_groups(const struct plan *plan)
{
    int count = (int)plan->group_count;
    gid_t mine[count + 1];
    return getgroups(count + 1, mine) == count &&
           (count == 0 || memcmp(mine, plan->groups, (size_t)count * sizeof *mine) == 0);
}

/*
 * Without CAP_SETGID, and in a user namespace that says "deny" (user_namespaces(7), setgroups),
 * root too has to stay in the groups that it is in.
 */
static bool set_groups(const struct plan *plan)
{
    return setgroups(plan->group_count, plan->groups) == 0 ||
           (errno == EPERM && has_its_groups(plan));
}

/* Returns what can't be done, with errno. */
static const char *become(const struct plan *plan)
{
    uid_t me = geteuid();
    for (int i = 0; i < RLIM_NLIMITS; i++)
        setrlimit(i, &plan->limit[i]);
    umask(plan->umask);
    for (int i = 0; me == 0 && prctl(PR_CAPBSET_READ, i) >= 0; i++)
        if (!(plan->bounding_set >> i & 1) && prctl(PR_CAPBSET_DROP, i))
            return "its capabilities";
    if (me == 0 && !set_groups(plan))
        return "its groups";
    if (setresgid(plan->gid[0], plan->gid[1], plan->gid[2]))
        return "its group";
    if (setresuid(plan->uid[0], plan->uid[1], plan->uid[2]))
        return "its user";
    if (chdir(plan->directory))
        return "its directory";
    if (plan->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return "its no_new_privs";
    return NULL;
}

/* A descriptor that is to be one of the first three may not be in the way of another. */
static void set_standard(const struct plan *plan)
{
    int copy[3];
    for (int fd = 0; fd < 3; fd++) {
        int from = plan->std[fd] >= 0 ? plan->std[fd] : open("/dev/null", O_RDWR | O_CLOEXEC);
        copy[fd] = fcntl(from, F_DUPFD_CLOEXEC, 3);
    }
    for (int fd = 0; fd < 3; fd++)
        dup2(copy[fd], fd);
}

/* What whoever called `weir restart` has open is not the new one's. */
static void keep_ours(void)
{
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    for (int fd = 3; fd < 1024; fd++) /* Linux before 5.11 (close_range(2)) */
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Without sockets: only tries. */
static void run(const struct plan *plan, const int *sockets, size_t count, int report)
{
    size_t variables = 0, used = 0;
    while (plan->variables[variables])
        variables++;
    char *environment[variables + 2], entry[sizeof HANDED_NAME + 12 * count];
    int length = sprintf(entry, HANDED_NAME);
    keep_ours();
    for (size_t i = 0; i < count; i++) {
        length += sprintf(entry + length, "%s%d", i ? "," : "", sockets[i]);
        fcntl(sockets[i], F_SETFD, 0);
    }
    for (size_t i = 0; i <= variables; i++) {
        if (i == (variables > 1)) /* neither first nor last, if it can be */
            environment[used++] = entry;
        environment[used++] = plan->variables[i];
    }
    setsid(); /* no key that is pressed at the caller's terminal ends it */
    set_standard(plan);
    const char *failed = become(plan);
    if (!failed) {
        failed = plan->path;
        if (sockets)
            execve(plan->path, plan->words, environment);
        else if (faccessat(AT_FDCWD, plan->path, X_OK, AT_EACCESS) == 0)
            _exit(EXIT_DONE);
    }
    char said[PATH_MAX + 100];
    int size = snprintf(said, sizeof said, "%s: %s", escaped(failed), strerror(errno));
    if (write(report, said, (size_t)size) < 0)
        _exit(EXIT_FAILED);
    _exit(EXIT_FAILED);
}

pid_t plan_start(const struct plan *plan, const int *sockets, size_t count)
{
    int report[2];
    char said[PATH_MAX + 100];
    if (pipe2(report, O_CLOEXEC))
        return fail(-1, "%s", strerror(errno));
    int high = fcntl(report[1], F_DUPFD_CLOEXEC, 10);
    close(report[1]);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run(plan, sockets, count, high);
    close(high);
    ssize_t got = pid < 0 ? 0 : read(report[0], said, sizeof said - 1);
    close(report[0]);
    if (pid < 0)
        return fail(-1, "no process can be made: %s", strerror(errno));
    if (got <= 0)
        return pid;
    said[got] = '\0';
    waitpid(pid, NULL, 0);
    return fail(-1, "%s", said);
}

void plan_try(const struct plan *plan)
{
    pid_t pid = plan_start(plan, NULL, 0);
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        exit(EXIT_FAILED);
}
