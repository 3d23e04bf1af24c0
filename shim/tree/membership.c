/* SPDX-License-Identifier: MIT */
#include "tree/membership.h"

#include "base/libc.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/settings.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "conn/handoff.h"
#include "conn/fdtable.h"
#include "tree/listener_list.h"
#include "tree/pagefile.h"
#include "tree/process_slot.h"

#include <errno.h>
#include <sys/mman.h>

#define ANCESTORS_MOST 16

static char path[PAGEFILE_PATH]; /* "": the page has no file */
static char name[PAGEFILE_PATH];
static bool was_first; /* this process, or the one that it was forked from, began the tree */

/* The processes of the tree that this one descends from, with a time at which they lived. The
 * parent is the last; the oldest are left out. */
static struct process_slot_origin ancestors[ANCESTORS_MOST];
static int generations;

bool membership_is_first(void)
{
    return was_first;
}

/* ---- start-up ---- */

const char *membership_name(void)
{
    return name;
}

bool membership_is_named_after_us(const char *value)
{
    int32_t pid;
    uint64_t start;
    return pagefile_parse_name(value, &pid, &start) && pid == fork_pid() &&
           start == proc_start_time(pid);
}

static void copy(char *to, size_t room, const char *from)
{
    struct text text = {to, 0, room};
    *to = '\0';
    text_escaped(&text, from ? from : "?", room - 1);
}

/* strings(1) tells what a libweir.so is. */
static const char version[] = "weir " WEIR_VERSION;

static void fill_in(int32_t pid, uint64_t start, const char *tree)
{
    const struct settings *settings = settings_now();
    tree_page->layout = PAGE_LAYOUT;
    tree_page->size = sizeof *tree_page;
    copy(tree_page->version, sizeof tree_page->version, text_after(version, "weir "));
    /* A first process that execs itself while another one listens: the tree is called after that.
     */
    if (!atomic_load(&tree_page->is_named) || !listener_list_has_others(pid))
        copy(tree_page->program, sizeof tree_page->program, log_program());
    tree_page->pid = pid;
    tree_page->start = start;
    tree_page->pid_namespace = proc_namespace(0, "ns/pid");
    if (!tree || !pagefile_parse_name(tree, &tree_page->tree_pid, &tree_page->tree_start)) {
        tree_page->tree_pid = pid;
        tree_page->tree_start = start;
    }
    tree_page->settings = (struct page_settings){
        .mode = (uint32_t)settings->mode.rest,
        .signal = settings->signal,
        .control_signal = settings->control_signal,
        .action = (uint32_t)settings->action,
        .stop_signals = settings->stop_signals,
        .timeout = settings->timeout,
        .delay = settings->delay,
        .leaves_children = settings->leave_children,
    };
    atomic_store(&tree_page->timeout, -1);
    atomic_store(&tree_page->head, pid);
    for (size_t i = 0; i < sizeof tree_page->magic; i++)
        tree_page->magic[i] = PAGE_MAGIC[i];
}

void membership_listens(void)
{
    uint32_t no = 0;
    if (atomic_compare_exchange_strong(&tree_page->is_named, &no, 1))
        copy(tree_page->program, sizeof tree_page->program, log_program());
}

bool membership_has_listened(void)
{
    return tree_page && atomic_load(&tree_page->is_named);
}

static void log_no_file(int error)
{
    char dir[900];
    struct text text = TEXT_ON(dir);
    text_string(&text, "WEIR_RUN_DIR=");
    text_escaped(&text, settings_now()->run_dir, 200);
    const char *where =
        *settings_now()->run_dir ? dir : "/run/weir, $XDG_RUNTIME_DIR/weir or /dev/shm";
    uint64_t mode = (uint64_t)error - PAGEFILE_REFUSED;
    if (error >= PAGEFILE_REFUSED)
        log_say(LOG_INFO,
                "no state page is made in %s: its owner is another user, or others may write to it "
                "(mode %lu%lu%lu%lu): the `weir` command can't see this tree",
                where, mode >> 9 & 7, mode >> 6 & 7, mode >> 3 & 7, mode & 7);
    else
        log_say(LOG_INFO,
                "no state page can be made in %s (error %d): the `weir` command can't see this "
                "tree",
                where, error);
}

static bool make(const char *tree)
{
    int32_t pid = fork_ask_pid();
    uint64_t start = proc_start_time(pid);
    int error = 0;
    tree_page = pagefile_make(settings_now(), environ, pid, start, path, &error);
    if (!tree_page)
        return false;
    if (!*path)
        log_no_file(error);
    fill_in(pid, start, tree);
    struct text text = TEXT_ON(name);
    if (*path)
        text_string(&text, path);
    else
        page_name(&text, pid, start, tree_page->pid_namespace);
    return true;
}

static struct page *predecessor; /* its page, during start-up */

bool membership_succeeds(const char *value)
{
    predecessor = *value == '/' ? pagefile_open(value) : NULL;
    if (!predecessor)
        return true; /* its tree has no page that could be joined */
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        const struct page_slot *slot = &predecessor->slot[i];
        if (proc_slot_lives(slot) && !proc_descends(atomic_load(&slot->pid)))
            return true;
    }
    membership_has_succeeded();
    return false;
}

bool membership_leads(const char *value)
{
    if (!sys_has_children() || !value || *value != '/')
        return false;
    struct page *page = pagefile_open(value);
    bool leads = false;
    for (uint32_t i = 0; page && i < PAGE_SLOTS && !leads; i++)
        leads = proc_slot_lives(&page->slot[i]) && proc_descends(atomic_load(&page->slot[i].pid));
    if (page)
        sys2(SYS_munmap, page, sizeof *page);
    return leads;
}

void membership_has_succeeded(void)
{
    if (predecessor)
        sys2(SYS_munmap, predecessor, sizeof *predecessor);
    predecessor = NULL;
}

bool membership_begin(const char *value, bool first)
{
    if (!tree_page) {
        was_first = first;
        if (!first && value && *value == '/')
            tree_page = pagefile_open(value);
        if (tree_page && tree_page->pid_namespace != proc_namespace(0, "ns/pid"))
            tree_page = NULL; /* its pids are not ours */
        if (tree_page) {
            copy(path, sizeof path, value);
            copy(name, sizeof name, value);
        } else if (!make(first ? NULL : value)) {
            return false;
        }
        log_share(&tree_page->log);
        process_slot_fold_own(fork_ask_pid());
        atomic_store(&tree_page->execs_at, 0);
    }
    process_slot_take();
    return true;
}

/* ---- fork, exec, exit ---- */

static _Atomic bool spawned;
static bool inherits_sockets; /* the child that is made next, or this one */

/* A page that is written between two forks is copied: so only what changes is written. */
static void spawns(void)
{
    if (!atomic_load(&spawned))
        atomic_store(&spawned, true);
}

void membership_forks(bool inherits)
{
    if (in_vfork_child())
        return;
    spawns();
    if (inherits_sockets != inherits)
        inherits_sockets = inherits;
    table_forks();
}

void membership_spawns(void)
{
    fork_lives_on();
    spawns();
    if (!in_vfork_child())
        table_forks(); /* what is open may be the other's as well */
}

bool membership_has_forked(void)
{
    return atomic_load(&spawned);
}

void membership_forked(void)
{
    was_first = false;
    if (!*name)
        tree_page = NULL; /* another thread of the parent's was in the middle of membership_begin */
    atomic_store(&table.shares, false);
    atomic_store(&spawned, false);
    struct process_slot_origin parent;
    if (!process_slot_forked(&parent))
        return;
    if (generations == ANCESTORS_MOST) {
        for (int i = 1; i < ANCESTORS_MOST; i++)
            ancestors[i - 1] = ancestors[i];
        generations--;
    }
    ancestors[generations++] = parent;
}

void membership_lives_on(void)
{
    if (inherits_sockets)
        process_slot_take();
}

static void take_back(uint64_t record)
{
    handoff_take((uint32_t)(record >> CONN_FINGERPRINT_SHIFT));
}

void membership_execs(void)
{
    struct page_slot *slot = in_vfork_child() ? NULL : process_slot_now();
    if (slot ||
        fork_thread.child == CHILD_NONE) /* a child that only closes a few does not live on */
        membership_spawns();
    if (!slot)
        return;
    table_each_untouched(handoff_release); /* the next program may have them, or a process that was
                                              forked with them */
    if (atomic_load(&slot->pid) == fork_pid())
        atomic_fetch_or(&slot->flags, SLOT_EXECS);
    atomic_store(&tree_page->execs_at, libc_coarse_ms()); /* who looks for pages that nobody maps */
}

void membership_exec_failed(void)
{
    struct page_slot *slot = in_vfork_child() ? NULL : process_slot_now();
    if (!slot)
        return;
    if (atomic_load(&slot->pid) == fork_pid())
        atomic_fetch_and(&slot->flags, ~SLOT_EXECS);
    atomic_store(&tree_page->execs_at, 0);
    table_each_untouched(take_back);
}

bool membership_descends_from_the_living(void)
{
    for (int i = generations - 1; i >= 0; i--)
        if (proc_is_alive(ancestors[i].pid, ancestors[i].since) != 0)
            return true;
    return false;
}

void membership_totals(struct totals *totals)
{
    proc_totals(tree_page, fork_pid(), totals);
}

void membership_delayed(void)
{
    uint32_t delaying = PHASE_DELAYING;
    atomic_compare_exchange_strong(&tree_page->phase, &delaying, PHASE_DRAINING);
}

bool membership_listens_at(const struct sockaddr *addr, socklen_t len)
{
    return listener_list_has(predecessor ? predecessor : tree_page, addr, len, LISTENER_IS_MADE);
}
