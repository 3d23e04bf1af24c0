/* SPDX-License-Identifier: MIT */
/*
 * reader.h - a state page, read without trust (page.h).
 *
 * Whoever can write the page may have put anything into it, and may cut the file off at any time.
 * So it is never mapped: each look takes a copy by pread, and an order is written by pwrite. What
 * the copy says is checked here; whoever uses one of its texts or indexes goes through view.h.
 */
#ifndef WEIR_COMMAND_READER_H
#define WEIR_COMMAND_READER_H

#include "base/page.h"
#include "base/proc.h"

#include <limits.h>

/* What has been found out of the process that a line names. */
struct known {
    int32_t pid; /* as the line has it */
    uint64_t since;
    int32_t here;    /* its number in our pid namespace; 0: it is not a process of this tree */
    int64_t checked; /* sys_now_ms */
};

struct tree {
    struct tree *next;   /* in a list of trees */
    struct tree *joined; /* pages of its processes that could not open its page */
    int fd;
    struct proc_file file;
    uint32_t uid;  /* who owns the file */
    char name[48]; /* of the file */
    char path[PATH_MAX];
    uint32_t namespace; /* of its pids; 0: not known */
    bool is_foreign;    /* that is not ours */
    bool is_part;       /* of a tree whose page this user may not open */
    struct page page;   /* the copy */
    struct known known[PAGE_LINES + 1];
};

/* What opening a page gives, besides an errno: it is none; of another layout; makes no sense. */
enum { NOT_A_PAGE = -1, OTHER_LAYOUT = -2, NOT_SOUND = -3 };

/* What made the last page of another layout: "0.1.0 (layout 4)", fit for a terminal. */
extern char tree_other_version[96];

/*
 * Opens the page that a process maps there, wherever its file lies. The copy has been taken, and is
 * sound.
 */
int tree_open_mapped(int32_t pid, const struct proc_mapping *mapping, struct tree **tree);

/* Opens the page at a path, from a directory (an open descriptor) on: one's own, or one of that
 * user's. */
int tree_open_at(int dir, const char *path, uint32_t uid, struct tree **tree);

void tree_free(struct tree *list); /* with those joined to them */

/* Takes a new copy, of those joined too. False: the file has been cut off. */
bool tree_copy(struct tree *tree);

/* Whether its page is this file, by this name. */
bool tree_is(const struct tree *tree, const char *name, const struct proc_file *file);

/*
 * Leaves an order in the page (page_ask); *news: whether there was anything to be done. An errno:
 * it can't be written.
 */
int tree_ask(struct tree *tree, enum action action, const struct origin *origin, int64_t timeout,
             bool *news);

/* Whether the process maps this page. -1: it may not be asked. */
int tree_is_mapped(const struct tree *tree, int32_t pid);

/*
 * The process of a line, as a number of our own pid namespace: one that is alive, that began before
 * the line was taken, and that maps this page. 0: there is none.
 */
int32_t tree_process(struct tree *tree, uint32_t line);

/* The same for the first process. */
int32_t tree_first(struct tree *tree);

/* Any process of it that lives (of those joined: their own affair). */
int32_t tree_any(struct tree *tree);

/* The number that users know it by: of its first process, in our pid namespace if that lives. */
int32_t tree_pid(struct tree *tree);

#endif
