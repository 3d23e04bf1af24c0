/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets have in common. Included before the shim's headers, which poison
 * malloc and stdio. Each target is one file, linked with libFuzzer, whose input is what an outsider
 * may have written; what it must never do is a CHECK, and the sanitizers have the rest.
 */
#ifndef WEIR_FUZZ_H
#define WEIR_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s is not so\n", __FILE__, __LINE__, #condition); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

/* A copy that ends where its block does, so that a byte read past it is found. */
static inline void *fuzz_copy(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* The same as a string, cut at the first NUL that is in it. */
static inline char *fuzz_string(const void *data, size_t size)
{
    size_t length = size ? strnlen(data, size) : 0;
    char *copy = malloc(length + 1);
    CHECK(copy);
    if (length)
        memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}

static inline void fuzz_free(void *copy)
{
    free(copy);
}

static inline bool fuzz_is_printable(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

#endif
