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

/* A text that others have made, fit for a terminal. Valid until it has been called eight times. */
const char *escaped(const char *text);

/*
 * That the state page which a process maps, of the name "PID.START", was made by another version
 * (VERSION_TEXT), and what works all the same.
 */
void say_other_version(int32_t pid, const char *name, const char *version);

/* The exit code for an errno of open and its kin: EXIT_FORBIDDEN or EXIT_FAILED. */
int exit_code(int error);

/* A whole argument as a process's number; 0: it is none. */
int32_t pid_argument(const char *argument);

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t now_ms(void);

void sleep_ms(int64_t ms);

/*
 * SIGINT and SIGTERM no longer end weir, but make `interrupted` that signal, until
 * stop_when_interrupted(false).
 */
void stop_when_interrupted(bool on);
extern volatile sig_atomic_t interrupted;

#endif
