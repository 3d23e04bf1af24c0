/* SPDX-License-Identifier: MIT */
/*
 * proc.h - reads /proc: processes, their mappings, and what a state page says of them.
 *
 * For the worker and for weir(1): nothing here calls libc. A chroot may have no
 * /proc: then nothing is known.
 */
#ifndef WEIR_PROC_H
#define WEIR_PROC_H

#include "base/state_page.h"

/*
 * A file of /proc/PID ("self" for pid 0), read line by line. Each line has a NUL in place of its
 * end: '\n', or what the caller sets after the opening (a NUL in environ). The buffer holds any
 * path; of a line that is longer the beginning is lost.
 */
struct proc_lines {
    int fd;
    char end;
    size_t from, filled;
    char buffer[4096 + 256];
};

/* Returns 0 or an errno. Only what has been opened is closed. */
int proc_open_lines(struct proc_lines *lines, int32_t pid, const char *name);
void proc_close_lines(const struct proc_lines *lines);

/* The next line, valid until the one after it. NULL: there are no more. */
char *proc_next_line(struct proc_lines *lines);

/*
 * A number of a line of /proc/PID/status: label is the line's beginning ("Uid:\t"), index the
 * number's place (PROC_LAST: the last one). False: there is no such line.
 */
#define PROC_LAST (-1)
bool proc_status(int32_t pid, const char *label, int index, unsigned base, uint64_t *number);

/*
 * Whether the process of a line still lives: a process of this pid that started (a tick of its
 * start time is 10 ms) before the line was taken. -1: there is a process of this pid, but /proc
 * does not show it (no /proc, or one that hides other users' processes): it counts as alive.
 */
int proc_is_alive(int32_t pid, uint64_t since);

/* The inode of a process's namespace ("ns/pid", "ns/net"; namespaces(7)), or of any other of its
 * files. pid 0: the calling process. 0: it is not known. */
uint32_t proc_namespace(int32_t pid, const char *file);

/* A file, as /proc/PID/maps has it: by the device of its file system, which on some (btrfs) is not
 * the one of stat(2). */
struct proc_file {
    uint64_t device, inode;
};

/* A mapping. path is "" for memory without a name, and valid until the next mapping. */
struct proc_mapping {
    uint64_t from, to;
    struct proc_file file; /* inode 0: of no file */
    bool is_shared, is_code;
    bool is_deleted; /* the file has another name now, or none */
    char *path;
};

/*
 * The next of a process's mappings (lines: its "maps"). *budget: how many lines may still be read,
 * since a process has as many as it likes. False: no more.
 */
bool proc_next_mapping(struct proc_lines *maps, uint32_t *budget, struct proc_mapping *mapping);

/* Finds the file that is mapped at this address in the calling process, or that a descriptor has
 * open. False: not known. */
bool proc_mapped_file(const void *at, struct proc_file *file);
bool proc_opened_file(int fd, struct proc_file *file);

/*
 * Whether that process shares a mapping of the file, by a path that has this name in it, so that it
 * may be signalled. -1: not known. *budget: as for proc_next_mapping, of all processes together.
 */
#define PROC_MAPS_BUDGET (1 << 18)
int proc_maps(int32_t pid, const struct proc_file *file, const char *name, uint32_t *budget);

/* Whether that process has loaded the shim, as far as is known. */
bool proc_has_shim(int32_t pid);

/* Returns a process's effective user. -1: not known. */
int64_t proc_user(int32_t pid);

/*
 * Calls visit with the directory (an open descriptor) and name of each file of a directory. Follows
 * no link to it, unless the path ends with a slash. Returns 0, or -errno where it can't be opened.
 */
typedef void proc_visit_fn(int dir, const char *name, void *context);
long proc_each_file(const char *dir, proc_visit_fn *visit, void *context);

/* Reads a link of /proc/PID/fd, by that directory (an open descriptor) and its name there. Returns
 * its length or -errno; target is "" then. */
long proc_link(int dir, const char *name, char target[64]);

/* Returns the inode of the socket that such a link leads to, or says that it leads to. 0: to none.
 */
uint64_t proc_socket(int dir, const char *name);
uint64_t proc_socket_of(const char *target);

/* Calls visit for each process that /proc shows. */
void proc_each_process(void (*visit)(int32_t pid, void *context), void *context);

/* Calls visit for each child of a process, as the kernel knows them. */
void proc_each_child(int32_t pid, void (*visit)(int32_t child));

/* Returns a process's start time, in ticks since boot (proc(5), stat, field 22). 0: no such
 * process. */
uint64_t proc_start_time(int32_t pid);
#define TICK_MS 10 /* sysconf(_SC_CLK_TCK) is 100 on every Linux that we know */

/*
 * Adds up the counts of a tree: of the processes that live (me: the caller's pid, which does), of
 * those that are gone, and of connections that are being handed from one process to another. Not
 * for a signal handler: it reads files that others may make as long as they like.
 */
void proc_totals(const struct page *tree, int32_t me, struct totals *totals);

/*
 * Completes what page_add_all has counted at the moment of an order, by what the kernel tells a
 * little later. handoff: what was on its way between two processes at that moment; NULL: nothing.
 * now: the page since then. What processes had that were dead has ended (me: this one, which
 * lives); what one has handed on, and is open, has not.
 */
void proc_finish_asked(struct totals *totals, const uint64_t *handoff, const struct page *now,
                       int32_t me);

/* Whether the process has a handler for the signal (its default action would end it). -1: not
 * known. */
int proc_catches(int32_t pid, int sig);

/* Whether /proc shows that process, or that it was one (proc(5), hidepid). */
bool proc_is_shown(int32_t pid);

/* Whether seccomp(2) lets through only some of this process's system calls: another may end it. */
bool proc_is_filtered(void);

/*
 * Whether this network has ever sent SYN cookies: of a handshake with one the kernel keeps nothing
 * until its last segment (Documentation/networking/ip-sysctl.rst, tcp_syncookies).
 */
bool proc_knows_syn_cookies(void);

/* How many generations back an ancestor is looked for. */
#define PROC_GENERATIONS_MOST 32

/* Returns a process's parent. 0: it has none, or it is not known. */
int32_t proc_parent(int32_t pid);

/* Whether the process descends from the calling one, as far as their parents still live. */
bool proc_descends(int32_t pid);

/* Whether it is a child of the calling process, also where /proc does not show it. */
bool proc_is_child(int32_t pid);

/*
 * Marks the entries of gap (at most PAGE_HANDOFFS) whose connection still counts: no process has
 * taken ownership of it, and some process holds a socket of its fingerprint, by one pass over
 * /proc/PID/net/tcp and tcp6 (pid 0: our own network's). Without /proc all count. now:
 * CLOCK_MONOTONIC, ms. Returns how many. As costly as proc_totals.
 */
uint32_t proc_open_handoffs(const _Atomic uint64_t *gaps, uint32_t count, int32_t pid, int64_t now,
                            bool *open);

/* Whether the process of a line lives, and is this program still. */
bool proc_slot_lives(const struct page_slot *line);

#endif
