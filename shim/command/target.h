/* SPDX-License-Identifier: MIT */
/*
 * target.h - which tree a user names.
 */
#ifndef WEIR_COMMAND_TARGET_H
#define WEIR_COMMAND_TARGET_H

#include "command/command.h"

/*
 * Finds a process of the tree that `weir COMMAND NAME` is about: NAME is its number, the tree's
 * systemd unit (nginx.service, or nginx) or its program, where one tree alone has it. Returns an
 * exit code, and says on stderr why where it is not EXIT_DONE. Of a number nothing is looked at
 * yet.
 */
int target_find(const char *command, const char *name, int32_t *pid);

#endif
