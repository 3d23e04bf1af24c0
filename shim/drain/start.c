/* SPDX-License-Identifier: MIT */
#define WEIR_API __attribute__((visibility("default")))
#include "drain/start.h"
#include "weir.h"

#include "base/libc.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/sys.h"
#include "conn/conn.h"
#include "conn/fork_detect.h"
#include "conn/gate.h"
#include "conn/handoff.h"
#include "conn/lingering_close.h"
#include "conn/fdtable.h"
#include "drain/drain.h"
#include "drain/drain_say.h"
#include "drain/environment.h"
#include "drain/handed.h"
#include "drain/inherited.h"
#include "drain/listener.h"
#include "drain/record.h"
#include "drain/signals_eintr.h"
#include "drain/signals_mask.h"
#include "drain/stage.h"
#include "drain/stop_signals.h"
#include "drain/trigger.h"
#include "drain/worker.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/pagefile.h"
#include "tree/process_slot.h"
#include "tree/sd_notify.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>

/* ---- start-up ---- */

/* The first connection that a child has for its own. */
static bool goes_on_draining;

static void first_connection(void)
{
    process_slot_take();
    if (goes_on_draining)
        worker_order(ACTION_DRAIN, &drain_inherited);
    else if (coordinator_tree_drains())
        worker_look();
}

/* Takes a connection that another process has handed over, while the tree drains. */
static void adopts(void)
{
    if (LIKELY(!coordinator_tree_drains()) || coordinator_tree_is_drained())
        return;
    drain_resumes();
    worker_look();
}

/* Begins anew in a child. It must not make a system call (DESIGN.md, invariant 1). */
static void forked(void)
{
    /* First where a signal that comes in the middle of this would leave an order. */
    worker_forked();
    stop_signals_forked();
    trigger_forked();
    /* The thread that was in the middle of start-up is the parent's; the child begins anew. */
    if (UNLIKELY(atomic_load(&stage) == STAGE_STARTING))
        atomic_store(&stage, STAGE_DORMANT);
    signals_forked();
    table_forked();
    bool drained = drain_forked();
    membership_forked();
    coordinator_forget();
    lingering_forked();
    sd_notify_forked();
    log_forked();
    goes_on_draining = drained && !coordinator_tree_drains();
    conn_on_first = first_connection;
}

void start_forks(void)
{
    struct totals totals;
    fork_lives_on();
    generation_now();
    bool inherits = listener_any();
    if (!inherits && atomic_load(&table.high)) { /* before that its counts are untouched memory */
        table_totals(&totals);
        inherits = totals.tracked;
    }
    membership_forks(inherits);
}

void start_clones(uint64_t flags)
{
    if (flags & CLONE_VM)
        return;
    start_forks();
    atomic_store(&fork_cloned, true);
    if (flags & CLONE_NEWPID)
        atomic_store(&fork_clones_foreigners, true);
}

static void lives_on(void)
{
    int saved = errno;
    membership_lives_on();
    bool drains = process_slot_is_taken() && coordinator_tree_drains();
    if ((drains || handed_any()) && !sys_is_sandboxed())
        worker_look();
    errno = saved;
}

static struct rlimit limit_on(int what)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    sys4(SYS_prlimit64, 0, what, NULL, &limit);
    return limit;
}

/* Tells whether memory counts that is asked for and not used (proc(5), overcommit_memory). */
static bool memory_is_counted(void)
{
    char mode = '0';
    long fd = sys4(SYS_openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0) {
        sys3(SYS_read, fd, &mode, 1);
        sys1(SYS_close, fd);
    }
    return mode == '2' || limit_on(RLIMIT_DATA).rlim_cur != RLIM_INFINITY;
}

/*
 * The table has room for what the program may use later: more than its limit says now, which it may
 * raise (as a rule to what fs.nr_open allows). A service manager's "infinity" is 2^30: more than
 * any program opens.
 */
#define DESCRIPTORS_USUAL (UINT32_C(1) << 20)
#define DESCRIPTORS_MOST (UINT32_C(1) << 22)
#define DESCRIPTORS_SCARCE (UINT32_C(1) << 14) /* where address space is limited */

static bool make_table(void)
{
    struct rlimit files = limit_on(RLIMIT_NOFILE);
    uint32_t hard = files.rlim_max < DESCRIPTORS_MOST ? (uint32_t)files.rlim_max : DESCRIPTORS_MOST;
    uint32_t soft = files.rlim_cur < hard ? (uint32_t)files.rlim_cur : hard;
    uint32_t most = hard > DESCRIPTORS_USUAL ? hard : DESCRIPTORS_USUAL;
    if (limit_on(RLIMIT_AS).rlim_cur != RLIM_INFINITY)
        most = soft > DESCRIPTORS_SCARCE ? soft : DESCRIPTORS_SCARCE;
    if (table_make(most, memory_is_counted() ? soft : most) < 0)
        return false;
    if (table.most < soft)
        log_say(
            LOG_INFO,
            "room for %u descriptors alone, of %u that the limit allows: on a higher one nothing "
            "is drained",
            table.most, soft);
    return true;
}

static void say_ready(void)
{
    struct log_line line;
    char name[16];
    const char *separator = "drain on ";
    log_begin(&line, LOG_INFO);
    text_add(&line.text, "ready: mode %s%s, ", settings_mode_name(settings_now()->mode.rest),
             settings_now()->mode.count ? " and others" : "");
    for (int sig = 1; sig < 65; sig++) {
        if (trigger_is(sig) || settings_now()->stop_signals >> (sig - 1) & 1) {
            text_add(&line.text, "%s%s", separator, settings_signal_name(sig, name));
            separator = ",";
        }
    }
    text_string(&line.text, *separator == ',' ? ", timeout " : "timeout ");
    if (settings_now()->timeout)
        text_duration(&line.text, settings_now()->timeout);
    else
        text_string(&line.text, "none");
    log_send(&line);
}

static void stand_aside(const char *why)
{
    log_say(LOG_ERROR, "%s: running without weir", why);
    atomic_store(&stage, STAGE_ASIDE);
}

static const char no_room_for_page[] = "no room for the state page";

static bool begin_serving(void)
{
    fork_ask_pid();
    if (!table.limit && !make_table()) {
        stand_aside("no room for the table of descriptors");
        return false;
    }
    table.on_shared = handoff_release;
    lingering_on_loss = process_slot_count_loss;
    conn_on_adopt = adopts;
    conn_on_arrival = process_slot_arrived;
    if (!coordinator_joins(environment_tree_value, stage_began_tree)) {
        stand_aside(no_room_for_page);
        return false;
    }
    if (*membership_name() == '/')
        pagefile_clean(membership_name());
    return true;
}

static void load(void);

void start_settled(void)
{
    if (UNLIKELY(atomic_load_explicit(&stage, memory_order_acquire) == STAGE_NOT_LOADED))
        load();
}

/* A program that this tree's processes start has inherited listeners: as a rule it is a helper (a
 * shell, a compiler), which says nothing. */
static bool inherits_alone;

bool start_serving_first(void)
{
    fork_lives_on();
    start_settled();
    generation_now(); /* in a child of a fork that no wrapper saw: STAGE_STARTING is its parent's */
    uint32_t seen = atomic_load_explicit(&stage, memory_order_acquire);
    if (LIKELY(seen == STAGE_SERVING))
        return !in_vfork_child();
    if ((seen != STAGE_DORMANT && seen != STAGE_STARTING) || in_vfork_child())
        return false;

    /* A signal handler of the program's that accepts must not meet its own thread's start-up. */
    uint64_t mask;
    sys_block_signals(&mask);
    seen = STAGE_DORMANT;
    bool made = false;
    if (atomic_compare_exchange_strong(&stage, &seen, STAGE_STARTING)) {
        made = begin_serving();
        if (made)
            atomic_store_explicit(&stage, STAGE_SERVING, memory_order_release);
    } else {
        while (atomic_load(&stage) == STAGE_STARTING)
            sys_futex_wait(&stage, STAGE_STARTING, 1); /* also one of a lower priority gets on */
    }
    sys_unblock_signals(&mask);
    if (made) { /* under the thread's own mask, which is looked at and changed */
        trigger_install(settings_now());
        if (!inherits_alone)
            say_ready();
    }
    return atomic_load(&stage) == STAGE_SERVING;
}

static void warn_of_unknown(char **envp)
{
    const char *entry;
    for (size_t at = 0; (entry = settings_unknown(envp, &at));) {
        char name[40];
        struct text text = TEXT_ON(name);
        for (; *entry && *entry != '='; entry++) {
            char one[2] = {*entry, 0};
            text_escaped(&text, one, 1);
        }
        log_say(LOG_INFO, "%s: no setting has this name; it is ignored", name);
    }
}

/* Tells whether another libweir.so stands in front of this one (two paths in LD_PRELOAD): it would
 * take our signals' handlers for the program's. */
static bool is_second(void)
{
    void *first = libc_default("weir_counts");
    return first && first != (void *)weir_counts;
}

static void load(void)
{
    struct complaint complaint;
    char **envp = environ;
    uint32_t not_yet = STAGE_NOT_LOADED;
    if (!atomic_compare_exchange_strong(&stage, &not_yet, STAGE_ASIDE))
        return;
    libc_find();
    log_remember();
    fork_ask_pid();
    fork_make(forked, trigger_noticed);
    fork_on_life = lives_on;
    if (!envp)
        return;
    if (is_second()) {
        if (!environment_tree(envp)) /* one line for the whole tree */
            log_say(LOG_ERROR,
                    "LD_PRELOAD has two copies of libweir.so: the second one stands aside");
        return;
    }

    const char *manager = text_variable(envp, "NOTIFY_SOCKET=");
    if (manager)
        sd_notify_remember(manager);
    /* Also where we stand aside: its bind would fail on what the service manager has stored. */
    record_take(envp);
    bool stored = handed_take(envp);
    bool is_sound = settings_read(settings_to_fill(), envp, &complaint);
    if (stored && (!is_sound || settings_now()->listeners != LISTENERS_STORE))
        sd_notify_empties_store();
    if (!is_sound) {
        log_say(LOG_ERROR, "%s: running without weir", complaint.text);
        /* One line for the whole tree: the programs that this one starts don't even load us. */
        environment_leave_children(envp);
        atomic_store(&stage, STAGE_ASIDE);
        return;
    }
    log_choose(settings_now());
    gate_make();
    char *value = environment_tree(envp);
    enum environment_mark mark = environment_take_mark(value);
    if (mark == MARK_SUCCESSOR && !membership_is_named_after_us(value) &&
        inherited_has_listener() && membership_succeeds(value)) {
        for (; *value; value++)
            *value = '\0'; /* what /proc/PID/environ shows as well */
    }
    environment_remember(envp, !settings_now()->leave_children);
    stage_began_tree =
        !environment_tree_value || membership_is_named_after_us(environment_tree_value);
    if (stage_began_tree || mark == MARK_START)
        record_make(envp);
    if (stage_began_tree) {
        warn_of_unknown(envp);
        if (!coordinator_joins(environment_tree_value, true)) {
            stand_aside(no_room_for_page);
            return;
        }
    }
    if (settings_now()->leave_children)
        environment_leave_children(envp);
    else if (stage_began_tree)
        environment_name_tree(envp);
    atomic_store(&stage, STAGE_DORMANT);
    if (stage_began_tree) {
        trigger_install(settings_now());
        trigger_resumes();
    }
    inherits_alone = !stage_began_tree;
    inherited_take(start_serving);
    if (!stage_began_tree && membership_leads(environment_tree_value))
        start_serving();
    inherits_alone = false;
    membership_has_succeeded();
}

/* glibc calls constructors as it calls main (elf/dl-init.c), musl without arguments. */
#ifdef __GLIBC__
__attribute__((constructor)) static void loaded(int argc, char **argv)
{
    environment_remember_words(argc, argv);
    record_remember_words(argc, argv);
    load();
}
#else
__attribute__((constructor)) static void loaded(void)
{
    load();
}
#endif

__attribute__((destructor)) static void unload(void)
{
    if (!fork_is_new_child())
        stage_ends();
}
