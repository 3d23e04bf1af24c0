/* sig_context: what a program's handlers find of a stop signal, and what they leave, printed.
 * SPDX-License-Identifier: MIT
 *
 *   sig_context HOW
 *
 * It listens, so that SIGTERM is held where it is a stop signal. HOW is a row of the table at the
 * end. After it the mask is printed, and a SIGTERM sent: it comes at once or when it is unblocked.
 * The output is the same with and without the shim.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "listen.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* siginterrupt: still in use */

static sigjmp_buf place;
static volatile sig_atomic_t came;
static volatile pid_t sender, code;
static volatile bool was_off_stack; /* the handler of SIGTERM ran on signal_stack */
static char signal_stack[64 * 1024];

static sigset_t set_of(int a, int b)
{
    sigset_t set;
    sigemptyset(&set);
    if (a)
        sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    return set;
}

/* The kernel's word of a context's mask: there is no more of it. */
static void print_set(const char *title, const sigset_t *set)
{
    printf("  %s:", title);
    for (int sig = 1; sig < 65; sig++)
        if (sigismember(set, sig) == 1)
            printf(" %d", sig);
    printf("\n");
}

static void print_mask(const char *title)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    print_set(title, &set);
}

static void mask(int how, int a, int b)
{
    sigset_t set = set_of(a, b);
    pthread_sigmask(how, &set, NULL);
}

static void install(int sig, void (*handler)(int, siginfo_t *, void *), int flags, int a, int b)
{
    struct sigaction action = {.sa_flags = flags, .sa_mask = set_of(a, b)};
    action.sa_sigaction = handler;
    if (sigaction(sig, &action, NULL) < 0)
        printf("sigaction: %s\n", strerror(errno));
}

static void on_term(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    char *here = (char *)&sig;
    was_off_stack = here >= signal_stack && here < signal_stack + sizeof signal_stack;
    sender = info->si_pid;
    code = info->si_code;
    came = 1;
}

/* ---- what it finds ---- */

static void shows(int sig, siginfo_t *info, void *context)
{
    printf("handler of %d, code %d\n", sig, info->si_code);
    print_set("context", &((ucontext_t *)context)->uc_sigmask);
    print_mask("mask in it");
}

static void sees(void)
{
    mask(SIG_BLOCK, SIGTERM, SIGHUP);
    install(SIGUSR1, shows, SA_SIGINFO, SIGINT, 0);
    raise(SIGUSR1);
    mask(SIG_UNBLOCK, SIGTERM, 0);
    raise(SIGUSR1);
    install(SIGUSR1, shows, SA_SIGINFO | SA_NODEFER, SIGTERM, 0);
    raise(SIGUSR1);
}

static void sees_after_signal(int sig)
{
    printf("handler of %d\n", sig);
    print_mask("mask in it");
}

static void one_argument(void)
{
    mask(SIG_BLOCK, SIGTERM, 0);
    signal(SIGUSR1, sees_after_signal);
    raise(SIGUSR1);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    printf("its own %d, flags %x\n", action.sa_handler == sees_after_signal,
           (unsigned)action.sa_flags);
    printf("siginterrupt %d\n", siginterrupt(SIGUSR1, 1));
    sigaction(SIGUSR1, NULL, &action);
    printf("its own %d, flags %x\n", action.sa_handler == sees_after_signal,
           (unsigned)action.sa_flags);
    printf("signal %d\n", signal(SIGUSR1, SIG_DFL) == sees_after_signal);
    printf("signal %d\n", signal(SIGUSR1, sees_after_signal) == SIG_DFL);
    sigaction(SIGUSR1, NULL, &action);
    printf("flags %x\n", (unsigned)action.sa_flags);
    raise(SIGUSR1);
}

/* ---- what it leaves ---- */

static void edits(int sig, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    shows(sig, info, context);
    if (sigismember(&at->uc_sigmask, SIGTERM))
        sigdelset(&at->uc_sigmask, SIGTERM);
    else
        sigaddset(&at->uc_sigmask, SIGTERM);
    sigaddset(&at->uc_sigmask, SIGHUP);
}

static void edits_in(void)
{
    install(SIGUSR1, edits, SA_SIGINFO, 0, 0);
    raise(SIGUSR1);
}

static void edits_out(void)
{
    mask(SIG_BLOCK, SIGTERM, 0);
    edits_in();
}

static void edits_masked(int sig, siginfo_t *info, void *context)
{
    shows(sig, info, context);
    raise(SIGALRM); /* whose context has what this one's action blocks */
    print_mask("mask after the inner one");
}

static void edits_nested(void)
{
    install(SIGALRM, edits, SA_SIGINFO, 0, 0);
    install(SIGUSR1, edits_masked, SA_SIGINFO, SIGTERM, 0);
    raise(SIGUSR1);
    print_mask("mask after one");
    install(SIGUSR1, edits_masked, SA_SIGINFO, 0, 0);
    raise(SIGUSR1);
}

static void blocks(int sig, siginfo_t *info, void *context)
{
    mask(SIG_BLOCK, SIGTERM, SIGHUP);
    shows(sig, info, context);
}

static void blocks_and_returns(void)
{
    install(SIGUSR1, blocks, SA_SIGINFO, 0, 0);
    raise(SIGUSR1);
}

static void unblocks(int sig, siginfo_t *info, void *context)
{
    mask(SIG_UNBLOCK, SIGTERM, 0);
    shows(sig, info, context);
}

static void unblocks_and_returns(void)
{
    mask(SIG_BLOCK, SIGTERM, 0);
    install(SIGUSR1, unblocks, SA_SIGINFO, 0, 0);
    raise(SIGUSR1);
}

static void action_blocks(void)
{
    install(SIGUSR1, shows, SA_SIGINFO, SIGTERM, SIGINT);
    raise(SIGUSR1);
}

static void *runs(void *action)
{
    ((void (*)(void))action)();
    print_mask("thread's mask");
    return NULL;
}

static void in_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, runs, (void *)edits_out);
    pthread_join(thread, NULL);
    mask(SIG_BLOCK, SIGTERM, 0);
    pthread_create(&thread, NULL, runs, (void *)unblocks_and_returns);
    pthread_join(thread, NULL);
}

/* ---- jumps ---- */

static void jumps(int sig, siginfo_t *info, void *context)
{
    blocks(sig, info, context);
    siglongjmp(place, 1);
}

static void jumps_out(void)
{
    install(SIGUSR1, jumps, SA_SIGINFO, SIGINT, 0);
    if (sigsetjmp(place, 1) == 0)
        raise(SIGUSR1);
    print_mask("mask after the jump");
    mask(SIG_BLOCK, SIGTERM, 0);
    if (sigsetjmp(place, 1) == 0) {
        mask(SIG_UNBLOCK, SIGTERM, 0);
        raise(SIGUSR1);
    }
    print_mask("mask after another");
    mask(SIG_UNBLOCK, SIGTERM, 0);
}

static void jumps_back(void)
{
    mask(SIG_BLOCK, SIGTERM, 0);
    if (sigsetjmp(place, 1) == 0) {
        mask(SIG_UNBLOCK, SIGTERM, 0);
        siglongjmp(place, 1);
    }
}

static void jumps_without_mask(void)
{
    install(SIGUSR1, jumps, SA_SIGINFO, SIGINT, 0);
    if (sigsetjmp(place, 0) == 0)
        raise(SIGUSR1);
}

static void longjumps(int sig, siginfo_t *info, void *context)
{
    shows(sig, info, context);
    longjmp(place, 1);
}

static void longjumps_out(void)
{
    install(SIGUSR1, longjumps, SA_SIGINFO, SIGTERM, 0);
    if (setjmp(place) == 0)
        raise(SIGUSR1);
}

static void jumps_from_wait(void)
{
    sigset_t none = set_of(0, 0), usr1 = set_of(SIGUSR1, SIGTERM);
    install(SIGUSR1, jumps, SA_SIGINFO, 0, 0);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    if (sigsetjmp(place, 1) == 0)
        sigsuspend(&none);
}

/* ---- in a wait under a mask ---- */

static void waits(void (*handler)(int, siginfo_t *, void *), int base, int waited)
{
    sigset_t blocked = set_of(SIGUSR1, base), during = set_of(waited, 0);
    struct timespec second = {1, 0};
    install(SIGUSR1, handler, SA_SIGINFO, 0, 0);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    raise(SIGUSR1);
    printf("ppoll %d %s\n", ppoll(NULL, 0, &second, &during), strerror(errno));
    print_mask("mask after ppoll");
    raise(SIGUSR1);
    printf("sigsuspend %d %s\n", sigsuspend(&during), strerror(errno));
}

static void waits_open(void)
{
    waits(shows, SIGTERM, SIGINT);
}

static void waits_blocked(void)
{
    waits(shows, SIGINT, SIGTERM);
}

static void waits_edited(void)
{
    waits(edits, SIGTERM, SIGINT);
}

static void waits_again(int sig, siginfo_t *info, void *context)
{
    sigset_t term = set_of(SIGTERM, 0);
    struct timespec soon = {0, 1000};
    printf("ppoll in a handler %d\n", ppoll(NULL, 0, &soon, &term));
    shows(sig, info, context);
}

static void waits_nested(void)
{
    waits(waits_again, SIGHUP, SIGINT);
}

/* ---- others ---- */

static void set_stack(void)
{
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&stack, NULL);
}

static void other_stack(void)
{
    set_stack();
    install(SIGTERM, on_term, SA_SIGINFO | SA_ONSTACK, 0, 0);
}

static void own_stack(void)
{
    other_stack();
    install(SIGTERM, on_term, SA_SIGINFO, 0, 0);
}

static void *page;

static void opens_page(int sig, siginfo_t *info, void *context)
{
    shows(sig, info, context);
    printf("at the page %d\n", info->si_addr == page);
    mprotect(page, 1, PROT_READ | PROT_WRITE);
}

static void faults(void)
{
    page = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    set_stack();
    mask(SIG_BLOCK, SIGTERM, 0);
    install(SIGSEGV, opens_page, SA_SIGINFO | SA_ONSTACK | SA_RESETHAND, SIGINT, 0);
    *(volatile char *)page = 1;
    struct sigaction action;
    sigaction(SIGSEGV, NULL, &action);
    printf("default %d, flags %x\n", action.sa_handler == SIG_DFL, (unsigned)action.sa_flags);
    install(SIGUSR1, edits, SA_SIGINFO | SA_ONSTACK, 0, 0);
    raise(SIGUSR1);
}

static void in_child(pid_t (*forks)(void))
{
    struct sigaction action;
    mask(SIG_BLOCK, SIGTERM, 0);
    install(SIGUSR1, edits, SA_SIGINFO, 0, 0);
    fflush(stdout);
    pid_t pid = forks();
    if (pid == 0) {
        sigaction(SIGUSR1, NULL, &action);
        printf("its own %d\n", action.sa_sigaction == edits);
        raise(SIGUSR1);
        action.sa_sigaction = shows;
        sigaction(SIGUSR1, &action, NULL);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    sigaction(SIGUSR1, NULL, &action);
    printf("still its own %d\n", action.sa_sigaction == edits);
    raise(SIGUSR1);
}

static void in_fork(void)
{
    in_child(fork);
}

static void in_vfork(void)
{
    in_child(vfork);
}

static void before_it_listens(void)
{
}

static const struct {
    const char *how;
    void (*does)(void);
} rows[] = {
    {"sees", sees},
    {"one_argument", one_argument},
    {"edits_in", edits_in},
    {"edits_out", edits_out},
    {"edits_nested", edits_nested},
    {"blocks_and_returns", blocks_and_returns},
    {"unblocks_and_returns", unblocks_and_returns},
    {"action_blocks", action_blocks},
    {"in_thread", in_thread},
    {"jumps_out", jumps_out},
    {"jumps_back", jumps_back},
    {"jumps_without_mask", jumps_without_mask},
    {"longjumps_out", longjumps_out},
    {"jumps_from_wait", jumps_from_wait},
    {"waits_open", waits_open},
    {"waits_blocked", waits_blocked},
    {"waits_edited", waits_edited},
    {"waits_nested", waits_nested},
    {"other_stack", other_stack},
    {"own_stack", own_stack},
    {"faults", faults},
    {"in_fork", in_fork},
    {"in_vfork", in_vfork},
    {"before_it_listens", before_it_listens},
};

/* As long as a drain of nothing may take; sooner where the signal is to come. */
static bool comes(bool is_blocked)
{
    for (int i = 0; i < (is_blocked ? 50 : 500) && !came; i++)
        usleep(10000);
    return came;
}

int main(int argc, char **argv)
{
    size_t row = 0;
    while (row < sizeof rows / sizeof *rows && (argc < 2 || strcmp(rows[row].how, argv[1])))
        row++;
    if (row == sizeof rows / sizeof *rows)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    install(SIGTERM, on_term, SA_SIGINFO, 0, 0);
    if (rows[row].does == before_it_listens)
        install(SIGUSR1, edits, SA_SIGINFO, 0, 0);
    listen_on("0", SOCK_STREAM, 8);
    if (rows[row].does == before_it_listens)
        raise(SIGUSR1);
    rows[row].does();
    print_mask("mask at the end");
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    bool is_blocked = sigismember(&now, SIGTERM);
    pid_t child = fork();
    if (child == 0)
        _exit(kill(getppid(), SIGTERM));
    waitpid(child, NULL, 0);
    printf("blocked %d, came %d\n", is_blocked, comes(is_blocked));
    mask(SIG_UNBLOCK, SIGTERM, 0);
    printf("came %d", comes(false));
    printf(", on the other stack %d, code %d, from the child %d\n", was_off_stack, code,
           sender == child);
    print_mask("mask after it");
    return 0;
}
