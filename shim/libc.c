/* SPDX-License-Identifier: MIT */
#include "libc.h"

#include "glibc.h"

#include <dlfcn.h>
#include <errno.h>

GLIBC_OLDEST(dlsym, dlsym);
GLIBC_OLDEST(dlerror, dlerror);

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

/*
 * dlsym of a name that exists does not allocate; of one that doesn't, it does, and the program must
 * not be told of it when it asks for an error of its own (glibc and musl, dlerror).
 */
static void find(void *pointer, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        dlerror();
        found = (void *)absent;
    }
    __atomic_store_n((void **)pointer, found, __ATOMIC_RELAXED);
}

void libc_find(void)
{
    int saved = errno;
#define LIBC_FIND(type, name, params, args) find(&libc_##name, #name);
    LIBC_FUNCTIONS(LIBC_FIND)
    errno = saved;
}
