/* SPDX-License-Identifier: MIT */
/*
 * process.h - what weir(1) asks of other processes, beyond base/proc.h.
 */
#ifndef WEIR_COMMAND_PROCESS_H
#define WEIR_COMMAND_PROCESS_H

#include "base/proc.h"

/*
 * The process that has this number in the pid namespace with this inode: its number here, or 0. All
 * of /proc is looked through, on the budget of that user.
 */
int32_t process_outer_pid(uint32_t uid, uint32_t namespace, int32_t inner);

/*
 * The parent of a process, as all of them had theirs when this was called first; anew after
 * process_forget_parents. 0: it has none, or that is not known. Whoever climbs asks at most so
 * often: a user may make up processes without end, each the parent of the next.
 */
#define ANCESTORS_MOST 64
int32_t process_parent(int32_t pid);
void process_forget_parents(void);

/* A variable that the process was started with. False: there is none, or it may not be read. */
bool process_variable(int32_t pid, const char *name, char *into, size_t size);

/* The systemd unit that a process belongs to, escaped: "nginx.service", from its control group. "":
 * none. */
void process_unit(int32_t pid, char *into, size_t size);

/* Copies memory of the process. False: it may not be read, or is not there. */
bool process_memory(int32_t pid, uint64_t address, void *into, size_t size);

/* Whether a thread of the process sleeps in a call by which a server waits for clients. True where
 * the kernel does not say in which (proc(5), /proc/PID/syscall). */
bool process_waits(int32_t pid);

/*
 * How much work other users' processes and pages may cause in one run over all of them. A user may
 * have any number of mappings, processes and pages, and may fill a page with what is costly to
 * read. The command's own user has no limit.
 */
struct budget {
    uint32_t lines;  /* of /proc/PID/maps */
    uint32_t pages;  /* that are kept */
    int64_t time_ms; /* for connections in other processes' memory */
};

/* The budget that this user has left. */
struct budget *budget_of(uint32_t uid);

/* Gives each user a full budget again. */
void budget_renew(void);

#endif
