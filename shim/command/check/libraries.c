/* SPDX-License-Identifier: MIT */
/* Where libraries are: our own, beside the command, and a program's, where ld.so(8) looks. */
#include "command/check/verdict.h"
#include "base/text.h"

#include <errno.h>
#include <sys/stat.h>

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
        return check_fail(check, EXIT_FAILED,
                          "where libweir.so is can't be told: /proc/self/exe: %s", strerror(errno));
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        snprintf(tried, sizeof tried, "%s/%s", self, places[i]);
        if (realpath(tried, path))
            return true;
    }
    return check_fail(check, EXIT_FAILED,
                      "no libweir.so in %s, nor in its ../lib, ../lib/weir, ../lib/%s or "
                      "../lib64",
                      SHOWN(self), MULTIARCH);
}

/* ---- a program's ---- */

#define LIBRARIES_MOST 512

struct search {
    char *names[LIBRARIES_MOST]; /* that have been looked for already */
    size_t count, found;
    const struct elf *program;
    const char *program_path;
    struct elf_part cache;
    const struct check *check;
    void (*seen)(void *with, const struct elf *library, const char *path);
    void *with;
};

/* A library that the loader would take: another word size or machine is passed over. */
static bool open_library(const char *path, struct elf_part *file, struct elf *elf)
{
    if (elf_map(path, file) != ELF_OPENED)
        return false;
    if (elf_read(elf, file->at, file->size) == ELF_NATIVE)
        return true;
    elf_unmap(file);
    return false;
}

/* An item of a list of directories, with $ORIGIN put in (ld.so(8)); other tokens are not known. */
static bool expand_directory(const char *item, size_t length, const char *of, char *into,
                             size_t size)
{
    static const char *const tokens[] = {"$ORIGIN", "${ORIGIN}"};
    const char *slash = strrchr(of, '/');
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        size_t n = strlen(tokens[i]);
        if (length >= n && !memcmp(item, tokens[i], n))
            return snprintf(into, size, "%.*s%.*s", slash ? (int)(slash - of) : 1, slash ? of : ".",
                            (int)(length - n), item + n) < (int)size;
    }
    return !memchr(item, '$', length) &&
           snprintf(into, size, "%.*s", length ? (int)length : 1, length ? item : ".") < (int)size;
}

/* In a list such as DT_RUNPATH's. of: the path of the object whose list it is. */
static bool find_in_list(const char *list, const char *of, const char *name, char path[PATH_MAX],
                         struct elf_part *file, struct elf *elf)
{
    char directory[PATH_MAX];
    for (; list; list = *list ? list + 1 : NULL) {
        size_t length = strcspn(list, ":;");
        if (length < PATH_MAX && expand_directory(list, length, of, directory, sizeof directory) &&
            snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX &&
            open_library(path, file, elf))
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
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (!strncmp(name, "lib", 3) && !strncmp(name + 3, parts[i], strlen(parts[i])))
            return true;
    return false;
}

static bool find_library(const struct search *search, const char *name, const struct elf *by,
                         const char *by_path, char path[PATH_MAX], struct elf_part *file,
                         struct elf *elf)
{
    char configured[PATH_MAX] = "/lib:/usr/local/lib:/usr/lib";
    const struct elf *program = search->program;
    if (is_libc(name))
        name = program->loader;
    if (strchr(name, '/'))
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && open_library(path, file, elf);
    FILE *list = fopen("/etc/ld-musl-" MACHINE ".path", "re");
    if (list) {
        configured[fread(configured, 1, sizeof configured - 1, list)] = '\0';
        for (char *at = configured; *at; at++)
            if (*at == '\n')
                *at = ':';
        fclose(list);
    }
    return find_in_list(getenv("LD_LIBRARY_PATH"), search->program_path, name, path, file, elf) ||
           find_in_list(by->runpath ? by->runpath : by->rpath, by_path, name, path, file, elf) ||
           find_in_list(program->runpath ? program->runpath : program->rpath, search->program_path,
                        name, path, file, elf) ||
           find_in_list(configured, "/", name, path, file, elf);
}
#else
/*
 * In /etc/ld.so.cache: glibc sysdeps/generic/dl-cache.h, struct cache_file_new. A file that begins
 * otherwise is of a glibc before 2.32, and not read.
 */
static bool find_in_cache(const struct elf_part *cache, const char *name, char path[PATH_MAX],
                          struct elf_part *file, struct elf *elf)
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
        const char *key = (const char *)cache->at + entry.key;
        const char *value = (const char *)cache->at + entry.value;
        if (entry.key < cache->size && entry.value < cache->size &&
            strnlen(key, cache->size - entry.key) < cache->size - entry.key &&
            strnlen(value, cache->size - entry.value) < cache->size - entry.value &&
            !strcmp(key, name) && snprintf(path, PATH_MAX, "%s", value) < PATH_MAX &&
            open_library(path, file, elf))
            return true;
    }
    return false;
}

/* ld.so(8), in its order. */
static bool find_library(const struct search *search, const char *name, const struct elf *by,
                         const char *by_path, char path[PATH_MAX], struct elf_part *file,
                         struct elf *elf)
{
    static const char standard[] =
        "/lib/" MULTIARCH ":/usr/lib/" MULTIARCH ":/lib64:/usr/lib64:/lib:/usr/lib";
    const struct elf *program = search->program;
    if (strchr(name, '/'))
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && open_library(path, file, elf);
    if (!by->runpath &&
        (find_in_list(by->rpath, by_path, name, path, file, elf) ||
         (by != program && !program->runpath &&
          find_in_list(program->rpath, search->program_path, name, path, file, elf))))
        return true;
    return find_in_list(getenv("LD_LIBRARY_PATH"), search->program_path, name, path, file, elf) ||
           find_in_list(by->runpath, by_path, name, path, file, elf) ||
           find_in_cache(&search->cache, name, path, file, elf) ||
           find_in_list(standard, "/", name, path, file, elf);
}
#endif

static void look_at_needed(struct search *search, const struct elf *by, const char *by_path);

static void look_for(struct search *search, const char *name, const struct elf *by,
                     const char *by_path)
{
    char path[PATH_MAX];
    struct elf_part file;
    struct elf elf;
    for (size_t i = 0; i < search->count; i++)
        if (!strcmp(search->names[i], name))
            return;
    if (search->count == LIBRARIES_MOST || !(search->names[search->count] = strdup(name)))
        return;
    search->count++;
    if (!find_library(search, name, by, by_path, path, &file, &elf)) {
        check_say(search->check, "%s needs %s, which is not found where the loader looks.",
                  SHOWN(by_path), SHOWN(name));
        return;
    }
    search->found++;
    search->seen(search->with, &elf, path);
    look_at_needed(search, &elf, path);
    elf_unmap(&file);
}

static void look_at_needed(struct search *search, const struct elf *by, const char *by_path)
{
    const char *name;
    for (size_t at = 0; (name = elf_needed(by, &at));)
        look_for(search, name, by, by_path);
}

size_t check_libraries(const struct elf *elf, const char *path, const struct check *check,
                       void (*seen)(void *with, const struct elf *library, const char *path),
                       void *with)
{
    struct search *search = calloc(1, sizeof *search);
    if (!search)
        return 0;
    *search = (struct search){
        .program = elf, .program_path = path, .check = check, .seen = seen, .with = with};
    elf_map("/etc/ld.so.cache", &search->cache);
    look_at_needed(search, elf, path);
    size_t found = search->found;
    for (size_t i = 0; i < search->count; i++)
        free(search->names[i]);
    elf_unmap(&search->cache);
    free(search);
    return found;
}
