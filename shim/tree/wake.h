/* SPDX-License-Identifier: MIT */
/*
 * wake.h - waking a tree's processes by the control signal, so that they look at the state page.
 *
 * A page may be written by a process that was broken into. So nobody is signalled because a page
 * says so: the process must live, have the page among its maps, and catch the signal.
 */
#ifndef WEIR_WAKE_H
#define WEIR_WAKE_H

#include "base/proc.h"
#include "base/state_page.h"

enum wake { WAKE_ALL, WAKE_NOT_BEGUN };

/* Wakes those processes of a page that map this file. */
void wake_page(struct page *page, const struct proc_file *file, enum wake which);

/* Wakes those of this process's tree; also those that found no free slot. */
void wake_tree(enum wake which);

/* Tells whether that process has the tree's page among its maps and can be woken. (weir(1) maps it
 * as well, and catches nothing.) */
bool wake_reaches(int32_t pid);

/* Tells whether connections are left of processes that found no free slot. Looks now and then. */
bool wake_unlisted_serve(int64_t now);

#endif
