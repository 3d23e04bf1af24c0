/* SPDX-License-Identifier: MIT */
/* exec and posix_spawn: the program that is started gets the mask and the ignored signals that
 * this one believes it has. */
#include "base/libc.h"
#include "drain/signals_mask.h"
#include "drain/environment.h"
#include "drain/handed.h"
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

/*
 * envp, or a copy on the caller's stack: with what environment_lost_preload says in front, with the
 * sockets that this program hands on, and with WEIR_TREE's entry marked where
 * environment_successors_tree has found it.
 */
#define WITH_OURS(argv, envp)                                                                  \
    ({                                                                                         \
        const char *preload =                                                                  \
            envp && UNLIKELY(table_knows(0)) ? environment_lost_preload(envp) : NULL;          \
        const char *sockets = envp && handed_any() ? handed_entry() : NULL;                    \
        long tree = environment_successors_tree(argv, envp);                                   \
        bool copies = preload || sockets || tree >= 0;                                         \
        size_t count = 0, used = 0;                                                            \
        while (copies && envp[count])                                                          \
            count++;                                                                           \
        char **copy = __builtin_alloca((count + 3) * sizeof *copy);                            \
        char *marked = __builtin_alloca(tree >= 0 ? ENVIRONMENT_TREE_ROOM : 1);                \
        if (preload)                                                                           \
            copy[used++] = (char *)preload;                                                    \
        for (size_t i = 0; copies && i <= count; i++) {                                        \
            if (sockets && i == (count > 1)) /* neither first nor last, if it can */           \
                copy[used++] = (char *)sockets;                                                \
            copy[used++] = (long)i == tree ? environment_mark_tree(envp[i], marked) : envp[i]; \
        }                                                                                      \
        copies ? copy : envp;                                                                  \
    })

EXPORT int execve(const char *path, char *const *argv, char *const *envp)
{
    return BECOMES(libc_execve(path, argv, WITH_OURS(argv, envp)));
}

EXPORT int execv(const char *path, char *const *argv)
{
    return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const *argv, char *const *envp)
{
    return BECOMES(libc_execvpe(file, argv, WITH_OURS(argv, envp)));
}

EXPORT int execvp(const char *file, char *const *argv)
{
    return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const *argv, char *const *envp)
{
    return BECOMES(libc_fexecve(fd, argv, WITH_OURS(argv, envp)));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return SPAWNS(
        HANDS_ON(libc_posix_spawn(pid, path, actions, attr, argv, WITH_OURS(argv, envp))));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return SPAWNS(
        HANDS_ON(libc_posix_spawnp(pid, file, actions, attr, argv, WITH_OURS(argv, envp))));
}

EXPORT int execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags)
{
    return BECOMES(libc_execveat(dir, path, argv, WITH_OURS(argv, envp), flags));
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
