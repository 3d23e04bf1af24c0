/* SPDX-License-Identifier: MIT */
#include "command/find.h"

#include "command/say.h"
#include "command/scan.h"
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <sys/auxv.h>

/* ---- who may speak for whom ---- */

#define ANCESTORS_MOST 64

/*
 * Whether a process (0: it is gone) of this user, which says that it is a part of the tree, may be
 * believed: anybody can name any tree, and what root asks of one must not reach another.
 */
static bool is_of_tree(int32_t pid, int64_t uid, const struct tree *tree)
{
    return uid == tree->uid || uid == 0 || scan_descends(pid, tree);
}

static bool is_joined(const struct tree *part)
{
    const struct page *page = &part->page;
    return page->tree_pid > 0 && (page->tree_pid != page->pid || page->tree_start != page->start);
}

/* Whether part says that it belongs to that tree. Which pid namespace a page is of may be unknown.
 */
static bool names(const struct tree *part, const struct tree *tree)
{
    return is_joined(part) && part->page.tree_pid == tree->page.pid &&
           part->page.tree_start == tree->page.start &&
           (!part->namespace || !tree->namespace || part->namespace == tree->namespace);
}

static bool is_part_of(struct tree *part, const struct tree *tree)
{
    return names(part, tree) && is_of_tree(tree_first(part), part->uid, tree);
}

/* Moves the pages that are joined to tree from the list to it; drops it itself from there. */
static void take_parts(struct tree **list, struct tree *tree)
{
    for (struct tree **at = list; *at;) {
        struct tree *one = *at;
        bool same = tree_is_same(one, tree);
        if (one == tree || (!same && !is_part_of(one, tree))) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        one->next = NULL;
        if (same || !tree_lives(one)) {
            tree_free(one);
        } else {
            one->next = tree->joined;
            tree->joined = one;
        }
    }
}

/* ---- of one process ---- */

static int no_process(int32_t pid)
{
    if (kill(pid, 0) && errno == EPERM) {
        say("pid %d: not permitted to look at it: use its user, or root", pid);
        return EXIT_FORBIDDEN;
    }
    say("pid %d: no such process", pid);
    return EXIT_NO_SHIM;
}

static int no_page(int32_t pid, int error, const char *path, const char *version)
{
    if (error == OTHER_LAYOUT)
        say_other_version(pid, base_name(path), version);
    else if (error == EACCES || error == EPERM)
        say("pid %d: not permitted to open its state page %s: use its user, or root", pid,
            escaped(path));
    else if (error < 0)
        say("pid %d: %s is not a sound state page: somebody has tampered with it", pid,
            escaped(path));
    else
        say("pid %d: its state page %s can't be opened: %s (the run directory may have been "
            "replaced: as root it can be reached all the same)",
            pid, escaped(path), strerror(error));
    return exit_code(error);
}

/* What is to be known of a process's mappings. */
struct look {
    struct tree *tree;
    bool has_library, has_nameless; /* a page that has no file */
    int error;                      /* of the page that could not be opened; 0: there was none */
    char path[PATH_MAX], version[VERSION_TEXT];
};

/* Memory that is shared by fork alone, and of the right size. */
static bool is_nameless_page(const struct mapping *mapping)
{
    unsigned long from, to, unit = getauxval(AT_PAGESZ); /* sysconf: the package would need 2.34 */
    return mapping->is_shared && text_equal(mapping->path, "/dev/zero") &&
           sscanf(mapping->range, "%lx-%lx", &from, &to) == 2 &&
           to - from == (sizeof(struct page) + unit - 1) / unit * unit;
}

static int look_at(int32_t pid, struct look *look)
{
    struct maps maps;
    struct mapping mapping;
    *look = (struct look){0};
    int error = maps_open(&maps, pid);
    if (error)
        return error;
    while (!look->tree && maps_next(&maps, &mapping)) {
        const char *name = base_name(mapping.path);
        look->has_library = look->has_library || text_after(name, "libweir.so");
        look->has_nameless = look->has_nameless || is_nameless_page(&mapping);
        if (!mapping.is_shared || !is_page_name(name))
            continue;
        error = tree_open_mapped(pid, &mapping, &look->tree, look->version);
        if (error && error != NOT_A_PAGE) {
            look->error = error;
            snprintf(look->path, sizeof look->path, "%s", mapping.path);
        }
    }
    maps_close(&maps);
    return 0;
}

/*
 * A process that has the shim but no page: a dormant child (a shell, a CGI program), which knows
 * its tree by name only.
 */
static int find_by_name(int32_t pid, bool is_nameless, struct tree **tree)
{
    char name[PATH_MAX] = "", version[VERSION_TEXT];
    if (!process_variable(pid, "WEIR_TREE", name, sizeof name) && !is_nameless) {
        say("pid %d: it has the shim, which stands aside there: its log says why (WEIR_LOG)", pid);
        return EXIT_FAILED;
    }
    if (is_nameless || *name != '/') {
        say("pid %d: the state page of its tree has no file, because no run directory could be "
            "written: send it WEIR_SIGNAL, or start it with WEIR_RUN_DIR set to a directory that "
            "can",
            pid);
        return EXIT_FAILED;
    }
    int error = scan_file(name, process_uid(pid), tree, version);
    if (error == ENOENT) { /* it may have another root */
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "/proc/%d/root%s", pid, name);
        error = scan_file(path, process_uid(pid), tree, version);
    }
    if (error)
        return no_page(pid, error, name, version);
    if (!is_of_tree(pid, process_uid(pid), *tree)) {
        tree_free(*tree);
        *tree = NULL;
        say("pid %d: it says that it belongs to the tree of pid %s, and does not: use that tree's "
            "own pid if it is meant",
            pid, escaped(base_name(name)));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/*
 * The tree that a page was joined to, if its page can be opened; else the part itself. It is one of
 * an ancestor's.
 */
static struct tree *whole_of(struct tree *part)
{
    part->is_part = is_joined(part) && geteuid() != 0;
    int32_t pid = is_joined(part) ? tree_first(part) : 0;
    for (int i = 0; i < ANCESTORS_MOST && (pid = process_parent(pid)) > 1; i++) {
        struct look look;
        look_at(pid, &look);
        if (look.tree && names(part, look.tree)) {
            tree_free(part);
            return look.tree;
        }
        tree_free(look.tree);
    }
    return part;
}

int find_tree(int32_t pid, struct tree **tree)
{
    struct look look;
    int error = look_at(pid, &look);
    if (error == EACCES || error == EPERM) {
        say("pid %d: not permitted to look at it: use its user, or root", pid);
        return EXIT_FORBIDDEN;
    }
    if (error)
        return no_process(pid);
    if (!look.tree && look.error)
        return no_page(pid, look.error, look.path, look.version);
    if (!look.tree && !look.has_library) {
        if (!proc_start_time(pid))
            return no_process(pid); /* a zombie maps nothing */
        say("pid %d: it does not run under the shim: start it with `weir run`, and see `weir check "
            "%d`",
            pid, pid);
        return EXIT_NO_SHIM;
    }
    if (!look.tree) {
        int code = find_by_name(pid, look.has_nameless, &look.tree);
        if (code)
            return code;
    }

    *tree = whole_of(look.tree);
    struct tree *others = scan_descendants(*tree);
    take_parts(&others, *tree);
    tree_free_list(others);
    return EXIT_DONE;
}

bool find_version(int32_t pid, char version[VERSION_TEXT])
{
    struct look look;
    if (look_at(pid, &look))
        return false;
    if (look.tree) {
        char copy[sizeof look.tree->page.version + 1] = "";
        memcpy(copy, look.tree->page.version, sizeof look.tree->page.version);
        snprintf(version, VERSION_TEXT, "%s", escaped(copy));
    } else {
        snprintf(version, VERSION_TEXT, "%s", look.version);
    }
    bool known = look.tree || look.error == OTHER_LAYOUT;
    tree_free(look.tree);
    return known;
}

/* ---- all of them ---- */

/* By pid; of two of the same, which one of them must have made up, the one that is real. */
static bool comes_before(struct tree *a, struct tree *b)
{
    if (tree_pid(a) != tree_pid(b))
        return tree_pid(a) < tree_pid(b);
    return tree_first(a) && !tree_first(b);
}

static void insert(struct tree **list, struct tree *tree)
{
    while (*list && comes_before(*list, tree))
        list = &(*list)->next;
    tree->next = *list;
    *list = tree;
}

/* Another user's page that claims to be of a process that is neither in it nor his. */
static bool is_false(struct tree *tree)
{
    int32_t pid = tree->page.pid;
    return tree->uid != geteuid() && tree->uid != 0 && !tree->is_foreign && !tree_first(tree) &&
           proc_start_time(pid) == tree->page.start && process_uid(pid) != tree->uid;
}

struct tree *find_trees(void)
{
    struct tree *all = scan_all(), *sorted = NULL;
    for (struct tree *tree = all; tree; tree = tree->next)
        if (!is_joined(tree))
            take_parts(&all, tree);
    while (all) {
        struct tree *tree = all;
        all = tree->next;
        tree->next = NULL;
        if ((tree_lives(tree) || tree->joined) && !is_false(tree))
            insert(&sorted, tree);
        else
            tree_free(tree);
    }
    return sorted;
}
