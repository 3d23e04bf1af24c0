/* SPDX-License-Identifier: MIT */
#include "tree/subtrees.h"

#include "conn/fork_detect.h"
#include "base/log.h"
#include "tree/pagefile.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/text.h"
#include "tree/membership.h"
#include "tree/wake.h"

#include <fcntl.h>

#define LOOK_MS 200

/* ---- who descends from this process ---- */

#define FAMILY_MOST 2048

static LATE struct {
    int32_t pid[FAMILY_MOST];
    uint32_t count;
    bool overflows;
} family;

static void add_to_family(int32_t pid)
{
    for (uint32_t i = 0; i < family.count; i++)
        if (family.pid[i] == pid)
            return;
    if (family.count == FAMILY_MOST)
        family.overflows = true;
    else
        family.pid[family.count++] = pid;
}

/* Adds the other processes of the tree: a first one that has ended may have left them. */
static void add_tree(void)
{
    struct proc_file file;
    uint32_t budget = PROC_MAPS_BUDGET;
    char name[48];
    struct text text = TEXT_ON(name);
    if (!proc_mapped_file(tree_page, &file))
        return;
    page_name(&text, tree_page->pid, tree_page->start, tree_page->pid_namespace);
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        int32_t pid = atomic_load(&tree_page->slot[i].pid);
        if (pid > 0 && proc_slot_lives(&tree_page->slot[i]) &&
            proc_maps(pid, &file, name, &budget) == 1)
            add_to_family(pid);
    }
}

static void gather_family(void)
{
    family.count = 0;
    family.overflows = false;
    add_to_family(fork_ask_pid());
    add_tree();
    for (uint32_t i = 0; i < family.count; i++)
        proc_each_child(family.pid[i], add_to_family);
}

/* ---- their pages ---- */

#define PARTS_MOST 256

/* What a page is found by when the process that made it has ended, and others of it live. */
static LATE struct part {
    int32_t pid;
    uint32_t uid, dir;
    uint64_t start;
} parts[PARTS_MOST];
static uint32_t parts_count;

static int64_t look_at; /* when it is due to look whether they are done */
static bool undone;     /* what the last look has found */
static int64_t ask_at;  /* when it is due to look for new ones */

static LATE struct page copy;

enum { DIRS = 1 + PAGEFILE_DIRECTORIES };

/* A run directory that a process of this user may have its page in: the tree's, or a usual one. */
static void directory_of(const struct part *part, char path[PAGEFILE_PATH])
{
    if (part->dir)
        pagefile_usual_directory(part->dir - 1, part->uid, path);
    else
        pagefile_directory(membership_name(), path);
}

/* Opens its page, and takes a copy. -1: there is none that names this tree. */
static int open_part(const struct part *part)
{
    char dir[PAGEFILE_PATH], name[48];
    struct text text = TEXT_ON(name);
    directory_of(part, dir);
    page_name(&text, part->pid, part->start, tree_page->pid_namespace);
    int fd = *dir ? pagefile_open_others(dir, name, part->uid) : -1;
    if (fd < 0)
        return -1;
    if (pagefile_copy(fd, &copy) && copy.pid == part->pid && copy.start == part->start &&
        copy.pid_namespace == tree_page->pid_namespace && copy.tree_pid == tree_page->pid &&
        copy.tree_start == tree_page->start &&
        (copy.pid != tree_page->pid || copy.start != tree_page->start))
        return fd;
    sys1(SYS_close, fd);
    return -1;
}

static int find_part(struct part *part, int32_t pid)
{
    int fd = -1;
    *part = (struct part){.pid = pid, .start = proc_start_time(pid)};
    int64_t uid = proc_user(pid);
    if (!part->start || uid < 0)
        return -1;
    part->uid = (uint32_t)uid;
    for (; fd < 0 && part->dir < DIRS; part->dir++)
        fd = open_part(part);
    part->dir--;
    return fd;
}

static void ask_part(int fd, int64_t since, int64_t timeout)
{
    uint64_t order = atomic_load(&tree_page->order);
    enum action action = order & ORDER_DRAIN_ALL ? ACTION_DRAIN_ALL
                         : order & ORDER_DRAIN   ? ACTION_DRAIN
                                                 : ACTION_CLOSE_IDLE;
    const struct origin *by = action == ACTION_CLOSE_IDLE ? &tree_page->idle_by : &tree_page->by;
    struct proc_file file;
    struct totals totals;
    atomic_store(&copy.handoffs_used, 0); /* each entry would cost a look at /proc/net/tcp */
    proc_totals(&copy, 0, &totals);
    if (atomic_load(&tree_page->keeps_listeners))
        pagefile_put_keeps(fd, &copy, true);
    pagefile_ask(fd, &copy, action, by, timeout, since, &totals);
    if (proc_opened_file(fd, &file))
        wake_page(&copy, &file, WAKE_ALL);
}

static void ask(int64_t since, int64_t timeout, bool new_ones)
{
    uint32_t left_out = 0;
    gather_family();
    for (uint32_t i = 0; i < family.count; i++) {
        struct part part;
        int fd = find_part(&part, family.pid[i]);
        if (fd < 0)
            continue;
        bool known = false;
        for (uint32_t k = 0; k < parts_count && !known; k++)
            known = parts[k].pid == part.pid && parts[k].start == part.start;
        if (!known && parts_count < PARTS_MOST) {
            parts[parts_count++] = part;
            look_at = 0;
        } else if (!known) {
            left_out++;
        }
        if (!known || !new_ones)
            ask_part(fd, since, timeout);
        sys1(SYS_close, fd);
    }
    if (!new_ones && (left_out || family.overflows))
        log_say(LOG_ERROR, "too many processes descend from this one: the drain does not wait for "
                           "all of those that run as other users");
}

void subtrees_ask(int64_t since, int64_t timeout)
{
    ask(since, timeout, false);
}

/* A look goes through all that descends from here: it takes a hundredth of the time at the most. */
#define ASK_AGAIN_MS 500

void subtrees_ask_new(int64_t since, int64_t timeout, int64_t now)
{
    if (now < ask_at)
        return;
    ask(since, timeout, true);
    int64_t took = sys_now_ms() - now;
    ask_at = now + (took * 100 > ASK_AGAIN_MS ? took * 100 : ASK_AGAIN_MS);
}

static bool is_undone(const struct part *part)
{
    int fd = open_part(part);
    if (fd < 0)
        return false;
    sys1(SYS_close, fd);
    bool lives = false;
    for (uint32_t i = 0; i < PAGE_SLOTS && !lives; i++)
        lives = proc_slot_lives(&copy.slot[i]);
    return lives && atomic_load(&copy.phase) != PHASE_DRAINED;
}

bool subtrees_has(int32_t pid)
{
    bool found = false;
    for (uint32_t i = 0; i < parts_count && !found; i++) {
        int fd = open_part(&parts[i]);
        if (fd < 0)
            continue;
        sys1(SYS_close, fd);
        for (uint32_t k = 0; k < PAGE_SLOTS && !found; k++)
            found = atomic_load(&copy.slot[k].pid) == pid && proc_slot_lives(&copy.slot[k]);
    }
    return found;
}

bool subtrees_are_done(int64_t now)
{
    if (parts_count && now >= look_at) {
        look_at = now + LOOK_MS;
        undone = false;
        for (uint32_t i = 0; i < parts_count && !undone; i++)
            undone = is_undone(&parts[i]);
    }
    return !undone;
}

void subtrees_forget(void)
{
    parts_count = 0;
    look_at = ask_at = 0;
    undone = false;
}
