/* SPDX-License-Identifier: MIT */
#include "command/say.h"

#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>

int fail(int code, const char *format, ...)
{
    /* One write: several processes may write to the same log. */
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fflush(stdout);
    fprintf(stderr, "weir: %s\n", line);
    return code;
}

int say_usage(const char *name, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "weir %s: %s (see: weir %s --help)\n", name, line, name);
    return EXIT_USAGE;
}

int next_option(int argc, char **argv, const struct option *options)
{
    opterr = 0;
    int c = getopt_long(argc, argv, text_equal(*argv, "run") ? "+:h" : ":h", options, NULL);
    if (c == '?')
        say("unrecognized option '%s' (see: weir %s --help)", escaped(argv[optind - 1]), *argv);
    else if (c == ':')
        say("option '%s' wants a value (see: weir %s --help)", escaped(argv[optind - 1]), *argv);
    return c == ':' ? '?' : c;
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
