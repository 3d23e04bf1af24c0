/* SPDX-License-Identifier: MIT */
#include "tree/wake.h"

#include "base/log.h"
#include "base/settings.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>

static struct proc_file page_file; /* of the tree_page; inode 0: not asked yet */

/*
 * Signals a process of another user, where this one has given up no more than the use of the right
 * to (seteuid(2): a manager that keeps root as its real user, and has made its worker as another).
 * Capabilities are the calling thread's alone (capabilities(7)).
 */
static bool kill_by_right(int32_t pid, int sig)
{
    struct __user_cap_header_struct self = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct had[_LINUX_CAPABILITY_U32S_3];
    if (proc_is_filtered() || sys2(SYS_capget, &self, had) < 0 ||
        !(had[0].permitted & CAP_TO_MASK(CAP_KILL)))
        return false;
    struct __user_cap_data_struct with[_LINUX_CAPABILITY_U32S_3] = {had[0], had[1]};
    with[0].effective |= CAP_TO_MASK(CAP_KILL);
    if (sys2(SYS_capset, &self, with) < 0)
        return false;
    bool done = sys2(SYS_kill, pid, sig) == 0;
    sys2(SYS_capset, &self, had);
    return done;
}

/* Says it once that a process can't be told. */
static void say_refused(int32_t pid)
{
    static int32_t said;
    if (said == pid)
        return;
    said = pid;
    log_say(LOG_ERROR,
            "pid %d: this process may not signal it, for it runs as another user: it goes on "
            "accepting, unless root says `weir drain %d`",
            pid, fork_pid());
}

/*
 * A privileged process signals nobody because a page says so: a worker that was broken into may
 * have written it. One that may not read others' maps (it has given up CAP_SYS_PTRACE, proc(5))
 * signals its own descendants alone: nobody can make somebody else one of them.
 */
static void wake_one(int32_t pid, const struct proc_file *file, const char *name, uint32_t *budget)
{
    int sig = settings_now()->control_signal;
    int mapped = proc_maps(pid, file, name, budget), caught = proc_catches(pid, sig);
    bool is_ours = mapped == 1 || (mapped < 0 && (sys0(SYS_geteuid) != 0 || proc_is_child(pid) ||
                                                  (caught == 1 && proc_descends(pid))));
    if (is_ours && caught != 0 && sys2(SYS_kill, pid, sig) == -EPERM &&
        !(caught == 1 && proc_descends(pid) && kill_by_right(pid, sig)))
        say_refused(pid);
}

/* Writes the name of the page's file. "": there is none. */
static void name_of(const struct page *page, char name[48])
{
    struct text text = {name, 0, 48};
    *name = '\0';
    if (page != tree_page || *membership_name() == '/')
        page_name(&text, page->pid, page->start, page->pid_namespace);
}

void wake_page(struct page *page, const struct proc_file *file, enum wake which)
{
    static uint32_t first; /* so that all have their turn, when the budget is used up */
    uint32_t budget = PROC_MAPS_BUDGET;
    char name[48];
    name_of(page, name);
    for (uint32_t i = 0; i < PAGE_SLOTS && budget; i++) {
        struct page_slot *slot = &page->slot[first++ % PAGE_SLOTS];
        int32_t pid = atomic_load(&slot->pid);
        if (pid > 0 && pid != fork_pid() && !(atomic_load(&slot->flags) & SLOT_NOT_WOKEN) &&
            (which == WAKE_ALL || atomic_load(&slot->phase) == PHASE_SERVING) &&
            proc_slot_lives(slot))
            wake_one(pid, file, name, &budget);
    }
}

/* ---- this process's tree ---- */

struct unlisted {
    bool wakes, found;
    uint32_t budget;
    char page[48];
};

static struct unlisted look_for(bool wakes)
{
    struct unlisted unlisted = {.wakes = wakes, .budget = PROC_MAPS_BUDGET};
    if (!page_file.inode)
        proc_mapped_file(tree_page, &page_file);
    name_of(tree_page, unlisted.page);
    return unlisted;
}

static bool reaches(int32_t pid, struct unlisted *unlisted)
{
    int sig = settings_now()->control_signal;
    return proc_maps(pid, &page_file, unlisted->page, &unlisted->budget) == 1 &&
           (!sig || proc_catches(pid, sig) == 1);
}

bool wake_reaches(int32_t pid)
{
    struct unlisted unlisted = look_for(false);
    return reaches(pid, &unlisted);
}

static void visit_unlisted(int32_t pid, void *context)
{
    struct unlisted *unlisted = context;
    if (pid == fork_pid() || process_slot_of(pid) || !reaches(pid, unlisted))
        return;
    unlisted->found = true;
    if (unlisted->wakes)
        sys2(SYS_kill, pid, settings_now()->control_signal);
}

/* Processes that found no free slot are found by their maps. Returns whether there is any. */
static bool see_to_unlisted(bool wakes)
{
    struct unlisted unlisted = look_for(wakes);
    if (atomic_load(&tree_page->unlisted))
        proc_each_process(visit_unlisted, &unlisted);
    return unlisted.found;
}

#define UNLISTED_MS 500

bool wake_unlisted_serve(int64_t now)
{
    static int64_t look_at;
    static bool any;
    struct totals totals; /* of one that was killed the count stays */
    if (!atomic_load(&tree_page->unlisted))
        return false;
    page_slot_totals(&totals, tree_page, PAGE_SLOTS);
    if (now >= look_at) { /* all of /proc */
        look_at = now + UNLISTED_MS;
        any = see_to_unlisted(false);
    }
    return totals.tracked && any;
}

void wake_tree(enum wake which)
{
    if (!settings_now()->control_signal)
        return;
    fork_ask_pid();
    if (!page_file.inode)
        proc_mapped_file(tree_page, &page_file);
    wake_page(tree_page, &page_file, which);
    see_to_unlisted(true);
}
