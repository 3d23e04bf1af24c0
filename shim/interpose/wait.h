/* SPDX-License-Identifier: MIT */
/*
 * wait.h - how long a call that is made again has still to wait.
 */
#ifndef WEIR_WAIT_H
#define WEIR_WAIT_H

#include "base/common.h"

#include <time.h>

/* A wait of at most *limit begins (NULL: for ever). To be given to wait_left. */
int64_t wait_begins(const struct timespec *limit);

/* What is left of it: *left, or limit itself where there is nothing to measure. */
const struct timespec *wait_left(const struct timespec *limit, int64_t began,
                                 struct timespec *left);

#endif
