/* SPDX-License-Identifier: MIT */
#include "signals.h"

#include "epoch.h"
#include "libc.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <ucontext.h>

#define SIGNALS 65

/* What the program believes is installed, of those that were ever ours: the last is that of
 * the first of them, and the first stays empty. */
static BIG(3) struct sigaction actions[SIGNALS];
static uint8_t place[SIGNALS], places;
static _Atomic uint64_t ours;         /* the kernel has our handler for these */
static _Atomic uint64_t handed_over;  /* those of them that are the program's by now */
static _Atomic uint64_t ever_blocked; /* those of them that some thread believes it blocks */
static _Atomic uint64_t inherited;    /* what the next thread believes that it blocks */

static __thread uint64_t blocked; /* those of ours that the program believes this thread blocks */
static __thread bool blocked_known;
static __thread bool borrowed_mask; /* a vfork child has set its own */

static void set_word(sigset_t *set, uint64_t value)
{
    *(uint64_t *)(void *)set = value;
}

static struct sigaction *program(int sig)
{
    return &actions[place[sig]];
}

static bool is_ours(int sig)
{
    return sig > 0 && sig < SIGNALS && atomic_load(&ours) & SIGNAL_BIT(sig);
}

static uint64_t *view(void)
{
    if (!blocked_known) {
        blocked = atomic_load(&inherited);
        blocked_known = true;
    }
    return &blocked;
}

static void set_view(uint64_t set)
{
    *view() = set;
    if (set & ~atomic_load(&ever_blocked))
        atomic_fetch_or(&ever_blocked, set);
}

static signals_fn *our_handler;

static bool has_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

bool signals_take(int sig, signals_fn *handler)
{
    struct sigaction action = {.sa_sigaction = handler,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    uint64_t mask = SIGNAL_BIT(sig), before = 0;
    atomic_fetch_and(&handed_over, ~SIGNAL_BIT(sig)); /* it serves only now */
    if (is_ours(sig))
        return true;
    our_handler = handler;
    if (!place[sig])
        place[sig] = (uint8_t)(SIGNALS - ++places);
    sigfillset(&action.sa_mask);
    if (libc_sigaction(sig, &action, program(sig)) != 0)
        return false;
    atomic_fetch_or(&ours, SIGNAL_BIT(sig));
    /* A mask is inherited across exec: who started us may have blocked it. */
    sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, &before, sizeof mask);
    if (before & mask)
        set_view(*view() | mask);
    return true;
}

bool signals_has_handler(int sig)
{
    if (is_ours(sig))
        return has_handler(program(sig));
    struct sigaction action;
    return libc_sigaction(sig, NULL, &action) == 0 && has_handler(&action);
}

bool signals_is_ignored(int sig)
{
    return program(sig)->sa_handler == SIG_IGN;
}

bool signals_is_default(int sig)
{
    struct {
        sighandler_t handler; /* the kernel's struct sigaction begins with it */
        long rest[19];
    } action = {SIG_DFL, {0}};
    if (atomic_load(&ever_blocked) & SIGNAL_BIT(sig))
        return false;
    if (is_ours(sig))
        return program(sig)->sa_handler == SIG_DFL;
    return sys4(SYS_rt_sigaction, sig, NULL, &action, sizeof(uint64_t)) == 0 &&
           action.handler == SIG_DFL;
}

bool signals_is_default_here(int sig)
{
    return is_ours(sig) && !(*view() & SIGNAL_BIT(sig)) && program(sig)->sa_handler == SIG_DFL;
}

uint64_t signals_held(void)
{
    return atomic_load(&ours) & ~atomic_load(&handed_over);
}

void signals_hand_over(uint64_t set)
{
    atomic_fetch_or(&handed_over, set & atomic_load(&ours));
}

/* The kernel has the program's own action from now on. */
static void give_back(int sig)
{
    libc_sigaction(sig, program(sig), NULL);
    atomic_fetch_and(&ours, ~SIGNAL_BIT(sig));
}

void signals_give_back(uint64_t set)
{
    for (int sig = 1; sig < SIGNALS; sig++)
        if (set & atomic_load(&ours) & SIGNAL_BIT(sig))
            give_back(sig);
}

void signals_send(int tid, const siginfo_t *info)
{
    long pid = sys0(SYS_getpid);
    siginfo_t again = *info;
    for (int tries = 0; tries < 2; tries++) {
        long result = tid ? sys4(SYS_rt_tgsigqueueinfo, pid, tid, again.si_signo, &again)
                          : sys3(SYS_rt_sigqueueinfo, pid, again.si_signo, &again);
        if (result != -EPERM)
            return;
        again.si_code = SI_QUEUE;
    }
}

/*
 * Calls that end with EINTR when a handler without SA_RESTART has run (signal(7)). Not among them:
 * those that the kernel always begins again (clone, execve).
 */
static bool ends_with_eintr(long call)
{
    switch (call) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_futex:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_ioctl:
    case SYS_openat:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
    case SYS_getrandom:
#ifdef SYS_open
    case SYS_open:
#endif
        return true;
    }
    return false;
}

/*
 * The kernel has put the context of a call that our handler interrupted back to its beginning, for
 * SA_RESTART is set: where the program's own handler has not asked for that, the call has ended
 * with EINTR instead (arch/x86/kernel/signal.c, arch/arm64/kernel/signal.c).
 */
static void end_call(ucontext_t *at)
{
#ifdef __x86_64__
    greg_t *regs = at->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)regs[REG_RIP];
    /* syscall leaves the address after it in rcx: that tells one that was made already. */
    if (regs[REG_RCX] == regs[REG_RIP] + 2 && code[0] == 0x0f && code[1] == 0x05 &&
        ends_with_eintr(regs[REG_RAX])) {
        regs[REG_RAX] = -EINTR;
        regs[REG_RIP] += 2;
    }
#else
    const uint32_t *code = (const uint32_t *)at->uc_mcontext.pc;
    if (*code == 0xd4000001 /* svc #0 */ && ends_with_eintr((long)at->uc_mcontext.regs[8])) {
        at->uc_mcontext.regs[0] = (uint64_t)-EINTR;
        at->uc_mcontext.pc += 4;
    }
#endif
}

void signals_deliver(int sig, siginfo_t *info, void *context)
{
    ucontext_t *interrupted_at = context;

    if (*view() & SIGNAL_BIT(sig)) {
        /* From here on the kernel blocks it in this thread as well. The signal waits for another,
         * for a signalfd or for a sigwait. */
        set_word(&interrupted_at->uc_sigmask,
                 signals_word(&interrupted_at->uc_sigmask) | SIGNAL_BIT(sig));
        signals_send(0, info);
        return;
    }
    epoch_thread.interrupted = false; /* the EINTR is the program's, as it would be without us */
    struct sigaction action = *program(sig);
    if (has_handler(&action) && !(action.sa_flags & (int)SA_RESTART))
        end_call(interrupted_at);
    if (!has_handler(&action) || !(atomic_load(&ever_blocked) & SIGNAL_BIT(sig))) {
        give_back(sig);
        signals_send((int)sys0(SYS_gettid), info);
        return;
    }
    /* Some thread still has to be stopped from taking it: our handler stays, and calls theirs. */
    if (action.sa_flags & (int)SA_RESETHAND)
        program(sig)->sa_handler = SIG_DFL;
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(sig, info, context);
    else
        action.sa_handler(sig);
}

/* ---- waking the program's threads ---- */

/* What a signal of ours carries that is only to interrupt. */
static char wake_cookie;

bool signals_is_wake(const siginfo_t *info)
{
    return info->si_code == SI_QUEUE && info->si_value.sival_ptr == &wake_cookie;
}

/* The signal to interrupt with: the kernel must have our handler for it. 0: there is none. */
static int wake_signal(void)
{
    uint64_t held = signals_held();
    for (int sig = 64; sig > 0; sig--)
        if (held & SIGNAL_BIT(sig))
            return sig;
    return 0;
}

/* getdents64(2) */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

void signals_wake_threads(void)
{
    char buffer[2048] __attribute__((aligned(8)));
    siginfo_t info = {.si_signo = wake_signal(), .si_code = SI_QUEUE};
    long pid = sys0(SYS_getpid), own = sys0(SYS_gettid), n;
    info.si_pid = (int)pid;
    info.si_value.sival_ptr = &wake_cookie;
    if (!info.si_signo)
        return;
    long tasks =
        sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (tasks < 0) { /* a chroot: the first thread is the only one that we know */
        sys4(SYS_rt_tgsigqueueinfo, pid, pid, info.si_signo, &info);
        return;
    }
    while ((n = sys3(SYS_getdents64, tasks, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length) {
            long tid = 0;
            for (const char *digit = ((struct entry *)(buffer + at))->name; *digit >= '0'; digit++)
                tid = tid * 10 + (*digit - '0');
            if (tid > 0 && tid != own)
                sys4(SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, &info);
        }
    }
    sys1(SYS_close, tasks);
}

/* ---- what the program does ---- */

bool signals_action(int sig, const struct sigaction *action, struct sigaction *old)
{
    if (!is_ours(sig))
        return false;
    if (epoch_is_borrowed()) {
        /* A vfork child's actions are its own, our memory is its parent's: it sees what the program
         * has where the kernel has our handler, and sets the kernel's. */
        struct sigaction kernel;
        if (libc_sigaction(sig, action, &kernel) != 0)
            return false; /* and again, for errno */
        if (old)
            *old = kernel.sa_sigaction == our_handler ? *program(sig) : kernel;
        return true;
    }
    struct sigaction before = *program(sig);
    if (action) {
        *program(sig) = *action;
#ifdef __x86_64__
        program(sig)->sa_flags |= 0x04000000; /* SA_RESTORER, which libc sets and reads back */
#endif
        if (SIGNAL_BIT(sig) & atomic_load(&handed_over) & ~atomic_load(&ever_blocked))
            give_back(sig); /* nobody has to be stopped from taking it */
    }
    if (old)
        *old = before;
    return true;
}

void signals_mask(int how, const sigset_t *set, sigset_t *kernel, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&ours);
    mask->before = mask->after = *view();
    if (!set)
        return;
    *kernel = *set;
    borrowed_mask = epoch_is_borrowed();
    if (borrowed_mask)
        return; /* its own mask, our parent's memory: only the kernel is told, and hands it on */
    uint64_t wanted = signals_word(set) & mine;
    switch (how) {
    case SIG_BLOCK:
        mask->after |= wanted;
        break;
    case SIG_UNBLOCK:
        mask->after &= ~wanted;
        return; /* nothing of ours is blocked but what was handed over: let it be unblocked */
    case SIG_SETMASK:
        mask->after = (mask->after & ~mine) | wanted;
        break;
    }
    set_word(kernel, signals_word(set) & ~signals_held());
}

void signals_masked(const struct signals_mask *mask, sigset_t *old)
{
    uint64_t mine = atomic_load(&ours);
    if (old)
        set_word(old, signals_word(old) | (mask->before & mine));
    if (mask->after != mask->before)
        set_view(mask->after);
}

void signals_wait_begins(const sigset_t *set, sigset_t *kernel, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&ours);
    mask->before = *view();
    *kernel = *set;
    set_word(kernel, signals_word(set) & ~signals_held());
    blocked = (mask->before & ~mine) | (signals_word(set) & mine);
}

void signals_wait_ends(const struct signals_mask *mask)
{
    blocked = mask->before;
}

void signals_accepts(const sigset_t *set, sigset_t *kernel)
{
    uint64_t theirs = signals_word(set) & atomic_load(&ours) & atomic_load(&handed_over);
    if (theirs)
        sys4(SYS_rt_sigprocmask, SIG_BLOCK, &theirs, NULL, sizeof theirs);
    *kernel = *set;
    set_word(kernel, signals_word(set) & ~signals_held());
}

void signals_before_thread(void)
{
    epoch_lives_on();
    uint64_t mine = *view();
    if (mine != atomic_load(&inherited))
        atomic_store(&inherited, mine);
}

/* ---- exec ---- */

/*
 * What exec hands on is what the kernel has (signal(7)): the mask, and which signals are ignored.
 * For as long as it takes, that is what the program believes.
 */
void signals_vfork_over(void)
{
    borrowed_mask = false;
}

void signals_exec_begins(struct signals_exec *exec)
{
    uint64_t mine = atomic_load(&ours), mask = borrowed_mask ? 0 : *view() & mine;
    exec->blocked = exec->ignored = 0;
    if (!mine)
        return;
    for (int sig = 1; sig < SIGNALS; sig++) {
        struct sigaction now, ignore = {.sa_handler = SIG_IGN};
        if (!(mine & SIGNAL_BIT(sig)) || program(sig)->sa_handler != SIG_IGN ||
            libc_sigaction(sig, NULL, &now) != 0 || now.sa_sigaction != our_handler)
            continue; /* a vfork child may have set its own */
        libc_sigaction(sig, &ignore, &exec->kept);
        exec->ignored |= SIGNAL_BIT(sig);
    }
    if (mask) {
        uint64_t before = 0;
        sys4(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, sizeof mask);
        exec->blocked = mask & ~before;
    }
}

void signals_exec_ends(const struct signals_exec *exec)
{
    int saved = errno;
    for (int sig = 1; sig < SIGNALS; sig++)
        if (exec->ignored & SIGNAL_BIT(sig))
            libc_sigaction(sig, &exec->kept, NULL);
    if (exec->blocked)
        sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &exec->blocked, NULL, sizeof exec->blocked);
    errno = saved;
}

/* ---- EINTR ---- */

/* signal(7): some calls fail with EINTR also under SA_RESTART. Then the interrupted context is
 * that of a system call which is about to return it. */
void signals_interrupted(const void *context)
{
    const ucontext_t *at = context;
#ifdef __x86_64__
    long result = at->uc_mcontext.gregs[REG_RAX];
#else
    long result = (long)at->uc_mcontext.regs[0];
#endif
    /* Another of the program's that has come with ours: its EINTR is to be seen. */
    uint64_t pending = 0;
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    uint64_t theirs = pending & ~signals_word(&at->uc_sigmask) & ~signals_held();
    epoch_thread.interrupted = result == -EINTR && !theirs;
}

#define EPOLL_WAIT_CODE "\xb8\xe8\x00\x00\x00\x0f\x05" /* mov $SYS_epoll_wait, %eax; syscall */
#define EPOLL_WAIT_CODE_LENGTH 7
#define EPOLL_WAIT_LENGTH 192 /* of glibc's, and a little more */
#define PAGE_LEAST 4096

HOT_DATA(5) bool signals_waits_on;

#ifdef __x86_64__
static bool is_epoll_wait(const uint8_t *end)
{
    for (int i = 0; i < EPOLL_WAIT_CODE_LENGTH; i++)
        if (end[i - EPOLL_WAIT_CODE_LENGTH] != (uint8_t)EPOLL_WAIT_CODE[i])
            return false;
    return true;
}

void signals_know_wait(const void *epoll_wait)
{
    const uint8_t *code = epoll_wait;
    signals_waits_on = false;
    if ((uintptr_t)code % PAGE_LEAST > PAGE_LEAST - EPOLL_WAIT_LENGTH)
        return; /* what lies on the next page, if there is one, may not be code */
    for (int i = EPOLL_WAIT_CODE_LENGTH; i < EPOLL_WAIT_LENGTH; i++) {
        if (code[i - 2] != 0x0f || code[i - 1] != 0x05)
            continue;
        signals_waits_on = is_epoll_wait(&code[i]);
        if (!signals_waits_on)
            return;
    }
}

/* Whether it has put the thread back to before an epoll_wait without a limit. */
static bool waits_on(ucontext_t *at)
{
    greg_t *regs = at->uc_mcontext.gregs;
    /* syscall leaves the address after it in rcx. */
    if (regs[REG_RCX] != regs[REG_RIP] || (int)regs[REG_R10] >= 0 ||
        !is_epoll_wait((const uint8_t *)regs[REG_RIP]))
        return false;
    regs[REG_RIP] -= 2;
    regs[REG_RAX] = SYS_epoll_wait;
    return true;
}
#else
void signals_know_wait(const void *epoll_wait)
{
    (void)epoll_wait;
}

static bool waits_on(ucontext_t *at)
{
    (void)at;
    return false;
}
#endif

void signals_goes_on(void *context)
{
    signals_interrupted(context);
    if (epoch_thread.interrupted && waits_on(context))
        epoch_thread.interrupted = false;
}

bool signals_must_restart(void)
{
    bool was = epoch_thread.interrupted;
    epoch_thread.interrupted = false;
    return was;
}
