/* SPDX-License-Identifier: MIT */
#include "libc.h"

#include "glibc.h"
#include "next.h"

#include <dlfcn.h>
#include <errno.h>

/* Weak: libdl's before glibc 2.34, which is not always there. */
#pragma weak dlsym
#pragma weak dlerror
GLIBC_OLDEST(dlsym, dlsym);
GLIBC_OLDEST(dlerror, dlerror);

#ifdef WITHOUT_DLSYM /* as with an older glibc: tests/portability.bats */
static const bool has_dlsym = false;
#else
#define has_dlsym (&dlsym != NULL && &dlerror != NULL)
#endif

#define LIBC_FIRST(where, type, name, params, args) \
    static type first_##name params                 \
    {                                               \
        libc_find();                                \
        return libc_##name args;                    \
    }                                               \
    where type(*libc_##name) params = first_##name;
#define LIBC_FIRST_HOTTEST(type, name, params, args) \
    LIBC_FIRST(HOT_DATA(3), type, name, params, args)
#define LIBC_FIRST_HOT(type, name, params, args) LIBC_FIRST(HOT_DATA(5), type, name, params, args)
#define LIBC_FIRST_OTHER(type, name, params, args) LIBC_FIRST(, type, name, params, args)
LIBC_HOTTEST(LIBC_FIRST_HOTTEST)
LIBC_HOT(LIBC_FIRST_HOT)
LIBC_OTHERS(LIBC_FIRST_OTHER)

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
    void *found = has_dlsym ? dlsym(RTLD_NEXT, name) : next_symbol(name);
    if (!found && has_dlsym)
        dlerror();
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
