/* SPDX-License-Identifier: MIT */
#include "command/target.h"

#include "base/text.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/say.h"

static const char service[] = ".service";

/* Whether the tree has this name. unit: its own; "": it has none. */
static bool has_name(const struct tree *tree, const char *unit, const char *name)
{
    const char *rest = text_after(unit, name);
    return (rest && (!*rest || text_equal(rest, service))) ||
           text_equal(name, escaped(tree->page.program));
}

static int no_tree(const char *command, const char *name)
{
    const char *suffix = strstr(name, service);
    if (suffix && text_equal(suffix, service))
        return fail(EXIT_NO_SHIM, "%s: no tree of this unit runs under the shim (see: weir list)",
                    escaped(name));
    return say_usage(command,
                     "\"%s\" is not a process's number, nor the unit or the program of a tree: "
                     "`weir list` has those",
                     escaped(name));
}

int target_find(const char *command, const char *name, int32_t *pid)
{
    char pids[512], unit[260];
    size_t count = 0, used = 0;
    if (!name[strspn(name, "0123456789")]) { /* or nothing */
        *pid = process_number(name);
        return *pid ? EXIT_DONE
                    : say_usage(command, "\"%s\" is not a process's number", escaped(name));
    }
    struct tree *trees = find_trees();
    for (struct tree *tree = trees; tree; tree = tree->next) {
        process_unit(tree_pid(tree), unit, sizeof unit);
        if (!has_name(tree, unit, name))
            continue;
        *pid = tree_pid(tree);
        if (used < sizeof pids)
            used += (size_t)snprintf(pids + used, sizeof pids - used, "%s%d%s%s", count ? ", " : "",
                                     *pid, *unit ? " " : "", unit);
        count++;
    }
    tree_free(trees);
    if (!count)
        return no_tree(command, name);
    if (count > 1)
        return say_usage(command, "%zu trees are \"%s\": which one, of pid %s?", count,
                         escaped(name), pids);
    return EXIT_DONE;
}
