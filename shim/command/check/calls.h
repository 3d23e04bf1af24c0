/* SPDX-License-Identifier: MIT */
/*
 * calls.h - which calls are covered: those that libweir.so defines. The library is the list.
 */
#ifndef WEIR_COMMAND_CALLS_H
#define WEIR_COMMAND_CALLS_H

#include "command/check/elf.h"
#include "command/check/verdict.h"

struct calls;

/* Reads libweir.so. NULL: it can't be read, and check has the reason. */
struct calls *check_calls_begin(struct check *check);

/* Adds what an object imports. */
void check_calls_add(struct calls *calls, const struct elf *elf, const char *path);

/* Adds the program's own functions: they come before the shim's for every caller. */
void check_calls_own(struct calls *calls, const struct elf *program);

/* Prints what was found. */
void check_calls_say(const struct calls *calls, const struct check *check);

void check_calls_end(struct calls *calls); /* or NULL */

#endif
