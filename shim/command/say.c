/* SPDX-License-Identifier: MIT */
#include "command/say.h"

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

const char *escaped_array(const char *text, size_t size)
{
    static char ring[8][1024];
    static unsigned int next;
    char *into = ring[next++ % COUNT_OF(ring)];
    struct text out = {into, 0, sizeof ring[0]};
    char copy[605]; /* more than what is shown of it, so that it ends with "..." */
    snprintf(copy, sizeof copy, "%.*s", (int)(size < sizeof copy ? size : sizeof copy), text);
    *into = '\0';
    text_escaped(&out, copy, 600);
    return into;
}

const char *escaped(const char *text)
{
    return escaped_array(text, SIZE_MAX);
}

const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int exit_code(int error)
{
    return error == EACCES || error == EPERM ? EXIT_FORBIDDEN : EXIT_FAILED;
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
