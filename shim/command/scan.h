/* SPDX-License-Identifier: MIT */
/*
 * scan.h - where state pages are: in the run directories, and mapped by processes.
 */
#ifndef WEIR_COMMAND_SCAN_H
#define WEIR_COMMAND_SCAN_H

#include "reader.h"

/* Opens a page by its path. An errno, or one of reader.h's. */
int scan_file(const char *path, struct tree **tree, char version[VERSION_TEXT]);

/* The pages in the run directories, and in the directory of this one, that somebody lives in. */
struct tree *scan_dirs(const char *page);

/*
 * Those that any process maps, and those in the run directories, each once. There the files of
 * trees that are gone are removed, if this user may. Those of another version it says.
 */
struct tree *scan_all(void);

/* Whether scan_all has named a tree of another version, which this one can't read. */
bool scan_met_others(void);

#endif
