/* SPDX-License-Identifier: MIT */
#include "base/libc.h"

#include "base/libc_versions.h"
#include "base/libc_next.h"

#include <dlfcn.h>
#include <errno.h>
#include <time.h>

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

#define LIBC_FIRST(type, name, params, args) \
    static type first_##name params          \
    {                                        \
        libc_find();                         \
        return libc_##name args;             \
    }                                        \
    type(*libc_##name) params = first_##name;
LIBC_FUNCTIONS(LIBC_FIRST)

__thread uintptr_t libc_behind;
void *libc_sigsetjmp_at;

static uintptr_t goes_behind(void)
{
    uintptr_t before = libc_is_behind() ? libc_behind : 0;
    libc_behind = sys_stack_pointer();
    return before;
}

static void comes_back(const uintptr_t *before)
{
    libc_behind = *before;
}

/* The functions of a library that is not libc: behind_NAME calls next_NAME. */
#define LIBC_BEHIND(type, name, params, args)                                          \
    static type(*next_##name) params;                                                  \
    static type behind_##name params                                                   \
    {                                                                                  \
        uintptr_t before __attribute__((cleanup(comes_back), unused)) = goes_behind(); \
        return next_##name args;                                                       \
    }
LIBC_FUNCTIONS(LIBC_BEHIND)

static long absent(void)
{
    errno = ENOSYS;
    return -1;
}

/*
 * dlsym of a name that exists does not allocate; of one that doesn't, it does, and the program must
 * not be told of it when it asks for an error of its own (glibc and musl, dlerror).
 */
static void *find(const char *name)
{
    void *found = has_dlsym ? dlsym(RTLD_NEXT, name) : libc_next_symbol(name);
    if (!found && has_dlsym)
        dlerror();
    return found ? found : (void *)absent;
}

static void put(void *pointer, void *function)
{
    __atomic_store_n((void **)pointer, function, __ATOMIC_RELEASE);
}

/* Nobody stands in front of these two: they tell where libc lies, and libpthread where it is
 * another object (before glibc 2.34). */
static struct libc_next_object libc_itself, libpthread;

static bool is_libcs(const void *function)
{
    return function == (const void *)absent || libc_next_object_has(&libc_itself, function) ||
           libc_next_object_has(&libpthread, function) || libc_itself.from == libc_itself.to;
}

void libc_find(void)
{
    int saved = errno;
    libc_itself = libc_next_object_of(find("getauxval"));
    libpthread = libc_next_object_of(find("pthread_getcpuclockid"));
    /* syscall alone is never called by way of another function: it may return twice. */
#define LIBC_FIND(type, name, params, args)                                     \
    {                                                                           \
        void *found = find(#name);                                              \
        bool direct = is_libcs(found) || (void *)&libc_##name == &libc_syscall; \
        put(&next_##name, found);                                               \
        put(&libc_##name, direct ? found : (void *)behind_##name);              \
    }
    LIBC_FUNCTIONS(LIBC_FIND)
    put(&libc_sigsetjmp_at, find("__sigsetjmp"));
    errno = saved;
}

bool libc_listen_is_anothers(void)
{
    return libc_listen == behind_listen;
}

#ifdef __GLIBC__
/*
 * Memory that glibc's free takes without its malloc having been called, which at load would set up
 * a heap that the program has not asked for yet: a chunk in use of its main arena, and two behind
 * it in use (malloc/malloc.c, "struct malloc_chunk"). free keeps it for a later malloc, in the
 * thread's cache or, where it is as small as most are, in a fast bin; so it stays readable for who
 * has kept a pointer to it, as zabbix_agentd does.
 */
#define WORD sizeof(size_t)
#define PREV_INUSE 1
static _Alignas(2 * sizeof(size_t)) size_t chunk[64];

static void *like_malloc(size_t size)
{
    size_t whole = (size + WORD + 2 * WORD - 1) & ~(2 * WORD - 1), least = 4 * WORD;
    size_t *behind = chunk + whole / WORD;
    if (whole + least + 2 * WORD > sizeof chunk)
        return NULL;
    chunk[1] = whole | PREV_INUSE;
    behind[1] = behind[1 + least / WORD] = least | PREV_INUSE;
    return &chunk[2];
}
#else
static void *like_malloc(size_t size)
{
    (void)size;
    return NULL;
}
#endif

void *libc_default(const char *name)
{
    return has_dlsym ? dlsym(RTLD_DEFAULT, name) : NULL;
}

void *libc_allocate(size_t size)
{
    void *(*allocate)(size_t) = has_dlsym ? (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc") : NULL;
    bool is_own = !allocate || libc_next_object_has(&libc_itself, (const void *)allocate);
    void *room = is_own ? like_malloc(size) : NULL;
    return room || !allocate ? room : allocate(size);
}

int64_t libc_coarse_ns(void)
{
    struct timespec now = {0, 0};
    libc_clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t libc_coarse_ms(void)
{
    return libc_coarse_ns() / 1000000;
}
