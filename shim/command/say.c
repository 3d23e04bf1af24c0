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

void die_usage(const char *name, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "weir %s: %s (see: weir %s --help)\n", name, line, name);
    exit(EXIT_USAGE);
}

void finish(int code)
{
    /* On a full disk the output is lost: the exit code must say so. */
    if ((fflush(stdout) || ferror(stdout)) && code == EXIT_DONE)
        die(EXIT_FAILED, "can't write to stdout: %s", strerror(errno));
    exit(code);
}

#define WORD_MOST 40

/* How many letters have to be changed, put in or taken out (Levenshtein's distance). */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MOST + 1], length = strlen(b);
    if (strlen(a) > WORD_MOST || length > WORD_MOST)
        return WORD_MOST;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t corner = row[0]++;
        for (size_t j = 0; j < length; j++) {
            size_t above = row[j + 1], other = above < row[j] ? above : row[j];
            row[j + 1] = a[i] == b[j] ? corner : 1 + (corner < other ? corner : other);
            corner = above;
        }
    }
    return row[length];
}

void near_try(struct near *near, const char *word)
{
    size_t far = strlen(near->wrong) > 3 ? 3 : 2, now = distance(near->wrong, word);
    if (now >= (near->best ? near->distance : far))
        return;
    near->best = word;
    near->distance = now;
}

const char *near_text(const struct near *near, const char *before)
{
    static char into[WORD_MOST + 32];
    *into = '\0';
    if (near->best)
        snprintf(into, sizeof into, ", did you mean %s%s?", before, near->best);
    return into;
}

int next_option(int argc, char **argv, const struct option *options, void (*help)(const char *name))
{
    opterr = 0;
    int c = getopt_long(argc, argv, text_equal(*argv, "run") ? "+:h" : ":h", options, NULL);
    if (c == 'h') {
        help(*argv);
        finish(EXIT_DONE);
    }
    if (c != '?' && c != ':')
        return c;
    const char *given = argv[optind - 1];
    if (c == ':')
        die(EXIT_USAGE, "option '%s' wants a value (see: weir %s --help)", escaped(given), *argv);
    char wrong[WORD_MOST + 2];
    snprintf(wrong, sizeof wrong, "%.*s", (int)strcspn(given, "="), given);
    struct near near = {.wrong = wrong + strspn(wrong, "-")};
    for (const struct option *option = options; option->name; option++)
        near_try(&near, option->name);
    die(EXIT_USAGE, "unrecognized option '%s'%s (see: weir %s --help)", escaped(given),
        near_text(&near, "--"), *argv);
}

const char *escaped(const char *text)
{
    static char ring[8][1024];
    static unsigned int next;
    char *into = ring[next++ % COUNT_OF(ring)];
    struct text out = {into, 0, sizeof ring[0]};
    *into = '\0';
    text_escaped(&out, text, 600);
    return into;
}

void *grow(void *list, size_t count, size_t size)
{
    void *room = realloc(list, (count + 1) * size);
    if (!room)
        die(EXIT_FAILED, "%s", strerror(errno));
    return room;
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
