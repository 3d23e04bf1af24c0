/* SPDX-License-Identifier: MIT */
/*
 * process.h - what weir(1) asks of other processes, beyond base/proc.h.
 */
#ifndef WEIR_COMMAND_PROCESS_H
#define WEIR_COMMAND_PROCESS_H

#include "base/proc.h"

/* A whole text as a process's number. 0: it is none. */
int32_t process_number(const char *text);

/* The process that has this number in the pid namespace with this inode: its number here, or 0. */
int32_t process_outer_pid(uint32_t namespace, int32_t inner);

/* Its effective user. -1: no such process. */
int64_t process_uid(int32_t pid);

/* A variable that the process was started with. False: there is none, or it may not be read. */
bool process_variable(int32_t pid, const char *name, char *into, size_t size);

/* The inode of a socket that a process holds. 0: it is none. */
uint64_t process_socket(int32_t pid, int32_t fd);

/* Calls `each` for each process that there is. */
void process_each(void (*each)(int32_t pid, void *context), void *context);

#endif
