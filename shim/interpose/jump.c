/* SPDX-License-Identifier: MIT */
/*
 * sigsetjmp and siglongjmp: with the mask they keep and restore the program's view of the signals
 * that are ours. glibc makes them, and longjmp and setjmp, of the same two functions; musl's
 * restore the mask where they come back, and are left alone.
 *
 * sigsetjmp returns twice, so no C function can be around it: it is jumped to.
 */
#include "base/libc.h"
#include "drain/signals_jumps.h"

#ifdef __GLIBC__
#include <setjmp.h>

__attribute__((used)) static void *before_setjmp(struct __jmp_buf_tag *place, int saves_mask)
{
    if (UNLIKELY(!libc_sigsetjmp_at))
        libc_find();
    if (saves_mask)
        signals_jump_marked(place);
    return libc_sigsetjmp_at;
}

#ifdef __x86_64__
__asm__(".pushsection .text\n"
        ".globl setjmp\n" /* the function, which saves the mask; the macro is _setjmp */
        ".type setjmp, @function\n"
        "setjmp:\n\t"
        "movl $1, %esi\n\t"
        ".size setjmp, . - setjmp\n"
        ".globl __sigsetjmp\n"
        ".type __sigsetjmp, @function\n"
        "__sigsetjmp:\n\t"
        "pushq %rdi\n\t"
        "pushq %rsi\n\t"
        "subq $8, %rsp\n\t"
        "call before_setjmp\n\t"
        "addq $8, %rsp\n\t"
        "popq %rsi\n\t"
        "popq %rdi\n\t"
        "jmp *%rax\n\t"
        ".size __sigsetjmp, . - __sigsetjmp\n"
        ".popsection\n");
#else
__asm__(".pushsection .text\n"
        ".globl setjmp\n"
        ".type setjmp, %function\n"
        "setjmp:\n\t"
        "mov w1, 1\n\t"
        ".size setjmp, . - setjmp\n"
        ".globl __sigsetjmp\n"
        ".type __sigsetjmp, %function\n"
        "__sigsetjmp:\n\t"
        "stp x0, x1, [sp, -32]!\n\t"
        "str x30, [sp, 16]\n\t"
        "bl before_setjmp\n\t"
        "mov x16, x0\n\t"
        "ldr x30, [sp, 16]\n\t"
        "ldp x0, x1, [sp], 32\n\t"
        "br x16\n\t"
        ".size __sigsetjmp, . - __sigsetjmp\n"
        ".popsection\n");
#endif

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
