/* SPDX-License-Identifier: MIT */
#include "joined.h"

#include "head.h"
#include "pagefile.h"
#include "proc.h"
#include "sys.h"
#include "text.h"
#include "tree.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LOOK_MS 200

/* There may be any: no look is made where the head has found none when it asked. */
static bool any;

/* A page that names this tree, found at dir/name. NULL: it is none. */
static struct page *open_joined(int dir, const char *name, uint64_t *inode)
{
    struct stat status;
    struct page *page = NULL;
    if (*name < '0' || *name > '9')
        return NULL;
    long fd = sys4(SYS_openat, dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    if (sys2(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode) &&
        (size_t)status.st_size >= sizeof *page) {
        long at = sys6(SYS_mmap, NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        page = at < 0 && at > -4096 ? NULL : (struct page *)at;
    }
    sys1(SYS_close, fd);
    if (!page)
        return NULL;
    *inode = status.st_ino;
    bool ours = page_is_sound(page, (size_t)status.st_size) && page->tree_pid == tree_page->pid &&
                page->tree_start == tree_page->start &&
                (page->pid != tree_page->pid || page->start != tree_page->start);
    if (ours)
        return page;
    sys2(SYS_munmap, page, sizeof *page);
    return NULL;
}

static void ask_one(int dir, const char *name, void *context)
{
    uint64_t inode, order = atomic_load(&tree_page->order);
    struct page *page = open_joined(dir, name, &inode);
    (void)context;
    if (!page)
        return;
    any = true;
    enum action action = order & ORDER_DRAIN_ALL ? ACTION_DRAIN_ALL
                         : order & ORDER_DRAIN   ? ACTION_DRAIN
                                                 : ACTION_CLOSE_IDLE;
    const struct origin *by = action == ACTION_CLOSE_IDLE ? &tree_page->idle_by : &tree_page->by;
    struct totals totals;
    proc_totals(page, 0, &totals);
    page_ask(page, action, by, page_timeout(tree_page), atomic_load(&tree_page->since), &totals);
    head_wake_page(page, inode, WAKE_ALL);
    sys2(SYS_munmap, page, sizeof *page);
}

struct check {
    bool lives, undone; /* some process does; of those, one is not drained */
};

static void check_one(int dir, const char *name, void *context)
{
    struct check *check = context;
    uint64_t inode;
    struct page *page = check->undone ? NULL : open_joined(dir, name, &inode);
    if (!page)
        return;
    bool lives = false;
    for (uint32_t i = 0; i < PAGE_LINES && !lives; i++)
        lives = proc_line_lives(&page->line[i]);
    check->lives = check->lives || lives;
    check->undone = lives && atomic_load(&page->phase) != PHASE_DRAINED;
    sys2(SYS_munmap, page, sizeof *page);
}

struct search {
    pagefile_visit_fn *visit;
    void *context;
    const char *parent, *prefix, *inside;
};

/* parent/NAME/inside for each NAME that begins with prefix: "/run/user/1000/weir". */
static void search_one(int dir, const char *name, void *context)
{
    const struct search *search = context;
    char path[128];
    struct text text = TEXT_ON(path);
    (void)dir;
    if (!text_after(name, search->prefix) || *name == '.')
        return;
    text_string(&text, search->parent);
    text_string(&text, name);
    text_string(&text, search->inside);
    pagefile_each(path, search->visit, search->context);
}

static void each_page(pagefile_visit_fn *visit, void *context)
{
    char own[PAGEFILE_PATH];
    struct search users = {visit, context, "/run/user/", "", "/weir"};
    struct search shared = {visit, context, "/dev/shm/", "weir-", ""};
    pagefile_directory(tree_name(), own);
    if (*own)
        pagefile_each(own, visit, context);
    if (!text_equal(own, "/run/weir/"))
        pagefile_each("/run/weir/", visit, context);
    pagefile_each(users.parent, search_one, &users);
    pagefile_each(shared.parent, search_one, &shared);
}

void joined_ask(void)
{
    each_page(ask_one, NULL);
}

/* What joined_are_done has seen last, and when it looks again. */
static struct check seen;
static int64_t look_at;

void joined_forget(void)
{
    any = false;
    seen = (struct check){false, false};
    look_at = 0;
}

bool joined_are_done(int64_t now)
{
    if (any && now >= look_at) {
        look_at = now + LOOK_MS;
        seen = (struct check){false, false};
        each_page(check_one, &seen);
    }
    return !seen.undone;
}

bool joined_any(void)
{
    struct check check = {false, false};
    each_page(check_one, &check);
    return check.lives;
}
