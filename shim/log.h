/* SPDX-License-Identifier: MIT */
/*
 * log.h - one line an event: "weir[PID] PROGRAM: ...".
 *
 * Holds no descriptor between two lines, and never writes to descriptor 2 without proof that it is
 * still the file that it was at start-up: a daemon may have closed it and given the number to a
 * client. Works on any thread and in a signal handler.
 */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include "settings.h"
#include "text.h"

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

/* A line of one string. */
void log_say(enum log_level level, const char *string);

#endif
