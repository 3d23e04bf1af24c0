/* SPDX-License-Identifier: MIT */
#include "tree/holders.h"

#include "conn/fork_detect.h"
#include "tree/coordinator.h"
#include "tree/pagefile.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/text.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <errno.h>
#include <linux/kcmp.h>

/* How long a look may take: 100,000 descriptors are read in about as much. */
#define LOOK_MOST_MS 300

struct look {
    const struct holders_visitor *visitor;
    bool whole_tree, sent, complete;
    int64_t until;
    int32_t pid; /* the process whose descriptors are read */
    enum { UNKNOWN, DRAINS, GOES_ON } is;
    bool is_hidden; /* one of its descriptors can't be read */
    bool for_epolls;
};

/*
 * Whether a process of the tree from which this one descends has no line in the page: it has never
 * listened nor accepted, and can't be told. It has bound what its children listen on.
 */
static bool is_dormant_ancestor(int32_t pid)
{
    bool is_ancestor = false;
    int32_t at = proc_parent(fork_pid());
    for (int i = 0; i < PROC_GENERATIONS_MOST && at && !process_slot_lives(at); i++) {
        is_ancestor = is_ancestor || at == pid;
        at = proc_parent(at);
    }
    return is_ancestor && process_slot_lives(at) && proc_has_shim(pid);
}

static bool drains_too(int32_t pid)
{
    return coordinator_has_process(pid) || is_dormant_ancestor(pid);
}

static void visit_descriptor(int dir, const char *name, void *context)
{
    struct look *look = context;
    char target[64];
    if (*name == '.')
        return;
    long length = proc_link(dir, name, target);
    if (length < 0) {
        look->is_hidden = look->is_hidden || length == -EACCES || length == -EPERM;
        return;
    }
    if (look->for_epolls) {
        if (text_equal(target, "anon_inode:[eventpoll]"))
            look->visitor->has_epoll(look->pid, (int)text_take_number(&name, 10));
        return;
    }
    uint64_t inode = proc_socket_of(target);
    if (!inode || !look->visitor->is_wanted(inode))
        return;
    if (look->is == UNKNOWN)
        look->is = look->whole_tree && drains_too(look->pid) ? DRAINS : GOES_ON;
    /* Still so: it may have been one of the tree's a moment ago, which has called exec since. */
    if (look->is == GOES_ON && proc_socket(dir, name) == inode)
        look->visitor->held(inode);
}

/* Whether it is one of the tree's, or of those that these have started. */
static bool is_related(int32_t pid)
{
    for (int i = 0; i < PROC_GENERATIONS_MOST && pid; i++, pid = proc_parent(pid))
        if (pid == fork_pid() || process_slot_lives(pid))
            return true;
    return false;
}

/* Whether a process that can't be looked into may hold one, and goes on. */
static bool may_hold(const struct look *look)
{
    /* One that has ended, and whose parent has not looked yet, is closed to everybody. */
    if (!proc_start_time(look->pid))
        return false;
    bool related = is_related(look->pid);
    if (related && look->whole_tree && coordinator_has_process(look->pid))
        return false;
    return related || look->sent;
}

static void visit_process(int32_t pid, void *context)
{
    struct look *look = context;
    char path[48];
    struct text text = TEXT_ON(path);
    if (pid == fork_pid())
        return;
    look->complete = look->complete && sys_now_ms() < look->until;
    if (!look->complete)
        return;
    look->pid = pid;
    look->is = UNKNOWN;
    look->is_hidden = look->for_epolls = false;
    text_add(&text, "/proc/%lu/fd", (uint64_t)pid);
    long failed = proc_each_file(path, visit_descriptor, look);
    if (look->is == GOES_ON) {
        look->for_epolls = true;
        proc_each_file(path, visit_descriptor, look);
    }
    if (failed == -EACCES || failed == -EPERM || look->is_hidden)
        look->complete = !may_hold(look);
}

/* proc(5), hidepid: those of other users are not shown, though one may ask whether they live. */
static bool hides_processes(void)
{
    int32_t head = tree_page ? atomic_load(&tree_page->head) : 0;
    return process_slot_is_foreign() || !proc_is_shown(fork_pid()) ||
           (head > 0 && sys2(SYS_kill, head, 0) != -ESRCH && !proc_is_shown(head));
}

bool holders_look(const struct holders_visitor *visitor, bool whole_tree, bool sent)
{
    struct look look = {.visitor = visitor, .whole_tree = whole_tree, .sent = sent};
    look.complete = !hides_processes();
    look.until = sys_now_ms() + LOOK_MOST_MS;
    if (look.complete)
        proc_each_process(visit_process, &look);
    return look.complete;
}

bool holders_share(int fd, int32_t pid, int other)
{
    long order = -1;
    if (!proc_is_filtered()) /* few filters know this call */
        order = sys5(SYS_kcmp, fork_pid(), pid, KCMP_FILE, fd, other);
    /* Where it can't be told, fork and exec keep numbers. */
    return order < 0 ? fd == other : order == 0;
}
