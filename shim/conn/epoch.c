/* SPDX-License-Identifier: MIT */
#include "conn/epoch.h"

#include "base/libc.h"
#include "base/sys.h"

#include <sys/mman.h>
#include <time.h>

/* clang-format off */
/* In a section of its own, for its page: inside of .bss all of that would begin on one. */
__asm__(".pushsection .wiped, \"aw\", %nobits\n\t"
        ".balign " STRING(PAGE_MAX) "\n\t"
        ".globl epoch_page\n\t"
        ".hidden epoch_page\n\t"
        ".type epoch_page, %object\n\t"
        ".size epoch_page, " STRING(PAGE_MAX) "\n"
        "epoch_page:\n\t"
        ".zero " STRING(PAGE_MAX) "\n\t"
        ".popsection");
/* clang-format on */

__thread struct epoch_thread epoch_thread;

_Atomic uint64_t epoch_last;
static void (*forked)(void);
static void (*noticed)(void);
static _Atomic bool is_new;

bool epoch_is_new(void)
{
    return atomic_load(&is_new);
}

static _Atomic int pid;

int epoch_pid(void)
{
    return atomic_load(&pid);
}

int epoch_ask_pid(void)
{
    if (!atomic_load(&pid))
        atomic_store(&pid, (int)sys0(SYS_getpid));
    return atomic_load(&pid);
}

_Atomic bool epoch_cloned;
_Atomic bool epoch_clones_foreigners;

/*
 * The calling thread's id as libc has it, which the kernel puts there for every child of its fork
 * (CLONE_CHILD_SETTID): without a system call, from a clock's id (linux/posix-timers.h: the
 * complement of the tid, and three bits). 0: not known, for a raw clone tells libc nothing.
 */
static int libc_tid(void)
{
    clockid_t clock;
    if (atomic_load(&epoch_cloned) || libc_pthread_getcpuclockid(pthread_self(), &clock) != 0)
        return 0;
    return (int)~(clock >> 3);
}

static void set(uint64_t epoch)
{
    atomic_store(&epoch_last, epoch);
    atomic_store(&epoch_page.mine, epoch);
}

bool epoch_wipes_by_hand;

bool epoch_wipe_on_fork(void *at, size_t size)
{
    return sys3(SYS_madvise, at, size, MADV_WIPEONFORK) >= 0 && !epoch_wipes_by_hand;
}

void epoch_compare_pids(void)
{
    int known = epoch_pid();
    if (UNLIKELY(epoch_wipes_by_hand) && known && known != (int)sys0(SYS_getpid))
        epoch_wipe_by_hand();
}

void epoch_make(void (*on_fork)(void), void (*afterwards)(void))
{
    forked = on_fork;
    noticed = afterwards;
    /* Linux before 4.14 refuses it; who agrees to advice that there is none of (qemu-user) does
     * nothing on any. */
    epoch_wipes_by_hand = !epoch_wipe_on_fork(&epoch_page, sizeof epoch_page) ||
                          sys3(SYS_madvise, &epoch_page, sizeof epoch_page, -1) >= 0;
    set(UINT64_C(1) << EPOCH_SHIFT);
}

void (*epoch_on_life)(void);

void epoch_begins_life(void)
{
    if (epoch_is_borrowed())
        return;
    epoch_now();
    epoch_thread.child = CHILD_NONE;
    if (epoch_on_life)
        epoch_on_life();
}

uint64_t epoch_notices(void)
{
    uint64_t wiped = 0;
    if (!forked)
        return 0;

    /* 8 bits: 0 is kept for "not yet". A child begins with one thread: the race is with its own
     * signal handlers only, and whoever comes first does the work. */
    uint64_t parent = atomic_load(&epoch_last) >> EPOCH_SHIFT;
    uint64_t mine = (parent % 255 + 1) << EPOCH_SHIFT;
    atomic_store(&is_new, true);
    if (atomic_compare_exchange_strong(&epoch_page.mine, &wiped, mine)) {
        atomic_store(&epoch_last, mine);
        if (epoch_thread.child == CHILD_NEW)
            epoch_thread.child = CHILD_NOTICED;
        atomic_store(&pid, libc_tid()); /* a child begins with the one thread */
        forked();
        atomic_store(&is_new, false);
        noticed();
    } else {
        atomic_store(&is_new, false); /* a signal's handler has been quicker */
        noticed();
    }
    return atomic_load_explicit(&epoch_page.mine, memory_order_acquire);
}
