/* SPDX-License-Identifier: MIT */
#include "drain/environment.h"

#include "base/libc.h"
#include "base/sys.h"
#include "base/text.h"
#include "conn/fdtable.h"
#include "drain/listener.h"
#include "drain/stage.h"
#include "tree/membership.h"
#include "tree/pagefile.h"

#define TREE_NAME "WEIR_TREE="
#define PRELOAD_NAME "LD_PRELOAD="

static bool ends_with_library(const char *item, size_t length)
{
    static const char name[] = "libweir.so";
    if (length < sizeof name - 1)
        return false;
    for (size_t i = 0; i < sizeof name - 1; i++)
        if (item[length - (sizeof name - 1) + i] != name[i])
            return false;
    return length == sizeof name - 1 || item[length - sizeof name] == '/';
}

/*
 * Takes our item out of LD_PRELOAD's value, in place. Returns whether another is left.
 * ld.so(8): items are separated by spaces or colons.
 */
static bool leave_preload(char *value)
{
    char *to = value;
    for (const char *at = value; *at;) {
        size_t length = 0;
        while (at[length] && at[length] != ':' && at[length] != ' ')
            length++;
        if (length && !ends_with_library(at, length)) {
            if (to != value)
                *to++ = ':';
            for (size_t i = 0; i < length; i++)
                *to++ = at[i];
        }
        at += length + (at[length] != '\0');
    }
    *to = '\0';
    return to != value;
}

/* In place, so that main's third argument says the same. */
void environment_leave_children(char **envp)
{
    char **to = envp;
    for (char **at = envp; *at; at++) {
        char *value = (char *)text_after(*at, PRELOAD_NAME);
        if (value ? leave_preload(value) : !text_after(*at, "WEIR_"))
            *to++ = *at;
    }
    *to = NULL;
}

/* Writes over an entry that is there, where the new one fits. */
static bool overwrite(char *entry, const struct text *with)
{
    if (with->used > text_length(entry))
        return false;
    for (size_t i = 0; i <= with->used; i++)
        entry[i] = with->at[i];
    return true;
}

/*
 * A program that finds the entry there is not the first of a tree. The entry must bear what
 * programs do with their environment:
 *
 * - One that writes a title over argv and environ takes the block of strings to end where the last
 *   of environ does (libmaa), or those of argv to end where the first of environ begins. So the
 * entry is neither the first nor the last; where there is only one other, that stands twice.
 * - One that copies the block also frees what it has not copied (zabbix): free can take the entry.
 * - Where there is no environment nothing is added.
 *
 * An earlier program of this process may have been given an entry: it is in the block, and stays
 * there.
 */
void environment_name_tree(char **envp)
{
    static BIG(4) char *with_name[4096];
    static char fallback[sizeof TREE_NAME + PAGEFILE_PATH];
    char name[sizeof fallback];
    struct text text = TEXT_ON(name);
    size_t n = 0, count = 0;
    text_add(&text, TREE_NAME "%s", membership_name());
    for (; envp[n]; n++) {
        if (!text_after(envp[n], TREE_NAME)) {
            if (count + 4 > COUNT_OF(with_name))
                return;
            with_name[count++] = envp[n];
        } else if (overwrite(envp[n], &text)) {
            return;
        }
    }
    if (!count)
        return;
    char *entry = libc_allocate(text.used + 1);
    if (!entry)
        entry = fallback;
    for (size_t i = 0; i <= text.used; i++)
        entry[i] = name[i];
    if (count == 1)
        with_name[count++] = with_name[0];
    with_name[count] = with_name[count - 1];
    with_name[count - 1] = entry;
    environ = with_name;
}

long environment_find_tree(char *const *envp)
{
    for (long i = 0; envp[i]; i++)
        if (text_after(envp[i], TREE_NAME))
            return i;
    return -1;
}

char *environment_tree(char *const *envp)
{
    return text_variable(envp, TREE_NAME);
}

/* ---- marks in WEIR_TREE's value ---- */

#define SUCCESSOR_MARK "?" /* at its end: it is taken away as a whole there */
#define START_MARK '+'     /* in place of its first slash: in the block of strings no gap is left */

/* The words of this program's command line, as it was started, hashed (FNV-1a). */
static uint32_t words[64];
static uint32_t words_count;

/*
 * A file's name stands for its path. `python3 -m NAME` is started again as the file that it has
 * found then, NAME/__main__.py.
 */
static uint32_t hash_word(const char *word)
{
    const char *name = word, *before = word, *end;
    for (const char *at = word; *at; at++) {
        if (*at == '/' && at[1]) {
            before = name;
            name = at + 1;
        }
    }
    bool is_module = text_equal(name, "__main__.py");
    for (end = name = is_module ? before : name; *end && *end != '/'; end++)
        ;
    uint32_t hash = 2166136261u;
    for (; name < end; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

bool environment_is_own_word(const char *word)
{
    uint32_t hash = hash_word(word);
    for (uint32_t i = 0; i < words_count; i++)
        if (words[i] == hash)
            return true;
    return false;
}

static bool are_own_words(char *const *argv)
{
    while (*argv && environment_is_own_word(*argv))
        argv++;
    return !*argv;
}

enum environment_mark environment_mark_for(char *const *argv)
{
    if (listener_any())
        return argv && are_own_words(argv) ? MARK_SUCCESSOR : MARK_NONE;
    return stage_is_dormant() ? MARK_START : MARK_NONE;
}

char *environment_put_mark(const char *entry, enum environment_mark mark, char *room)
{
    struct text text = {room, 0, ENVIRONMENT_TREE_ROOM};
    char *value = room + sizeof TREE_NAME - 1;
    text_add(&text, "%s", entry);
    if (mark == MARK_SUCCESSOR)
        text_string(&text, SUCCESSOR_MARK);
    if (mark == MARK_START && *value == '/')
        *value = START_MARK;
    return room;
}

enum environment_mark environment_take_mark(char *value)
{
    size_t length = value ? text_length(value) : 0;
    if (length && *value == START_MARK) {
        *value = '/';
        return MARK_START;
    }
    if (!length || value[length - 1] != *SUCCESSOR_MARK)
        return MARK_NONE;
    value[length - 1] = '\0';
    return MARK_SUCCESSOR;
}

/*
 * What the environment has said at load, in copies: a program may have written its title over it
 * since (Redis 8, before it listens). environment_tree_value: WEIR_TREE's; NULL: there was none.
 */
const char *environment_tree_value;
static char preload[4096]; /* "LD_PRELOAD=..."; "": there was none, or it is longer */

void environment_remember(char *const *envp, bool children_follow)
{
    static char tree[PAGEFILE_PATH];
    struct text text = TEXT_ON(tree);
    const char *value = environment_tree(envp);
    if (value) {
        text_string(&text, value);
        environment_tree_value = tree;
    }
    for (; *envp && children_follow; envp++) {
        text = TEXT_ON(preload);
        if (text_after(*envp, PRELOAD_NAME) && text_length(*envp) < sizeof preload)
            text_string(&text, *envp);
    }
}

const char *environment_lost_preload(char *const *envp)
{
    bool is_lost =
        *preload && table_find(0) && environment_tree(envp) && !text_variable(envp, PRELOAD_NAME);
    return is_lost ? preload : NULL;
}

void environment_remember_words(int argc, char **argv)
{
    for (int i = 0; i < argc && words_count < COUNT_OF(words); i++)
        words[words_count++] = hash_word(argv[i]);
}
