/* SPDX-License-Identifier: MIT */
/* libc_next_symbol beside dlsym(RTLD_NEXT), in a process of any libraries. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "unit.h"

#include "base/libc.h"
#include "base/libc_next.h"

#define SAME(type, name, params, args) \
    CHECK(libc_next_symbol(#name) == dlsym(RTLD_NEXT, #name), "%s", #name);

static void same(void)
{
    LIBC_FUNCTIONS(SAME)
    CHECK(libc_next_symbol("read") != NULL);
}

static void other_names(void)
{
    CHECK(libc_next_symbol("no_such_function_of_any_library") == NULL);
    CHECK(libc_next_symbol("") == NULL);
    CHECK(libc_next_symbol("environ") == NULL, "no function");
}

static const struct unit_test tests[] = {
    {"each function of libc.h is found where dlsym finds it", same},
    {"what is there in no library is not found, nor what is no function", other_names},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
