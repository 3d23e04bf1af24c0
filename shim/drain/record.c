/* SPDX-License-Identifier: MIT */
#include "drain/record.h"

#include "base/start_record.h"
#include "base/sys.h"
#include "base/text.h"

#include <sys/mman.h>

/* Room for it is taken twice in the environment, whose size has a limit (execve(2)). */
#define HANDED_ON_MOST (UINT64_C(64) << 10)

/* Read by others alone, which the compiler does not know. */
static volatile struct start_record record = {.mark = START_RECORD_MARK};
static size_t entries;

static int argument_count;
static char **arguments;

void record_remember_words(int argc, char **argv)
{
    argument_count = argc;
    arguments = argv;
}

static size_t size_of(char *const *list, size_t count, size_t before)
{
    size_t size = 0;
    for (size_t i = 0; i < count && list[i]; i++)
        size += before + text_length(list[i]) + 1;
    return size;
}

static char *put(char *to, char *const *list, size_t count, const char *before)
{
    for (size_t i = 0; i < count && list[i]; i++, entries++) {
        for (const char *from = before; *from;)
            *to++ = *from++;
        for (const char *from = list[i]; (*to++ = *from++);)
            ;
    }
    return to;
}

/* Not by malloc, whose first call is the program's: it makes system calls of its own. */
static char *make_block(size_t size)
{
    long at =
        sys6(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        return NULL;
    record.block = (char *)at;
    record.size = size;
    return (char *)at;
}

/* A program that does not have the library (a static shell, gosu(1)) may hand on one variable of
 * each name: what is left of a record then is none. */
static bool is_whole(void)
{
    const char *words = record.block + sizeof START_RECORD_NAME - 1;
    uint64_t count = text_take_number(&words, 10);
    return !*words && *record.block && entries >= 2 && count <= entries - 2;
}

void record_take(char **envp)
{
    size_t size = 0;
    for (char **at = envp; *at; at++)
        if (text_after(*at, START_RECORD_NAME))
            size += text_length(*at) + 1;
    char *block = size ? make_block(size) : NULL;
    for (char **at = envp; *at && block; at++)
        if (text_after(*at, START_RECORD_NAME))
            block = put(block, at, 1, "");
    text_drop_variables(envp, START_RECORD_NAME);
    if (!record.block || is_whole())
        return;
    sys2(SYS_munmap, record.block, record.size);
    record.block = NULL;
    record.size = entries = 0;
}

void record_make(char *const *envp)
{
    char number[24], directory[4096], *head[] = {number, directory};
    struct text text = TEXT_ON(number);
    size_t count = (size_t)argument_count, name = sizeof START_RECORD_NAME - 1;
    if (record.block)
        return;
    text_number(&text, count);
    long length = sys2(SYS_getcwd, directory, sizeof directory);
    if (length <= 0 || *directory != '/') { /* getcwd(2): "(unreachable)" */
        directory[0] = '/';
        directory[1] = '\0';
    }
    char *block = make_block(size_of(head, 2, name) + size_of(arguments, count, name) +
                             size_of(envp, SIZE_MAX, name));
    if (!block)
        return;
    block = put(block, head, 2, START_RECORD_NAME);
    block = put(block, arguments, count, START_RECORD_NAME);
    put(block, envp, SIZE_MAX, START_RECORD_NAME);
}

size_t record_entries(void)
{
    return record.size <= HANDED_ON_MOST ? entries : 0;
}

void record_put(char **to, size_t count)
{
    char *at = (char *)record.block;
    for (size_t i = 0; i < count; i++, at += text_length(at) + 1)
        *to++ = at;
}
