/* SPDX-License-Identifier: MIT */
/*
 * libc_versions.h - what is built with a new glibc runs with an old one: nothing of it is newer
 * than 2.28.
 *
 * The linker takes the newest version of a name that there is where it links, and a program then
 * does not start where that is missing. The names that have got a new version without a new meaning
 * are bound to their oldest here, or are not used. tests/portability.bats looks at both products.
 */
#ifndef WEIR_LIBC_VERSIONS_H
#define WEIR_LIBC_VERSIONS_H

#include "base/common.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/sys.h"

/*
 * The oldest versions on each machine, of what moved to libc in 2.34 and got a new one: dlsym and
 * dlerror (libdl's before that, so that libc.c has them weak), and how main is started. To be said
 * where the name is used.
 */
#ifndef __GLIBC__ /* musl has no versions */
#define GLIBC_OLDEST(name, alias)
#elif defined(__x86_64__)
#define GLIBC_OLDEST(name, alias) __asm__(".symver " #alias ", " #name "@GLIBC_2.2.5")
#else
#define GLIBC_OLDEST(name, alias) __asm__(".symver " #alias ", " #name "@GLIBC_2.17")
#endif

/* stat(2), fstat(2): functions since 2.33; before, inline around another. */
static inline int glibc_result(long result)
{
    if (result >= 0)
        return 0;
    errno = (int)-result;
    return -1;
}

static inline int glibc_stat(const char *path, struct stat *at)
{
    return glibc_result(sys4(SYS_newfstatat, -100 /* AT_FDCWD */, path, at, 0));
}

static inline int glibc_fstat(int fd, struct stat *at)
{
    return glibc_result(sys2(SYS_fstat, fd, at));
}

#endif
