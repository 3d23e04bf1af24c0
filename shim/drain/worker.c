/* SPDX-License-Identifier: MIT */
#include "drain/worker.h"

#include "drain/drain.h"
#include "conn/epoch.h"
#include "tree/coordinator.h"
#include "base/libc.h"
#include "base/log.h"
#include "tree/sd_notify.h"
#include "drain/signals.h"
#include "drain/start.h"
#include "base/sys.h"
#include "conn/table.h"
#include "tree/membership.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

/* ---- wishes ---- */

/*
 * The wishes that nobody has taken yet, and whether there is a thread to take them, in one word:
 * so a wish is either seen by a thread or makes one, whoever is first.
 */
enum wish {
    WISH_LOOK = 1 << ACTION_NONE, /* at the page, at a stop signal */
    WISH_CLOSE_IDLE = 1 << ACTION_CLOSE_IDLE,
    WISH_DRAIN = 1 << ACTION_DRAIN,
    WISH_DRAIN_ALL = 1 << ACTION_DRAIN_ALL,
    WISH_WAKE = 1 << 8, /* the other processes of the tree */
    WISH_MASK = WISH_LOOK | WISH_CLOSE_IDLE | WISH_DRAIN | WISH_DRAIN_ALL | WISH_WAKE,
    RUNNING = 1 << 16,
    ENDS = 1 << 17,   /* the one that runs is to end, whatever it has still to do */
    BARRED = 1 << 20, /* counted from here on: calls during which there is to be no thread */
};

static _Atomic uint32_t wishes;    /* a futex word */
static _Atomic int32_t thread_tid; /* of the last one */

/* Who wished first what has not been taken yet of this process: told in the log. */
static struct {
    _Atomic int taken; /* 0: free, 1: being written, 2: there */
    struct origin origin;
} first;

/* ---- stop signals ---- */

/* The stop signals that wait for the end of a drain, each as the program is to get it then. */
static struct {
    _Atomic uint64_t taken, held; /* written or being written; there */
    _Atomic uint64_t handed_on;   /* info is of one that is on its way */
    _Atomic int64_t at;           /* of the first */
} stop;
static LATE siginfo_t stop_info[65];

static uint64_t stops;       /* WEIR_STOP_SIGNALS */
static _Atomic int trigger;  /* 0: none, or the program's own */
static _Atomic bool yielded; /* the program has a use for it, and keeps it */
static _Atomic int control;  /* WEIR_CONTROL_SIGNAL; 0: none, or the program's own */
static _Atomic bool control_yielded;
static int64_t triggered_at; /* the first of two triggers, for WEIR_DOUBLE_SIGNAL */

/* ---- the thread ---- */

#define STACK_BYTES (64 * 1024)
static LATE _Alignas(64) char stack[STACK_BYTES];

/*
 * What a thread pointer has to point to. Nothing that the thread calls reads it, but the compiler
 * and a debugger may: x86-64 wants a pointer to itself there, and libc's and our thread-locals lie
 * below it (ELF TLS variant II; above it on aarch64).
 */
#define TLS_REACH 8192
static LATE _Alignas(64) struct {
    char below[TLS_REACH];
    void *self[8];
    char above[TLS_REACH];
} tls;

/* More than our own thread-locals take. */
#define TLS_OURS 1024

/*
 * Where the thread's pointer is to point: with as much room around it as the program's own
 * thread-locals take, for they lie between it and ours. NULL: there is none.
 */
static void *thread_pointer(void)
{
    static char *larger;
    ptrdiff_t to_ours = (char *)&epoch_thread - sys_thread_pointer();
    size_t reach = (size_t)(to_ours < 0 ? -to_ours : to_ours) + TLS_OURS;
    if (LIKELY(reach <= TLS_REACH))
        return tls.self;
    if (!larger) {
        reach = (reach + 63) & ~(size_t)63;
        long at = sys6(SYS_mmap, NULL, 2 * reach, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at < 0 && at > -4096)
            return NULL;
        larger = (char *)at + reach;
    }
    return larger;
}

static void name_thread(void)
{
    sys2(SYS_prctl, PR_SET_NAME, "weir");
}

/* Its default action would end the program, but at pid 1 the kernel drops it (pid_namespaces(7)).
 */
static void end_if_init(int sig)
{
    if (sys0(SYS_getpid) == 1)
        sys1(SYS_exit_group, 128 + sig);
}

static void end_init(int sig)
{
    if (signals_is_default(sig))
        end_if_init(sig);
}

static int lowest(uint64_t set)
{
    return set ? __builtin_ctzll(set) + 1 : 0;
}

/* Hands those on that have waited: they come to signals_deliver. */
static void hand_stops_on(void)
{
    uint64_t held = atomic_exchange(&stop.held, 0);
    atomic_fetch_or(&stop.handed_on, held);
    atomic_fetch_and(&stop.taken, ~held);
    for (int sig; (sig = lowest(held)); held &= held - 1) {
        if (signals_is_default(sig))
            start_ends(); /* nothing else will */
        end_init(sig);
        signals_send(0, &stop_info[sig]);
    }
}

/* The drain is over: hands a stop signal on, and WEIR_ON_DRAINED. */
static void after_drain(bool of_tree)
{
    char buffer[64];
    struct text text = TEXT_ON(buffer);
    signals_hand_over(stops); /* from now on they pass straight through */
    int stopping = lowest(atomic_load(&stop.held));
    /* The first process of what was drained gets it: not who goes on with its parent's drain. */
    bool is_first = of_tree ? coordinator_has_ended_it() && coordinator_is_here() &&
                                  tree_page->tree_pid == tree_page->pid
                            : !drain_is_inherited();
    int on_drained = is_first ? settings_now()->on_drained : 0;
    int sig = stopping ? stopping : on_drained;
    if (!sig) {
        drain_say_end("the program runs on");
        return;
    }
    settings_say_signal(&text, sig);
    text_string(&text, " goes to the program");
    drain_say_end(buffer);
    if (stopping)
        return; /* to hand_stops_on */
    end_init(sig);
    sys2(SYS_kill, sys0(SYS_getpid), sig);
}

/* What has been wished of this process alone. */
static void begin_own(uint32_t wish)
{
    struct origin origin = {0, 0, 0};
    struct drain_terms terms = {false, sys_now_ms(), settings_now()->timeout};
    if (!(wish & (WISH_CLOSE_IDLE | WISH_DRAIN | WISH_DRAIN_ALL)))
        return;
    if (atomic_load(&first.taken) == 2) {
        origin = first.origin;
        atomic_store(&first.taken, 0);
    }
    for (int action = ACTION_CLOSE_IDLE; action <= ACTION_DRAIN_ALL; action++)
        if (wish & 1u << action)
            drain_begin((enum action)action, &origin, &terms);
}

/* What has been asked of the whole tree. */
static void begin_trees(void)
{
    uint32_t news = coordinator_news();
    const struct page *page = tree_page;
    if (!news)
        return;
    coordinator_count_asked();
    struct drain_terms terms;
    coordinator_terms(&terms);
    for (int action = ACTION_CLOSE_IDLE; action <= ACTION_DRAIN_ALL; action++)
        if (news & 1u << action)
            drain_begin((enum action)action,
                        action == ACTION_CLOSE_IDLE ? &page->idle_by : &page->by, &terms);
}

/* How long a stop signal to another than the head waits for a drain of the tree to begin. */
#define STOP_HELD_MS 100
/* And how much longer than WEIR_TIMEOUT one for that drain's end, whatever the page says. */
#define STOP_GRACE_MS 5000
/* How often the watcher of a tree looks whether all are drained, and how often the others look. */
#define TREE_STEP_MS 20
#define TREE_WAIT_MS 200

/*
 * A stop signal that came to another than the head: held while the tree drains. Returns the ms
 * until it has to be looked at again; -1: there is none.
 */
static int64_t see_to_stop(int64_t now)
{
    if (!atomic_load(&stop.held) || coordinator_is_here())
        return -1;
    int64_t at = atomic_load(&stop.at), timeout = settings_now()->timeout;
    bool late = timeout && now > at + timeout + STOP_GRACE_MS;
    bool drains = drain_phase() == PHASE_DELAYING || drain_phase() == PHASE_DRAINING;
    if (coordinator_tree_drains() && (!coordinator_tree_is_drained() || drains) && !late)
        return TREE_WAIT_MS;
    int64_t left = coordinator_tree_is_drained() || late ? 0 : at + STOP_HELD_MS - now;
    if (left > 0)
        return left;
    signals_hand_over(atomic_load(&stop.held));
    hand_stops_on();
    return -1;
}

/* The end has been told, of this process and of the tree. */
static bool ended, tree_ended;

/* This process is drained. Returns the ms until the tree has to be looked at; -1: it is as well. */
static int64_t see_to_tree(int64_t now)
{
    bool draining = coordinator_tree_drains();
    if (draining && !coordinator_check(now))
        return coordinator_is_here() ? TREE_STEP_MS : TREE_WAIT_MS;
    if (draining ? !tree_ended : !ended)
        after_drain(draining);
    ended = true;
    tree_ended = tree_ended || draining;
    hand_stops_on();
    return -1;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/*
 * Who is in the middle of a step: the worker thread, or a signal's handler where none can be made.
 * There is one at a time, for what they do is done in memory that nobody locks: another handler
 * leaves it to that one and to the next wake; the thread waits.
 */
static _Atomic uint32_t steps; /* 1: somebody is */

static bool begin_step(void)
{
    return !atomic_exchange(&steps, 1);
}

static void end_step(void)
{
    atomic_store(&steps, 0);
}

static void worker(void)
{
    uint64_t mask;
    sys_block_signals(&mask);
    name_thread();
    for (;;) {
        uint32_t seen = atomic_load(&wishes);
        if (seen & ENDS) {
            sys_exit_if(&wishes, seen, (seen & ~(uint32_t)(RUNNING | ENDS)) | WISH_LOOK);
            continue;
        }
        solo_end();
        while (!begin_step())
            sys_futex_wait(&steps, 1, 1);
        uint32_t wish = atomic_fetch_and(&wishes, ~(uint32_t)WISH_MASK) & WISH_MASK;
        begin_own(wish);
        begin_trees();
        if (wish & WISH_WAKE) /* after the figures of the beginning have been told */
            coordinator_wake();
        /* Before the step: the first of it tells the figures of the beginning as well. */
        int64_t notified = sd_notify_step(sys_now_ms(), atomic_load(&stop.held));
        int64_t now = sys_now_ms(), wait = drain_step();
        coordinator_keep_awake(now);
        if (coordinator_tree_drains() && coordinator_is_here())
            log_take();
        if (drain_phase() == PHASE_DRAINED)
            wait = sooner(wait, see_to_tree(now));
        wait = sooner(wait, see_to_stop(now));
        if (!coordinator_tree_is_drained())
            wait = sooner(wait, notified);
        end_step();
        if (wait < 0) {
            if (drain_phase() == PHASE_SERVING)
                table_solo_again();
            log_take_ends();
            sys_exit_if(&wishes, RUNNING, 0);
        } else {
            sys_futex_wait(&wishes, RUNNING, wait);
        }
    }
}

/* The head of the tree drains, and wakes this process again and again: a step each time. */
static void step_without_thread(void)
{
    membership_set_flag(LINE_THREADLESS, true);
    begin_trees();
    drain_step();
    int64_t now = sys_now_ms();
    if (drain_phase() == PHASE_DRAINED)
        see_to_tree(now);
    see_to_stop(now);
}

/* What can be done without waiting is done here and now. */
static void do_without_thread(const struct origin *origin)
{
    if (coordinator_tree_drains() && !coordinator_is_here()) {
        step_without_thread();
        return;
    }
    log_say(LOG_ERROR, "no thread can be made (RLIMIT_NPROC?): idle connections are closed once, "
                       "and nobody waits for the rest");
    struct drain_terms terms = {false, sys_now_ms(), 0};
    drain_begin(ACTION_CLOSE_IDLE, origin, &terms);
    signals_hand_over(stops);
    hand_stops_on();
}

static bool make_thread(const struct origin *origin)
{
    void **self = thread_pointer();
    uint64_t mask;
    long tid = -ENOMEM;
    sys_block_signals(&mask);
    if (self) {
        self[0] = self[2] = self;
        tid = sys_spawn(stack + sizeof stack, self, worker, &thread_tid);
    }
    sys_unblock_signals(&mask);
    if (tid >= 0)
        return true;

    /* RLIMIT_NPROC. No handler of the program's is to run, and perhaps to leave, in the middle. */
    solo_end();
    atomic_fetch_and(&wishes, ~(uint32_t)(BARRED - 1));
    sys_block_signals(&mask);
    if (begin_step()) {
        do_without_thread(origin);
        end_step();
    }
    sys_unblock_signals(&mask);
    return false;
}

static bool wish_for(uint32_t wish, const struct origin *origin)
{
    uint32_t before = atomic_load(&wishes), running;
    do {
        running = before & RUNNING || before >= BARRED ? 0 : RUNNING;
    } while (!atomic_compare_exchange_weak(&wishes, &before, before | wish | running));
    if (before & RUNNING)
        sys_futex_wake(&wishes);
    return !running || make_thread(origin);
}

/* For how long the program's call waits for it: it ends all the same as soon as it can. */
#define ENDS_MOST_MS 3000

void worker_steps_aside(void)
{
    if (epoch_is_borrowed())
        return;
    epoch_now(); /* what a child has inherited tells of its parent's */
    uint32_t before = atomic_load(&wishes);
    while (!atomic_compare_exchange_weak(&wishes, &before,
                                         (before + BARRED) | (before & RUNNING ? ENDS : 0)))
        ;
    if (LIKELY(!(before & RUNNING)))
        return;
    int64_t until = sys_now_ms() + ENDS_MOST_MS;
    for (uint32_t now; (now = atomic_load(&wishes)) & RUNNING && sys_now_ms() < until;) {
        sys_futex_wake(&wishes);
        sys_futex_wait(&wishes, now, 1);
    }
    sys_await_end(atomic_load(&thread_tid), until - sys_now_ms());
}

void worker_comes_back(void)
{
    static const struct origin nobody = {0, 0, 0};
    if (epoch_is_borrowed())
        return;
    uint32_t before = atomic_load(&wishes);
    while (before >= BARRED && !atomic_compare_exchange_weak(&wishes, &before, before - BARRED))
        ;
    if (UNLIKELY(before & WISH_MASK) && !sys_is_sandboxed()) {
        int saved = errno;
        wish_for(0, &nobody);
        errno = saved;
    }
}

bool worker_order(enum action action, const struct origin *origin)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&first.taken, &none, 1)) {
        first.origin = *origin;
        atomic_store(&first.taken, 2);
    }
    return wish_for(1u << action, origin);
}

void worker_look(void)
{
    static const struct origin nobody = {0, 0, 0};
    wish_for(WISH_LOOK, &nobody);
}

/* Asks it of the whole tree. */
static void ask_tree(enum action action, const struct origin *origin)
{
    coordinator_ask(action, origin);
    wish_for(WISH_LOOK | WISH_WAKE, origin);
}

void worker_sees_listener(void)
{
    /* The thread may have looked at the listeners just before, and be about to end. */
    if (drain_phase() >= PHASE_DRAINING || coordinator_tree_drains())
        worker_look();
}

/* ---- the signals ---- */

static enum action wished_by(const siginfo_t *info, int64_t now)
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
 * A stop signal. The head drains the tree first; any other holds it for as long as the tree drains,
 * and for a moment in which that may begin: a service manager and a terminal tell all at once.
 */
static void on_stop(int sig, const siginfo_t *info, const struct origin *origin, bool head)
{
    if (signals_is_ignored(sig))
        return; /* without us it would do nothing either */
    int64_t now = sys_now_ms();
    uint64_t held = atomic_load(&stop.held);
    if (head && held) {
        if (now - atomic_load(&stop.at) >= 1000)
            ask_tree(ACTION_DRAIN_ALL, origin);
        return;
    }
    if (atomic_fetch_or(&stop.taken, SIGNAL_BIT(sig)) & SIGNAL_BIT(sig))
        return; /* two while the first waits are one */
    stop_info[sig] = *info;
    atomic_fetch_and(&stop.handed_on, ~SIGNAL_BIT(sig));
    if (!held)
        atomic_store(&stop.at, now);
    atomic_fetch_or(&stop.held, SIGNAL_BIT(sig));
    if (head)
        ask_tree(ACTION_DRAIN, origin);
    else
        worker_look();
}

/*
 * Whether the program has it at once, before its own kill(2) or raise(3) returns: where there is
 * nothing to wait for, and where it sends it to itself without being the head.
 */
static bool passes_straight(const siginfo_t *info, bool head)
{
    if (coordinator_tree_drains() && !coordinator_tree_is_drained())
        return false;
    if (head)
        return start_is_dormant() && coordinator_is_alone();
    return start_is_dormant() || (info->si_code <= 0 && info->si_pid == epoch_ask_pid());
}

/* The code that a signal had before it was sent on, or the one that it has. */
static int first_code(int sig, int code, int pid)
{
    bool ours = sig > 0 && sig < 65 && code == SI_QUEUE &&
                atomic_load(&stop.handed_on) & SIGNAL_BIT(sig) && pid == stop_info[sig].si_pid;
    return ours ? stop_info[sig].si_code : code;
}

void stop_signals_restore_code(siginfo_t *info)
{
    info->si_code = first_code(info->si_signo, info->si_code, info->si_pid);
}

void stop_signals_restore_codes(void *read, size_t bytes)
{
    struct signalfd_siginfo *at = read;
    for (; bytes >= sizeof *at; bytes -= sizeof *at, at++)
        at->ssi_code = first_code((int)at->ssi_signo, at->ssi_code, (int)at->ssi_pid);
}

/*
 * The program gets it. A stop signal that was not held ends pid 1 as one that was; so does one of
 * which only this thread can tell that it isn't blocked.
 */
static bool deliver(int sig, siginfo_t *info, void *context)
{
    if (stops & SIGNAL_BIT(sig) && signals_is_default_here(sig))
        end_if_init(sig);
    /* One for this thread alone (tgkill(2)) is for no other that lets it in. (A stop signal may
     * have come to another one first, which has sent it on.) */
    bool is_directed = info->si_code == SI_TKILL && !(stops & SIGNAL_BIT(sig));
    return signals_deliver(sig, info, context, is_directed);
}

/* Without it, this process can't be told what is asked of its tree. */
static void give_up_control(int sig)
{
    static _Atomic bool said;
    struct log_line line;
    atomic_store(&control_yielded, true);
    membership_set_flag(LINE_DEAF, true);
    if (atomic_exchange(&said, true))
        return;
    log_begin(&line, LOG_INFO);
    settings_say_signal(&line.text, sig);
    text_string(&line.text, " belongs to the program: `weir` can't wake this process; use another "
                            "WEIR_CONTROL_SIGNAL");
    log_send(&line);
}

/* Others wake us, by kill(2): whatever else comes is the program's own affair. */
static bool wakes_us(const siginfo_t *info)
{
    return info->si_code == SI_USER && info->si_pid != epoch_ask_pid();
}

/* Returns whether the program gets it. */
static bool take_signal(int sig, siginfo_t *info, void *context)
{
    if (signals_is_wake(info)) {
        signals_woken(info, context);
        return false;
    }
    epoch_compare_pids();
    epoch_now(); /* in a child of a fork: what it inherited is its parent's */
    epoch_lives_on();
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
    bool head = coordinator_is_here();
    if (!(stops & SIGNAL_BIT(sig))) {
        enum action action = wished_by(info, sys_now_ms());
        if (head)
            ask_tree(action, &origin);
        else
            worker_order(action, &origin);
    } else if (passes_straight(info, head)) {
        signals_hand_over(SIGNAL_BIT(sig));
        return deliver(sig, info, context);
    } else {
        on_stop(sig, info, &origin, head);
    }
    return false;
}

/* Signals that came while this process was finding out that it is a child (epoch.h). */
static LATE siginfo_t put_off[65];
static _Atomic uint64_t is_put_off;

void trigger_noticed(void)
{
    if (LIKELY(!atomic_load(&is_put_off)))
        return;
    uint64_t set = atomic_exchange(&is_put_off, 0);
    for (int sig; (sig = lowest(set)); set &= set - 1)
        signals_send(0, &put_off[sig]);
}

/*
 * Whether a thread in vfork is the parent: its child has exec'd or ended, and the kernel has let it
 * go on (it takes no signal before), but vfork has not returned yet. Where our own pid is not known
 * (epoch.h) nothing tells, and no signal of the parent's may be lost.
 */
static bool vfork_is_over(void)
{
    int pid = epoch_pid();
    return !pid || pid == (int)sys0(SYS_getpid);
}

/* In a vfork child, until it execs: the memory is its parent's. Orders are not for it. */
static void in_vfork_child(int sig, siginfo_t *info, void *context)
{
    if (!(signals_held() & ~stops & SIGNAL_BIT(sig)))
        signals_deliver_in_vfork_child(sig, info, context);
}

static void on_own_signal(int sig, siginfo_t *info, void *context)
{
    if (UNLIKELY(epoch_is_new())) {
        put_off[sig] = *info;
        atomic_fetch_or(&is_put_off, SIGNAL_BIT(sig));
        return;
    }
    if (sys_is_sandboxed())
        return; /* nothing that could be done here is sure to be allowed */
    signals_interrupted(context);
    if (!take_signal(sig, info, context))
        signals_goes_on(context); /* but another of the program's may have come meanwhile */
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno, borrowed = epoch_thread.borrowed;
    if (LIKELY(!borrowed)) {
        on_own_signal(sig, info, context);
    } else if (vfork_is_over()) {
        epoch_thread.borrowed = 0;
        signals_vfork_over();
        on_own_signal(sig, info, context);
        epoch_thread.borrowed = borrowed;
    } else {
        in_vfork_child(sig, info, context);
    }
    errno = saved;
}

static void say_yielded(int sig)
{
    static _Atomic bool said;
    if (atomic_exchange(&said, true))
        return;
    struct log_line line;
    log_begin(&line, LOG_INFO);
    settings_say_signal(&line.text, sig);
    text_string(&line.text, " belongs to the program: use `weir drain ");
    text_number(&line.text, tree_page ? (uint64_t)tree_page->pid : 0);
    text_string(&line.text, "` or WEIR_SIGNAL=RTMIN+3");
    log_send(&line);
}

static void install_control(int sig)
{
    if (!sig || atomic_load(&control) == sig)
        return;
    if (atomic_load(&control_yielded) || signals_has_handler(sig) || !signals_take(sig, on_signal))
        give_up_control(sig);
    else
        atomic_store(&control, sig);
}

static void take_stops(void)
{
    for (int sig = 1; sig < 65; sig++)
        if (stops & SIGNAL_BIT(sig))
            signals_take(sig, on_signal);
    if (stops)
        signals_wrap();
}

void trigger_install(const struct settings *settings)
{
    stops = settings->stop_signals;
    take_stops();
    install_control(settings->control_signal);
    int sig = settings->signal;
    if (!sig || atomic_load(&trigger) == sig)
        return;
    if (atomic_load(&yielded) || signals_has_handler(sig)) {
        atomic_store(&yielded, true);
        say_yielded(sig);
    } else if (signals_take(sig, on_signal)) {
        atomic_store(&trigger, sig);
    }
}

void trigger_resumes(void)
{
    if (!coordinator_tree_drains() || coordinator_tree_is_drained())
        return;
    /* That one has taken its memory along: who asked is in the page. */
    struct origin by = tree_page->by;
    if (by.signal > 0 && by.signal < 65 && stops & SIGNAL_BIT(by.signal) &&
        !signals_is_ignored(by.signal)) {
        siginfo_t *info = &stop_info[by.signal];
        info->si_signo = by.signal;
        info->si_pid = by.pid;
        info->si_uid = (uid_t)by.uid;
        atomic_store(&stop.at, sys_now_ms());
        atomic_fetch_or(&stop.taken, SIGNAL_BIT(by.signal));
        atomic_fetch_or(&stop.held, SIGNAL_BIT(by.signal));
    }
    worker_look();
}

bool trigger_is(int sig)
{
    return atomic_load(&trigger) == sig;
}

bool trigger_enters_sandbox(void)
{
    epoch_lives_on(); /* while it may do what that takes */
    bool was_in = atomic_load(&sys_sandboxed);
    worker_steps_aside();
    if (was_in)
        return true;
    log_say(start_is_first() ? LOG_INFO : LOG_DEBUG,
            "the program enters a seccomp sandbox: from here on this process is not drained");
    signals_hand_over(stops);
    signals_give_back(~signals_held());
    hand_stops_on(); /* nobody will */
    membership_set_flag(LINE_SANDBOXED, true);
    atomic_store(&sys_sandboxed, true);
    return false;
}

void trigger_entered_sandbox(bool was_in, bool failed)
{
    if (failed) {
        atomic_store(&sys_sandboxed, was_in);
        membership_set_flag(LINE_SANDBOXED, was_in);
    }
    if (failed && !was_in)
        take_stops();
    worker_comes_back();
}

/* signal(7): all of them. Who waits for every signal names none. */
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
    if (epoch_is_borrowed())
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

void worker_forked(void)
{
    atomic_store(&wishes, 0);
    atomic_store(&first.taken, 0);
    atomic_store(&stop.taken, 0);
    atomic_store(&stop.held, 0);
    triggered_at = 0;
    ended = tree_ended = false;
    end_step();
}
