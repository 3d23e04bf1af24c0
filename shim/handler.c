/* SPDX-License-Identifier: MIT */
#include "handler.h"

#include "drain.h"
#include "epoch.h"
#include "libc.h"
#include "log.h"
#include "start.h"
#include "sys.h"

#include <errno.h>
#include <sys/prctl.h>

/* ---- wishes ---- */

/*
 * The wishes that nobody has taken yet, and whether there is a thread to take them, in one word:
 * so a wish is either seen by a thread or makes one, whoever is first.
 */
enum wish {
    WISH_CLOSE_IDLE = 1 << ACTION_CLOSE_IDLE,
    WISH_DRAIN = 1 << ACTION_DRAIN,
    WISH_DRAIN_ALL = 1 << ACTION_DRAIN_ALL,
    WISH_MASK = WISH_CLOSE_IDLE | WISH_DRAIN | WISH_DRAIN_ALL,
    RUNNING = 1 << 16,
};

static _Atomic uint32_t wishes; /* a futex word */

/* Who wished first what has not been taken yet: told in the log. */
static struct {
    _Atomic int taken; /* 0: free, 1: being written, 2: there */
    struct origin origin;
} first;

/* ---- stop signals ---- */

/*
 * The stop signal with which the drain began, as the program is to get it in the end, and the
 * program's own actions for the signals that are ours.
 */
static struct {
    _Atomic int taken; /* as above */
    siginfo_t info;
    int64_t at;
} stop;

#define SIGNALS 65
static struct sigaction programs[SIGNALS]; /* what the program believes is installed */
static _Atomic uint64_t ours;              /* bit n-1: the kernel has our handler for signal n */
static uint64_t stops;                     /* those of them that stop */
static _Atomic int trigger;                /* 0: none, or the program's own */

static _Atomic bool passing;               /* drained: stop signals go to the program */

static int64_t triggered_at; /* the last trigger, for WEIR_DOUBLE_SIGNAL */

static bool is_in(uint64_t set, int sig)
{
    return sig > 0 && sig < SIGNALS && set >> (sig - 1) & 1;
}

/* ---- the thread ---- */

#define STACK_BYTES (64 * 1024)
static _Alignas(64) char stack[STACK_BYTES];

/*
 * What a thread pointer has to point to. Nothing that the thread calls reads it, but the compiler
 * and a debugger may: x86-64 wants a pointer to itself there, and libc's and our thread-locals lie
 * below it (ELF TLS variant II; above it on aarch64).
 */
static _Alignas(64) struct {
    char below[8192];
    void *self[8];
    char above[8192];
} tls;

static void name_thread(void)
{
    sys2(SYS_prctl, PR_SET_NAME, "weir");
}

/*
 * pid_namespaces(7): the first process of a namespace is spared a signal's default action. Here the
 * signal is to end it all the same.
 */
static void end_if_init(long pid, int sig)
{
    struct {
        void *handler; /* the kernel's struct sigaction begins with it */
        long rest[19];
    } action = {NULL, {0}};
    if (pid == 1 && sys4(SYS_rt_sigaction, sig, NULL, &action, sizeof(uint64_t)) == 0 &&
        !action.handler)
        sys1(SYS_exit_group, 128 + sig);
}

/* The drain is over: hands a stop signal on, and WEIR_ON_DRAINED. */
static void after_drain(void)
{
    const struct settings *settings = start_settings();
    char name[16];
    char buffer[64];
    struct text text = TEXT_ON(buffer);
    bool stopping = atomic_load(&stop.taken) == 2;
    int sig = stopping ? stop.info.si_signo : settings->on_drained;
    if (!sig) {
        drain_say_end("the program runs on");
        return;
    }
    settings_signal_name(sig, name);
    if (!(*name >= '0' && *name <= '9'))
        text_string(&text, "SIG");
    text_string(&text, name);
    text_string(&text, " goes to the program");
    drain_say_end(buffer);

    long pid = sys0(SYS_getpid);
    atomic_store(&passing, true);
    if (stopping) {
        sys3(SYS_rt_sigqueueinfo, pid, sig, &stop.info); /* comes to pass_on */
    } else {
        end_if_init(pid, sig);
        sys2(SYS_kill, pid, sig);
    }
}

static void handler_thread(void)
{
    uint64_t mask;
    sys_block_signals(&mask);
    name_thread();
    bool ended = drain_phase() == PHASE_DRAINED;
    for (;;) {
        uint32_t wish = atomic_fetch_and(&wishes, RUNNING) & WISH_MASK;
        struct origin origin = {0, 0, 0};
        if (wish && atomic_load(&first.taken) == 2) {
            origin = first.origin;
            atomic_store(&first.taken, 0);
        }
        for (int action = ACTION_CLOSE_IDLE; action <= ACTION_DRAIN_ALL; action++)
            if (wish & 1u << action)
                drain_begin((enum action)action, &origin);
        int64_t wait = drain_step();
        if (!ended && drain_phase() == PHASE_DRAINED) {
            ended = true;
            after_drain();
        }
        if (wait < 0)
            sys_exit_if(&wishes, RUNNING);
        else
            sys_futex_wait(&wishes, RUNNING, wait);
    }
}

static bool make_thread(void)
{
    tls.self[0] = tls.self[2] = tls.self;
    uint64_t mask;
    sys_block_signals(&mask);
    long tid = sys_spawn(stack + sizeof stack, tls.self, handler_thread);
    sys_unblock_signals(&mask);
    if (tid >= 0)
        return true;

    /* RLIMIT_NPROC, or a sandbox: what can be done without waiting is done here and now. */
    struct origin nobody = {0, 0, 0};
    log_say(LOG_ERROR, "no thread can be made: idle connections are closed once, nobody waits");
    atomic_store(&wishes, 0);
    drain_begin(ACTION_CLOSE_IDLE, &nobody);
    return false;
}

bool handler_wish(enum action action, const struct origin *origin)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&first.taken, &none, 1)) {
        first.origin = *origin;
        atomic_store(&first.taken, 2);
    }
    uint32_t before = atomic_fetch_or(&wishes, RUNNING | 1u << action);
    if (before & RUNNING)
        sys_futex_wake(&wishes);
    return before & RUNNING || make_thread();
}

/* ---- the signals ---- */

static enum action wished_by(const siginfo_t *info, int64_t now)
{
    const struct settings *settings = start_settings();
    int64_t before = triggered_at;
    triggered_at = now;
    if (settings->double_signal && before && now - before <= settings->double_signal)
        return ACTION_DRAIN_ALL;
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

static void on_stop(int sig, const siginfo_t *info, const struct origin *origin, int64_t now)
{
    if (programs[sig].sa_handler == SIG_IGN)
        return; /* without us it would do nothing either */
    int none = 0;
    if (atomic_compare_exchange_strong(&stop.taken, &none, 1)) {
        stop.info = *info;
        stop.at = now;
        atomic_store(&stop.taken, 2);
        handler_wish(ACTION_DRAIN, origin);
    } else if (now - stop.at >= 1000) {
        handler_wish(ACTION_DRAIN_ALL, origin);
    }
}

/*
 * Drained: from now on the kernel has the program's own action, and the signal, sent to this thread
 * once more with all that came with it, meets it when our handler has returned.
 */
static void pass_on(int sig, siginfo_t *info)
{
    long pid = sys0(SYS_getpid);
    libc_sigaction(sig, &programs[sig], NULL);
    atomic_fetch_and(&ours, ~(UINT64_C(1) << (sig - 1)));
    end_if_init(pid, sig);
    sys4(SYS_rt_tgsigqueueinfo, pid, sys0(SYS_gettid), sig, info);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    epoch_now(); /* in a child of a fork: what it inherited is its parent's */
    int64_t now = sys_now_ms();
    struct origin origin = {sig, info->si_pid, (int)info->si_uid};
    if (is_in(stops, sig) && atomic_load(&passing))
        pass_on(sig, info);
    else if (is_in(stops, sig))
        on_stop(sig, info, &origin, now);
    else if (sig == atomic_load(&trigger))
        handler_wish(wished_by(info, now), &origin);
    errno = saved;
}

/* Ours stays out of the program's way: its handlers' masks are its own affair. */
static void take_signal(int sig)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    if (libc_sigaction(sig, &action, NULL) == 0)
        atomic_fetch_or(&ours, UINT64_C(1) << (sig - 1));
}

static bool has_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static void say_yielded(int sig)
{
    struct log_line line;
    char name[16];
    settings_signal_name(sig, name);
    log_begin(&line, LOG_INFO);
    text_string(&line.text, *name >= '0' && *name <= '9' ? "signal " : "SIG");
    text_string(&line.text, name);
    text_string(&line.text, " belongs to the program: use WEIR_SIGNAL=RTMIN+3 (or another that it "
                            "leaves alone)");
    log_send(&line);
}

void handler_install(const struct settings *settings)
{
    stops = settings->stop_signals;
    for (int sig = 1; sig < SIGNALS; sig++) {
        bool triggers = sig == settings->signal;
        if ((!triggers && !is_in(stops, sig)) || is_in(atomic_load(&ours), sig))
            continue;
        if (libc_sigaction(sig, NULL, &programs[sig]) != 0)
            continue;
        if (triggers && has_handler(&programs[sig])) {
            say_yielded(sig);
            continue;
        }
        if (triggers)
            atomic_store(&trigger, sig);
        take_signal(sig);
    }
}

bool handler_sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    if (!is_in(atomic_load(&ours), sig))
        return false;
    epoch_now();
    struct sigaction before = programs[sig];
    if (action) {
        programs[sig] = *action;
        if (sig == atomic_load(&trigger) && has_handler(action)) {
            /* The program has a use for it: it keeps it from now on. */
            atomic_store(&trigger, 0);
            atomic_fetch_and(&ours, ~(UINT64_C(1) << (sig - 1)));
            libc_sigaction(sig, action, NULL);
            say_yielded(sig);
        }
    }
    if (old)
        *old = before;
    return true;
}

void handler_forked(void)
{
    atomic_store(&wishes, 0);
    atomic_store(&first.taken, 0);
    atomic_store(&stop.taken, 0);
    atomic_store(&passing, false);
    triggered_at = 0;
}
