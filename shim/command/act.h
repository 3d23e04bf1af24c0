/* SPDX-License-Identifier: MIT */
/*
 * act.h - a drain, as `weir restart` wants one.
 */
#ifndef WEIR_COMMAND_ACT_H
#define WEIR_COMMAND_ACT_H

#include "command/reader.h"

/* Returns an option's duration, in ms. */
int64_t act_read_duration(const char *name, const char *option, const char *value);

/* Ends weir where the tree can't be drained at all, and says why. */
void act_check(struct tree *tree, int32_t pid, enum action action, int64_t timeout);

/* Drains the tree, as `weir drain --wait` does, with its listeners kept open. *over: nobody of it
 * serves any more, whatever the exit code says. */
int act_drain_keeping(struct tree *tree, int64_t timeout, bool *over);

#endif
