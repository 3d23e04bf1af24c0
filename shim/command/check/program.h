/* SPDX-License-Identifier: MIT */
/*
 * program.h - whether a program's file can have the shim preloaded.
 */
#ifndef WEIR_COMMAND_PROGRAM_H
#define WEIR_COMMAND_PROGRAM_H

#include "command/check/elf.h"
#include "command/check/verdict.h"

#include <limits.h>

/* The file that execvp(3) would execute. */
bool check_find(const char *command, char path[PATH_MAX], struct check *check);

/* The file that is to be executed, or the interpreter of a script. */
bool check_command(const char *path, struct check *check);

/* A program's file that is mapped already; its path, for what is printed. */
bool check_image(const struct elf_part *file, const char *path, struct elf *elf,
                 struct check *check);

#endif
