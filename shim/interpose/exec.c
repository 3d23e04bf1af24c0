/* SPDX-License-Identifier: MIT */
/* exec and posix_spawn: the program that is started gets the mask and the ignored signals that
 * this one believes it has. */
#include "libc.h"
#include "signals.h"

#define AROUND(call)                \
    ({                              \
        struct signals_exec exec;   \
        signals_exec_begins(&exec); \
        int result = (call);        \
        signals_exec_ends(&exec);   \
        result;                     \
    })

EXPORT int execve(const char *path, char *const *argv, char *const *envp)
{
    return AROUND(libc_execve(path, argv, envp));
}

EXPORT int execv(const char *path, char *const *argv)
{
    return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const *argv, char *const *envp)
{
    return AROUND(libc_execvpe(file, argv, envp));
}

EXPORT int execvp(const char *file, char *const *argv)
{
    return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const *argv, char *const *envp)
{
    return AROUND(libc_fexecve(fd, argv, envp));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return AROUND(libc_posix_spawn(pid, path, actions, attr, argv, envp));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const *argv, char *const *envp)
{
    return AROUND(libc_posix_spawnp(pid, file, actions, attr, argv, envp));
}
