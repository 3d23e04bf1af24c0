/* SPDX-License-Identifier: MIT */
#include "command/scan.h"

#include "command/proc/budget.h"
#include "base/glibc.h"
#include "tree/pagefile.h"
#include "command/say.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/* Who makes up pages without end is not to fill our memory. */
#define PAGES_MOST 4096
#define PAGES_OF_PROCESS 4

struct scan {
    struct tree *list;
    int count;
    bool removes; /* files of trees that are gone */
};

static struct tree *find(const struct scan *scan, const char *name, const struct proc_file *file)
{
    struct tree *tree = scan->list;
    while (tree && (tree->file.inode != file->inode || tree->file.device != file->device ||
                    !text_equal(tree->name, name)))
        tree = tree->next;
    return tree;
}

static void keep(struct scan *scan, struct tree *tree)
{
    struct budget *budget = budget_of(tree->uid);
    if (scan->count++ >= PAGES_MOST || !budget->pages) {
        tree_free(tree);
        return;
    }
    budget->pages--;
    tree->next = scan->list;
    scan->list = tree;
}

/* ---- run directories ---- */

/* Whether it is the file of a tree that is gone; removes it then. */
static bool is_stale(int dir, const char *name, bool removes)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool unused = fd >= 0 && pagefile_is_unused(fd);
    if (unused && removes)
        unlinkat(dir, name, 0);
    if (fd >= 0)
        close(fd);
    return unused;
}

/* Other users' files are not opened: their trees are found by the processes that map them. */
static bool is_own(int dir, const char *name)
{
    struct stat status;
    return !glibc_fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode) &&
           status.st_uid == geteuid();
}

/* Of those that nobody lives in none is kept: a directory may be full of them. */
static void add_file(int dir, const char *name, const char *path, struct scan *scan)
{
    char version[VERSION_TEXT];
    struct tree *tree;
    if (!is_page_name(name) || !is_own(dir, name) || is_stale(dir, name, scan->removes) ||
        tree_open_at(dir, name, path, geteuid(), &tree, version))
        return;
    bool known = find(scan, name, &tree->file);
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
    char path[64];
    add_dir("/run/weir", scan);
    snprintf(path, sizeof path, "/run/user/%u/weir", geteuid());
    add_dir(path, scan);
    snprintf(path, sizeof path, "/dev/shm/weir-%u", geteuid());
    add_dir(path, scan);
    if (own && *own == '/')
        add_dir(own, scan);
    if (runtime && *runtime == '/') {
        char dir[PATH_MAX];
        if ((size_t)snprintf(dir, sizeof dir, "%s/weir", runtime) < sizeof dir)
            add_dir(dir, scan);
    }
}

int scan_file(const char *path, int64_t uid, struct tree **tree, char version[VERSION_TEXT])
{
    char dir[PATH_MAX];
    dir_name(path, dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error =
        tree_open_at(fd, base_name(path), dir, uid < 0 ? geteuid() : (uint32_t)uid, tree, version);
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
        if (!mapping.is_shared || !is_page_name(name) || find(scan, name, &mapping.file))
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

/* ---- descent ---- */

#define GENERATIONS_MOST 64

/* One that the page names, and that maps it. */
static bool is_member(int32_t pid, const struct tree *tree)
{
    bool named = pid == tree->page.pid;
    for (uint32_t i = 0; i < PAGE_LINES && !named; i++)
        named = tree->page.line[i].pid == pid;
    return named && tree_is_mapped(tree, pid) == 1;
}

bool scan_descends(int32_t pid, const struct tree *tree)
{
    for (int i = 0; i < GENERATIONS_MOST && (pid = process_parent(pid)) > 1; i++)
        if (is_member(pid, tree))
            return true;
    return false;
}

struct descent {
    struct scan scan;
    const struct tree *tree;
};

static void add_descendant(int32_t pid, void *context)
{
    struct descent *descent = context;
    if (scan_descends(pid, descent->tree))
        add_process(pid, &descent->scan);
}

struct tree *scan_descendants(struct tree *tree)
{
    struct descent descent = {.tree = tree};
    process_each(add_descendant, &descent);
    return descent.scan.list;
}

struct tree *scan_all(void)
{
    struct scan scan = {.removes = true};
    budget_renew();
    process_each(add_process, &scan);
    add_dirs(&scan);
    return scan.list;
}
