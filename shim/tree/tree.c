/* SPDX-License-Identifier: MIT */
#include "tree/tree.h"

#include "conn/epoch.h"
#include "conn/handoff.h"
#include "tree/head.h"
#include "base/libc.h"
#include "base/log.h"
#include "tree/pagefile.h"
#include "base/settings.h"
#include "base/sock.h"
#include "base/proc.h"
#include "base/sys.h"
#include "conn/table.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define ANCESTORS_MOST 16

static char path[PAGEFILE_PATH]; /* "": the page has no file */
static char name[PAGEFILE_PATH];
static bool was_first; /* this process, or the one that it was forked from, began the tree */

/* Those of the tree that this process descends from, with a time at which they lived: the parent is
 * the last. One that is left out lived too long ago. */
static struct ancestor {
    int32_t pid;
    uint64_t since;
} ancestors[ANCESTORS_MOST];
static int generations;

#define NO_LINE (-1)
static _Atomic int my_line = NO_LINE; /* PAGE_LINES: there was none left */

/* In whose name, and since when: not the page's word for it. Known to its children as well. */
static int32_t line_pid;
static uint64_t line_since;

static bool foreign;       /* tree_is_foreign */
static uint32_t own_flags; /* of this process's line, which its children take along */

/* For times in the page, of a program's own thread: without a system call (vdso(7)). */
static uint64_t boot_ms(void)
{
    struct timespec now = {0, 0};
    libc_clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- lines ---- */

static struct page_line *line_now(void)
{
    epoch_now(); /* in a child that has not noticed it would be its parent's */
    int line = atomic_load_explicit(&my_line, memory_order_relaxed);
    return line >= 0 && line < PAGE_LINES ? &tree_page->line[line] : NULL;
}

/* Adds what a process has left to the page's sums. The line is held (pid -1). */
static void fold(uint32_t index)
{
    static const struct shard nothing;
    struct page_line *line = &tree_page->line[index];
    struct totals totals = {0};
    uint32_t count, first = page_shards(index, &count);
    page_add(&totals, &tree_page->shard[first], count);
    page_settle(&totals);
    for (uint32_t i = 0; i < count; i++)
        tree_page->shard[first + i] = nothing;
    struct page_sums *gone = &tree_page->gone;
    atomic_fetch_add(&gone->accepted, totals.accepted);
    atomic_fetch_add(&gone->closed_by_program, totals.closed_by_program + totals.tracked);
    atomic_fetch_add(&gone->closed_idle, totals.closed_idle);
    atomic_fetch_add(&gone->forced, totals.forced);
    atomic_fetch_add(&gone->disowned, totals.disowned);
    atomic_fetch_add(&gone->forced_in_use, atomic_exchange(&line->forced_in_use, 0));
    atomic_fetch_add(&gone->unread, atomic_exchange(&line->unread, 0));
    atomic_fetch_add(&gone->unsent, atomic_exchange(&line->unsent, 0));
    atomic_fetch_add(&gone->cut, atomic_exchange(&line->cut, 0));
}

static uint32_t lines_used(void)
{
    return page_used(&tree_page->lines_used, PAGE_LINES);
}

static bool take(uint32_t index, int32_t from)
{
    return atomic_compare_exchange_strong(&tree_page->line[index].pid, &from, -1);
}

/* A line of a process that has died, or has become another program. System calls: only where no
 * line is free. */
static int reap_line(void)
{
    for (uint32_t i = 0; i < lines_used(); i++) {
        int32_t pid = atomic_load(&tree_page->line[i].pid);
        if (pid > 0 && !proc_line_lives(&tree_page->line[i]) && take(i, pid)) {
            fold(i);
            return (int)i;
        }
    }
    return PAGE_LINES;
}

static int free_line(void)
{
    uint32_t fresh = 0;
    while (fresh < PAGE_LINES) {
        for (uint32_t i = 0; i < lines_used(); i++)
            if (!atomic_load_explicit(&tree_page->line[i].pid, memory_order_relaxed) && take(i, 0))
                return (int)i;
        fresh = list_grows(&tree_page->lines_used, PAGE_LINES);
        if (fresh < PAGE_LINES && take(fresh, 0))
            return (int)fresh; /* else another process has found it by then */
    }
    return sys_is_sandboxed() ? PAGE_LINES : reap_line();
}

/* An earlier program of this process may have left one. */
static void fold_own(int32_t pid)
{
    for (uint32_t i = 0; i < lines_used(); i++) {
        if (atomic_load(&tree_page->line[i].pid) == pid && take(i, pid)) {
            fold(i);
            atomic_store(&tree_page->line[i].pid, 0);
        }
    }
}

void tree_take_line(void)
{
    if (LIKELY(atomic_load_explicit(&my_line, memory_order_relaxed) != NO_LINE) || !tree_page)
        return;
    int32_t pid = epoch_pid();
    if (!pid && !sys_is_sandboxed())
        pid = epoch_ask_pid(); /* a raw clone's child: its first connection is its start */
    int found = pid && !foreign ? free_line() : PAGE_LINES, none = NO_LINE;
    uint64_t since = boot_ms();
    uint32_t count = 1, shards = COUNT_OF(tree_page->shard) - 1;
    if (found < PAGE_LINES) {
        struct page_line *line = &tree_page->line[found];
        atomic_store(&line->phase, PHASE_SERVING);
        atomic_store(&line->since, since);
        atomic_store(&line->table, (uint64_t)(uintptr_t)&table);
        atomic_store(&line->epoch, (uint32_t)epoch_now());
        atomic_store(&line->flags, own_flags);
        shards = page_shards((uint32_t)found, &count);
    } else {
        atomic_fetch_add(&tree_page->unlisted, 1);
    }
    if (!atomic_compare_exchange_strong(&my_line, &none, found)) {
        if (found < PAGE_LINES) /* a signal's handler, or another thread, was quicker */
            atomic_store(&tree_page->line[found].pid, 0);
        return;
    }
    table_count_in(&tree_page->shard[shards], count, found == PAGE_LINES);
    line_pid = found < PAGE_LINES ? pid : 0;
    line_since = since;
    if (found < PAGE_LINES)
        atomic_store(&tree_page->line[found].pid, pid);
}

bool tree_is_foreign(void)
{
    return foreign;
}

bool tree_is_first(void)
{
    return was_first;
}

bool tree_has_line(void)
{
    return atomic_load(&my_line) != NO_LINE;
}

static void give_line_back(void)
{
    struct page_line *line = line_now();
    int32_t pid = epoch_pid();
    if (!line || !pid || !take((uint32_t)(line - tree_page->line), pid))
        return;
    fold((uint32_t)(line - tree_page->line));
    table_count_in(NULL, 0, false);
    atomic_store(&my_line, NO_LINE);
    line_pid = 0;
    atomic_store(&line->pid, 0);
}

/* ---- start-up ---- */

const char *tree_name(void)
{
    return name;
}

bool tree_is_named_after_us(const char *value)
{
    int32_t pid;
    uint64_t start;
    return pagefile_parse_name(value, &pid, &start) && pid == epoch_pid() &&
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
    copy(tree_page->program, sizeof tree_page->program, program_invocation_short_name);
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
    };
    atomic_store(&tree_page->timeout, -1);
    atomic_store(&tree_page->head, pid);
    for (size_t i = 0; i < sizeof tree_page->magic; i++)
        tree_page->magic[i] = PAGE_MAGIC[i];
}

static void log_no_file(int error)
{
    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "no state page can be made in ");
    if (*settings_now()->run_dir) {
        text_string(&line.text, "WEIR_RUN_DIR=");
        text_escaped(&line.text, settings_now()->run_dir, 200);
    } else {
        text_string(&line.text, "/run/weir, $XDG_RUNTIME_DIR/weir or /dev/shm");
    }
    text_string(&line.text, " (error ");
    text_number(&line.text, (uint64_t)error);
    text_string(&line.text, "): the `weir` command can't see this tree");
    log_send(&line);
}

static bool make(const char *tree)
{
    int32_t pid = epoch_ask_pid();
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

bool tree_succeeds(const char *value)
{
    predecessor = *value == '/' ? pagefile_open(value) : NULL;
    if (!predecessor)
        return true; /* its tree has no page that could be joined */
    for (uint32_t i = 0; i < PAGE_LINES; i++) {
        const struct page_line *line = &predecessor->line[i];
        if (proc_line_lives(line) && !proc_descends(atomic_load(&line->pid)))
            return true;
    }
    tree_has_succeeded();
    return false;
}

void tree_has_succeeded(void)
{
    if (predecessor)
        sys2(SYS_munmap, predecessor, sizeof *predecessor);
    predecessor = NULL;
}

bool tree_begin(const char *value, bool first)
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
        head_forget();
        fold_own(epoch_ask_pid());
    }
    tree_take_line();
    return true;
}

/* ---- fork, exec, exit ---- */

static _Atomic bool spawned;
static bool inherits_sockets; /* the child that is made next, or this one */

/* What is written between two forks is copied page by page: so only what changes is written. */
static void spawns(void)
{
    if (!atomic_load(&spawned))
        atomic_store(&spawned, true);
}

void tree_forks(bool inherits)
{
    if (epoch_is_borrowed())
        return;
    spawns();
    if (inherits_sockets != inherits)
        inherits_sockets = inherits;
    table_forks();
}

void tree_spawns(void)
{
    epoch_lives_on();
    spawns();
    if (!epoch_is_borrowed())
        table_forks(); /* what is open may be the other's as well */
}

bool tree_has_forked(void)
{
    return atomic_load(&spawned);
}

void tree_forked(void)
{
    was_first = false;
    if (!*name)
        tree_page = NULL; /* another thread of the parent's was in the middle of tree_begin */
    foreign = atomic_load(&epoch_clones_foreigners);
    atomic_store(&table.shares, false);
    atomic_store(&spawned, false);
    if (line_pid > 0) {
        if (generations == ANCESTORS_MOST) {
            for (int i = 1; i < ANCESTORS_MOST; i++)
                ancestors[i - 1] = ancestors[i];
            generations--;
        }
        ancestors[generations++] = (struct ancestor){line_pid, line_since};
    }
    line_pid = 0;
    atomic_store(&my_line, NO_LINE);
    table_count_in(NULL, 0, false);
    head_forget();
}

void tree_lives_on(void)
{
    if (inherits_sockets)
        tree_take_line();
}

static void take_back(uint64_t record)
{
    handoff_take((uint32_t)(record >> CONN_IDENTITY_SHIFT));
}

void tree_execs(void)
{
    struct page_line *line = tree_page && !epoch_is_borrowed() ? line_now() : NULL;
    if (line ||
        epoch_thread.child == CHILD_NONE) /* a child that only closes a few does not live on */
        tree_spawns();
    if (!line)
        return;
    table_each_untouched(
        handoff_release); /* the next program may have them, or who was forked with them */
    if (atomic_load(&line->pid) == epoch_pid())
        atomic_fetch_or(&line->flags, LINE_EXECS);
}

void tree_exec_failed(void)
{
    struct page_line *line = tree_page && !epoch_is_borrowed() ? line_now() : NULL;
    if (!line)
        return;
    if (atomic_load(&line->pid) == epoch_pid())
        atomic_fetch_and(&line->flags, ~LINE_EXECS);
    table_each_untouched(take_back);
}

void tree_ends(void)
{
    /* In a child that has not noticed yet that it is one, the line is its parent's. */
    if (tree_page && !epoch_is_borrowed() && epoch_now())
        give_line_back();
}

bool tree_descends_from_the_living(int32_t oldest)
{
    for (int i = generations - 1; i >= 0; i--) {
        if (proc_is_alive(ancestors[i].pid, ancestors[i].since) != 0)
            return true;
        if (ancestors[i].pid == oldest)
            break;
    }
    return false;
}

/* ---- what it says of itself ---- */

void tree_set_phase(enum phase phase)
{
    struct page_line *line = tree_page ? line_now() : NULL;
    if (line)
        atomic_store(&line->phase, phase);
}

void tree_delayed(void)
{
    uint32_t delaying = PHASE_DELAYING;
    atomic_compare_exchange_strong(&tree_page->phase, &delaying, PHASE_DRAINING);
}

void tree_set_flag(uint32_t flag, bool on)
{
    struct page_line *line = tree_page ? line_now() : NULL;
    own_flags = on ? own_flags | flag : own_flags & ~flag;
    if (line)
        atomic_store(&line->flags, own_flags);
}

bool tree_has_flag(uint32_t flag)
{
    for (uint32_t i = 0; i < lines_used(); i++)
        if (atomic_load(&tree_page->line[i].pid) > 0 &&
            atomic_load(&tree_page->line[i].flags) & flag)
            return true;
    return own_flags & flag;
}

void tree_count_loss(bool in_use, bool unread, bool unsent)
{
    struct page_line *line = tree_page ? line_now() : NULL;
    if (!line)
        return;
    atomic_fetch_add(&line->forced_in_use, in_use);
    atomic_fetch_add(&line->unread, unread);
    atomic_fetch_add(&line->unsent, unsent);
}

void tree_count_cut(void)
{
    struct page_line *line = tree_page ? line_now() : NULL;
    if (line)
        atomic_fetch_add(&line->cut, 1);
}

void tree_totals(struct totals *totals)
{
    proc_totals(tree_page, epoch_pid(), totals);
}

uint64_t tree_cut(void)
{
    uint64_t cut = atomic_load(&tree_page->gone.cut);
    for (uint32_t i = 0; i < lines_used(); i++)
        if (atomic_load(&tree_page->line[i].pid))
            cut += atomic_load(&tree_page->line[i].cut);
    return cut;
}

static bool has_line(int32_t pid)
{
    for (uint32_t i = 0; i < lines_used(); i++)
        if (atomic_load(&tree_page->line[i].pid) == pid)
            return true;
    return false;
}

static uint32_t listeners_used(void)
{
    return page_used(&tree_page->listeners_used, PAGE_LISTENERS);
}

/* An entry of this address whose process is gone: it is the successor's now. */
static int take_listener_over(const char *address, enum mode mode, bool from_outside)
{
    for (uint32_t i = 0; i < listeners_used(); i++) {
        struct page_listener *at = &tree_page->listener[i];
        int32_t pid = atomic_load(&at->pid);
        if (pid > 0 && (pid == epoch_pid() || !has_line(pid)) && text_equal(at->address, address) &&
            atomic_compare_exchange_strong(&at->pid, &pid, epoch_pid())) {
            at->mode = (uint16_t)mode;
            at->from_outside = from_outside;
            atomic_store(&at->state, PAGE_ACCEPTING);
            return (int)i + 1;
        }
    }
    return 0;
}

static bool hold_listener(struct page_listener *at)
{
    int32_t none = 0;
    return atomic_compare_exchange_strong(&at->pid, &none, -1);
}

/* An entry that is held (pid -1), or NULL. */
static struct page_listener *free_listener(void)
{
    uint32_t fresh;
    do {
        for (uint32_t i = 0; i < listeners_used(); i++) {
            struct page_listener *at = &tree_page->listener[i];
            if (!atomic_load(&at->pid) && hold_listener(at))
                return at;
        }
        fresh = list_grows(&tree_page->listeners_used, PAGE_LISTENERS);
        if (fresh < PAGE_LISTENERS && hold_listener(&tree_page->listener[fresh]))
            return &tree_page->listener[fresh]; /* else another process has found it by then */
    } while (fresh < PAGE_LISTENERS);
    return NULL;
}

int tree_add_listener(const struct sockaddr *addr, socklen_t len, enum mode mode, bool from_outside)
{
    char address[sizeof tree_page->listener->address];
    struct text wanted = TEXT_ON(address);
    text_address(&wanted, addr, len);
    if (!tree_page)
        return 0;
    int known = take_listener_over(address, mode, from_outside);
    struct page_listener *at = known ? NULL : free_listener();
    if (!at)
        return known;
    struct text text = TEXT_ON(at->address);
    text_string(&text, address);
    at->mode = (uint16_t)mode;
    at->from_outside = from_outside;
    atomic_store(&at->state, PAGE_ACCEPTING);
    atomic_store(&at->pid, epoch_pid());
    return (int)(at - tree_page->listener) + 1;
}

bool tree_listens_at(const struct sockaddr *addr, socklen_t len)
{
    char address[sizeof tree_page->listener->address];
    struct text wanted = TEXT_ON(address);
    const struct page *page = predecessor ? predecessor : tree_page;
    text_address(&wanted, addr, len);
    for (uint32_t i = 0; page && i < page_used(&page->listeners_used, PAGE_LISTENERS); i++) {
        const struct page_listener *at = &page->listener[i];
        if (atomic_load(&at->pid) > 0 && !at->from_outside && text_equal(at->address, address))
            return true;
    }
    return false;
}

/* Whether that process has an AF_UNIX listener which takes part in a drain. */
static bool listens_by_unix(int32_t pid)
{
    for (uint32_t i = 0; i < listeners_used(); i++) {
        const struct page_listener *at = &tree_page->listener[i];
        if (atomic_load(&at->pid) == pid && at->mode != MODE_OFF &&
            text_after(at->address, "unix:"))
            return true;
    }
    return false;
}

bool tree_others_serve(void)
{
    for (uint32_t i = 0; i < lines_used(); i++) {
        struct page_line *line = &tree_page->line[i];
        int32_t pid = atomic_load(&line->pid);
        struct totals totals = {0};
        uint32_t count, first = page_shards(i, &count);
        if (pid <= 0 || pid == epoch_pid())
            continue;
        page_add(&totals, &tree_page->shard[first], count);
        page_settle(&totals);
        if (totals.tracked && proc_line_lives(line) &&
            (pid == atomic_load(&tree_page->head) || !listens_by_unix(pid)))
            return true;
    }
    return false;
}

void tree_set_listener(int index, enum page_listener_state state)
{
    if (index)
        atomic_store(&tree_page->listener[index - 1].state, state);
}

enum page_listener_state tree_listener(int index)
{
    uint32_t state = index ? atomic_load(&tree_page->listener[index - 1].state) : PAGE_ACCEPTING;
    return state < PAGE_STATES ? (enum page_listener_state)state : PAGE_ACCEPTING;
}

void tree_remove_listener(int index)
{
    epoch_now(); /* a child closes its copies first of all */
    int32_t me = epoch_pid();
    if (index && me)
        atomic_compare_exchange_strong(&tree_page->listener[index - 1].pid, &me, 0);
}