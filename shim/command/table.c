/* SPDX-License-Identifier: MIT */
#include "command/table.h"

#include "base/text.h"
#include "command/say.h"

#include <errno.h>
#include <stdarg.h>

/* ---- colour ---- */

static bool has_color(void)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(none && *none) && !(term && text_equal(term, "dumb"));
}

void print_in(enum color color, const char *format, ...)
{
    static const char *const begins[] = {
        [GOOD] = "\033[32m",
        [WARNING] = "\033[33m",
        [BAD] = "\033[31m",
    };
    bool colored = color != PLAIN && has_color();
    va_list arguments;
    if (colored)
        fputs(begins[color], stdout);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    if (colored)
        fputs("\033[0m", stdout);
}

const char *duration(int64_t ms)
{
    static char into[32];
    struct text text = TEXT_ON(into);
    if (ms < 120000)
        text_tenths(&text, ms);
    else if (ms < 7200000)
        snprintf(into, sizeof into, "%ldm %lds", ms / 60000, ms / 1000 % 60);
    else
        snprintf(into, sizeof into, "%ldh %ldm", ms / 3600000, ms / 60000 % 60);
    return into;
}

/* ---- tables ---- */

#define COLUMNS_MOST 16

struct cell {
    char *text;
    enum color color;
};

static struct {
    bool is_part;
    size_t columns, cells; /* the titles are the first row */
    struct cell *cell;
    int width[COLUMNS_MOST];
    bool is_right[COLUMNS_MOST];
} table;

static void add(enum color color, char *text)
{
    table.cell = grow(table.cell, table.cells, sizeof *table.cell);
    table.cell[table.cells++] = (struct cell){text, color};
}

void table_cell(enum color color, const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments), *width;
    va_end(arguments);
    if (length < 0)
        die(EXIT_FAILED, "%s", strerror(errno));
    width = &table.width[table.cells % table.columns];
    *width = length > *width ? length : *width;
    add(color, text);
}

void table_begin(bool is_part, const char *titles)
{
    table.is_part = is_part;
    table.columns = table.cells = 0;
    for (bool more = true; more; titles++) {
        size_t column = table.columns++, length;
        titles += table.is_right[column] = *titles == '>';
        length = strcspn(titles, "|");
        table.width[column] = (int)length;
        add(PLAIN, strndup(titles, length));
        titles += length;
        more = *titles;
    }
}

/* Prints a row, and no space at its end. */
static void print_row(const struct cell *row)
{
    int spaces = table.is_part ? 2 : 0;
    for (size_t i = 0; i < table.columns; i++) {
        int rest = table.width[i] - (int)strlen(row[i].text);
        if (*row[i].text) {
            printf("%*s", spaces + (table.is_right[i] ? rest : 0), "");
            print_in(row[i].color, "%s", row[i].text);
            spaces = table.is_right[i] ? 0 : rest;
        } else {
            spaces += rest;
        }
        spaces += 2;
    }
    putchar('\n');
}

void table_end(void)
{
    bool any = table.cells > table.columns;
    if (any && table.is_part)
        putchar('\n');
    for (size_t at = 0; any && at < table.cells; at += table.columns)
        print_row(&table.cell[at]);
    while (table.cells)
        free(table.cell[--table.cells].text);
}
