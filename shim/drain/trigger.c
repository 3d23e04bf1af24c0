/* SPDX-License-Identifier: MIT */
#include "drain/trigger.h"

#include "base/log.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/signals.h"
#include "drain/signals_eintr.h"
#include "drain/signals_mask.h"
#include "drain/stage.h"
#include "drain/stop_signals.h"
#include "drain/worker.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <errno.h>

static _Atomic int trigger;  /* 0: none, or the program's own */
static _Atomic bool yielded; /* the program has a use for it, and keeps it */
static _Atomic int control;  /* WEIR_CONTROL_SIGNAL; 0: none, or the program's own */
static _Atomic bool control_yielded;
static int64_t triggered_at; /* the first of two triggers, for WEIR_DOUBLE_SIGNAL */

static enum action action_of(const siginfo_t *info, int64_t now)
{
    const struct settings *settings = settings_now();
    if (settings->double_signal && triggered_at && now - triggered_at <= settings->double_signal)
        return ACTION_DRAIN_ALL;
    triggered_at = now;
    if (info->si_code == SI_QUEUE) {
        switch (info->si_value.sival_int) {
        case 1:
            return ACTION_CLOSE_IDLE;
        case 2:
            return ACTION_DRAIN;
        case 3:
            return ACTION_DRAIN_ALL;
        }
    }
    return settings->action;
}

/*
 * A stop signal. The tree's coordinator drains the tree first. Any other process holds it for as
 * long as the tree drains, and for a moment in which that may begin: a service manager and a
 * terminal signal all processes at once.
 */
static void on_stop_signal(int sig, const siginfo_t *info, const struct origin *origin, bool leads)
{
    if (signals_is_ignored(sig))
        return; /* without us it would do nothing either */
    int64_t now = sys_now_ms();
    if (leads && stop_signals_held()) {
        if (now - stop_signals_held_since() >= 1000)
            worker_order_tree(ACTION_DRAIN_ALL, origin);
        return;
    }
    if (!stop_signals_hold(sig, info, now))
        return; /* two while the first waits are one */
    if (leads)
        worker_order_tree(ACTION_DRAIN, origin);
    else
        worker_look();
}

/*
 * Tells whether the program gets a stop signal at once, before its own kill(2) or raise(3) returns:
 * there is nothing to wait for, or it has sent it to itself and is not the coordinator.
 */
static bool passes_straight(const siginfo_t *info, bool leads)
{
    if (coordinator_tree_drains() && !coordinator_tree_is_drained())
        return false;
    if (leads)
        return stage_is_dormant() && process_slot_is_alone();
    return stage_is_dormant() || (info->si_code <= 0 && info->si_pid == fork_ask_pid());
}

/*
 * Gives a signal to the program. A stop signal that was not held ends pid 1 as one that was held;
 * so does one of which only this thread can tell that it isn't blocked.
 */
static bool deliver(int sig, siginfo_t *info, void *context)
{
    if (stop_signals_all() & SIGNAL_BIT(sig) && signals_is_default_here(sig))
        stop_signals_end_init(sig);
    /* A signal for this thread alone (tgkill(2)) is for no other. (A stop signal may have come to
     * another one first, which has sent it on.) */
    bool is_directed = info->si_code == SI_TKILL && !(stop_signals_all() & SIGNAL_BIT(sig));
    return signals_deliver(sig, info, context, is_directed);
}

/* Does without the control signal: this process can't be told what is ordered of its tree. */
static void give_up_control(int sig)
{
    static _Atomic bool said;
    char name[16];
    struct text text = TEXT_ON(name);
    atomic_store(&control_yielded, true);
    process_slot_set_flag(SLOT_NOT_WOKEN, true);
    if (atomic_exchange(&said, true))
        return;
    settings_say_signal(&text, sig);
    log_say(LOG_INFO,
            "%s belongs to the program: `weir` can't wake this process; use another "
            "WEIR_CONTROL_SIGNAL",
            name);
}

/* Other processes wake us, by kill(2), and our timer: anything else is the program's own affair. */
static bool wakes_us(const siginfo_t *info)
{
    return (info->si_code == SI_USER && info->si_pid != fork_ask_pid()) || worker_is_timer(info);
}

/* Acts on a signal. Returns whether the program gets it. */
static bool take_signal(int sig, siginfo_t *info, void *context)
{
    if (signals_is_wake(info)) {
        signals_woken(info, context);
        return false;
    }
    fork_compare_pids();
    generation_now(); /* in a child of a fork: what it inherited is its parent's */
    fork_lives_on();
    if (!(signals_held() & SIGNAL_BIT(sig))) {
        stop_signals_restore_code(info);
        return deliver(sig, info, context);
    }
    int controls = sig;
    if (sig == atomic_load(&control) && wakes_us(info)) {
        worker_look();
        return false;
    }
    if (UNLIKELY(atomic_compare_exchange_strong(&control, &controls, 0))) {
        signals_hand_over(SIGNAL_BIT(sig));
        give_up_control(sig);
        return deliver(sig, info, context);
    }
    struct origin origin = {sig, info->si_pid, (int)info->si_uid};
    bool leads = coordinator_is_here();
    if (!(stop_signals_all() & SIGNAL_BIT(sig))) {
        enum action action = action_of(info, sys_now_ms());
        if (leads)
            worker_order_tree(action, &origin);
        else
            worker_order(action, &origin);
    } else if (passes_straight(info, leads)) {
        signals_hand_over(SIGNAL_BIT(sig));
        return deliver(sig, info, context);
    } else {
        on_stop_signal(sig, info, &origin, leads);
    }
    return false;
}

/* Signals that came while this process was finding out that it is a child (fork_detect.h). */
static LATE siginfo_t put_off[65];
static _Atomic uint64_t is_put_off;

void trigger_noticed(void)
{
    if (LIKELY(!atomic_load(&is_put_off)))
        return;
    uint64_t set = atomic_exchange(&is_put_off, 0);
    for (int sig; (sig = signals_lowest(set)); set &= set - 1)
        signals_send(0, &put_off[sig]);
}

/*
 * Tells whether a thread in vfork is the parent. Its child has exec'd or ended, and the kernel has
 * let it go on (it takes no signal before), but vfork has not returned yet. Where our own pid is
 * not known (fork_detect.h) nothing tells, and no signal of the parent's may be lost.
 */
static bool vfork_is_over(void)
{
    int pid = fork_pid();
    return !pid || pid == (int)sys0(SYS_getpid);
}

/* Acts in a vfork child, until it execs: the memory is its parent's, and no order is for it. */
static void on_signal_in_vfork_child(int sig, siginfo_t *info, void *context)
{
    if (!(signals_held() & ~stop_signals_all() & SIGNAL_BIT(sig)))
        signals_deliver_in_vfork_child(sig, info, context);
}

static void on_own_signal(int sig, siginfo_t *info, void *context)
{
    if (UNLIKELY(generation_is_new())) {
        put_off[sig] = *info;
        atomic_fetch_or(&is_put_off, SIGNAL_BIT(sig));
        return;
    }
    if (sys_is_sandboxed())
        return; /* nothing that could be done here is sure to be allowed */
    signals_interrupted(context);
    if (!take_signal(sig, info, context))
        signals_interrupted(context); /* but another of the program's may have come meanwhile */
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno, in_vfork_child = fork_thread.in_vfork_child;
    if (LIKELY(!in_vfork_child)) {
        on_own_signal(sig, info, context);
    } else if (vfork_is_over()) {
        fork_thread.in_vfork_child = 0;
        signals_vfork_over();
        on_own_signal(sig, info, context);
        fork_thread.in_vfork_child = in_vfork_child;
    } else {
        on_signal_in_vfork_child(sig, info, context);
    }
    errno = saved;
}

static void say_yielded(int sig)
{
    static _Atomic bool said;
    if (atomic_exchange(&said, true))
        return;
    char name[16];
    struct text text = TEXT_ON(name);
    settings_say_signal(&text, sig);
    log_say(LOG_INFO, "%s belongs to the program: use `weir drain %d` or WEIR_SIGNAL=RTMIN+3", name,
            tree_page ? tree_page->pid : 0);
}

static void install_control(int sig)
{
    if (!sig || atomic_load(&control) == sig)
        return;
    if (atomic_load(&control_yielded) || signals_has_handler(sig) || !signals_take(sig))
        give_up_control(sig);
    else
        atomic_store(&control, sig);
}

void trigger_install(const struct settings *settings)
{
    signals_our_handler = on_signal;
    stop_signals_take(settings->stop_signals);
    install_control(settings->control_signal);
    int sig = settings->signal;
    if (!sig || atomic_load(&trigger) == sig)
        return;
    if (atomic_load(&yielded) || signals_has_handler(sig)) {
        atomic_store(&yielded, true);
        say_yielded(sig);
    } else if (signals_take(sig)) {
        atomic_store(&trigger, sig);
    }
}

void trigger_resumes(void)
{
    if (!coordinator_tree_drains() || coordinator_tree_is_drained())
        return;
    /* The earlier program has taken its memory along: who gave the order is in the page. */
    struct origin by = tree_page->by;
    if (by.signal > 0 && by.signal < 65 && stop_signals_all() & SIGNAL_BIT(by.signal) &&
        !signals_is_ignored(by.signal)) {
        siginfo_t info = {.si_signo = by.signal};
        info.si_pid = by.pid;
        info.si_uid = (uid_t)by.uid;
        stop_signals_hold(by.signal, &info, sys_now_ms());
    }
    worker_look();
}

bool trigger_is(int sig)
{
    return atomic_load(&trigger) == sig;
}

bool trigger_enters_sandbox(void)
{
    fork_lives_on(); /* while it may do what that takes */
    bool was_in = atomic_load(&sys_sandboxed);
    worker_steps_aside();
    if (was_in)
        return true;
    log_say(stage_is_first() ? LOG_INFO : LOG_DEBUG,
            "the program enters a seccomp sandbox: from here on this process is not drained");
    stop_signals_hand_over();
    signals_settle();
    signals_give_back(~signals_held());
    stop_signals_release(); /* nobody else will */
    process_slot_set_flag(SLOT_SANDBOXED, true);
    atomic_store(&sys_sandboxed, true);
    return false;
}

void trigger_entered_sandbox(bool was_in, bool failed)
{
    if (failed) {
        atomic_store(&sys_sandboxed, was_in);
        process_slot_set_flag(SLOT_SANDBOXED, was_in);
    }
    if (failed && !was_in)
        stop_signals_take(stop_signals_all());
    worker_comes_back();
}

/* signal(7): all of them. A wait for every signal names none. */
#define REAL_TIME (UINT64_MAX << (34 - 1))

static void yield_control(uint64_t wanted, bool waits)
{
    int sig = settings_now()->control_signal, ours = sig;
    if (!sig || !(wanted & SIGNAL_BIT(sig)) || (waits && (wanted & REAL_TIME) == REAL_TIME))
        return;
    if (atomic_compare_exchange_strong(&control, &ours, 0)) {
        signals_yield(SIGNAL_BIT(sig));
        give_up_control(sig);
    } else if (waits) {
        atomic_store(&control_yielded, true); /* not taken yet */
    }
}

void trigger_yield(uint64_t wanted, bool waits)
{
    int sig = settings_now()->signal, ours = sig;
    if (in_vfork_child())
        return;
    yield_control(wanted, waits);
    if (!sig || !(wanted & SIGNAL_BIT(sig)))
        return;
    if (atomic_compare_exchange_strong(&trigger, &ours, 0)) {
        atomic_store(&yielded, true);
        signals_yield(SIGNAL_BIT(sig));
        say_yielded(sig);
    } else if (waits) {
        atomic_store(&yielded, true); /* not taken yet: trigger_install leaves it alone */
    }
}

void trigger_forked(void)
{
    triggered_at = 0;
}
