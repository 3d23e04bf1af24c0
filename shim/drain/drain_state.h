/* SPDX-License-Identifier: MIT */
/* drain_state.h - the drain of this process, as drain*.c alone know it. */
#ifndef WEIR_DRAIN_STATE_H
#define WEIR_DRAIN_STATE_H

#include "base/room.h"
#include "base/state_page.h"
#include "conn/conn.h"

extern HIDDEN struct drain {
    _Atomic uint32_t phase; /* a futex word */
    _Atomic uint32_t sweeps;
    _Atomic bool timed_out; /* the timeout forced some */

    bool inherited;  /* begun by the process that this one was forked from */
    bool whole_tree; /* asked of the tree, not of this process */
    bool forcing;    /* drain-all, or the timeout has passed */
    bool by_timeout;
    bool sweeping; /* a close-idle sweep has still to finish what it has half-closed */
    int64_t since, begins_at, until, sweep_until; /* sys_now_ms; until 0: for ever */
    int64_t sight_until; /* a close-idle looks again at those of which only sight tells (conn.h) */
    int64_t first_look;  /* 0: that is still to come */
    int64_t finish_at, report_at, name_at, warn_at, notice, notice_until;
    struct room seen;        /* conn_limits, seen_at */
    struct room notes;       /* struct drain_note */
    uint64_t tracked;        /* what the last walk has found */
    uint32_t uncounted;      /* steps, in a row, in which a close was under way */
    bool is_short;           /* of memory: has been told */
    _Atomic bool is_partial; /* something goes on that could not be drained */
    struct totals at_begin;  /* of this process */
} drain;

/* What the last look at a connection has found, by its number, and when to look again. */
struct drain_note {
    int64_t due; /* sys_now_ms */
    enum conn_class look;
    bool of_tree; /* another process of the tree has connected to this one */
};

/* The limits by which connections are looked at now (conn_classify). */
struct conn_limits drain_limits(void);

/* Tells what fd is (conn_classify). What a process of the tree itself may ask by is not idle. */
enum conn_class drain_classify(int fd, const struct conn_limits *limits, bool verify);

/* What a walk finds. */
struct drain_count {
    struct conn_limits limits;
    bool verify; /* also those that nothing is done to, and what was noted does not count */
    uint64_t idle, in_use, shut;
    uint64_t awaited; /* of the idle, those that sight alone will tell (conn_goes_by_sight) */
    uint64_t of_tree; /* among these */
};

/* Looks at fd, which is claimed, and counts it. */
enum conn_class drain_count(int fd, struct drain_count *count);

/* The same, as a walk visits each. */
bool drain_count_one(int fd, void *count);

#endif
