/* SPDX-License-Identifier: MIT */
#include "drain/worker.h"

#include "base/log.h"
#include "base/sys.h"
#include "base/thread.h"
#include "conn/fork_detect.h"
#include "conn/fdtable.h"
#include "drain/drain.h"
#include "drain/drain_say.h"
#include "drain/handed.h"
#include "drain/signals.h"
#include "drain/stop_signals.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/process_slot.h"
#include "tree/sd_notify.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- pending orders ---- */

/*
 * The orders that nobody has taken yet, and whether there is a thread to take them, in one word: so
 * an order is either seen by a thread or makes one, whichever is first.
 */
enum {
    ORDERED_LOOK = 1 << ACTION_NONE, /* at the page, at a stop signal */
    ORDERED_CLOSE_IDLE = 1 << ACTION_CLOSE_IDLE,
    ORDERED_DRAIN = 1 << ACTION_DRAIN,
    ORDERED_DRAIN_ALL = 1 << ACTION_DRAIN_ALL,
    ORDERED_WAKE = 1 << 8, /* the other processes of the tree */
    ORDERS = ORDERED_LOOK | ORDERED_CLOSE_IDLE | ORDERED_DRAIN | ORDERED_DRAIN_ALL | ORDERED_WAKE,
    RUNNING = 1 << 16,
    ENDS = 1 << 17,   /* the thread that runs is to end, whatever it has still to do */
    BARRED = 1 << 20, /* counted from here on: calls during which there is to be no thread */
};

static _Atomic uint32_t pending;   /* a futex word */
static _Atomic int32_t thread_tid; /* of the last one */

/* Who gave the first order that has not been taken yet of this process: told in the log. */
static struct {
    _Atomic int taken; /* 0: free, 1: being written, 2: there */
    struct origin origin;
} first;

/* ---- what is ordered ---- */

/* Begins what has been ordered of this process alone. */
static void begin_own(uint32_t orders)
{
    struct origin origin = {0, 0, 0};
    struct drain_terms terms = {false, sys_now_ms(), settings_now()->timeout};
    if (!(orders & (ORDERED_CLOSE_IDLE | ORDERED_DRAIN | ORDERED_DRAIN_ALL)))
        return;
    if (atomic_load(&first.taken) == 2) {
        origin = first.origin;
        atomic_store(&first.taken, 0);
    }
    for (int action = ACTION_CLOSE_IDLE; action <= ACTION_DRAIN_ALL; action++)
        if (orders & 1u << action)
            drain_begin((enum action)action, &origin, &terms);
}

/* Begins what has been ordered of the whole tree. */
static void begin_trees(void)
{
    uint32_t news = coordinator_news();
    const struct page *page = tree_page;
    if (!news)
        return;
    struct drain_terms terms;
    coordinator_terms(&terms);
    for (int action = ACTION_CLOSE_IDLE; action <= ACTION_DRAIN_ALL; action++)
        if (news & 1u << action)
            drain_begin((enum action)action,
                        action == ACTION_CLOSE_IDLE ? &page->idle_by : &page->by, &terms);
}

/* ---- the end of a drain ---- */

/* The end has been told, of this process and of the tree. */
static bool ended, tree_ended;

/* Hands a stop signal over, and sends WEIR_ON_DRAINED. */
static void after_drain(bool of_tree)
{
    char buffer[64];
    struct text text = TEXT_ON(buffer);
    stop_signals_hand_over();
    int stopping = signals_lowest(stop_signals_held());
    /* The first process of what was drained gets it: not one that goes on with its parent's drain.
     */
    bool is_first = of_tree ? coordinator_has_ended_it() && coordinator_is_here() &&
                                  tree_page->tree_pid == tree_page->pid
                            : !drain_is_inherited();
    int on_drained = is_first ? settings_now()->on_drained : 0;
    int sig = stopping ? stopping : on_drained;
    if (!sig) {
        drain_say_end(ended, "the program runs on");
        return;
    }
    settings_say_signal(&text, sig);
    text_string(&text, " goes to the program");
    drain_say_end(ended, buffer);
    if (stopping)
        return; /* to stop_signals_release */
    if (signals_is_default(sig))
        stop_signals_end_init(sig);
    sys2(SYS_kill, sys0(SYS_getpid), sig);
}

/* How often the watcher of a tree looks whether all are drained, and how often the others look. */
#define TREE_STEP_MS 20
#define TREE_WAIT_MS 200

/*
 * Sees to the tree of this process, which is drained. Returns the ms until it has to be looked at
 * again; -1: the tree is drained as well.
 */
static int64_t see_to_tree(int64_t now)
{
    bool draining = coordinator_tree_drains();
    if (draining && !coordinator_check(now))
        return coordinator_is_here() ? TREE_STEP_MS : TREE_WAIT_MS;
    if (draining ? !tree_ended : !ended)
        after_drain(draining);
    ended = true;
    tree_ended = tree_ended || draining;
    stop_signals_release();
    return -1;
}

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
 * Returns what the thread's pointer is to point to, with as much room around it as the program's
 * own thread-locals take: they lie between it and ours. NULL: there is no memory.
 */
static void *thread_pointer(void)
{
    static char *larger;
    ptrdiff_t to_ours = (char *)&fork_thread - sys_thread_pointer();
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

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/*
 * Whether the thread is in the middle of a step, or a signal's handler where no thread can be made.
 * There is one step at a time, for it changes memory that nothing locks. Another handler leaves its
 * orders to that one; the thread waits.
 */
static _Atomic uint32_t steps; /* 1: it is */

static bool begin_step(void)
{
    return !atomic_exchange(&steps, 1);
}

static void end_step(void)
{
    atomic_store(&steps, 0);
}

/* Does what is due. Returns the ms until the next step; -1: nothing is left to do. */
static int64_t step(void)
{
    uint32_t orders = atomic_fetch_and(&pending, ~(uint32_t)ORDERS) & ORDERS;
    if (drain_phase() == PHASE_SERVING)
        process_slot_count(); /* that alone may be what weir(1) has woken us for */
    coordinator_count_asked();
    if (orders & ORDERED_WAKE) {
        drain_count_before_wake();
        coordinator_wake();
    }
    begin_own(orders);
    begin_trees();
    /* Before the step: the first of it tells the figures of the beginning as well. */
    int64_t notified = sd_notify_step(sys_now_ms(), stop_signals_held());
    int64_t now = sys_now_ms(), wait = drain_step();
    coordinator_keep_awake(now);
    if (coordinator_tree_drains() && coordinator_is_here())
        log_take();
    if (drain_phase() == PHASE_DRAINED)
        wait = sooner(wait, see_to_tree(now));
    wait = sooner(wait, stop_signals_step(now));
    wait = sooner(wait, handed_step(now));
    if (!coordinator_tree_is_drained())
        wait = sooner(wait, notified);
    if (wait < 0)
        log_take_ends();
    return wait;
}

static void work(void)
{
    uint64_t mask;
    sys_block_signals(&mask);
    name_thread();
    for (;;) {
        uint32_t seen = atomic_load(&pending);
        if (seen & ENDS) {
            thread_exit_if(&pending, seen, (seen & ~(uint32_t)(RUNNING | ENDS)) | ORDERED_LOOK);
            continue;
        }
        while (!begin_step())
            sys_futex_wait(&steps, 1, 1);
        int64_t wait = step();
        end_step();
        if (wait < 0)
            thread_exit_if(&pending, RUNNING, 0);
        else
            sys_futex_wait(&pending, RUNNING, wait);
    }
}

/* ---- where no thread can be made ---- */

/*
 * HAProxy forbids itself all processes and threads (setrlimit(2), RLIMIT_NPROC). There a timer
 * takes the thread's place: each step is made by the handler of the signal that it sends, on one of
 * the program's threads, and says when the next one is due. What wakes the process makes one, too.
 */
static struct {
    int id;
    bool is_made;
} timer;

static bool make_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = settings_now()->control_signal,
                             .sigev_value = {.sival_ptr = &timer}};
    if (!timer.is_made && event.sigev_signo && signals_held() & SIGNAL_BIT(event.sigev_signo))
        timer.is_made = sys3(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer.id) == 0;
    return timer.is_made;
}

bool worker_is_timer(const siginfo_t *info)
{
    return info->si_code == SI_TIMER && info->si_value.sival_ptr == &timer;
}

/* Closes what is idle, once: nothing wakes this process again. */
static void close_idle_once(const struct origin *origin)
{
    uint32_t orders = atomic_fetch_and(&pending, ~(uint32_t)ORDERS) & ORDERS;
    if (orders == ORDERED_LOOK && !stop_signals_held() && !coordinator_tree_drains())
        return; /* the thread was to wait for the program to bind what was handed over */
    log_say(LOG_ERROR, "neither a thread nor a timer can be made (RLIMIT_NPROC, RLIMIT_SIGPENDING, "
                       "WEIR_CONTROL_SIGNAL?): idle connections are closed once, and nobody waits "
                       "for the rest");
    struct drain_terms terms = {false, sys_now_ms(), 0};
    drain_begin(ACTION_CLOSE_IDLE, origin, &terms);
    stop_signals_hand_over();
    stop_signals_release();
}

/* Whoever finds a step under way, in a handler on another thread, leaves the order to it. Returns
 * false if there is no timer. */
static bool step_without_thread(const struct origin *origin)
{
    bool has_timer = true;
    while (atomic_load(&pending) & ORDERS && begin_step()) {
        has_timer = make_timer();
        int64_t wait = has_timer ? step() : -1;
        if (!has_timer)
            close_idle_once(origin);
        struct itimerspec next = {.it_value = {wait / 1000, wait % 1000 * 1000000 + 1}};
        if (wait >= 0)
            sys4(SYS_timer_settime, timer.id, 0, &next, NULL);
        end_step();
    }
    return has_timer;
}

static bool make_thread(const struct origin *origin)
{
    void **self = thread_pointer();
    uint64_t mask;
    long tid = -ENOMEM;
    sys_block_signals(&mask);
    if (self) {
        self[0] = self[2] = self;
        tid = thread_clone(THREAD_FLAGS, stack + sizeof stack, &thread_tid, 0, self, work);
    }
    bool works = tid >= 0;
    if (!works) {
        atomic_fetch_and(&pending, ~(uint32_t)(RUNNING | ENDS));
        works = step_without_thread(origin);
    }
    sys_unblock_signals(&mask);
    return works;
}

static bool leave(uint32_t orders, const struct origin *origin)
{
    uint32_t before = atomic_load(&pending), running;
    do {
        running = before & RUNNING || before >= BARRED ? 0 : RUNNING;
    } while (!atomic_compare_exchange_weak(&pending, &before, before | orders | running));
    if (before & RUNNING)
        sys_futex_wake(&pending);
    return !running || make_thread(origin);
}

/* For how long the program's call waits for the thread, which ends all the same as soon as it can.
 */
#define ENDS_MOST_MS 3000

/* Waits until no thread of this process has that id any more, or ms have passed. */
static void await_end(int32_t tid, int64_t ms)
{
    static const _Atomic uint32_t word;
    long pid = sys0(SYS_getpid);
    int64_t until = sys_now_ms() + ms;
    for (int tries = 0; sys3(SYS_tgkill, pid, tid, 0) == 0 && sys_now_ms() < until; tries++)
        sys_futex_wait(&word, 0, tries < 10 ? 0 : 1);
}

void worker_steps_aside(void)
{
    if (in_vfork_child())
        return;
    generation_now(); /* what a child has inherited tells of its parent's */
    uint32_t before = atomic_load(&pending);
    while (!atomic_compare_exchange_weak(&pending, &before,
                                         (before + BARRED) | (before & RUNNING ? ENDS : 0)))
        ;
    if (LIKELY(!(before & RUNNING)))
        return;
    int64_t until = sys_now_ms() + ENDS_MOST_MS;
    for (uint32_t now; (now = atomic_load(&pending)) & RUNNING && sys_now_ms() < until;) {
        sys_futex_wake(&pending);
        sys_futex_wait(&pending, now, 1);
    }
    await_end(atomic_load(&thread_tid), until - sys_now_ms());
}

static const struct origin nobody;

void worker_comes_back(void)
{
    if (in_vfork_child())
        return;
    uint32_t before = atomic_load(&pending);
    while (before >= BARRED && !atomic_compare_exchange_weak(&pending, &before, before - BARRED))
        ;
    if (UNLIKELY(before & ORDERS) && !sys_is_sandboxed()) {
        int saved = errno;
        leave(0, &nobody);
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
    return leave(1u << action, origin);
}

void worker_look(void)
{
    leave(ORDERED_LOOK, &nobody);
}

void worker_order_tree(enum action action, const struct origin *origin)
{
    coordinator_ask(action, origin);
    leave(ORDERED_LOOK | ORDERED_WAKE, origin);
}

void worker_sees_listener(void)
{
    /* The thread may have looked at the listeners just before, and be about to end. */
    if (drain_phase() >= PHASE_DRAINING || coordinator_tree_drains())
        worker_look();
}

void worker_waits_for_bind(int fd)
{
    bool others_left = handed_listens(fd);
    if (others_left || atomic_load(&pending) & RUNNING) /* which may wait for this one alone */
        worker_look();
}

void worker_forked(void)
{
    atomic_store(&pending, 0);
    atomic_store(&first.taken, 0);
    ended = tree_ended = false;
    timer.is_made = false; /* timer_create(2) */
    end_step();
}
