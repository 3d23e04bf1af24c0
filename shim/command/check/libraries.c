/* SPDX-License-Identifier: MIT */
/* Where libraries are: our own, beside the command, and a program's, where ld.so(8) looks. */
#include "command/check/libraries.h"

#include "base/text.h"
#include "command/say.h"

#include <errno.h>

#ifdef __x86_64__
#define MACHINE "x86_64"
#else
#define MACHINE "aarch64"
#endif
#ifdef __GLIBC__
#define MULTIARCH MACHINE "-linux-gnu"
#else
#define MULTIARCH MACHINE "-linux-musl"
#endif

/* ---- ours ---- */

bool check_our_library(char path[PATH_MAX], struct check *check)
{
    /* Beside it in the build directory; as `make install`, scripts/package and others have it. */
    static const char *const places[] = {"libweir.so", "../lib/libweir.so",
                                         "../lib/weir/libweir.so",
                                         "../lib/" MULTIARCH "/libweir.so", "../lib64/libweir.so"};
    char self[PATH_MAX], tried[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return check_fail(check, "where libweir.so is can't be told: /proc/self/exe: %s",
                          strerror(errno));
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        snprintf(tried, sizeof tried, "%s/%s", self, places[i]);
        if (realpath(tried, path))
            return true;
    }
    return check_fail(check,
                      "no libweir.so in %s, nor in its ../lib, ../lib/weir, ../lib/%s or "
                      "../lib64",
                      escaped(self), MULTIARCH);
}

/* ---- a program's ---- */

#define LIBRARIES_MOST 512

/* A library, or the program itself. */
struct object {
    char path[PATH_MAX];
    struct elf_part file;
    struct elf elf;
};

struct search {
    char *names[LIBRARIES_MOST]; /* that have been looked for already */
    size_t count, found;
    struct object program;
    struct elf_part cache;
    const struct check *check;
    void (*seen)(const struct elf *library, const char *path);
};

/* Opens one that the loader would take: another word size or machine is passed over. */
static bool open_object(struct object *object)
{
    if (elf_map(object->path, &object->file))
        return false;
    if (elf_read(&object->elf, object->file.at, object->file.size) == ELF_NATIVE)
        return true;
    elf_unmap(&object->file);
    return false;
}

static bool open_at(const char *path, struct object *found)
{
    return snprintf(found->path, PATH_MAX, "%s", path) < PATH_MAX && open_object(found);
}

/* An item of a list of directories, with $ORIGIN put in (ld.so(8)); other tokens are not known. */
static bool expand_directory(const char *item, size_t length, const char *of, char into[PATH_MAX])
{
    static const char *const tokens[] = {"$ORIGIN", "${ORIGIN}"};
    const char *slash = strrchr(of, '/');
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        size_t n = strlen(tokens[i]);
        if (length >= n && !memcmp(item, tokens[i], n))
            return snprintf(into, PATH_MAX, "%.*s%.*s", slash ? (int)(slash - of) : 1,
                            slash ? of : ".", (int)(length - n), item + n) < PATH_MAX;
    }
    return !memchr(item, '$', length) && snprintf(into, PATH_MAX, "%.*s", length ? (int)length : 1,
                                                  length ? item : ".") < PATH_MAX;
}

/* In a list such as DT_RUNPATH's. of: the path of the object whose list it is. */
static bool find_in_list(const char *list, const char *of, const char *name, struct object *found)
{
    char directory[PATH_MAX];
    for (; list; list = *list ? list + 1 : NULL) {
        size_t length = strcspn(list, ":;");
        if (length < PATH_MAX && expand_directory(list, length, of, directory) &&
            snprintf(found->path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX &&
            open_object(found))
            return true;
        list += length;
    }
    return false;
}

#ifndef __GLIBC__
/*
 * musl's loader is its libc, under each name that a part of it could have, and looks in other
 * places (ldso/dynlink.c, load_library). Of ours only the program's lists are followed, not those
 * of the libraries in between.
 */
static bool is_libc(const char *name)
{
    static const char *const parts[] = {"c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."};
    const char *rest = text_after(name, "lib");
    for (size_t i = 0; rest && i < COUNT_OF(parts); i++)
        if (text_after(rest, parts[i]))
            return true;
    return false;
}

static bool find_in_own(const struct object *by, const char *name, struct object *found)
{
    const char *list = by->elf.runpath ? by->elf.runpath : by->elf.rpath;
    return find_in_list(list, by->path, name, found);
}

static bool find_library(const struct search *search, const char *name, const struct object *by,
                         struct object *found)
{
    char configured[PATH_MAX] = "/lib:/usr/local/lib:/usr/lib";
    const struct object *program = &search->program;
    if (is_libc(name))
        name = program->elf.loader;
    if (strchr(name, '/'))
        return open_at(name, found);
    FILE *list = fopen("/etc/ld-musl-" MACHINE ".path", "re");
    if (list) {
        configured[fread(configured, 1, sizeof configured - 1, list)] = '\0';
        for (char *at = configured; *at; at++)
            if (*at == '\n')
                *at = ':';
        fclose(list);
    }
    return find_in_list(getenv("LD_LIBRARY_PATH"), program->path, name, found) ||
           find_in_own(by, name, found) || find_in_own(program, name, found) ||
           find_in_list(configured, "/", name, found);
}
#else
/* A string of the cache. NULL: it does not end in there. */
static const char *cached(const struct elf_part *cache, uint32_t at)
{
    size_t most = at < cache->size ? cache->size - at : 0;
    const char *string = (const char *)cache->at + at;
    return most && strnlen(string, most) < most ? string : NULL;
}

/*
 * In /etc/ld.so.cache: glibc sysdeps/generic/dl-cache.h, struct cache_file_new. A file that begins
 * otherwise is of a glibc before 2.32, and not read.
 */
static bool find_in_cache(const struct elf_part *cache, const char *name, struct object *found)
{
    static const char magic[] = "glibc-ld.so.cache1.1";
    struct {
        int32_t flags;
        uint32_t key, value, osversion;
        uint64_t hwcap;
    } entry;
    uint32_t count;
    if (cache->size < 48 || memcmp(cache->at, magic, sizeof magic - 1))
        return false;
    memcpy(&count, cache->at + 20, sizeof count);
    for (size_t i = 0; i < count && 48 + (i + 1) * sizeof entry <= cache->size; i++) {
        memcpy(&entry, cache->at + 48 + i * sizeof entry, sizeof entry);
        const char *key = cached(cache, entry.key), *path = cached(cache, entry.value);
        if (key && path && text_equal(key, name) && open_at(path, found))
            return true;
    }
    return false;
}

/* ld.so(8), in its order. */
static bool find_library(const struct search *search, const char *name, const struct object *by,
                         struct object *found)
{
    static const char standard[] =
        "/lib/" MULTIARCH ":/usr/lib/" MULTIARCH ":/lib64:/usr/lib64:/lib:/usr/lib";
    const struct object *program = &search->program;
    if (strchr(name, '/'))
        return open_at(name, found);
    if (!by->elf.runpath && (find_in_list(by->elf.rpath, by->path, name, found) ||
                             (by != program && !program->elf.runpath &&
                              find_in_list(program->elf.rpath, program->path, name, found))))
        return true;
    return find_in_list(getenv("LD_LIBRARY_PATH"), program->path, name, found) ||
           find_in_list(by->elf.runpath, by->path, name, found) ||
           find_in_cache(&search->cache, name, found) || find_in_list(standard, "/", name, found);
}
#endif

/* Whether a library has been looked for already, or can't be any more; takes down its name. */
static bool is_known(struct search *search, const char *name)
{
    for (size_t i = 0; i < search->count; i++)
        if (text_equal(search->names[i], name))
            return true;
    bool is_new = search->count < LIBRARIES_MOST && (search->names[search->count] = strdup(name));
    search->count += is_new;
    return !is_new;
}

static void look_at_needed(struct search *search, const struct object *by)
{
    const char *name;
    struct object found;
    for (size_t at = 0; (name = elf_needed(&by->elf, &at));) {
        if (is_known(search, name))
            continue;
        if (!find_library(search, name, by, &found)) {
            check_say(search->check, "%s needs %s, which is not found where the loader looks.",
                      escaped(by->path), escaped(name));
            continue;
        }
        search->found++;
        search->seen(&found.elf, found.path);
        look_at_needed(search, &found);
        elf_unmap(&found.file);
    }
}

size_t check_libraries(const struct elf *elf, const char *path, const struct check *check,
                       void (*seen)(const struct elf *library, const char *path))
{
    struct search search = {.program.elf = *elf, .check = check, .seen = seen};
    /* ld.so(8), $ORIGIN: of the program's file, whatever link it was called by. */
    if (!realpath(path, search.program.path))
        snprintf(search.program.path, PATH_MAX, "%s", path);
    elf_map("/etc/ld.so.cache", &search.cache);
    look_at_needed(&search, &search.program);
    for (size_t i = 0; i < search.count; i++)
        free(search.names[i]);
    elf_unmap(&search.cache);
    return search.found;
}
