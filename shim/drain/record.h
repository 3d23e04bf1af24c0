/* SPDX-License-Identifier: MIT */
/*
 * record.h - what `weir restart` starts this program again by (base/start_record.h).
 *
 * A program that serves may become itself once more, with other words and variables (HAProxy's
 * master), or start its successor so (nginx, gunicorn, unicorn by SIGUSR2). What they say then is
 * of use to that one alone. So the record of the first goes to it, in the environment: an entry for
 * each string, of one name. The library takes them out again when it is loaded.
 */
#ifndef WEIR_RECORD_H
#define WEIR_RECORD_H

#include "base/common.h"

/* Keeps this program's words, as main has them. There are none on musl. */
void record_remember_words(int argc, char **argv);

/* Takes a record that was handed on, and its entries out of envp. */
void record_take(char **envp);

/* Makes one of this program's words, its directory and envp; unless one was taken. For the first of
 * a tree, and for what is started by one that serves nothing (environment.h, MARK_START). */
void record_make(char *const *envp);

/* How many entries there are to hand on; and puts that many there. */
size_t record_entries(void);
void record_put(char **to, size_t count);

#endif
