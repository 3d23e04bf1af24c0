/* SPDX-License-Identifier: MIT */
/*
 * act.h - a drain, as `weir restart` wants one.
 */
#ifndef WEIR_COMMAND_ACT_H
#define WEIR_COMMAND_ACT_H

#include "command/reader.h"

/* Reads an option's duration. Returns an exit code; *ms is as it was unless it is EXIT_DONE. */
int act_read_duration(const char *name, const char *option, const char *value, int64_t *ms);

/* Returns an exit code: whether the tree can be drained at all. It says why not. */
int act_check(struct tree *tree, int32_t pid, enum action action, int64_t timeout);

/* Drains the tree, as `weir drain --wait` does, with its listeners kept open. *over: nobody of it
 * serves any more, whatever the exit code says. */
int act_drain_keeping(struct tree *tree, int64_t timeout, bool *over);

#endif
