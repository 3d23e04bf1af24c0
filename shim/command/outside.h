/* SPDX-License-Identifier: MIT */
/*
 * outside.h - what of a drained tree still accepts or is connected, as the kernel knows it.
 *
 * The shim tells of what it has seen. So the command looks at the sockets of the tree's processes
 * and of those that descend from them, whether the shim is in them or not.
 */
#ifndef WEIR_COMMAND_OUTSIDE_H
#define WEIR_COMMAND_OUTSIDE_H

#include "command/reader.h"

/*
 * Counts listeners that accept, and processes that have connections to one. says: names them on
 * stderr. A listener that is kept for a successor, or whose mode is `off`, does not count, nor do
 * connections that the program has taken over; nor another tree, which a process of this one has
 * begun.
 */
uint32_t outside_look(struct tree *tree, bool says);

#endif
