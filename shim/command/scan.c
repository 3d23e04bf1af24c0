/* SPDX-License-Identifier: MIT */
#include "scan.h"

#include "pagefile.h"
#include "say.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <time.h>

/* Who makes up pages without end is not to fill our memory. */
#define PAGES_MOST 4096
#define PAGES_OF_PROCESS 4

struct scan {
    struct tree *list;
    int count;
    bool removes; /* files of trees that are gone */
};

static struct tree *find(const struct scan *scan, const char *name, uint64_t inode)
{
    struct tree *tree = scan->list;
    while (tree && (tree->inode != inode || !text_equal(tree->name, name)))
        tree = tree->next;
    return tree;
}

static void keep(struct scan *scan, struct tree *tree)
{
    if (scan->count++ >= PAGES_MOST) {
        tree_free(tree);
        return;
    }
    tree->next = scan->list;
    scan->list = tree;
}

/* ---- run directories ---- */

/* Whether it is the file of a tree that is gone; removes it then. */
static bool is_stale(int dir, const char *name, bool removes)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool unused = fd >= 0 && pagefile_is_unused(fd);
    if (unused && removes)
        unlinkat(dir, name, 0);
    if (fd >= 0)
        close(fd);
    return unused;
}

/* Of those that nobody lives in none is kept: a directory may be full of them. */
static void add_file(int dir, const char *name, const char *path, struct scan *scan)
{
    char version[VERSION_TEXT];
    struct tree *tree;
    if (!is_page_name(name) || is_stale(dir, name, scan->removes) ||
        tree_open_at(dir, name, path, &tree, version))
        return;
    bool known = find(scan, name, tree->inode);
    if (!known && tree_lives(tree)) {
        keep(scan, tree);
        return;
    }
    tree_free(tree);
}

static void add_dir(const char *path, struct scan *scan)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        add_file(fd, entry->d_name, path, scan);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
}

static void add_matching(const char *pattern, struct scan *scan)
{
    glob_t found;
    if (!glob(pattern, GLOB_NOSORT, NULL, &found))
        for (size_t i = 0; i < found.gl_pathc; i++)
            add_dir(found.gl_pathv[i], scan);
    globfree(&found);
}

static void dir_name(const char *path, char into[PATH_MAX])
{
    snprintf(into, PATH_MAX, "%.*s", (int)(base_name(path) - path), path);
    size_t end = strlen(into);
    if (end > 1)
        into[end - 1] = '\0';
}

static void add_dirs(struct scan *scan)
{
    const char *own = getenv("WEIR_RUN_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
    add_dir("/run/weir", scan);
    add_matching("/run/user/*/weir", scan);
    add_matching("/dev/shm/weir-*", scan);
    if (own && *own == '/')
        add_dir(own, scan);
    if (runtime && *runtime == '/') {
        char dir[PATH_MAX];
        if ((size_t)snprintf(dir, sizeof dir, "%s/weir", runtime) < sizeof dir)
            add_dir(dir, scan);
    }
}

struct tree *scan_dirs(const char *page)
{
    struct scan scan = {0};
    char dir[PATH_MAX];
    add_dirs(&scan);
    dir_name(page, dir);
    add_dir(dir, &scan);
    return scan.list;
}

int scan_file(const char *path, struct tree **tree, char version[VERSION_TEXT])
{
    char dir[PATH_MAX];
    dir_name(path, dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = tree_open_at(fd, base_name(path), dir, tree, version);
    close(fd);
    return error;
}

/* ---- processes ---- */

static bool met_others;

bool scan_met_others(void)
{
    return met_others;
}

/* Trees of another version are not among those that are found: each is said, once. */
static void say_other(int32_t pid, const char *name, const char *version)
{
    static char said[16][48];
    static size_t count;
    for (size_t i = 0; i < count; i++)
        if (text_equal(said[i], name))
            return;
    if (count == COUNT_OF(said))
        return;
    snprintf(said[count++], sizeof said[0], "%s", name);
    met_others = true;
    say_other_version(pid, name, version);
}

static void add_process(int32_t pid, void *context)
{
    struct scan *scan = context;
    struct maps maps;
    struct mapping mapping;
    char version[VERSION_TEXT];
    struct tree *tree;
    int kept = 0, error = maps_open(&maps, pid);
    while (!error && kept < PAGES_OF_PROCESS && maps_next(&maps, &mapping)) {
        const char *name = base_name(mapping.path);
        if (!mapping.is_shared || !is_page_name(name) || find(scan, name, mapping.inode))
            continue;
        int failed = tree_open_mapped(pid, &mapping, &tree, version);
        if (failed == OTHER_LAYOUT) {
            say_other(pid, name, version);
        } else if (!failed) {
            keep(scan, tree);
            kept++;
        }
    }
    maps_close(&maps);
}

struct tree *scan_all(void)
{
    struct scan scan = {.removes = true};
    process_each(add_process, &scan);
    add_dirs(&scan);
    return scan.list;
}
