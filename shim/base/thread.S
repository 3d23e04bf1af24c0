/* SPDX-License-Identifier: MIT */
/* The beginning and the end of a thread that libc does not know (thread.h). */
#include <sys/syscall.h>

        .text
        .hidden thread_clone
        .globl  thread_clone
        .type   thread_clone, %function
        .hidden thread_exit_if
        .globl  thread_exit_if
        .type   thread_exit_if, %function
#ifdef __x86_64__
/* In the new thread every register but rax and rsp is as it was: r9 still holds entry. */
thread_clone:
        movq    %rcx, %r10
        movl    $SYS_clone, %eax
        syscall
        testq   %rax, %rax
        jnz     1f
        xorl    %ebp, %ebp
        call    *%r9
        hlt
1:
        ret
        .size   thread_clone, . - thread_clone

thread_exit_if:
        movl    %esi, %eax
        lock cmpxchgl %edx, (%rdi)
        jne     1f
        movl    $SYS_exit, %eax
        xorl    %edi, %edi
        syscall
1:
        ret
#else
thread_clone:
        mov     x9, x3
        mov     x3, x4 /* clone(2): this machine has tls and child_tid the other way round */
        mov     x4, x9
        mov     x8, SYS_clone
        svc     0
        cbnz    x0, 1f
        mov     x29, xzr
        blr     x5
        brk     1
1:
        ret
        .size   thread_clone, . - thread_clone

thread_exit_if:
        ldaxr   w3, [x0]
        cmp     w3, w1
        b.ne    1f
        stlxr   w4, w2, [x0]
        cbnz    w4, thread_exit_if
        mov     x0, xzr
        mov     x8, SYS_exit
        svc     0
1:
        clrex
        ret
#endif
        .size   thread_exit_if, . - thread_exit_if

        .section .note.GNU-stack, "", %progbits
