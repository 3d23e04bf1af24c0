/* SPDX-License-Identifier: MIT */
/*
 * log.h - one line an event: "weir[PID] PROGRAM: ...".
 *
 * Holds no descriptor between two lines, and never writes to descriptor 2 without proof that it is
 * still the file that it was at start-up: a daemon may have closed it and given the number to a
 * client. Works on any thread and in a signal handler. Never waits for who reads the log, and never
 * raises a signal: a line that can't be written at once is lost, counted, and the next one that can
 * be written says how many there were.
 */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include "base/state_page.h"
#include "base/settings.h"
#include "base/text.h"

/* Returns the program's name, as it was at log_remember: it may write over what it was called. */
const char *log_program(void);

/*
 * What stderr is now is what it has to be later, and the program's name is what it is now. Called
 * first, from the constructor.
 */
void log_remember(void);

/* Where the lines go from now on, and which; to stderr (as LOG_AUTO) before. */
void log_choose(const struct settings *settings);

struct log_line {
    struct text text;
    enum log_level level;
    char buffer[640];
};

/* A line is begun, added to with text_*(&line.text, ...), and sent. */
void log_begin(struct log_line *line, enum log_level level);
void log_send(struct log_line *line);

/*
 * The same for the drain's own thread while it holds a claim (fdtable.h), under which nothing is
 * written: log_send_kept sends the lines after the release. More than LOG_KEPT_MOST are lost, and
 * counted.
 */
#define LOG_KEPT_MOST 32
void log_keep(const struct log_line *line);
void log_send_kept(void);

/*
 * WEIR_LOG=FILE, which a process may have lost the right to write to (privileges are dropped, the
 * root is changed): its lines go to the head of its tree, by the page, while that one takes them;
 * else to where WEIR_LOG=auto would have them. log_share: where they lie. log_take: in the head's
 * thread, again and again; log_take_ends: it is about to end.
 */
void log_share(struct page_log *page_log);
void log_take(void);
void log_take_ends(void);

/* In a child: what its parent could not write yet is its parent's. */
void log_forked(void);

/* A line that text_add can put together. */
void log_say(enum log_level level, const char *format, ...)
    __attribute__((format(__printf__, 2, 3)));

#endif
