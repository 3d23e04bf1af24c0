/* SPDX-License-Identifier: MIT */
/* drain_say.h - what the log says of a drain (INTERFACE.md, "The log"). */
#ifndef WEIR_DRAIN_SAY_H
#define WEIR_DRAIN_SAY_H

#include "base/log.h"
#include "base/state_page.h"
#include "conn/conn.h"

/* "draining: SIGTERM from pid 1 uid 0; 212 idle, 9 in use": `what`, with these figures, which are
 * taken before anything is done. */
struct totals drain_totals_to_say(bool whole_tree);

/* Counts them for the coordinator, before it wakes the others. */
void drain_count_before_wake(void);
void drain_say_begin(const char *what, const struct origin *origin, bool whole_tree,
                     struct totals *totals);

/* "draining 5s: 2 in use, ..."; then each connection that is still in use. */
void drain_say_progress(int64_t now);
void drain_say_waited_for(int64_t now);

/* "forced 203.0.113.7:5123", and behind it ": in use 81s, 0 bytes unsent": `what`, and fd, which is
 * claimed; for log_keep. */
void drain_name(struct log_line *line, const char *what, int fd);
void drain_describe(struct log_line *line, int fd, enum conn_class look,
                    const struct sock_queues *queues, int64_t now);

/* "drained in ...", once the phase is PHASE_DRAINED; afterwards: what the program does then. again:
 * this process has said it of its own drain, and now the tree is drained, too. */
void drain_say_end(bool again, const char *afterwards);

/* Who asked for a drain that this process's parent had begun. */
extern const struct origin drain_inherited;

#endif
