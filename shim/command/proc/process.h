/* SPDX-License-Identifier: MIT */
/*
 * process.h - what /proc tells of other processes.
 *
 * Functions that return int give 0 or an errno.
 */
#ifndef WEIR_COMMAND_PROCESS_H
#define WEIR_COMMAND_PROCESS_H

#include "command/proc/budget.h"
#include "base/proc.h"

#include <limits.h>

/* Reads a process's mappings of files, one by one. */
struct maps {
    FILE *file;
    char *line;
    size_t room;
    struct budget *budget; /* of the process's user */
};

struct mapping {
    char range[40]; /* as in /proc/PID/map_files */
    struct proc_file file;
    char *path; /* valid until the next one; without " (deleted)" */
    bool is_shared;
};

int maps_open(struct maps *maps, int32_t pid);
bool maps_next(struct maps *maps, struct mapping *mapping);
void maps_close(struct maps *maps);

/* The part of a path behind the last slash. */
const char *base_name(const char *path);

/* A line of /proc/PID/status ("SigCgt"): what follows the name. */
bool process_status(int32_t pid, const char *name, char *into, size_t size);

/* Whether a process has a handler for the signal. */
bool process_catches(int32_t pid, int sig);

/* The inode of a process's namespace ("pid", "net"; pid 0: our own). 0: it may not be asked. */
uint64_t process_namespace(int32_t pid, const char *which);

/* A process's number in the pid namespace that it lives in. 0: no such process. */
int32_t process_inner_pid(int32_t pid);

/* The process that is `inner` in the pid namespace with this inode: its number here, or 0. */
int32_t process_outer_pid(uint64_t namespace, int32_t inner);

int32_t process_parent(int32_t pid);

/* Its effective user. -1: no such process. */
int64_t process_uid(int32_t pid);

/* A variable that the process was started with. False: there is none, or it may not be asked. */
bool process_variable(int32_t pid, const char *name, char *into, size_t size);

/* Calls `each` for each process that there is. */
void process_each(void (*each)(int32_t pid, void *context), void *context);

#endif
