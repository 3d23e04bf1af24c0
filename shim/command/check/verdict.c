/* SPDX-License-Identifier: MIT */
#include "command/check/verdict.h"

#include "command/command.h"

#include <stdarg.h>

void check_say(const struct check *check, const char *format, ...)
{
    va_list args;
    if (!check->says)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

bool check_fail(struct check *check, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(check->reason, sizeof check->reason, format, args);
    va_end(args);
    if (!check->exit)
        check->exit = EXIT_FAILED;
    return false;
}
