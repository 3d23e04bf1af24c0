/* SPDX-License-Identifier: MIT */
/*
 * calls.h - which calls are covered: those that libweir.so defines. The library is the list.
 */
#ifndef WEIR_COMMAND_CALLS_H
#define WEIR_COMMAND_CALLS_H

#include "command/check/elf.h"
#include "command/check/verdict.h"

/* Reads libweir.so. False: it can't be read, and check has the reason. */
bool calls_begin(struct check *check);

/* Adds what an object imports. */
void calls_add(const struct elf *elf, const char *path);

/* Adds the program's own functions: they come before the shim's for every caller. */
void calls_add_own(const struct elf *program);

/* Prints what was found, and notes in check whether it can accept. */
void calls_say(struct check *check);

#endif
