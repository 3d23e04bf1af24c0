/* SPDX-License-Identifier: MIT */
/*
 * print.h - a tree's figures on stdout: for people, for programs, for Prometheus.
 */
#ifndef WEIR_COMMAND_PRINT_H
#define WEIR_COMMAND_PRINT_H

#include "command/view.h"

/* Trees one below the other; a line each. */
void print_tables(const struct view *views, size_t count);
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
