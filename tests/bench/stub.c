/* SPDX-License-Identifier: MIT */
/*
 * A library that stands where libc stands for the shim, with calls that cost nothing: what is left
 * of a call under the shim is the shim's own.
 *
 * Preloaded behind libweir.so, so that the shim's dlsym(RTLD_NEXT) finds these. A system call takes
 * 100 to 300 ns and varies by more than a wrapper costs. STUB_FENCE: each call drains the
 * processor's pipeline as a system call does, so that nothing of the wrapper is hidden behind its
 * neighbours.
 *
 * Small numbers are the kernel's all the same: a shell that starts the program (valgrind is a
 * script) reads its own. It counts allocations as well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(STUB_FENCE) && defined(__x86_64__)
#define FENCE() __asm__ volatile("lfence" ::: "memory")
#elif defined(STUB_FENCE)
#define FENCE() __asm__ volatile("isb" ::: "memory")
#else
#define FENCE() __asm__ volatile("" ::: "memory")
#endif

enum { REAL = 50 }; /* numbers below it */
#define REAL_CALL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int stub_accepts = 100; /* what accept returns */
unsigned long stub_allocations;

/* By where this one lies the shim knows libc from a library in front of it (libc.c). */
unsigned long getauxval(unsigned long type)
{
    return REAL_CALL(getauxval)(type);
}

ssize_t read(int fd, void *buf, size_t n)
{
    if (fd < REAL)
        return REAL_CALL(read)(fd, buf, n);
    FENCE();
    return (ssize_t)n;
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    (void)fd, (void)buf, (void)flags;
    FENCE();
    return (ssize_t)n;
}

ssize_t write(int fd, const void *buf, size_t n)
{
    if (fd < REAL)
        return REAL_CALL(write)(fd, buf, n);
    FENCE();
    return (ssize_t)n;
}

int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    (void)fd;
    FENCE();
    if (addr) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(40000)};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (*len >= sizeof from)
            *(struct sockaddr_in *)(void *)addr = from;
        *len = sizeof from;
    }
    return stub_accepts;
}

int dup(int fd)
{
    if (fd < REAL)
        return REAL_CALL(dup)(fd);
    FENCE();
    return fd;
}

int close(int fd)
{
    if (fd < REAL)
        return REAL_CALL(close)(fd);
    FENCE();
    return 0;
}

/* glibc exports its own under these names. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    stub_allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    stub_allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    stub_allocations++;
    return __libc_realloc(old, size);
}
