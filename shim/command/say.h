/* SPDX-License-Identifier: MIT */
/*
 * say.h - what weir(1) says on stderr: "weir: what happened, to what, and what to do".
 */
#ifndef WEIR_COMMAND_SAY_H
#define WEIR_COMMAND_SAY_H

#include "command/command.h"

#include <signal.h>

/*
 * Prints a line on stderr, with "weir: " before it. Texts that others have made are to be escaped.
 * fail returns the exit code that it is given.
 */
__attribute__((format(printf, 2, 3))) int fail(int code, const char *format, ...);
#define say(...) ((void)fail(EXIT_DONE, __VA_ARGS__))

/* The same for a usage error of `weir NAME`: it points to the help, and returns EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int say_usage(const char *name, const char *format, ...);

/*
 * The next option of a subcommand's command line, as getopt_long(3) has it; -1: no more; '?': it is
 * wrong, and stderr says why. An option behind the first argument of `weir run` is not its own.
 */
struct option;
int next_option(int argc, char **argv, const struct option *options);

/* A text that others have made, fit for a terminal; also one in an array that it may fill, without
 * an end. Valid until eight more have been made. */
const char *escaped(const char *text);
const char *escaped_array(const char *text, size_t size);

/* The part of a path behind the last slash. */
const char *base_name(const char *path);

/* The exit code for an errno of open and its kin: EXIT_FORBIDDEN or EXIT_FAILED. */
int exit_code(int error);

/*
 * SIGINT and SIGTERM no longer end weir, but make `interrupted` that signal, until
 * stop_when_interrupted(false).
 */
void stop_when_interrupted(bool on);
extern volatile sig_atomic_t interrupted;

#endif
