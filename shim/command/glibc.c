/* SPDX-License-Identifier: MIT */
/* How main is started: by the oldest version that glibc has of that (libc_versions.h). */
#include "base/libc_versions.h"

#ifdef __GLIBC__

typedef int start_fn(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                     void (*fini)(void), void (*loader_fini)(void), void *stack_end);

start_fn start_by_oldest, __wrap___libc_start_main;
GLIBC_OLDEST(__libc_start_main, start_by_oldest);

/*
 * In the place of libc's in what the compiler links to each program (ld(1), --wrap). That of 2.34
 * and newer leaves the constructors to libc (init is NULL), which an older one does not run: we
 * have none.
 */
int __wrap___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
                             void (*init)(void), void (*fini)(void), void (*loader_fini)(void),
                             void *stack_end)
{
    return start_by_oldest(main, argc, argv, init, fini, loader_fini, stack_end);
}

#endif
