/* SPDX-License-Identifier: MIT */
/*
 * vfork returns twice on one stack, so no C function can be around it: the return address is kept in
 * a register that the system call leaves alone, as every libc's own vfork does. A thread-local that
 * child and parent share, fork_thread.in_vfork_child, says that the child is running (process.c).
 */
#include <sys/syscall.h>

        .hidden fork_thread
        .hidden vfork_returns
        .text
        .globl  vfork
        .globl  __vfork
        .type   vfork, %function
        .set    __vfork, vfork
#ifdef __x86_64__
vfork:
        movq    fork_thread@gottpoff(%rip), %rax
        addl    $1, %fs:(%rax)
        popq    %rdi
        movl    $SYS_vfork, %eax
        syscall
        pushq   %rdi
        testq   %rax, %rax
        jnz     1f
        ret
1:
        movq    %rax, %rdi
        jmp     vfork_returns
#else
#define VFORK_FLAGS 0x4111 /* CLONE_VM | CLONE_VFORK | SIGCHLD */
vfork:
        adrp    x1, :gottprel:fork_thread
        ldr     x1, [x1, :gottprel_lo12:fork_thread]
        mrs     x2, tpidr_el0
        ldr     w3, [x2, x1]
        add     w3, w3, 1
        str     w3, [x2, x1]
        mov     x0, VFORK_FLAGS
        mov     x1, 0
        mov     x8, SYS_clone
        svc     0
        cbnz    x0, 1f
        ret
1:
        b       vfork_returns
#endif
        .size   vfork, . - vfork

        .section .note.GNU-stack, "", %progbits
