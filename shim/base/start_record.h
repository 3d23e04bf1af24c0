/* SPDX-License-Identifier: MIT */
/*
 * start_record.h - what `weir restart` starts a program again by, in a block that a program's title
 * does not write over. It has strings, each with a NUL at its end, and each behind this name: how
 * many words there are, the directory, the words (none on musl), the variables.
 *
 * The record lies in the data of the library, and is found there by its first bytes: what another
 * process can write, as it can the state page, is not what root is to execute.
 */
#ifndef WEIR_START_RECORD_H
#define WEIR_START_RECORD_H

#include "base/common.h"

#define START_RECORD_MARK "weir: starts by:"
#define START_RECORD_NAME "WEIR_STARTED="

struct start_record {
    char mark[16]; /* without its NUL */
    const char *block;
    uint64_t size;
};

#endif
