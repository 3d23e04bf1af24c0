/* SPDX-License-Identifier: MIT */
/*
 * start_record.h - what `weir restart` starts a program again by: the directory, the words (none on
 * musl), the variables, each with a NUL at its end, in a block that a program's title does not
 * write over.
 *
 * The record lies in the data of the library, and is found there by its first bytes: what another
 * process can write, as it can the state page, is not what root is to execute.
 */
#ifndef WEIR_START_RECORD_H
#define WEIR_START_RECORD_H

#include "base/common.h"

#define START_RECORD_MARK "weir: started as"

struct start_record {
    char mark[16]; /* without its NUL */
    const char *block;
    uint64_t size, words;
};

#endif
