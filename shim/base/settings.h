/* SPDX-License-Identifier: MIT */
/*
 * settings.h - what the WEIR_* variables say.
 *
 * One table in settings.c has each setting's name, default, parser and text; it drives the
 * environment, and is all that a new setting needs. Pure: reads the environment that it is given
 * and says what is wrong; who logs it is the caller's affair.
 */
#ifndef WEIR_SETTINGS_H
#define WEIR_SETTINGS_H

#include "base/text.h"

#include <sys/socket.h>
#include <sys/un.h>

enum mode {
    MODE_OFF,
    MODE_MANUAL,
    MODE_AUTOMATIC,
    MODE_DEADLINE,
    MODE_REPLY,
    MODE_PROTOCOL,
    MODES
};

enum action { ACTION_NONE, ACTION_CLOSE_IDLE, ACTION_DRAIN, ACTION_DRAIN_ALL };

enum listeners { LISTENERS_AUTO, LISTENERS_CLOSE, LISTENERS_KEEP, LISTENERS_STORE };

enum log_to { LOG_AUTO, LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_FILE };

enum log_level { LOG_ERROR, LOG_INFO, LOG_DEBUG };

#define DURATION_MOST (INT64_C(1000) * 3600 * 24 * 3650) /* ms, ten years: nobody means more */

/* An item of WEIR_MODE: the mode of the listener at an address. */
struct mode_item {
    enum mode mode;
    int family; /* AF_UNSPEC: any address with this port */
    uint16_t port;
    unsigned char ip[16];
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1]; /* AF_UNIX; "@name" is abstract */
};

struct mode_list {
    enum mode rest;
    int count;
    struct mode_item item[32];
};

struct settings {
    int signal; /* 0: none */
    enum action action;
    uint64_t stop_signals;                                     /* bit n-1: signal n */
    int64_t double_signal, delay, timeout, settle, first_byte; /* ms; 0 as INTERFACE.md has it */
    int64_t spread, linger, notice;
    enum listeners listeners;
    int on_drained;     /* a signal; 0: none */
    int control_signal; /* 0: none */
    bool leave_children;
    enum log_to log;
    char log_path[256];
    enum log_level log_level;
    char run_dir[201];     /* "": the standard ones */
    struct mode_list mode; /* last: its entries are BIG */
};

/* Where what is wrong with a value is put: one line without its end, control characters escaped. */
struct complaint {
    char text[400];
};

/*
 * Reads every WEIR_* name of envp into *settings, defaults first. Returns false at the first bad
 * value, with the complaint. Names that nobody knows are no error: settings_unknown finds them.
 */
bool settings_read(struct settings *settings, char *const envp[], struct complaint *complaint);

/* This process's, for every other file. start.c fills them in at load, nobody afterwards. */
const struct settings *settings_now(void);
struct settings *settings_to_fill(void);

/* What our own say to the programs that they start (drain/handed.h). */
#define HANDED_NAME "WEIR_HANDED="

/* The next entry of envp, from *at on, whose WEIR_ name nobody knows; NULL: no more. */
const char *settings_unknown(char *const envp[], size_t *at);

/*
 * What the table says of the i-th setting: for `weir run`, its help, the manual and the completion.
 * standard: "" where there is none, or it is not a value. False: no more.
 */
struct setting_text {
    const char *name, *standard, *help;
    const char *accepted; /* "a duration (250ms, 30s, 5m, 0)" */
};
bool settings_describe(size_t i, struct setting_text *text);

/* The option of `weir run` that stands for a variable: "stop-signals" for WEIR_STOP_SIGNALS. */
#define SETTINGS_OPTION 32
void settings_option(const char *name, char option[SETTINGS_OPTION]);

/* Whether any listener may have this mode. */
bool settings_have_mode(enum mode mode);

/* The mode of a listener at this address. */
enum mode settings_mode(const struct mode_list *list, const struct sockaddr *addr, socklen_t len);

const char *settings_mode_name(enum mode mode);

/* "USR2", "RTMIN+3": written to text, which is returned. */
const char *settings_signal_name(int sig, char text[16]);

/* "SIGUSR2", "signal 16". */
void settings_say_signal(struct text *text, int sig);

#endif
