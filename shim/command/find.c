/* SPDX-License-Identifier: MIT */
#include "command/find.h"

#include "base/settings.h"
#include "base/text.h"
#include "command/proc/process.h"
#include "command/say.h"
#include "tree/pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>

/* ---- the pages that a process maps ---- */

/* The shim and its pages among the mappings of a process. */
struct look {
    struct tree *trees;
    bool has_library, has_nameless; /* a page that has no file */
    int error;                      /* of a page that could not be opened; 0: there was none */
    char path[PATH_MAX];
};

/* Memory that is shared by fork alone, and of the right size. */
static bool is_nameless_page(const struct proc_mapping *mapping)
{
    unsigned long unit = getauxval(AT_PAGESZ); /* sysconf: the package would need 2.34 */
    return mapping->is_shared && text_equal(mapping->path, "/dev/zero") &&
           mapping->to - mapping->from == (sizeof(struct page) + unit - 1) / unit * unit;
}

static bool is_in(const struct tree *list, const char *name, const struct proc_file *file)
{
    while (list && !tree_is(list, name, file))
        list = list->next;
    return list;
}

static void push(struct tree **list, struct tree *tree)
{
    tree->next = *list;
    *list = tree;
}

/*
 * Opens the pages that a process maps and that are not among those known, `most` at most. Returns
 * the errno where its mappings can't be read: nothing is found then.
 */
static int look_at(int32_t pid, const struct tree *known, int most, struct look *look)
{
    struct proc_lines maps;
    struct proc_mapping mapping;
    struct budget *budget = budget_of((uint32_t)proc_user(pid));
    *look = (struct look){0};
    int error = proc_open_lines(&maps, pid, "maps");
    if (error)
        return error;
    while (most && proc_next_mapping(&maps, &budget->lines, &mapping)) {
        const char *name = base_name(mapping.path);
        struct tree *tree;
        int32_t first;
        uint64_t start;
        if (!mapping.file.inode || *mapping.path != '/')
            continue;
        look->has_library |= text_after(name, "libweir.so") != NULL;
        look->has_nameless |= is_nameless_page(&mapping);
        if (!mapping.is_shared || !pagefile_parse_name(name, &first, &start) ||
            is_in(known, name, &mapping.file) || is_in(look->trees, name, &mapping.file))
            continue;
        error = tree_open_mapped(pid, &mapping, &tree);
        if (!error) {
            push(&look->trees, tree);
            most--;
        } else if (error != NOT_A_PAGE) {
            look->error = error;
            snprintf(look->path, sizeof look->path, "%s", mapping.path);
        }
    }
    proc_close_lines(&maps);
    return 0;
}

/* ---- the pages of all processes ---- */

/* A user who makes up pages without end must not fill our memory. */
#define PAGES_MOST 4096
#define PAGES_OF_PROCESS 4

struct scan {
    struct tree *list;
    int count;
    const struct tree *ancestor; /* only processes that descend from one of this tree's; or NULL */
};

static void keep(struct scan *scan, struct tree *tree)
{
    struct budget *budget = budget_of(tree->uid);
    tree->next = NULL;
    if (scan->count++ >= PAGES_MOST || !budget->pages) {
        tree_free(tree);
        return;
    }
    budget->pages--;
    push(&scan->list, tree);
}

/* Returns the value that a process was started with, or the table's default; "none" for "". */
static const char *value_of(int32_t pid, const char *name)
{
    char value[256] = "";
    struct setting_text setting;
    if (!process_variable(pid, name, value, sizeof value))
        for (size_t i = 0; settings_describe(i, &setting); i++)
            if (text_equal(setting.name, name))
                snprintf(value, sizeof value, "%s", setting.standard);
    return *value ? escaped(value) : "none";
}

/* Of a page that a process maps and that another version has made: what works all the same. */
static void say_other_version(int32_t pid, const char *path)
{
    /* The first process of the tree drains all of it. */
    int32_t first;
    uint64_t start;
    if (!pagefile_parse_name(path, &first, &start) || proc_start_time(first) != start)
        first = pid;
    say("pid %d: its state page is of weir %s, and this is weir %s (layout %d), which can't read "
        "it. What still works are its signals: send pid %d its WEIR_SIGNAL (%s, unless the program "
        "uses that itself) or one of WEIR_STOP_SIGNALS (%s). Or use the `weir` that came with its "
        "libweir.so",
        pid, tree_other_version, WEIR_VERSION, PAGE_LAYOUT, first, value_of(first, "WEIR_SIGNAL"),
        value_of(first, "WEIR_STOP_SIGNALS"));
}

bool find_met_others;

/* Trees of another version are not among those that are found: each is named once. */
static void say_other(int32_t pid, const struct look *look)
{
    static char named[16][48];
    static size_t count;
    const char *name = base_name(look->path);
    for (size_t i = 0; i < count; i++)
        if (text_equal(named[i], name))
            return;
    if (count == COUNT_OF(named))
        return;
    snprintf(named[count++], sizeof named[0], "%s", name);
    find_met_others = true;
    say_other_version(pid, look->path);
}

/* Whether the page names the process, and the process maps the page. */
static bool is_member(int32_t pid, const struct tree *tree)
{
    bool named = pid == tree->page.pid;
    for (uint32_t i = 0; i < PAGE_SLOTS && !named; i++)
        named = tree->page.slot[i].pid == pid;
    return named && tree_is_mapped(tree, pid) == 1;
}

/* Whether the process descends from one of the tree's. */
static bool descends(int32_t pid, const struct tree *tree)
{
    for (int i = 0; i < ANCESTORS_MOST && (pid = process_parent(pid)); i++)
        if (is_member(pid, tree))
            return true;
    return false;
}

static void add_process(int32_t pid, void *context)
{
    struct scan *scan = context;
    struct look look;
    if ((scan->ancestor && !descends(pid, scan->ancestor)) ||
        look_at(pid, scan->list, PAGES_OF_PROCESS, &look))
        return;
    if (look.error == OTHER_LAYOUT)
        say_other(pid, &look);
    for (struct tree *tree = look.trees, *next; tree; tree = next) {
        next = tree->next;
        keep(scan, tree);
    }
}

/* ---- run directories ---- */

/* Of the trees in which nobody lives none is kept: a directory may be full of them. */
static void add_file(int dir, const char *name, void *context)
{
    struct scan *scan = context;
    struct tree *tree;
    int32_t pid;
    uint64_t start;
    /* Other users' trees are found by the processes that map their pages. */
    if (!pagefile_parse_name(name, &pid, &start) || !pagefile_is_live(dir, name) ||
        tree_open_at(dir, name, geteuid(), &tree))
        return;
    if (!is_in(scan->list, name, &tree->file) && tree_any(tree))
        keep(scan, tree);
    else
        tree_free(tree);
}

static void add_dirs(struct scan *scan)
{
    const char *own = getenv("WEIR_RUN_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX];
    for (uint32_t i = 0; pagefile_usual_directory(i, geteuid(), path); i++)
        proc_each_file(path, add_file, scan);
    if (own && *own == '/')
        proc_each_file(own, add_file, scan);
    if (runtime && *runtime == '/' &&
        snprintf(path, sizeof path, "%s/weir", runtime) < (int)sizeof path)
        proc_each_file(path, add_file, scan);
}

/* ---- pages that are attached to another ---- */

/*
 * Whether a process (0: it is gone) of this user, which says that it is a part of the tree, may be
 * believed: anybody can name any tree, and what root asks of one must not reach another.
 */
static bool is_of_tree(int32_t pid, int64_t uid, const struct tree *tree)
{
    return uid == tree->uid || uid == 0 || descends(pid, tree);
}

static bool is_attached(const struct tree *part)
{
    const struct page *page = &part->page;
    return page->tree_pid > 0 && (page->tree_pid != page->pid || page->tree_start != page->start);
}

/* Whether part says that it belongs to that tree. A page's pid namespace may be unknown. */
static bool names(const struct tree *part, const struct tree *tree)
{
    return is_attached(part) && part->page.tree_pid == tree->page.pid &&
           part->page.tree_start == tree->page.start &&
           (!part->namespace || !tree->namespace || part->namespace == tree->namespace);
}

/* Moves the pages that are attached to tree from the list to it; drops it itself from there. */
static void take_parts(struct tree **list, struct tree *tree)
{
    for (struct tree **at = list; *at;) {
        struct tree *one = *at;
        bool same = tree_is(one, tree->name, &tree->file);
        if (one == tree ||
            (!same && !(names(one, tree) && is_of_tree(tree_first(one), one->uid, tree)))) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        one->next = NULL;
        if (same || !tree_any(one)) {
            tree_free(one);
        } else {
            one->attached = tree->attached;
            tree->attached = one;
        }
    }
}

/*
 * The tree that a page is attached to, if its page can be opened; else the part itself. It is one
 * of an ancestor's.
 */
static struct tree *whole_of(struct tree *part)
{
    part->is_part = is_attached(part) && geteuid() != 0;
    int32_t pid = is_attached(part) ? tree_first(part) : 0;
    for (int i = 0; i < ANCESTORS_MOST && (pid = proc_parent(pid)); i++) {
        struct look look;
        look_at(pid, NULL, 1, &look);
        if (look.trees && names(part, look.trees)) {
            tree_free(part);
            return look.trees;
        }
        tree_free(look.trees);
    }
    return part;
}

/* ---- of one process ---- */

static _Noreturn void no_process(int32_t pid, int error)
{
    if (error == EACCES || error == EPERM || (kill(pid, 0) && errno == EPERM))
        die(EXIT_FORBIDDEN, "pid %d: not permitted to look at it: use its user, or root", pid);
    die(EXIT_NO_SHIM, "pid %d: no such process", pid);
}

static _Noreturn void no_page(int32_t pid, int error, const char *path)
{
    if (error == OTHER_LAYOUT)
        say_other_version(pid, path);
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
    exit(exit_code(error));
}

/*
 * A process that has the shim but no page: a dormant child (a shell, a CGI program), which knows
 * its tree by name only.
 */
static struct tree *find_by_name(int32_t pid, bool is_nameless)
{
    char name[PATH_MAX] = "", path[PATH_MAX + 32];
    struct tree *tree;
    if (!process_variable(pid, "WEIR_TREE", name, sizeof name) && !is_nameless)
        die(EXIT_FAILED,
            "pid %d: it has the shim, which stands aside there: its log says why (WEIR_LOG)", pid);
    if (is_nameless || *name != '/')
        die(EXIT_FAILED,
            "pid %d: the state page of its tree has no file, because no run directory could be "
            "written: send it WEIR_SIGNAL, or start it with WEIR_RUN_DIR set to a directory that "
            "can",
            pid);
    int64_t user = proc_user(pid);
    uint32_t uid = user < 0 ? geteuid() : (uint32_t)user;
    int error = tree_open_at(AT_FDCWD, name, uid, &tree);
    if (error == ENOENT) { /* it may have another root */
        snprintf(path, sizeof path, "/proc/%d/root%s", pid, name);
        error = tree_open_at(AT_FDCWD, path, uid, &tree);
    }
    if (error)
        no_page(pid, error, name);
    if (!is_of_tree(pid, user, tree))
        die(EXIT_FAILED,
            "pid %d: it says that it belongs to the tree of pid %s, and does not: use that tree's "
            "own pid if it is meant",
            pid, escaped(base_name(name)));
    return tree;
}

static struct tree *find_tree(int32_t pid)
{
    struct look look;
    struct tree *tree;
    int error = look_at(pid, NULL, 1, &look);
    process_forget_parents();
    /* A daemon that has forked itself away is known by its first process to those who started it,
     * and to its own log; also where nobody has waited for that one. */
    if (!look.trees && !proc_start_time(pid) && (tree = find_begun_by(pid)))
        return tree;
    if (error)
        no_process(pid, error);
    if (!look.trees && look.error)
        no_page(pid, look.error, look.path);
    if (!look.trees && !look.has_library && !proc_start_time(pid))
        no_process(pid, 0); /* a zombie maps nothing */
    if (!look.trees && !look.has_library)
        die(EXIT_NO_SHIM,
            "pid %d: it does not run under the shim: start it with `weir run`, and see `weir check "
            "%d`",
            pid, pid);

    tree = whole_of(look.trees ? look.trees : find_by_name(pid, look.has_nameless));
    struct scan scan = {.ancestor = tree};
    proc_each_process(add_process, &scan);
    take_parts(&scan.list, tree);
    tree_free(scan.list);
    return tree;
}

bool find_is_of_another(int32_t pid, const struct tree *tree)
{
    struct look look;
    look_at(pid, NULL, PAGES_OF_PROCESS, &look);
    bool ours = false, others = look.trees || look.error == OTHER_LAYOUT;
    for (const struct tree *part = tree; part; part = part->attached)
        ours = ours || is_in(look.trees, part->name, &part->file);
    tree_free(look.trees);
    return others && !ours;
}

bool find_has_shim(int32_t pid)
{
    struct look look;
    look_at(pid, NULL, PAGES_OF_PROCESS, &look);
    tree_free(look.trees);
    return look.has_library;
}

const char *find_version(int32_t pid)
{
    struct look look;
    look_at(pid, NULL, 1, &look);
    const char *version = look.error == OTHER_LAYOUT ? tree_other_version : NULL;
    if (look.trees)
        version = escaped(look.trees->page.version);
    tree_free(look.trees);
    return version;
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
    push(list, tree);
}

/* Another user's page that claims to be of a process that is neither in it nor his. */
static bool is_false(struct tree *tree)
{
    int32_t pid = tree->page.pid;
    return tree->uid != geteuid() && tree->uid != 0 && !tree->is_foreign && !tree_first(tree) &&
           proc_start_time(pid) == tree->page.start && proc_user(pid) != tree->uid;
}

struct tree *find_trees(void)
{
    struct scan scan = {0};
    struct tree *sorted = NULL;
    budget_renew();
    process_forget_parents();
    proc_each_process(add_process, &scan);
    add_dirs(&scan);
    for (struct tree *tree = scan.list; tree; tree = tree->next)
        if (!is_attached(tree))
            take_parts(&scan.list, tree);
    while (scan.list) {
        struct tree *tree = scan.list;
        scan.list = tree->next;
        tree->next = NULL;
        if ((tree_any(tree) || tree->attached) && !is_false(tree))
            insert(&sorted, tree);
        else
            tree_free(tree);
    }
    return sorted;
}

struct tree *find_begun_by(int32_t pid)
{
    struct tree *found = NULL;
    for (struct tree *list = find_trees(), *next; list; list = next) {
        next = list->next;
        list->next = NULL;
        if (!found && !list->is_foreign && (pid == list->page.pid || pid == list->page.head))
            found = list;
        else
            tree_free(list);
    }
    return found;
}

/* ---- by name ---- */

static const char service[] = ".service";

/* Whether the tree has this name. unit: its own; "": it has none. */
static bool has_name(const struct tree *tree, const char *unit, const char *name)
{
    const char *rest = text_after(unit, name);
    return (rest && (!*rest || text_equal(rest, service))) ||
           text_equal(name, escaped(tree->page.program));
}

static _Noreturn void no_tree(const char *command, const char *name)
{
    const char *suffix = strstr(name, service);
    if (suffix && text_equal(suffix, service))
        die(EXIT_NO_SHIM, "%s: no tree of this unit runs under the shim (see: weir list)",
            escaped(name));
    die_usage(command,
              "\"%s\" is not a process's number, nor the unit or the program of a tree: "
              "`weir list` has those",
              escaped(name));
}

/* The number of a process of the tree that is meant. Of a number nothing is looked at yet. */
static int32_t find_pid(const char *command, const char *name)
{
    char pids[512], unit[260];
    size_t count = 0, used = 0;
    int32_t pid = 0;
    if (!name[strspn(name, "0123456789")]) { /* or nothing */
        if ((pid = text_number_in(name, INT32_MAX)) <= 0)
            die_usage(command, "\"%s\" is not a process's number", escaped(name));
        return pid;
    }
    struct tree *trees = find_trees();
    for (struct tree *tree = trees; tree; tree = tree->next) {
        process_unit(tree_pid(tree), unit, sizeof unit);
        if (!has_name(tree, unit, name))
            continue;
        pid = tree_pid(tree);
        if (used < sizeof pids)
            used += (size_t)snprintf(pids + used, sizeof pids - used, "%s%d%s%s", count ? ", " : "",
                                     pid, *unit ? " " : "", unit);
        count++;
    }
    tree_free(trees);
    if (!count)
        no_tree(command, name);
    if (count > 1)
        die_usage(command, "%zu trees are \"%s\": which one, of pid %s?", count, escaped(name),
                  pids);
    return pid;
}

struct tree *find_target(const char *command, const char *name, int32_t *pid)
{
    *pid = find_pid(command, name);
    return find_tree(*pid);
}
