/* SPDX-License-Identifier: MIT */
/*
 * check.h - whether the shim will work in a program, told from its file: for `weir check`, which
 * says all that was found, and for `weir run`, which only wants the verdict.
 *
 *   check_program.c    a command's file: is there a loader, and would it preload the shim?
 *   check_calls.c      which of its calls, and of its libraries', the shim stands in front of
 *   check_libraries.c  where the libraries are, and our own
 *   check.c            the subcommand; a process
 */
#ifndef WEIR_CHECK_H
#define WEIR_CHECK_H

#include "command/command.h"
#include "command/check/elf.h"

#include <limits.h>

struct check {
    bool says; /* what is found goes to stdout, a sentence a line */
    int exit;  /* of the verdict; EXIT_DONE: it will work */
    char reason[1200];
};

/* A sentence, if any is to be said. */
__attribute__((format(printf, 2, 3))) void check_say(const struct check *check, const char *format,
                                                     ...);

/* The verdict, a sentence that names its subject. Returns false. */
__attribute__((format(printf, 3, 4))) bool check_fail(struct check *check, int code,
                                                      const char *format, ...);

/* A name out of a file, fit for a terminal. */
#define SHOWN(name) check_shown((name), (char[600]){0}, 600)
const char *check_shown(const char *name, char *into, size_t size);

/* What follows the last slash. */
const char *check_base(const char *path);

/* ---- check_libraries.c ---- */

/* The path of the libweir.so that belongs to this command, by where the command is. */
bool check_our_library(char path[PATH_MAX], struct check *check);

/*
 * Calls seen for each library that the program at `path` will load, and for theirs. Returns how
 * many; those that are not found it says.
 */
size_t check_libraries(const struct elf *elf, const char *path, const struct check *check,
                       void (*seen)(void *with, const struct elf *library, const char *path),
                       void *with);

/* ---- check_calls.c ---- */

struct calls;

/* Whom calls are looked up in: libweir.so itself. NULL: it can't be read, and check says why. */
struct calls *check_calls_begin(struct check *check);

/* Adds what an object imports. */
void check_calls_add(struct calls *calls, const struct elf *elf, const char *path);

/* The program's own functions come before the shim's, whoever calls them. */
void check_calls_own(struct calls *calls, const struct elf *program);

/* Says what was found. */
void check_calls_say(const struct calls *calls, const struct check *check);

/* Forgets it; NULL: nothing. */
void check_calls_end(struct calls *calls);

/* ---- check_program.c ---- */

/* The file that execvp(3) would execute. */
bool check_find(const char *command, char path[PATH_MAX], struct check *check);

/* The file that is to be executed, or the interpreter of a script. */
bool check_command(const char *path, struct check *check);

/* A program's file that is mapped already; its path, for what is said. */
bool check_image(const struct elf_part *file, const char *path, struct elf *elf,
                 struct check *check);

#endif
