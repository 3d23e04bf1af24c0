/* SPDX-License-Identifier: MIT */
/*
 * fill < TEMPLATE: a manual page, the completion or weir.pc, with what the code knows filled in, so
 * that no text says it a second time. It runs when Weir is built.
 *
 *   @VERSION@, @DATE@   anywhere in a line
 *   @SETTINGS@          a line of its own: each variable, for libweir(7)
 *   @OPTIONS@           each option of `weir run`, for weir(1)
 *   @VALUES@            each of them and the words that it may be given, for bash
 *
 * A setting without a description ends it with an error, and so the build.
 */
#include "base/common.h"
#include "base/settings.h"

/* For mdoc(7), which wants each sentence on a line of its own. */
static void print_prose(const char *text)
{
    for (const char *at = text; *at; at++) {
        if (*at == '\\' || *at == '-')
            printf(*at == '-' ? "\\-" : "\\e");
        else
            putchar(*at == ' ' && at != text && at[-1] == '.' ? '\n' : *at);
    }
    puts(".");
}

static void print_setting(const struct setting_text *setting, const char *option)
{
    printf(".It Ev %s Pq Fl -%s\n", setting->name, option);
    print_prose(setting->help);
    printf("A value is ");
    print_prose(setting->accepted);
    if (*setting->standard)
        printf("Default:\n.Cm %s\n", setting->standard);
}

static void print_option(const struct setting_text *setting, const char *option)
{
    printf(".It Fl -%s Ns = Ns Ar value\n", option);
    print_prose(setting->help);
}

/* Of a list such as "auto, close, keep)": the first item's length. */
static size_t item_length(const char *at)
{
    size_t length = 0;
    while (at[length] && at[length] != ')' && strncmp(at + length, ", ", 2))
        length++;
    return length;
}

/* The words that `accepted` names, after "one of" or else in its first parentheses. What has a
 * space is no word: "or a file's path". */
static void print_values(const struct setting_text *setting, const char *option)
{
    const char *at = text_after(setting->accepted, "one of "), *open;
    const char *space = "";
    if (!at)
        at = (open = strchr(setting->accepted, '(')) ? open + 1 : "";
    printf("        [--%s]='", option);
    for (size_t length; (length = item_length(at)) && !memchr(at, ' ', length);) {
        printf("%s%.*s", space, (int)length, at);
        space = " ";
        at += length;
        at += strncmp(at, ", ", 2) ? strlen(at) : 2;
    }
    puts("'");
}

typedef void print_fn(const struct setting_text *setting, const char *option);

static bool print_all(print_fn *print)
{
    struct setting_text setting;
    for (size_t i = 0; settings_describe(i, &setting); i++) {
        char option[SETTINGS_OPTION];
        if (!setting.help || !*setting.help || !setting.accepted || !*setting.accepted) {
            fprintf(stderr, "fill: %s has no description in the table of shim/base/settings.c\n",
                    setting.name);
            return false;
        }
        settings_option(setting.name, option);
        print(&setting, option);
    }
    return true;
}

static void print_line(const char *line)
{
    static const struct {
        const char *name, *value;
    } words[] = {{"@VERSION@", WEIR_VERSION}, {"@DATE@", WEIR_DATE}};
    while (*line) {
        const char *after = NULL;
        for (size_t i = 0; i < COUNT_OF(words) && !after; i++)
            if ((after = text_after(line, words[i].name)))
                fputs(words[i].value, stdout);
        if (!after)
            putchar(*line);
        line = after ? after : line + 1;
    }
}

int main(void)
{
    static const struct {
        const char *line;
        print_fn *print;
    } lists[] = {{"@SETTINGS@\n", print_setting},
                 {"@OPTIONS@\n", print_option},
                 {"@VALUES@\n", print_values}};
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        bool is_list = false;
        for (size_t i = 0; i < COUNT_OF(lists); i++) {
            if (strcmp(line, lists[i].line))
                continue;
            is_list = true;
            if (!print_all(lists[i].print))
                return 1;
        }
        if (!is_list)
            print_line(line);
    }
    free(line);
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
