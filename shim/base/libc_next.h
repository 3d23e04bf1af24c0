/* SPDX-License-Identifier: MIT */
/*
 * libc_next.h - what dlsym(RTLD_NEXT) finds, where there is no dlsym: before glibc 2.34 that is
 * libdl's, and a program need not have it. To load libdl for it everywhere would cost each fork its
 * five mappings, and each process its pages.
 */
#ifndef WEIR_LIBC_NEXT_H
#define WEIR_LIBC_NEXT_H

#include "base/common.h"

/*
 * The function of this name in the first object behind ours that has it, in the order in which the
 * objects were loaded; of several versions the default one. NULL: none has it, or it is chosen at
 * load time (STT_GNU_IFUNC), as no call of libc.h is.
 */
void *libc_next_symbol(const char *name);

/* Where the object that has this address lies in memory; from == to: none has it. */
struct libc_next_object {
    uintptr_t from, to;
};
struct libc_next_object libc_next_object_of(const void *address);

static inline bool libc_next_object_has(const struct libc_next_object *object, const void *address)
{
    return (uintptr_t)address - object->from < object->to - object->from;
}

#endif
