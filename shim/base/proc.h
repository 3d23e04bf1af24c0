/* SPDX-License-Identifier: MIT */
/*
 * proc.h - what /proc tells of the processes that a state page names.
 *
 * For the shim's handler thread and for weir(1): nothing here calls libc. A chroot may have no
 * /proc: then nothing can be told.
 */
#ifndef WEIR_PROC_H
#define WEIR_PROC_H

#include "base/state_page.h"

/*
 * Whether the process of a line is there still: a process of this pid that started (a tick of its
 * start time is 10 ms) before the line was taken. -1: there is a process of this pid, and /proc
 * does not show it (there is none, or it hides other users' processes): it counts as alive.
 */
int proc_is_alive(int32_t pid, uint64_t since);

/* The pid namespace of the calling process, as an inode (namespaces(7)). 0: it can't be told. */
uint32_t proc_pid_namespace(void);

/* A file, as /proc/PID/maps has it: by the device of its file system, which on some (btrfs) is not
 * the one of stat(2). */
struct proc_file {
    uint64_t device, inode;
};

/* The file that is mapped at this address in the calling process; that a descriptor has open.
 * False: it can't be told. */
bool proc_mapped_file(const void *at, struct proc_file *file);
bool proc_opened_file(int fd, struct proc_file *file);

/*
 * Whether that process shares a mapping of the file, by a path that has this name in it, so that it
 * may be signalled. -1: can't tell. *budget: how many lines of maps may be read, of all that are
 * asked for together, for a process has as many as it likes; 0 when it is used up.
 */
#define PROC_MAPS_BUDGET (1 << 18)
int proc_maps(int32_t pid, const struct proc_file *file, const char *name, uint32_t *budget);

/* A process's effective user. False: it can't be told. */
bool proc_user(int32_t pid, uint32_t *uid);

/* Calls visit with the directory (an open descriptor) and name of each file of a directory. Returns
 * 0, or -errno where it can't be opened. */
typedef void proc_visit_fn(int dir, const char *name, void *context);
long proc_each_file(const char *dir, proc_visit_fn *visit, void *context);

/* Calls visit for each child of a process, as the kernel knows them. */
void proc_each_child(int32_t pid, void (*visit)(int32_t child));

/* A process's start time, in ticks since boot (proc(5), stat, field 22). 0: no such process. */
uint64_t proc_start_time(int32_t pid);

/*
 * All counts of a tree: of the processes that live (me: the caller's pid, which does), of those
 * that are gone, of what is between two processes. Never in a signal's handler: it reads files as
 * long as others make them.
 */
void proc_totals(const struct page *tree, int32_t me, struct totals *totals);

/* Whether the process has a handler for the signal (its default action would end it). -1: can't
 * tell. */
int proc_catches(int32_t pid, int sig);

/* Whether /proc shows that process, or that it was one (proc(5), hidepid). */
bool proc_is_shown(int32_t pid);

/* Whether seccomp(2) lets through only some of this process's system calls: another may end it. */
bool proc_is_filtered(void);

/* How many generations back an ancestor is looked for. */
#define PROC_GENERATIONS_MOST 32

/* A process's parent. 0: it has none, or it can't be told. */
int32_t proc_parent(int32_t pid);

/* Whether the process descends from the calling one, as far as their parents still live. */
bool proc_descends(int32_t pid);

/* Whether it is a child of the calling process, also where /proc does not show it. */
bool proc_is_child(int32_t pid);

/*
 * Which entries of gap (at most PAGE_GAPS) stand for a connection that counts still: nobody has
 * adopted it, and some process holds a socket of its identity, by one look at /proc/PID/net/tcp and
 * tcp6 (pid 0: our own network's). Where there is no /proc nothing can be told: then all do. now:
 * CLOCK_MONOTONIC, ms. Returns how many. As costly as proc_totals.
 */
uint32_t proc_open_gaps(const _Atomic uint64_t *gaps, uint32_t count, int32_t pid, int64_t now,
                        bool *open);

/* Whether the process of a line lives, and is this program still. */
bool proc_line_lives(const struct page_line *line);

#endif
