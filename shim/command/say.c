/* SPDX-License-Identifier: MIT */
#include "command/say.h"

#include "base/page.h"
#include "base/proc.h"
#include "command/proc/process.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <time.h>

static void say_line(const char *name, const char *format, va_list arguments)
{
    /* One write: several processes may write to the same log. */
    char line[2048];
    vsnprintf(line, sizeof line, format, arguments);
    fflush(stdout);
    fprintf(stderr, name ? "weir %2$s: %1$s (see: weir %2$s --help)\n" : "weir: %s\n", line, name);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_line(NULL, format, arguments);
    va_end(arguments);
}

int say_usage(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_line(name, format, arguments);
    va_end(arguments);
    return EXIT_USAGE;
}

const char *escaped(const char *text)
{
    static char ring[8][1024];
    static unsigned int next;
    char *into = ring[next++ % COUNT_OF(ring)];
    struct text out = {into, 0, sizeof ring[0]};
    *into = '\0';
    text_escaped(&out, text, 240);
    return into;
}

/* What a process was started with, or else the table's default; "none" for nothing. */
static const char *value_of(int32_t pid, const char *name)
{
    static char ring[2][256];
    static unsigned int next;
    char *value = ring[next++ % COUNT_OF(ring)];
    struct setting_text setting;
    if (!process_variable(pid, name, value, sizeof ring[0])) {
        *value = '\0';
        for (size_t i = 0; settings_describe(i, &setting); i++)
            if (text_equal(setting.name, name))
                snprintf(value, sizeof ring[0], "%s", setting.standard);
    }
    return *value ? escaped(value) : "none";
}

void say_other_version(int32_t pid, const char *name, const char *version)
{
    /* The first process of the tree is who drains all of it. */
    char *dot;
    int32_t first = (int32_t)strtol(name, &dot, 10);
    if (*dot != '.' || proc_start_time(first) != strtoull(dot + 1, NULL, 10))
        first = pid;
    say("pid %d: its state page is of weir %s, and this is weir %s (layout %d), which can't read "
        "it. What still works are its signals: send pid %d its WEIR_SIGNAL (%s, unless the program "
        "uses that itself) or one of WEIR_STOP_SIGNALS (%s). Or use the `weir` that came with its "
        "libweir.so",
        pid, version, WEIR_VERSION, PAGE_LAYOUT, first, value_of(first, "WEIR_SIGNAL"),
        value_of(first, "WEIR_STOP_SIGNALS"));
}

int exit_code(int error)
{
    return error == EACCES || error == EPERM ? EXIT_FORBIDDEN : EXIT_FAILED;
}

int32_t pid_argument(const char *argument)
{
    int64_t pid = 0;
    for (const char *at = argument; *at; at++) {
        if (*at < '0' || *at > '9' || (pid = pid * 10 + (*at - '0')) > INT32_MAX)
            return 0;
    }
    return (int32_t)pid;
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

volatile sig_atomic_t interrupted;

static void note(int sig)
{
    interrupted = sig;
}

void stop_when_interrupted(bool on)
{
    struct sigaction action = {.sa_handler = on ? note : SIG_DFL};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}
