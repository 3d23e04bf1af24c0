/* SPDX-License-Identifier: MIT */
/*
 * pagefile.h - the file of a state page: which directory, made or opened, mapped.
 *
 * At start-up, but for those that open, copy and ask another's. No descriptor is left open; the
 * room of a new file is allocated before it is mapped (a sparse page on a full file system would be
 * SIGBUS in the daemon).
 */
#ifndef WEIR_PAGEFILE_H
#define WEIR_PAGEFILE_H

#include "base/state_page.h"

#define PAGEFILE_PATH 256

/* An error above it: the directory was refused, for others may write to it; the rest is its mode.
 */
#define PAGEFILE_REFUSED 0x10000

/*
 * Makes the page's file in the first run directory that can be written and maps it. Where that file
 * is there, is ours and is sound it is opened instead: this process has made it before it exec'd;
 * but one whose tree has drained is another program's, and is replaced. path: where it is; "" and
 * memory shared by fork alone where no file can be made, with *error (errno) of the last try.
 * NULL: no memory.
 */
struct page *pagefile_make(const struct settings *settings, char *const *envp, int32_t pid,
                           uint64_t start, char path[PAGEFILE_PATH], int *error);

/*
 * Reads the name of a page's file, "PID.START.NAMESPACE" (page_name); a directory may stand before
 * it. False: no page has such a name.
 */
bool pagefile_parse_name(const char *path, int32_t *pid, uint64_t *start);

/* Opens another process's, for joining it. NULL: it can't be, or is not sound. */
struct page *pagefile_open(const char *path);

/* Puts the figures of the order that pagefile_ask has just left anew. */
void pagefile_put_asked(int fd, struct page *copy, const struct totals *asked);

/* Has the drain that is asked for next keep the listeners for a successor (or no longer). */
void pagefile_put_keeps(int fd, struct page *copy, bool keeps);

/*
 * Another user's, in the directory at this path (with a slash at its end: also where that is a
 * link): a file that is uid's and that others can't write. A descriptor or -1.
 */
int pagefile_open_others(const char *dir, const char *name, uint32_t uid);

/* Copies the page of a descriptor. False: it is not sound. */
bool pagefile_copy(int fd, struct page *copy);

/*
 * page_ask, without a mapping, for a page that has just been copied. Its processes may change the
 * page at the same time: each field is written alone, and never what has been ordered already.
 */
bool pagefile_ask(int fd, struct page *copy, enum action action, const struct origin *origin,
                  int64_t timeout, int64_t now, const struct totals *asked);

/*
 * Whether a file of a run directory, with the name of a page, is this user's and is mapped by some
 * process, in whatever namespace. Removes a file of this user's that no process maps.
 */
bool pagefile_is_live(int dir, const char *name);

/* Removes the pages of trees that are gone from the directory of this one. */
void pagefile_clean(const char *path);

/* The i-th of the directories in which a process of this user has its page, where it is not told
 * another one. False: there are no more. */
#define PAGEFILE_DIRECTORIES 3
bool pagefile_usual_directory(uint32_t i, uint32_t uid, char dir[PAGEFILE_PATH]);

/* The directory of a path, with its slash; "": it has none. */
void pagefile_directory(const char *path, char dir[PAGEFILE_PATH]);

#endif
