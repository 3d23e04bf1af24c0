/* SPDX-License-Identifier: MIT */
/*
 * table.h - what weir(1) prints for people: tables, durations, and colour.
 */
#ifndef WEIR_COMMAND_TABLE_H
#define WEIR_COMMAND_TABLE_H

#include "base/common.h"

/* In colour on a terminal only, and never where NO_COLOR is set (no-color.org). */
enum color { PLAIN, GOOD, WARNING, BAD };

/* Prints a text in that colour. */
__attribute__((format(printf, 2, 3))) void print_in(enum color color, const char *format, ...);

/* Returns "3.1s", "2m 5s", "3h 20m". Valid until the next call. */
const char *duration(int64_t ms);

/*
 * Begins a table, with these titles ("PID|>IDLE|MODE"): what has a '>' is aligned to the right. The
 * cells follow, row by row; table_end prints them, each column as wide as its widest cell, and
 * nothing where there is no row. is_part: of something longer, below a blank line and indented.
 */
void table_begin(bool is_part, const char *titles);
__attribute__((format(printf, 2, 3))) void table_cell(enum color color, const char *format, ...);
void table_end(void);

#endif
