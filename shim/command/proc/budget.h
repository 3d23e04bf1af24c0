/* SPDX-License-Identifier: MIT */
/*
 * budget.h - how much work other users' processes and pages may cause in one look of the command's.
 *
 * Anybody may have as many mappings, processes and pages as he likes, and fill a page with whatever
 * costs most to look at. One's own, and with root's rights root's, are looked at without a limit.
 */
#ifndef WEIR_COMMAND_BUDGET_H
#define WEIR_COMMAND_BUDGET_H

#include "base/common.h"

struct budget {
    uint32_t lines;  /* of /proc/PID/maps */
    uint32_t pages;  /* that are kept */
    int64_t time_ms; /* for connections in other processes' memory */
};

/* What is left of the budget of that user's. */
struct budget *budget_of(uint32_t uid);

/* A new look begins. */
void budget_renew(void);

#endif
