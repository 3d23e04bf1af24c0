/* SPDX-License-Identifier: MIT */
#include "libc.h"

#include <dlfcn.h>
#include <errno.h>

#define LIBC_FIRST(type, name, params, args) \
    static type first_##name params          \
    {                                        \
        libc_find();                         \
        return libc_##name args;             \
    }                                        \
    type(*libc_##name) params = first_##name;
LIBC_FUNCTIONS(LIBC_FIRST)

static long absent(void)
{
    errno = ENOSYS;
    return -1;
}

/* dlsym of a name that exists does not allocate; of one that doesn't, it does (glibc dlerror). */
static void find(void *pointer, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        found = (void *)absent;
    __atomic_store_n((void **)pointer, found, __ATOMIC_RELAXED);
}

void libc_find(void)
{
    int saved = errno;
#define LIBC_FIND(type, name, params, args) find(&libc_##name, #name);
    LIBC_FUNCTIONS(LIBC_FIND)
    errno = saved;
}
