/* SPDX-License-Identifier: MIT */
/*
 * scan.h - where state pages are: in the run directories, and mapped by processes.
 */
#ifndef WEIR_COMMAND_SCAN_H
#define WEIR_COMMAND_SCAN_H

#include "command/reader.h"

/* Opens a page by its path: one's own, or one of that user's. An errno, or one of reader.h's. */
int scan_file(const char *path, int64_t uid, struct tree **tree, char version[VERSION_TEXT]);

/* The pages that are mapped by processes that descend from the tree's. */
struct tree *scan_descendants(struct tree *tree);

/* Whether the process descends from one of the tree's. */
bool scan_descends(int32_t pid, const struct tree *tree);

/*
 * Those that any process maps, and this user's own in the run directories, each once. There the
 * files of trees that are gone are removed, if this user may. Those of another version it says.
 */
struct tree *scan_all(void);

/* Whether scan_all has named a tree of another version, which this one can't read. */
bool scan_met_others(void);

#endif
