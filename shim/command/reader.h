/* SPDX-License-Identifier: MIT */
/*
 * reader.h - a state page, read without trust (state_page.h).
 *
 * A process that can write the page may have put anything into it, and may cut the file off at any
 * time. So the page is never mapped: each read takes a copy by pread, and an order is written by
 * pwrite. The copy is checked here, and its texts are ended. They are escaped, and its indexes
 * used, through view.h only.
 */
#ifndef WEIR_COMMAND_READER_H
#define WEIR_COMMAND_READER_H

#include "base/state_page.h"
#include "base/proc.h"

#include <limits.h>

/* A process that a line names, as /proc had it lately. */
struct known {
    int32_t pid; /* as the line has it */
    uint64_t since;
    int32_t here;    /* its number in our pid namespace; 0: it is not a process of this tree */
    int64_t checked; /* sys_now_ms */
};

struct tree {
    struct tree *next;     /* in a list of trees */
    struct tree *attached; /* the tree's next page, of processes that could not open its own */
    int fd;
    struct proc_file file;
    uint32_t uid; /* who owns the file */
    char path[PATH_MAX];
    const char *name;   /* the path's last part */
    uint32_t namespace; /* of its pids; 0: not known */
    bool is_foreign;    /* that is not ours */
    bool is_part;       /* of a tree whose page this user may not open */
    struct page page;   /* the copy */
    struct known known[PAGE_SLOTS + 1];
};

/* Results of opening a page, besides an errno: no page; another layout; it makes no sense. */
enum { NOT_A_PAGE = -1, OTHER_LAYOUT = -2, NOT_SOUND = -3 };

/* The version that made the last page of another layout: "0.1.0 (layout 4)", escaped. */
extern char tree_other_version[96];

/* Opens the page that a process maps there, wherever its file lies, and takes a sound copy. */
int tree_open_mapped(int32_t pid, const struct proc_mapping *mapping, struct tree **tree);

/* Opens the page at a path, relative to a directory (an open descriptor). Its owner has to be the
 * command's user, root, or uid. */
int tree_open_at(int dir, const char *path, uint32_t uid, struct tree **tree);

void tree_free(struct tree *list); /* with the pages attached to them */

/* Takes a new copy, of attached pages too. False: the file has been cut off. */
bool tree_copy(struct tree *tree);

/* Whether its page is this file, by this name. */
bool tree_is(const struct tree *tree, const char *name, const struct proc_file *file);

/* Has the drain that is asked for next keep the listeners, of attached pages too, or no longer.
 * Returns 0 or an errno. */
int tree_keep(struct tree *tree, bool keeps);

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

/* The same for the process that the page is named after. */
int32_t tree_first(struct tree *tree);

/* Tells whether that one is about to become another program, and maps nothing for now. */
bool tree_first_execs(const struct tree *tree);

/* Any process of the page that lives; those of attached pages do not count. 0: none. */
int32_t tree_any(struct tree *tree);

/* Whether any process of the tree lives, or this one is of it, whichever of its pages has it. */
bool tree_lives(struct tree *tree);
bool tree_has(struct tree *tree, int32_t pid);

/* The pid that users know the tree by: its first process's, in our namespace if that lives; else
 * that of the topmost of those that do; else what the first's was. */
int32_t tree_pid(struct tree *tree);

/* Whether the control signal that the page names is none that a program takes for an order. */
bool tree_signal_is_harmless(const struct tree *tree);

/* Sends it to the process of a slot. Returns 0, or an errno: ESRCH where there is nobody to whom it
 * is to be sent. */
int tree_wake(struct tree *tree, uint32_t index);

#endif
