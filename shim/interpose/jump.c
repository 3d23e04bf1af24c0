/* SPDX-License-Identifier: MIT */
/*
 * sigsetjmp and siglongjmp: with the mask they keep and restore the program's view of the signals
 * that are ours. glibc makes them, and longjmp and setjmp, of the same two functions; musl's
 * restore the mask where they come back, and are left alone.
 */
#include "base/libc.h"
#include "drain/signals_mask.h"

#ifdef __GLIBC__
#include <setjmp.h>

/* In sigsetjmp.S: returns where the real one is. */
HIDDEN void *before_setjmp(struct __jmp_buf_tag *place, int saves_mask);
void *before_setjmp(struct __jmp_buf_tag *place, int saves_mask)
{
    if (UNLIKELY(!libc_sigsetjmp_at))
        libc_find();
    if (saves_mask)
        signals_jump_marked(place);
    return libc_sigsetjmp_at;
}

#define JUMPS(name)                                            \
    EXPORT void name(struct __jmp_buf_tag place[1], int value) \
    {                                                          \
        signals_jumps(place);                                  \
        libc_##name(place, value);                             \
        __builtin_unreachable();                               \
    }

JUMPS(longjmp)
JUMPS(_longjmp)
JUMPS(siglongjmp)
/* With _FORTIFY_SOURCE. */
EXPORT void __longjmp_chk(struct __jmp_buf_tag place[1], int value);
JUMPS(__longjmp_chk)
#endif
