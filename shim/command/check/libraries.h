/* SPDX-License-Identifier: MIT */
/*
 * libraries.h - where libraries are: our own, and those that a program will load.
 */
#ifndef WEIR_COMMAND_LIBRARIES_H
#define WEIR_COMMAND_LIBRARIES_H

#include "command/check/elf.h"
#include "command/check/verdict.h"

#include <limits.h>

/* The path of the libweir.so that belongs to this command, by where the command is. */
bool check_our_library(char path[PATH_MAX], struct check *check);

/*
 * Calls seen for each library that the program at `path` will load, and for theirs. Returns how
 * many; those that are not found are named.
 */
size_t check_libraries(const struct elf *elf, const char *path, const struct check *check,
                       void (*seen)(const struct elf *library, const char *path));

#endif
