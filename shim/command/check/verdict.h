/* SPDX-License-Identifier: MIT */
/*
 * verdict.h - whether the shim will work in a program, told from its file: for `weir check`, which
 * prints all that was found, and for `weir run`, which only needs the verdict.
 *
 *   program.c    a command's file: is there a loader, and would it preload the shim?
 *   calls.c      which of its calls, and of its libraries', the shim stands in front of
 *   libraries.c  where the libraries are, and our own
 *   check.c      the subcommand; a process
 */
#ifndef WEIR_COMMAND_VERDICT_H
#define WEIR_COMMAND_VERDICT_H

#include "base/common.h"

struct check {
    bool says;          /* what is found goes to stdout, a sentence a line */
    bool has_no_accept; /* nor loads anything later that may have one */
    int exit;           /* EXIT_DONE: it will work */
    char reason[1200];
};

/* Prints a sentence, if check->says. */
__attribute__((format(printf, 2, 3))) void check_say(const struct check *check, const char *format,
                                                     ...);

/* Makes the verdict EXIT_FAILED, if check->exit has no other code yet, for a reason that names its
 * subject. Returns false. */
__attribute__((format(printf, 2, 3))) bool check_fail(struct check *check, const char *format, ...);

#endif
