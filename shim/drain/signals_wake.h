/* SPDX-License-Identifier: MIT */
/*
 * signals_wake.h - interrupting the program's threads.
 */
#ifndef WEIR_SIGNALS_WAKE_H
#define WEIR_SIGNALS_WAKE_H

#include "base/common.h"

#include <signal.h>

/*
 * Makes every other thread of the process leave the system call that it waits in and begin it
 * again, so that one that waits in accept finds what its listener has become.
 */
void signals_wake_threads(void);

/* Tells whether our handler was called for that, or for signals_yield; does it there. */
bool signals_is_wake(const siginfo_t *info);
void signals_woken(const siginfo_t *info, void *context);

/*
 * Leaves these to the program, which has a use of its own for them. They are handed over, and given
 * back as soon as the kernel's masks are what the threads believe. Every other thread is
 * interrupted for that, if any has ever blocked one of them.
 */
void signals_yield(uint64_t set);

#endif
