/* SPDX-License-Identifier: MIT */
#include "drain/signals_own.h"

#include "conn/epoch.h"
#include "base/libc.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>

/* What the program believes is installed, of those that were ever ours: the last is that of
 * the first of them, and the first stays empty. */
static BIG(3) struct sigaction actions[SIGNALS];
static uint8_t place[SIGNALS], places;
static _Atomic uint64_t ours;        /* the kernel has our handler for these */
static _Atomic uint64_t handed_over; /* those of them that are the program's by now */
static _Atomic uint64_t off_stack; /* our handler is not called on the thread's own signal stack */
static _Atomic uint64_t ever_blocked; /* those of them that some thread believes it blocks */

__thread struct signals_thread own;

static struct sigaction *program(int sig)
{
    return &actions[place[sig]];
}

static bool is_ours(int sig)
{
    return sig > 0 && sig < SIGNALS && atomic_load(&ours) & SIGNAL_BIT(sig);
}

void signals_set_view(uint64_t set)
{
    own.blocked = set;
    if (set & ~atomic_load(&ever_blocked))
        atomic_fetch_or(&ever_blocked, set);
}

uint64_t signals_hidden(void)
{
    return own.borrowed ? 0 : atomic_load(&ours) & ~own.settled;
}

/* What has been handed over since this thread came by last is blocked where it is to be. */
static void settle(void)
{
    uint64_t theirs = atomic_load(&handed_over) & signals_hidden(), blocked = theirs & own.blocked;
    if (LIKELY(!theirs))
        return;
    if (blocked)
        sys4(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, NULL, sizeof blocked);
    if (!signals_is_inside(sys_stack_pointer())) /* else it lasts as long as the handler does */
        own.settled |= theirs;
}

/* The call that they were held back for is over. */
static void let_through(void)
{
    uint64_t open = own.held_back & ~own.blocked;
    if (LIKELY(!own.held_back))
        return;
    own.held_back = 0;
    sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, NULL, sizeof open);
}

static signals_fn *our_handler;

/* Installs ours. A handler of the program's that it calls is to find the stack that it asked for.
 */
static bool install_ours(int sig, bool on_stack, struct sigaction *old)
{
    struct sigaction action = {.sa_sigaction = our_handler,
                               .sa_flags = SA_SIGINFO | SA_RESTART | (on_stack ? SA_ONSTACK : 0)};
    sigfillset(&action.sa_mask);
    if (libc_sigaction(sig, &action, old) != 0)
        return false;
    if (on_stack)
        atomic_fetch_and(&off_stack, ~SIGNAL_BIT(sig));
    else
        atomic_fetch_or(&off_stack, SIGNAL_BIT(sig));
    return true;
}

static void choose_stack(int sig)
{
    const struct sigaction *action = program(sig);
    bool on_stack = !has_handler(action) || action->sa_flags & SA_ONSTACK;
    if (on_stack == !!(atomic_load(&off_stack) & SIGNAL_BIT(sig)))
        install_ours(sig, on_stack, NULL);
}

bool signals_take(int sig, signals_fn *handler)
{
    uint64_t mask = SIGNAL_BIT(sig), before = 0;
    atomic_fetch_and(&handed_over, ~SIGNAL_BIT(sig)); /* it serves only now */
    if (is_ours(sig))
        return true;
    our_handler = handler;
    if (!place[sig])
        place[sig] = (uint8_t)(SIGNALS - ++places);
    if (!install_ours(sig, true, program(sig)))
        return false;
    signals_unwrap(sig, program(sig));
    choose_stack(sig);
    atomic_fetch_or(&ours, SIGNAL_BIT(sig));
    /* A mask is inherited across exec: who started us may have blocked it. */
    own.settled &= ~mask;
    sys4(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &before, sizeof mask);
    if (before & mask) {
        signals_set_view(own.blocked | mask); /* first: it may be pending */
        sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, NULL, sizeof mask);
    }
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
    return is_ours(sig) && !(own.blocked & signals_hidden() & SIGNAL_BIT(sig)) &&
           program(sig)->sa_handler == SIG_DFL;
}

uint64_t signals_held(void)
{
    return atomic_load(&ours) & ~atomic_load(&handed_over);
}

void signals_hand_over(uint64_t set)
{
    atomic_fetch_or(&handed_over, set & atomic_load(&ours));
}

/* The kernel has the program's own action from now on. Libc would add a flag of its own to one that
 * it has never set, which the program would read back (SA_RESTORER). */
static void give_back(int sig)
{
    const struct sigaction *action = program(sig);
    struct {
        sighandler_t handler; /* the kernel's struct sigaction */
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } plain = {action->sa_handler, (unsigned int)action->sa_flags, NULL,
               signals_word(&action->sa_mask)};
    if (has_handler(action))
        signals_install(sig, action, NULL);
    else
        sys4(SYS_rt_sigaction, sig, &plain, NULL, sizeof plain.mask);
    atomic_fetch_and(&ours, ~SIGNAL_BIT(sig));
}

static void give_back_all(uint64_t set)
{
    for (int sig = 1; sig < SIGNALS; sig++)
        if (set & atomic_load(&ours) & SIGNAL_BIT(sig))
            give_back(sig);
}

void signals_give_back(uint64_t set)
{
    settle();
    give_back_all(set);
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
        /* What kill(2) and tgkill(2) make, no thread may queue but for itself (kernel/signal.c,
         * do_rt_sigqueueinfo): where this process has sent it, the same call makes the same. */
        if (again.si_pid == pid && again.si_code == SI_USER && !tid) {
            sys2(SYS_kill, pid, again.si_signo);
            return;
        }
        if (again.si_pid == pid && again.si_code == SI_TKILL && tid) {
            sys3(SYS_tgkill, pid, tid, again.si_signo);
            return;
        }
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

static void add_to_mask(void *context, uint64_t set)
{
    ucontext_t *at = context;
    set_word(&at->uc_sigmask, signals_word(&at->uc_sigmask) | set);
}

/* Brings the kernel's mask to what the thread believes, when our handler returns. */
static void settle_after(uint64_t set, void *context)
{
    uint64_t base = waits_under_mask(context) ? own.base : own.blocked;
    add_to_mask(context, set & base);
    /* Else the call that is about to be made would undo it, or the end of the handler. */
    if (!own.changes && !signals_is_inside(stack_of(context)))
        own.settled |= set;
}

bool signals_deliver(int sig, siginfo_t *info, void *context, bool is_directed)
{
    if (signals_hidden() & SIGNAL_BIT(sig)) {
        settle_after(SIGNAL_BIT(sig), context);
        if (own.blocked & SIGNAL_BIT(sig)) {
            /* From here on the kernel blocks it in this thread as well. The signal waits for
             * another, for a signalfd or for a sigwait; or for the end of the call. */
            add_to_mask(context, SIGNAL_BIT(sig));
            if (own.changes || waits_under_mask(context))
                own.held_back |= SIGNAL_BIT(sig);
            signals_send(is_directed ? (int)sys0(SYS_gettid) : 0, info);
            return false;
        }
    }
    struct sigaction action = *program(sig);
    if (action.sa_handler == SIG_IGN)
        return false;
    epoch_thread.interrupted = false; /* the EINTR is the program's, as it would be without us */
    if (!has_handler(&action)) {
        give_back(sig);
        signals_send((int)sys0(SYS_gettid), info);
        return true;
    }
    if (!(action.sa_flags & (int)SA_RESTART))
        end_call(context);
    if (action.sa_flags & (int)SA_RESETHAND)
        program(sig)->sa_handler = SIG_DFL;
    /* Where some thread has still to be stopped from taking it our handler stays. */
    if (!(atomic_load(&ever_blocked) & SIGNAL_BIT(sig)))
        give_back(sig);
    signals_call_program(&action, info, context);
    return true;
}

void signals_deliver_in_vfork_child(int sig, siginfo_t *info, void *context)
{
    struct sigaction action = *program(sig), none = {.sa_handler = SIG_DFL};
    if (own.blocked & signals_hidden() & SIGNAL_BIT(sig)) {
        add_to_mask(context, SIGNAL_BIT(sig));
        signals_send(0, info);
    } else if (has_handler(&action)) {
        signals_call_program(&action, info, context);
    } else if (action.sa_handler == SIG_DFL && libc_sigaction(sig, &none, NULL) == 0) {
        signals_send(0, info);
    }
}

/* ---- waking the program's threads ---- */

/* What a signal of ours carries that is only to interrupt; and the one of signals_yield. */
static char wake_cookie, yield_cookie;

bool signals_is_wake(const siginfo_t *info)
{
    return info->si_code == SI_QUEUE &&
           (info->si_value.sival_ptr == &wake_cookie || info->si_value.sival_ptr == &yield_cookie);
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

/* Sends a cookie to every other thread. Returns how many there are; -1: they can't be told. */
static int send_to_threads(char *cookie)
{
    char buffer[2048] __attribute__((aligned(8)));
    siginfo_t info = {.si_signo = wake_signal(), .si_code = SI_QUEUE};
    long pid = sys0(SYS_getpid), own_tid = sys0(SYS_gettid), n;
    int threads = 0;
    info.si_pid = (int)pid;
    info.si_value.sival_ptr = cookie;
    long tasks =
        sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (tasks < 0) { /* a chroot: the first thread is the only one that we know */
        if (info.si_signo)
            sys4(SYS_rt_tgsigqueueinfo, pid, pid, info.si_signo, &info);
        return -1;
    }
    while ((n = sys3(SYS_getdents64, tasks, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length) {
            long tid = 0;
            for (const char *digit = ((struct entry *)(buffer + at))->name; *digit >= '0'; digit++)
                tid = tid * 10 + (*digit - '0');
            if (tid > 0 && tid != own_tid)
                threads += !info.si_signo ||
                           sys4(SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, &info) == 0;
        }
    }
    sys1(SYS_close, tasks);
    return threads && !info.si_signo ? -1 : threads;
}

void signals_wake_threads(void)
{
    if (wake_signal())
        send_to_threads(&wake_cookie);
}

/* ---- a signal that is the program's ---- */

static _Atomic uint64_t yields;  /* to be given back once every thread has come by */
static _Atomic int yields_await; /* how many have still to */
#define BEING_SENT (1 << 24)

static void threads_came_by(int count)
{
    if (atomic_fetch_sub(&yields_await, count) == count)
        give_back_all(atomic_exchange(&yields, 0));
}

void signals_woken(const siginfo_t *info, void *context)
{
    settle_after(atomic_load(&handed_over) & signals_hidden(), context);
    if (info->si_value.sival_ptr == &yield_cookie && !own.changes)
        threads_came_by(1);
}

void signals_yield(uint64_t set)
{
    int none = 0;
    set &= atomic_load(&ours);
    signals_hand_over(set);
    if (!(set & atomic_load(&ever_blocked)) || sys_is_sandboxed()) {
        signals_give_back(set);
    } else if (atomic_compare_exchange_strong(&yields_await, &none, BEING_SENT)) {
        atomic_store(&yields, set);
        settle();
        int threads = send_to_threads(&yield_cookie);
        threads_came_by(threads < 0 ? BEING_SENT - 1 : BEING_SENT - threads);
    }
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
        else if (is_ours(sig))
            choose_stack(sig);
        else
            signals_install(sig, action, NULL); /* given back in the middle of this */
    }
    if (old)
        *old = before;
    return true;
}

void signals_mask(int how, const sigset_t *set, sigset_t *kernel, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&ours);
    if (UNLIKELY(epoch_is_borrowed())) {
        /* A vfork child: its own mask, our parent's memory. Only the kernel is told, and hands it
         * on across exec. */
        uint64_t blocked = signals_hidden() & own.blocked;
        if (set && blocked)
            sys4(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, NULL, sizeof blocked);
        own.borrowed = own.borrowed || set;
        mine = 0;
    } else {
        settle();
    }
    mask->before = mask->after = own.blocked;
    mask->hidden = signals_hidden();
    if (!set)
        return;
    *kernel = *set;
    uint64_t wanted = signals_word(set) & mine;
    switch (how) {
    case SIG_BLOCK:
        mask->after |= wanted;
        break;
    case SIG_UNBLOCK:
        mask->after &= ~wanted;
        break;
    case SIG_SETMASK:
        mask->after = (mask->after & ~mine) | wanted;
        break;
    }
    if (how !=
        SIG_UNBLOCK) /* what of ours the kernel blocks was handed over: let it be unblocked */
        set_word(kernel, signals_word(set) & ~mask->hidden);
    /* Before the call: what it lets in comes in the middle of it. */
    own.waits = false;
    own.changes = true;
    if (mask->after != mask->before)
        signals_set_view(mask->after);
}

void signals_masked(const struct signals_mask *mask, bool failed, sigset_t *old)
{
    if (failed && mask->after != mask->before)
        signals_set_view(mask->before);
    if (!failed && old) /* what our handler has blocked meanwhile the program has not */
        set_word(old, (signals_word(old) & ~own.held_back) | (mask->before & mask->hidden));
    own.changes = false;
    let_through();
}

void signals_wait_begins(const sigset_t *set, struct signals_mask *mask)
{
    uint64_t mine = atomic_load(&ours);
    settle();
    mask->after = own.base; /* of a wait that a handler has interrupted which makes this one */
    mask->before = own.base = own.blocked;
    own.wait_set = signals_word(set);
    own.waits = true;
    signals_set_view((mask->before & ~mine) | (signals_word(set) & mine));
}

void signals_wait_mask(const sigset_t *set, sigset_t *kernel)
{
    *kernel = *set;
    set_word(kernel, signals_word(set) & ~signals_held());
}

void signals_wait_ends(const struct signals_mask *mask)
{
    own.waits = false;
    own.blocked = own.base; /* what a handler has left of it */
    own.base = mask->after;
    let_through();
}

void signals_accepts(const sigset_t *set, sigset_t *kernel)
{
    settle();
    signals_wait_mask(set, kernel);
}

/*
 * A thread believes that it blocks what its maker does. That is told to each by itself: for as long
 * as it takes to begin, in a place of these. One whose maker believes that it blocks nothing of
 * ours is told nothing.
 */
static LATE struct signals_start {
    _Atomic bool taken;
    void *(*run)(void *);
    void *arg;
    uint64_t blocked, settled;
} starts[256];
static _Atomic uint32_t starts_used;

static bool take_start(struct signals_start *at)
{
    return !atomic_load_explicit(&at->taken, memory_order_relaxed) &&
           !atomic_exchange(&at->taken, true);
}

struct signals_start *signals_before_thread(void *(*run)(void *), void *arg)
{
    epoch_lives_on();
    settle();
    struct signals_start *found = NULL;
    if (LIKELY(!own.blocked && !own.settled))
        return NULL;
    for (uint32_t i = 0; i < atomic_load(&starts_used) && !found; i++)
        if (take_start(&starts[i]))
            found = &starts[i];
    for (uint32_t fresh = 0; !found && fresh < COUNT_OF(starts);) {
        fresh = list_grows(&starts_used, COUNT_OF(starts));
        if (fresh < COUNT_OF(starts) && take_start(&starts[fresh]))
            found = &starts[fresh];
    }
    if (!found) /* so many begin at once: as the kernel has it, for want of a better word */
        return NULL;
    found->run = run;
    found->arg = arg;
    found->blocked = own.blocked;
    found->settled = own.settled;
    return found;
}

void signals_no_thread(struct signals_start *start)
{
    atomic_store(&start->taken, false);
}

void *signals_begin_thread(void *start)
{
    struct signals_start *at = start;
    void *(*run)(void *) = at->run;
    void *arg = at->arg;
    own.blocked = at->blocked;
    own.settled = at->settled;
    signals_no_thread(at);
    return run(arg);
}

void signals_forked(void)
{
    for (uint32_t i = 0; i < atomic_load(&starts_used); i++)
        atomic_store(&starts[i].taken, false); /* the threads are the parent's */
}

/* ---- exec ---- */

void signals_vfork_over(void)
{
    own.borrowed = false;
}

/*
 * What exec hands on is what the kernel has (signal(7)): the mask, and which signals are ignored.
 * For as long as it takes, that is what the program believes.
 */
void signals_exec_begins(struct signals_exec *exec)
{
    uint64_t mine = atomic_load(&ours), mask = own.blocked & signals_hidden();
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
    /* Another of the program's that has come with ours: its EINTR is to be seen. */
    uint64_t pending = 0;
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    uint64_t theirs = pending & ~signals_word(&at->uc_sigmask) & ~signals_held();
    epoch_thread.interrupted = result_of(context) == -EINTR && !theirs;
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
