/* SPDX-License-Identifier: MIT */
#include "conn/fork_detect.h"

#include "base/libc.h"
#include "base/sys.h"

#include <sys/mman.h>
#include <time.h>

/* clang-format off */
/* In a section of its own, for its page: inside of .bss all of that would begin on one. */
__asm__(".pushsection .wiped, \"aw\", %nobits\n\t"
        ".balign " STRING(PAGE_MAX) "\n\t"
        ".globl fork_page\n\t"
        ".hidden fork_page\n\t"
        ".type fork_page, %object\n\t"
        ".size fork_page, " STRING(PAGE_MAX) "\n"
        "fork_page:\n\t"
        ".zero " STRING(PAGE_MAX) "\n\t"
        ".popsection");
/* clang-format on */

__thread struct fork_thread fork_thread;

_Atomic uint64_t generation_last;
static void (*forked)(void);
static void (*noticed)(void);
static _Atomic bool is_new;

bool generation_is_new(void)
{
    return atomic_load(&is_new);
}

static _Atomic int pid;

int fork_pid(void)
{
    return atomic_load(&pid);
}

int fork_ask_pid(void)
{
    if (!atomic_load(&pid))
        atomic_store(&pid, (int)sys0(SYS_getpid));
    return atomic_load(&pid);
}

_Atomic bool fork_cloned;
_Atomic bool fork_clones_foreigners;

/*
 * The calling thread's id as libc has it, which the kernel puts there for every child of its fork
 * (CLONE_CHILD_SETTID): without a system call, from a clock's id (linux/posix-timers.h: the
 * complement of the tid, and three bits). 0: not known, for a raw clone tells libc nothing.
 */
static int libc_tid(void)
{
    clockid_t clock;
    if (atomic_load(&fork_cloned) || libc_pthread_getcpuclockid(pthread_self(), &clock) != 0)
        return 0;
    return (int)~(clock >> 3);
}

static void set(uint64_t generation)
{
    atomic_store(&generation_last, generation);
    atomic_store(&fork_page.mine, generation);
}

bool fork_wipes_by_hand;

void fork_compare_pids(void)
{
    int known = fork_pid();
    if (UNLIKELY(fork_wipes_by_hand) && known && known != (int)sys0(SYS_getpid))
        fork_wipe_by_hand();
}

void fork_make(void (*on_fork)(void), void (*afterwards)(void))
{
    forked = on_fork;
    noticed = afterwards;
    /* Linux before 4.14 refuses it; who agrees to advice that there is none of (qemu-user) does
     * nothing on any. */
    fork_wipes_by_hand = sys3(SYS_madvise, &fork_page, sizeof fork_page, MADV_WIPEONFORK) < 0 ||
                         sys3(SYS_madvise, &fork_page, sizeof fork_page, -1) >= 0;
    set(UINT64_C(1) << GENERATION_SHIFT);
}

void (*fork_on_life)(void);

void fork_begins_life(void)
{
    if (in_vfork_child())
        return;
    generation_now();
    fork_thread.child = CHILD_NONE;
    if (fork_on_life)
        fork_on_life();
}

uint64_t generation_notices(void)
{
    uint64_t wiped = 0;
    if (!forked)
        return 0;

    /* 8 bits: 0 is kept for "not yet". A child begins with one thread: the race is with its own
     * signal handlers only, and whoever comes first does the work. */
    uint64_t parent = atomic_load(&generation_last) >> GENERATION_SHIFT;
    uint64_t mine = (parent % 255 + 1) << GENERATION_SHIFT;
    atomic_store(&is_new, true);
    if (atomic_compare_exchange_strong(&fork_page.mine, &wiped, mine)) {
        atomic_store(&generation_last, mine);
        if (fork_thread.child == CHILD_NEW)
            fork_thread.child = CHILD_NOTICED;
        atomic_store(&pid, libc_tid()); /* a child begins with the one thread */
        forked();
        atomic_store(&is_new, false);
        noticed();
    } else {
        atomic_store(&is_new, false); /* a signal's handler has been quicker */
        noticed();
    }
    return atomic_load_explicit(&fork_page.mine, memory_order_acquire);
}
