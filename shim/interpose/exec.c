/* SPDX-License-Identifier: MIT */
/* exec and posix_spawn: the program that is started gets the mask and the ignored signals that
 * this one believes it has. */
#include "base/libc.h"
#include "drain/signals_mask.h"
#include "drain/environment.h"
#include "drain/handed.h"
#include "drain/record.h"
#include "conn/fdtable.h"
#include "tree/membership.h"

#include <stdarg.h>

#define AROUND(call)                      \
    ({                                    \
        struct signals_exec exec;         \
        signals_exec_begins(&exec);       \
        __typeof__(call) result = (call); \
        signals_exec_ends(&exec);         \
        result;                           \
    })

#define SPAWNS(call)         \
    ({                       \
        membership_spawns(); \
        AROUND(call);        \
    })

/* Of a program that gets an environment WITH_OURS. */
#define HANDS_ON(call)                  \
    ({                                  \
        handed_exec_begins();           \
        __typeof__(call) done = (call); \
        handed_exec_ends();             \
        done;                           \
    })

/* A process that becomes another program. */
#define BECOMES(call)                                             \
    ({                                                            \
        if (!fork_is_new_child()) /* it has nothing of its own */ \
            membership_execs();                                   \
        int failed = AROUND(HANDS_ON(call));                      \
        if (!fork_is_new_child())                                 \
            membership_exec_failed();                             \
        failed;                                                   \
    })

/* What an environment gets from us. */
struct ours {
    const char *preload; /* environment_lost_preload */
    const char *sockets; /* handed_entry */
    size_t record;       /* how many entries of record.h */
    enum environment_mark mark;
    long tree; /* the entry that gets it; -1: none */
};

/* Whether this process, which serves, becomes itself once more: or whatever it makes of itself, if
 * it is the first of its tree. */
static bool is_itself(char *const *argv, char *const *envp)
{
    return !fork_is_new_child() && !in_vfork_child() && membership_has_listened() &&
           environment_tree(envp) &&
           (membership_is_first() || (argv && *argv && environment_is_own_word(*argv)));
}

/* Returns whether there is anything. */
static bool find_ours(struct ours *ours, char *const *argv, char *const *envp, bool becomes)
{
    ours->preload = envp && UNLIKELY(table_knows(0)) ? environment_lost_preload(envp) : NULL;
    ours->sockets = envp && handed_any() ? handed_entry() : NULL;
    ours->mark = envp ? environment_mark_for(argv) : MARK_NONE;
    ours->tree = ours->mark ? environment_find_tree(envp) : -1;
    bool succeeds = ours->mark == MARK_SUCCESSOR && ours->tree >= 0;
    ours->record = succeeds || (envp && becomes && is_itself(argv, envp)) ? record_entries() : 0;
    return ours->preload || ours->sockets || ours->tree >= 0 || ours->record;
}

static size_t count_entries(char *const *envp)
{
    size_t count = 0;
    while (envp[count])
        count++;
    return count;
}

/* In the copy: the library's path in front, what is taken out again neither first nor last, if it
 * can be. */
static char **put_ours(const struct ours *ours, char *const *envp, char **copy, char *marked)
{
    size_t count = count_entries(envp), used = 0;
    if (ours->preload)
        copy[used++] = (char *)ours->preload;
    for (size_t i = 0; i <= count; i++) {
        if (i == (count > 1)) {
            if (ours->sockets)
                copy[used++] = (char *)ours->sockets;
            record_put(copy + used, ours->record);
            used += ours->record;
        }
        copy[used++] =
            (long)i == ours->tree ? environment_put_mark(envp[i], ours->mark, marked) : envp[i];
    }
    return copy;
}

/* envp, or a copy on the caller's stack with what is ours. */
#define WITH_OURS(argv, envp, becomes)                                               \
    ({                                                                               \
        struct ours ours;                                                            \
        char *const *with = envp;                                                    \
        if (find_ours(&ours, argv, envp, becomes)) {                                 \
            size_t entries = count_entries(envp) + ours.record + 3;                  \
            with = put_ours(&ours, envp, __builtin_alloca(entries * sizeof(char *)), \
                            __builtin_alloca(ENVIRONMENT_TREE_ROOM));                \
        }                                                                            \
        with;                                                                        \
    })

EXPORT int execve(const char *path, char *const *argv, char *const *envp)
{
    return BECOMES(libc_execve(path, argv, WITH_OURS(argv, envp, true)));
}

EXPORT int execv(const char *path, char *const *argv)
{
    return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const *argv, char *const *envp)
{
    return BECOMES(libc_execvpe(file, argv, WITH_OURS(argv, envp, true)));
}

EXPORT int execvp(const char *file, char *const *argv)
{
    return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const *argv, char *const *envp)
{
    return BECOMES(libc_fexecve(fd, argv, WITH_OURS(argv, envp, true)));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return SPAWNS(
        HANDS_ON(libc_posix_spawn(pid, path, actions, attr, argv, WITH_OURS(argv, envp, false))));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return SPAWNS(
        HANDS_ON(libc_posix_spawnp(pid, file, actions, attr, argv, WITH_OURS(argv, envp, false))));
}

EXPORT int execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags)
{
    return BECOMES(libc_execveat(dir, path, argv, WITH_OURS(argv, envp, true), flags));
}

EXPORT int system(const char *command)
{
    return SPAWNS(libc_system(command));
}

EXPORT FILE *popen(const char *command, const char *mode)
{
    return SPAWNS(libc_popen(command, mode));
}

/* The arguments of execl and its like as an array, on the caller's stack: exec may follow vfork. */
static int count_args(va_list args)
{
    int count = 1;
    while (va_arg(args, const char *))
        count++;
    return count;
}

#define LISTED(exec, ...)                   \
    ({                                      \
        va_list args;                       \
        va_start(args, arg);                \
        int count = count_args(args);       \
        va_end(args);                       \
        char *argv[count + 1];              \
        va_start(args, arg);                \
        argv[0] = (char *)arg;              \
        for (int i = 1; i <= count; i++)    \
            argv[i] = va_arg(args, char *); \
        char *const *envp = environ;        \
        __VA_ARGS__;                        \
        va_end(args);                       \
        exec(path, argv, envp);             \
    })

EXPORT int execl(const char *path, const char *arg, ...)
{
    return LISTED(execve, (void)0);
}

EXPORT int execlp(const char *path, const char *arg, ...)
{
    return LISTED(execvpe, (void)0);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
    return LISTED(execve, envp = va_arg(args, char *const *));
}
