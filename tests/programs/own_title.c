/* SPDX-License-Identifier: MIT */
/*
 * What programs do with the block of argv and environ to show a title of their own in ps:
 * own_title HABIT. Prints "room N", how many bytes it takes for its title, after it has written
 * them.
 *
 *   last     the block ends where the last of environ does (libmaa, sendmail)
 *   first    argv's ends where the first of environ begins
 *   row      as far as each string of argv and environ follows the one before (PostgreSQL)
 *   release  the same; what is copied is freed at the end, and one entry more (zabbix)
 *   highest  the highest end of all (libbsd)
 *   move     nothing is written: environ is copied, each old entry overwritten, cleared, made anew
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t count_of(char **list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

static char *end_of(const char *string)
{
    return (char *)string + strlen(string) + 1;
}

/* The end of what follows from this address on; copied: how many entries. */
static char *row_end(char *end, char **list, size_t *copied)
{
    for (*copied = 0; list[*copied] == end; ++*copied)
        end = end_of(end);
    return end;
}

static char **copy_of(char **list)
{
    size_t n = count_of(list);
    char **copy = malloc((n + 1) * sizeof *copy);
    for (size_t i = 0; i <= n; i++)
        copy[i] = list[i] ? strdup(list[i]) : NULL;
    return copy;
}

static void move(void)
{
    char **old = environ, **copy = copy_of(old);
    for (size_t i = 0; old[i]; i++)
        memset(old[i], 'x', strlen(old[i]));
    clearenv();
    for (size_t i = 0; copy[i]; i++)
        putenv(copy[i]);
    setenv("WEIR_TREE", "another", 1);
    unsetenv("WEIR_TREE");
}

int main(int argc, char **argv)
{
    const char *habit = argc > 1 ? argv[1] : "";
    char *end = argv[0], **entries = environ, **copies = NULL;
    size_t copied = 0, args;
    if (!strcmp(habit, "last")) {
        end = end_of(environ[count_of(environ) - 1]);
    } else if (!strcmp(habit, "first")) {
        end = environ[0];
    } else if (!strcmp(habit, "row") || !strcmp(habit, "release")) {
        end = row_end(argv[0], argv, &args);
        end = row_end(end, environ, &copied);
    } else if (!strcmp(habit, "highest")) {
        for (size_t i = 0; environ[i]; i++)
            end = end_of(environ[i]) > end ? end_of(environ[i]) : end;
    } else if (!strcmp(habit, "move")) {
        move();
    } else {
        return 2;
    }
    long room = end - argv[0];
    if (strcmp(habit, "move") && (room <= 0 || room > 100000)) {
        printf("room %ld\n", room);
        return 1;
    }
    if (!strcmp(habit, "release")) { /* of those that are not in the row the pointer is copied */
        copies = copy_of(environ);
        for (size_t i = copied; environ[i]; i++)
            copies[i] = environ[i];
        for (size_t i = 0; i < copied; i++)
            environ[i] = "";
        environ = copies;
    } else if (strcmp(habit, "move")) {
        environ = copy_of(environ);
    }
    memset(argv[0], 't', (size_t)room);
    if (copies) {
        environ = entries;
        for (size_t i = 0; i <= copied; i++)
            free(copies[i]);
        free(copies);
    }
    printf("room %ld\n", room);
    return 0;
}
