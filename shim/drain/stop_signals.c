/* SPDX-License-Identifier: MIT */
#include "drain/stop_signals.h"

#include "base/settings.h"
#include "base/sys.h"
#include "drain/drain.h"
#include "drain/signals_handlers.h"
#include "drain/stage.h"
#include "tree/coordinator.h"

#include <sys/signalfd.h>

/* How long a stop signal to another than the coordinator waits for a drain of the tree to begin. */
#define HELD_MS 100
/* And how much longer than WEIR_TIMEOUT one for that drain's end, whatever the page says. */
#define GRACE_MS 5000
/* How often it is looked at while the tree drains. */
#define LOOK_MS 200

static uint64_t stops; /* WEIR_STOP_SIGNALS */

static _Atomic uint64_t taken, held; /* written or being written; there */
static _Atomic uint64_t released;    /* infos is of one that is on its way to the program */
static _Atomic int64_t held_since;   /* of the first */
static LATE siginfo_t infos[65];     /* each as the program is to get it */

void stop_signals_take(uint64_t set)
{
    stops = set;
    for (int sig = 1; sig < 65; sig++)
        if (stops & SIGNAL_BIT(sig))
            signals_take(sig);
    if (stops)
        signals_wrap();
}

uint64_t stop_signals_all(void)
{
    return stops;
}

bool stop_signals_hold(int sig, const siginfo_t *info, int64_t now)
{
    if (atomic_fetch_or(&taken, SIGNAL_BIT(sig)) & SIGNAL_BIT(sig))
        return false;
    infos[sig] = *info;
    atomic_fetch_and(&released, ~SIGNAL_BIT(sig));
    if (!atomic_load(&held))
        atomic_store(&held_since, now);
    atomic_fetch_or(&held, SIGNAL_BIT(sig));
    return true;
}

uint64_t stop_signals_held(void)
{
    return atomic_load(&held);
}

int64_t stop_signals_held_since(void)
{
    return atomic_load(&held_since);
}

/* signal(7), "Ign" and "Cont": the kernel drops no end there. */
static bool spares_by_default(int sig)
{
    return sig == SIGCHLD || sig == SIGCONT || sig == SIGURG || sig == SIGWINCH;
}

void stop_signals_end_init(int sig)
{
    if (!spares_by_default(sig) && sys0(SYS_getpid) == 1)
        sys1(SYS_exit_group, 128 + sig);
}

void stop_signals_release(void)
{
    uint64_t set = atomic_exchange(&held, 0);
    atomic_fetch_or(&released, set);
    atomic_fetch_and(&taken, ~set);
    for (int sig; (sig = signals_lowest(set)); set &= set - 1) {
        if (signals_is_default(sig) && !spares_by_default(sig)) {
            stage_ends(); /* nothing else will */
            stop_signals_end_init(sig);
        }
        signals_send(0, &infos[sig]);
    }
}

void stop_signals_hand_over(void)
{
    signals_hand_over(stops);
}

int64_t stop_signals_step(int64_t now)
{
    if (!atomic_load(&held) || coordinator_is_here())
        return -1;
    int64_t since = atomic_load(&held_since), timeout = settings_now()->timeout;
    bool late = timeout && now > since + timeout + GRACE_MS;
    bool drains = drain_phase() == PHASE_DELAYING || drain_phase() == PHASE_DRAINING;
    bool tree_is_drained = coordinator_tree_is_drained();
    if (coordinator_tree_drains() && (!tree_is_drained || drains) && !late)
        return LOOK_MS;
    int64_t left = tree_is_drained || late ? 0 : since + HELD_MS - now;
    if (left > 0)
        return left;
    signals_hand_over(atomic_load(&held));
    stop_signals_release();
    return -1;
}

/* The code that a signal had before it was released, or the one that it has. */
static int first_code(int sig, int code, int pid)
{
    bool is_released = sig > 0 && sig < 65 && code == SI_QUEUE &&
                       atomic_load(&released) & SIGNAL_BIT(sig) && pid == infos[sig].si_pid;
    return is_released ? infos[sig].si_code : code;
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

void stop_signals_forked(void)
{
    atomic_store(&taken, 0);
    atomic_store(&held, 0);
}
