/* SPDX-License-Identifier: MIT */
/* weir run: a program under the shim, in this very process. */
#include "command/check/libraries.h"
#include "command/check/program.h"
#include "command/command.h"
#include "command/say.h"
#include "base/settings.h"
#include "base/text.h"

#include <errno.h>
#include <getopt.h>

#define SETTINGS_MOST 64

/* The command line, read. */
struct run {
    const char *value[SETTINGS_MOST]; /* of the i-th setting's option; NULL: not given */
    char **command;                   /* with its arguments */
};

/* ---- options ---- */

/* Prints a text from column `indent` on, in lines of 80 characters. */
static void print_wrapped(const char *text, int indent)
{
    int column = indent;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > 80) {
            printf("\n%*s", indent, "");
            column = indent;
        }
        column += printf("%s%.*s", column > indent ? " " : "", length, text);
        text += length + strspn(text + length, " ");
    }
    putchar('\n');
}

static void print_help(void)
{
    const int indent = 26;
    struct setting_text setting;
    puts("Usage: weir run [OPTION...] [--] COMMAND [ARG...]\n"
         "\n"
         "Checks the values and COMMAND's binary, then executes it under the shim, as this\n"
         "very process. An option overrides the variable of its name. A duration is 250ms,\n"
         "30s, 5m, 1h, or a number of seconds.\n");
    for (size_t i = 0; settings_describe(i, &setting); i++) {
        char name[SETTINGS_OPTION], text[600];
        settings_option(setting.name, name);
        int column = printf("  --%s=VALUE", name);
        printf("%*s", column < indent ? indent - column : 1, "");
        snprintf(text, sizeof text, "%s (%s%s%s)", setting.help, setting.name,
                 *setting.standard ? "; default " : "", setting.standard);
        print_wrapped(text, indent);
    }
    puts("\n"
         "Exit: COMMAND's. Where that was not begun: 1 it can't be found or executed, or\n"
         "the shim would not work in it (`weir check COMMAND` says more); 2 usage, or a\n"
         "value that can't be parsed.");
}

/* Returns an exit code, or -1: go on. */
static int read_options(int argc, char **argv, struct run *run)
{
    struct option options[SETTINGS_MOST + 2] = {{"help", no_argument, NULL, 'h'}};
    char names[SETTINGS_MOST][SETTINGS_OPTION];
    struct setting_text setting;
    argv[0] = "weir"; /* getopt(3) begins its messages with it */
    for (size_t i = 0; i < SETTINGS_MOST && settings_describe(i, &setting); i++) {
        settings_option(setting.name, names[i]);
        options[i + 1] = (struct option){names[i], required_argument, NULL, 256 + (int)i};
    }
    /* "+": what comes after COMMAND is its own. */
    for (int option; (option = getopt_long(argc, argv, "+h", options, NULL)) != -1;) {
        if (option == 'h') {
            print_help();
            return EXIT_DONE;
        }
        if (option < 256) {
            fputs("weir: `weir run --help` lists the options\n", stderr);
            return EXIT_USAGE;
        }
        run->value[option - 256] = optarg;
    }
    run->command = argv + optind;
    if (*run->command)
        return -1;
    fputs("weir: run: which COMMAND? `weir run --help` says more\n", stderr);
    return EXIT_USAGE;
}

/* ---- the environment ---- */

/* Whether an entry of the environment has this name. */
static bool is_named(const char *entry, const char *name)
{
    const char *after = text_after(entry, name);
    return after && *after == '=';
}

/* "NAME=value", for good. */
static char *make_entry(const char *name, const char *value)
{
    char *entry;
    return asprintf(&entry, "%s=%s", name, value) < 0 ? NULL : entry;
}

/*
 * Ours, with the options' values in place of those that are there. Not WEIR_TREE (start.c), which
 * is the name of the tree that we may be in: the command begins one of its own. A last place is
 * left free.
 */
static char **make_environment(const struct run *run)
{
    size_t count = 0, used = 0;
    struct setting_text setting;
    while (environ[count])
        count++;
    char **made = calloc(count + SETTINGS_MOST + 2, sizeof *made);
    for (size_t at = 0; made && at < count; at++) {
        bool is_kept = !is_named(environ[at], "WEIR_TREE");
        for (size_t i = 0; is_kept && i < SETTINGS_MOST && settings_describe(i, &setting); i++)
            is_kept = !run->value[i] || !is_named(environ[at], setting.name);
        if (is_kept)
            made[used++] = environ[at];
    }
    for (size_t i = 0; made && i < SETTINGS_MOST && settings_describe(i, &setting); i++)
        if (run->value[i] && !(made[used++] = make_entry(setting.name, run->value[i])))
            return NULL;
    return made;
}

static void warn_of_unknown(char **environment)
{
    const char *entry;
    for (size_t at = 0; (entry = settings_unknown(environment, &at));) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
        fprintf(stderr, "weir: %s: no setting has this name; it is ignored\n", escaped(name));
    }
}

/* Puts the library in front of what is preloaded already, and takes another of the name out. */
static bool preload(char **environment, const char *library)
{
    static const char name[] = "LD_PRELOAD";
    size_t size = strlen(library) + sizeof name + 1, used = 0;
    for (char **entry = environment; *entry; entry++)
        size += is_named(*entry, name) ? strlen(*entry) : 0;
    char *made = malloc(size);
    if (!made)
        return false;
    used = (size_t)sprintf(made, "%s=%s", name, library);

    char **to = environment;
    for (char **entry = environment; *entry; entry++) {
        if (!is_named(*entry, name)) {
            *to++ = *entry;
            continue;
        }
        /* ld.so(8): the items are separated by spaces or colons. */
        char *rest = *entry + sizeof name, *item;
        while ((item = strsep(&rest, ": ")))
            if (*item && strcmp(base_name(item), "libweir.so"))
                used += (size_t)sprintf(made + used, ":%s", item);
    }
    *to++ = made;
    *to = NULL;
    return true;
}

/* ---- the program ---- */

/* execvp(3): what the kernel does not take is the shell's. Returns only if it failed. */
static void execute(const char *path, char **command, char **environment)
{
    size_t count = 0;
    execve(path, command, environment);
    if (errno != ENOEXEC)
        return;
    while (command[count])
        count++;
    char **shell = calloc(count + 2, sizeof *shell);
    if (!shell)
        return;
    shell[0] = "/bin/sh";
    shell[1] = (char *)path;
    memcpy(shell + 2, command + 1, count * sizeof *shell);
    execve(shell[0], shell, environment);
}

static int fail(const char *what)
{
    fprintf(stderr, "weir: %s\n", what);
    return EXIT_FAILED;
}

int command_run(int argc, char **argv)
{
    struct run run = {0};
    struct check check = {0};
    struct settings settings;
    struct complaint complaint;
    char path[PATH_MAX], library[PATH_MAX];
    int status = read_options(argc, argv, &run);
    if (status >= 0)
        return status;
    char **environment = make_environment(&run);
    if (!environment)
        return fail(strerror(errno));
    if (!settings_read(&settings, environment, &complaint)) {
        fprintf(stderr, "weir: %s\n", complaint.text);
        return EXIT_USAGE;
    }
    warn_of_unknown(environment);

    if (!check_our_library(library, &check) || !check_find(*run.command, path, &check))
        return fail(check.reason);
    if (strpbrk(library, ": ")) {
        fprintf(
            stderr,
            "weir: %s: LD_PRELOAD can't name a path with a space or a colon (ld.so(8)): move it\n",
            escaped(library));
        return EXIT_FAILED;
    }
    if (!check_command(*run.command, &check)) {
        fail(check.reason);
        /* What may be executed, but not read, may well work: nobody can tell. */
        if (check.exit != EXIT_FORBIDDEN)
            return EXIT_FAILED;
    }
    if (!preload(environment, library))
        return fail(strerror(errno));
    execute(path, run.command, environment);
    fprintf(stderr, "weir: %s: %s\n", escaped(path), strerror(errno));
    return EXIT_FAILED;
}
