/* SPDX-License-Identifier: MIT */
/*
 * say.h - what weir(1) says on stderr: "weir: what happened, to what, and what to do".
 */
#ifndef WEIR_COMMAND_SAY_H
#define WEIR_COMMAND_SAY_H

#include "command/command.h"

#include <signal.h>

/*
 * Prints a line on stderr, with "weir: " before it. Texts from outside must be escaped. fail
 * returns the exit code that it is given.
 */
__attribute__((format(printf, 2, 3))) int fail(int code, const char *format, ...);
#define say(...) ((void)fail(EXIT_DONE, __VA_ARGS__))

/* Where nothing has been begun that would have to be ended, weir ends on the spot. */
#define die(...) exit(fail(__VA_ARGS__))

/* Ends it over the usage of `weir NAME`, and points to its help. */
__attribute__((format(printf, 2, 3))) _Noreturn void die_usage(const char *name, const char *format,
                                                               ...);

/* Ends it: a success only if all of its output could be written. */
_Noreturn void finish(int code);

/*
 * The word, among those that are tried, that was probably meant by a wrong one. near_text: ", did
 * you mean X?", or "" where none is near; valid until the next call.
 */
struct near {
    const char *wrong, *best;
    size_t distance;
};
void near_try(struct near *near, const char *word);
const char *near_text(const struct near *near, const char *before);

/*
 * Returns the next option of a subcommand, as getopt_long(3) does; -1: no more. At --help (or -h)
 * weir prints that and ends, as it does at one that is wrong. Options behind the first argument of
 * `weir run` belong to that command.
 */
struct option;
int next_option(int argc, char **argv, const struct option *options,
                void (*help)(const char *name));

/* Returns a text from outside as a terminal may show it. Valid until the eighth call after this
 * one. */
const char *escaped(const char *text);

/* Returns the part of a path behind the last slash. */
const char *base_name(const char *path);

/* Memory, as malloc(3) gives it, for one more at the end of a list of `count` things of that size.
 * weir ends where there is none. */
void *grow(void *list, size_t count, size_t size);

/* Returns the exit code for an errno of open(2): EXIT_FORBIDDEN or EXIT_FAILED. */
int exit_code(int error);

/*
 * SIGINT and SIGTERM no longer end weir, but make `interrupted` that signal, until
 * stop_when_interrupted(false).
 */
void stop_when_interrupted(bool on);
extern volatile sig_atomic_t interrupted;

#endif
