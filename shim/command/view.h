/* SPDX-License-Identifier: MIT */
/*
 * view.h - a tree's figures, as they are printed: checked, added up, and every text escaped (only
 * " and \ still mean something to JSON and its like); and the printers, for people, for programs
 * and for Prometheus.
 */
#ifndef WEIR_COMMAND_VIEW_H
#define WEIR_COMMAND_VIEW_H

#include "command/reader.h"

#define OLDEST_MOST 1000

struct view_process {
    int32_t pid;
    uint64_t tracked, idle, in_use;
    uint32_t phase;   /* enum phase, of its own drain */
    uint32_t flags;   /* SLOT_SANDBOXED and others (state_page.h) */
    bool is_drained;  /* or it can't drain, and has no connection */
    bool is_given_up; /* the drain ended without it */
};

struct view_connection {
    int32_t pid;
    int64_t in_use_ms; /* -1: not known (AF_UNIX) */
    char peer[480];    /* "?": not known */
};

struct view_listener {
    const char *mode, *state;
    char address[480];
};

struct view {
    int32_t pid;
    char program[164], version[68], unit[260]; /* of systemd; "": none */
    int64_t age;                               /* ms, of the first process */
    const char *mode;
    enum phase phase;
    const char *phase_name;
    struct totals totals;
    struct totals at_end; /* the same; of what has drained, as it ended: as its log tells it */
    uint64_t idle;
    struct page_drained drained; /* so far, in the drain */
    bool timed_out;              /* the drain ended before some process had drained */
    char by[80];
    int64_t elapsed, left; /* ms; -1: no drain; left also: no timeout */
    int64_t oldest_ms;     /* how long the oldest one in use has been; 0: there is none */
    struct view_listener *listener;
    struct view_process *process;
    struct view_connection *oldest; /* those in use, the oldest first; OLDEST_MOST at most */
    uint64_t listeners, processes, oldests;
    uint64_t accepting;                 /* of the listeners, but for those whose mode is off */
    bool with_oldest;                   /* those in use are looked for */
    bool is_hidden;                     /* some process's connections in use may not be read */
    bool has_rates;                     /* they are wanted */
    int64_t accepted_rate, closed_rate; /* tenths of a connection a second; -1: not known yet */
};

/* By enum phase. */
extern const char *const view_phases[PHASES];

/* The groups of figures. */
enum { CONNECTIONS, TOTALS, LOSSES, OTHERS, TIMES /* int64_t, in ms; negative: not known */ };

struct figure_group {
    const char *key;   /* in JSON; NULL: it is not there, nor in the text */
    const char *title; /* for people */
    const char *type;  /* of the metrics of Prometheus */
};

/* All figures: each printer walks this table, in this order. */
struct figure {
    int group;
    const char *key, *words;   /* in JSON; for people, behind the number (NULL: ":") */
    size_t at;                 /* in struct view, a uint64_t */
    const char *metric, *help; /* of Prometheus; help NULL: of the same metric as the one before */
    const char *label;         /* whose value is the key; NULL: none */
};

extern const struct figure_group figure_groups[];
extern const struct figure figures[];
extern const size_t figures_count;

uint64_t figure_of(const struct view *view, const struct figure *figure);

/* Looks at a tree, of which tree_copy has been taken. with_oldest: at its processes' memory too. */
void view_take(struct view *view, struct tree *tree, bool with_oldest);

void view_free(struct view *view);

/* For people: one tree, in detail; a line each, of what they do; and of what they are. */
void print_details(const struct view *views, size_t count);
void print_trees(const struct view *views, size_t count);
void print_list(const struct view *views, size_t count);

/* An object each, one a line. */
void print_json(const struct view *views, size_t count);

/* The text exposition format. Of two trees that say that they have the same pid, the first. */
void print_prometheus(const struct view *views, size_t count);

/* Prints `before`, then a string of JSON, or a label's value: texts come escaped (view.h). */
void print_quoted(const char *before, const char *text);

/* Prints `before`, then seconds, to the millisecond; negative: null. */
void print_seconds(const char *before, int64_t ms);

#endif
