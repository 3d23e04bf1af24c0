/* SPDX-License-Identifier: MIT */
/*
 * pacing.h - WEIR_SPREAD: idle connections are closed evenly over a time, oldest idle first, so
 * that their clients do not all come back in the same moment.
 *
 * In each round the idle ones are counted by how long they have been quiet, and then as many may be
 * closed as are due. In the worker alone, but for pacing_lets.
 */
#ifndef WEIR_PACING_H
#define WEIR_PACING_H

#include "base/common.h"

/*
 * Over `length` ms; 0: all at once. now: the drain begins; since: idle connections are closed from
 * then on (later in mode protocol, whose clients are told first).
 */
void pacing_begin(int64_t now, int64_t since, int64_t length);

/* Whether the time is not over yet. */
bool pacing_is_on(int64_t now);

/* A round: each idle connection is counted; then which may be closed, by how long it was quiet. */
void pacing_round_begins(void);
void pacing_count(int64_t quiet_ms);
void pacing_round_decides(int64_t now);
bool pacing_may_close(int64_t quiet_ms);

/* For a connection that is closed on a program's thread, in the middle of its work, or told there
 * that it will be: its share of the time from the drain's begin on, by its fingerprint. */
bool pacing_lets(uint32_t fingerprint);

#endif
