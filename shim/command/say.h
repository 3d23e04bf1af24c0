/* SPDX-License-Identifier: MIT */
/*
 * say.h - what weir(1) says on stderr: "weir: what happened, to what, and what to do".
 */
#ifndef WEIR_COMMAND_SAY_H
#define WEIR_COMMAND_SAY_H

#include "command/command.h"

#include <signal.h>

/* A line on stderr, with "weir: " before it. Texts that others have made are to be escaped. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* The same for a usage error of `weir NAME`: it points to the help, and returns EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int say_usage(const char *name, const char *format, ...);

/* A text that others have made, fit for a terminal; also one in an array that it may fill, without
 * an end. Valid until eight more have been made. */
const char *escaped(const char *text);
const char *escaped_array(const char *text, size_t size);

/* The part of a path behind the last slash. */
const char *base_name(const char *path);

/* The exit code for an errno of open and its kin: EXIT_FORBIDDEN or EXIT_FAILED. */
int exit_code(int error);

void sleep_ms(int64_t ms);

/*
 * SIGINT and SIGTERM no longer end weir, but make `interrupted` that signal, until
 * stop_when_interrupted(false).
 */
void stop_when_interrupted(bool on);
extern volatile sig_atomic_t interrupted;

#endif
