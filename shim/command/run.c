/* SPDX-License-Identifier: MIT */
/* weir run: a program under the shim, in this very process. */
#include "command/check/libraries.h"
#include "command/check/program.h"
#include "command/say.h"
#include "base/settings.h"
#include "base/text.h"

#include <errno.h>
#include <getopt.h>

#define SETTINGS_MOST 64

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

static void print_help(const char *name)
{
    (void)name;
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
         "value that can't be parsed.\n"
         "\n"
         "Examples:\n"
         "  weir run --stop-signals TERM your-daemon\n"
         "  weir run --timeout 1m --log syslog -- redis-server /etc/redis/redis.conf");
}

/* Puts a value in place of each that the environment has of this name. */
static void set(const char *name, const char *value)
{
    unsetenv(name);
    if (setenv(name, value, 1))
        die(EXIT_FAILED, "%s", strerror(errno));
}

/* Puts the options' values into the environment. */
static void read_options(int argc, char **argv)
{
    struct option options[SETTINGS_MOST + 2] = {{"help", no_argument, NULL, 'h'}};
    char names[SETTINGS_MOST][SETTINGS_OPTION];
    struct setting_text setting;
    for (size_t i = 0; i < SETTINGS_MOST && settings_describe(i, &setting); i++) {
        settings_option(setting.name, names[i]);
        options[i + 1] = (struct option){names[i], required_argument, NULL, 256 + (int)i};
    }
    for (int option; (option = next_option(argc, argv, options, print_help)) != -1;) {
        settings_describe((size_t)option - 256, &setting);
        set(setting.name, optarg);
    }
    if (!argv[optind])
        die(EXIT_USAGE, "run: which COMMAND? `weir run --help` says more");
}

/* ---- the environment ---- */

static void warn_of_unknown(void)
{
    const char *entry;
    for (size_t at = 0; (entry = settings_unknown(environ, &at));) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
        say("%s: no setting has this name; it is ignored", escaped(name));
    }
}

/* Puts the library in front of what is preloaded already, and takes another of the name out. */
static void preload(const char *library)
{
    const char *old = getenv("LD_PRELOAD");
    size_t length = old ? strlen(old) : 0;
    char copy[length + 1], list[strlen(library) + length + 2], *rest = copy, *item;
    strcpy(copy, old ? old : "");
    size_t used = (size_t)sprintf(list, "%s", library);
    while ((item = strsep(&rest, ": "))) /* ld.so(8) */
        if (*item && !text_equal(base_name(item), "libweir.so"))
            used += (size_t)sprintf(list + used, ":%s", item);
    set("LD_PRELOAD", list);
}

/* ---- the program ---- */

/* execvp(3): what the kernel does not take is the shell's. Returns only if it failed. */
static void execute(const char *path, char **command)
{
    size_t count = 0;
    execve(path, command, environ);
    if (errno != ENOEXEC)
        return;
    while (command[count])
        count++;
    char *shell[count + 2];
    shell[0] = "/bin/sh";
    shell[1] = (char *)path;
    memcpy(shell + 2, command + 1, count * sizeof *shell);
    execve(shell[0], shell, environ);
}

int command_run(int argc, char **argv)
{
    struct check check = {0};
    struct settings settings;
    struct complaint complaint;
    char path[PATH_MAX], library[PATH_MAX];
    read_options(argc, argv);
    char **command = argv + optind;
    unsetenv("WEIR_TREE"); /* start.c: the tree that we may be in. The command begins its own. */
    if (!settings_read(&settings, environ, &complaint))
        return fail(EXIT_USAGE, "%s", complaint.text);
    warn_of_unknown();

    bool works = check_our_library(library, &check) && check_find(*command, path, &check);
    if (works && strpbrk(library, ": "))
        works = check_fail(&check,
                           "%s: LD_PRELOAD can't name a path with a space or a colon (ld.so(8)): "
                           "move it",
                           escaped(library));
    works = works && check_command(*command, &check);
    if (!works)
        say("%s", check.reason);
    /* A file that may be executed, but not read, may well work. */
    if (!works && check.exit != EXIT_FORBIDDEN)
        return EXIT_FAILED;
    preload(library);
    execute(path, command);
    return fail(EXIT_FAILED, "%s: %s", escaped(path), strerror(errno));
}
