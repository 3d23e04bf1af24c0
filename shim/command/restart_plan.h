/* SPDX-License-Identifier: MIT */
/*
 * restart_plan.h - how a program was started, and how another one is started in its place.
 */
#ifndef WEIR_COMMAND_RESTART_PLAN_H
#define WEIR_COMMAND_RESTART_PLAN_H

#include "command/reader.h"

#include <sys/resource.h>

struct plan {
    char *directory, **words, **variables;
    char **own_words;    /* by which it was started */
    char exe[PATH_MAX];  /* the file that it runs now; "": it can't be read */
    char path[PATH_MAX]; /* of the program that is to be started */
    int std[3];          /* copies of its standard descriptors; -1: it has none */
    uid_t uid[3];        /* real, effective, saved */
    gid_t gid[3], *groups;
    size_t group_count;
    mode_t umask;
    uint64_t bounding_set; /* capabilities(7) */
    uint64_t no_new_privs; /* prctl(2) */
    struct rlimit limit[RLIM_NLIMITS];
};

/*
 * Looks at the process that is to be started again. command: what is to be started instead, with
 * its arguments; NULL: the same as it was. Where it can't be weir ends, and says why.
 *
 * The process itself says how it was started, and may have been broken into. So the new one gets no
 * right that the old one would not have by an exec of its own.
 */
void plan_make(struct plan *plan, int32_t pid, char **command);

/* Makes it a plan of what was there before, in place of the command. False: it can't be, and that
 * is said. */
bool plan_go_back(struct plan *plan);

/* Does all that starts it but its exec. Where that can't be done weir ends, and says what. */
void plan_try(const struct plan *plan);

/*
 * Starts it with the sockets, as they are numbered here. Returns its pid; -1: it could not be
 * executed, which is said.
 */
pid_t plan_start(const struct plan *plan, const int *sockets, size_t count);

#endif
