/* SPDX-License-Identifier: MIT */
/*
 * uncovered.h - processes of the tree that run without the shim: the loader has taken it out (a
 * program with file capabilities, another user's), or the program that started them. And those that
 * have entered a seccomp sandbox, in which the shim does nothing.
 */
#ifndef WEIR_UNCOVERED_H
#define WEIR_UNCOVERED_H

#include "base/common.h"

/*
 * Returns whether a process that descends from this one accepts by TCP and has no shim, at a port
 * that the state page does not list, or is in a sandbox; and names it in the log: a drain that has
 * ended here has not ended there. Reads /proc: for the worker alone.
 */
bool uncovered_accepts(void);

#endif
