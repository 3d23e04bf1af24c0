/* SPDX-License-Identifier: MIT */
/*
 * sigsetjmp returns twice, so no C function can be around it: it is jumped to, after before_setjmp
 * (jump.c) has told where it is. setjmp is the function, which saves the mask; the macro is _setjmp.
 */
#include <features.h>

#ifdef __GLIBC__
        .hidden before_setjmp
        .text
        .globl  setjmp
        .type   setjmp, %function
        .globl  __sigsetjmp
        .type   __sigsetjmp, %function
#ifdef __x86_64__
setjmp:
        movl    $1, %esi
        .size   setjmp, . - setjmp
__sigsetjmp:
        pushq   %rdi
        pushq   %rsi
        subq    $8, %rsp
        call    before_setjmp
        addq    $8, %rsp
        popq    %rsi
        popq    %rdi
        jmp     *%rax
#else
setjmp:
        mov     w1, 1
        .size   setjmp, . - setjmp
__sigsetjmp:
        stp     x0, x1, [sp, -32]!
        str     x30, [sp, 16]
        bl      before_setjmp
        mov     x16, x0
        ldr     x30, [sp, 16]
        ldp     x0, x1, [sp], 32
        br      x16
#endif
        .size   __sigsetjmp, . - __sigsetjmp
#endif

        .section .note.GNU-stack, "", %progbits
