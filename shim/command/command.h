/* SPDX-License-Identifier: MIT */
/*
 * command.h - weir(1): run, drain, close-idle, drain-all, status, list, check.
 *
 * Each function is a subcommand: it gets its own argc and argv (argv[0] is its name) and returns
 * the exit code.
 */
#ifndef WEIR_COMMAND_H
#define WEIR_COMMAND_H

#include "base/common.h"

/* The exit codes (INTERFACE.md, section 4). */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* or died in the middle; the page can't be reached, or is another version's */
    EXIT_USAGE = 2,  /* or a value that can't be parsed */
    EXIT_FORCED = 3, /* --wait: the timeout forced connections that were in use */
    EXIT_NO_SHIM = 4,   /* no such process, or it does not run under the shim */
    EXIT_FORBIDDEN = 5, /* not permitted */
};

int command_run(int argc, char **argv);
int command_act(int argc, char **argv); /* drain, close-idle, drain-all */
int command_restart(int argc, char **argv);
int command_status(int argc, char **argv); /* and list */
int command_check(int argc, char **argv);

#endif
