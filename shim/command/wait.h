/* SPDX-License-Identifier: MIT */
/*
 * wait.h - --wait: stays until it is done, and says how far it is.
 */
#ifndef WEIR_COMMAND_WAIT_H
#define WEIR_COMMAND_WAIT_H

#include "command/reader.h"

/* Waits for what was asked of the tree. Returns the exit code. */
int wait_for(struct tree *tree, enum action action);

#endif
