/* sig_view: what a program sees of signals: everything that it can read back, printed.
 * SPDX-License-Identifier: MIT
 *
 *   sig_view actions|masks|handlers|waits|jump|children|older [trigger]
 *
 * "trigger": the handlers and waits are for SIGUSR2, otherwise for SIGUSR1. The output is the same
 * with and without the shim, whose signals are USR2 and, to stop, TERM and INT. "sig_view inherited
 * TITLE" is what it execs, to see what comes through.
 */
#define _GNU_SOURCE
#define _XOPEN_SOURCE 700
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* siginterrupt, sighold: still in use \
                                                            */

static const int shown[] = {SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM, SIGALRM};
static char self[] = "/proc/self/exe";

static void print_set(const char *title, const sigset_t *set)
{
    printf("  %s:", title);
    for (int sig = 1; sig < 65; sig++)
        if (sigismember(set, sig) == 1)
            printf(" %d", sig);
    printf("\n");
}

static void handler(int sig)
{
    sigset_t set;
    printf("handler of %d\n", sig);
    sigprocmask(SIG_BLOCK, NULL, &set);
    print_set("mask in it", &set);
}

static void info_handler(int sig, siginfo_t *info, void *context)
{
    (void)context;
    printf("handler of %d: code %d, value %d, pid %s\n", sig, info->si_code,
           info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
           info->si_pid == getpid() ? "mine" : "another's");
    handler(sig);
}

static const char *name_of(void (*function)(int))
{
    return function == SIG_DFL                                       ? "default"
           : function == SIG_IGN                                     ? "ignore"
           : function == SIG_ERR                                     ? "error"
           : function == handler                                     ? "handler"
           : function == (void (*)(int))(void (*)(void))info_handler ? "info_handler"
                                                                     : "somebody else's";
}

static void show(const char *title)
{
    sigset_t set;
    printf("%s\n", title);
    sigprocmask(SIG_BLOCK, NULL, &set);
    print_set("mask", &set);
    pthread_sigmask(SIG_UNBLOCK, NULL, &set);
    print_set("thread's mask", &set);
    sigpending(&set);
    print_set("pending", &set);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct sigaction action;
        if (sigaction(shown[i], NULL, &action) < 0)
            printf("  %d: %s\n", shown[i], strerror(errno));
        else
            printf("  %d: %s flags %x\n", shown[i], name_of(action.sa_handler),
                   (unsigned)action.sa_flags);
        print_set("  its mask", &action.sa_mask);
    }
}

static sigset_t set_of(int a, int b, int c)
{
    sigset_t set;
    sigemptyset(&set);
    if (a)
        sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    if (c)
        sigaddset(&set, c);
    return set;
}

static void install(int sig, void *function, int flags, sigset_t mask)
{
    struct sigaction action = {.sa_flags = flags, .sa_mask = mask}, old;
    action.sa_handler = (void (*)(int))function;
    int result = sigaction(sig, &action, &old);
    printf("sigaction %d: %d, was %s flags %x\n", sig, result, name_of(old.sa_handler),
           (unsigned)old.sa_flags);
}

static void mask(int how, sigset_t set)
{
    sigset_t old;
    int result = sigprocmask(how, &set, &old);
    printf("sigprocmask %d: %d\n", how, result);
    print_set("old", &old);
}

static void *in_thread(void *argument)
{
    sigset_t set = set_of(SIGHUP, 0, 0);
    show("a thread inherits");
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    show("and has a mask of its own");
    return argument;
}

static void thread(void)
{
    pthread_t made;
    fflush(stdout);
    if (pthread_create(&made, NULL, in_thread, NULL) == 0)
        pthread_join(made, NULL);
}

static void children(void)
{
    install(SIGINT, SIG_IGN, 0, set_of(0, 0, 0));
    install(SIGUSR2, SIG_IGN, 0, set_of(0, 0, 0));
    mask(SIG_SETMASK, set_of(SIGTERM, SIGALRM, SIGUSR2));
    posix_spawnattr_t attributes;
    char *exec_args[] = {self, "inherited", "through fork and exec", NULL};
    char *spawn_args[] = {self, "inherited", "through posix_spawn", NULL};
    char *masked_args[] = {self, "inherited", "through posix_spawn with a mask", NULL};
    sigset_t hup = set_of(SIGHUP, 0, 0), term = set_of(SIGTERM, SIGINT, SIGUSR2);
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        show("a forked child");
        fflush(stdout);
        execv(self, exec_args);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
    if (posix_spawn(&pid, self, NULL, NULL, spawn_args, environ) == 0)
        waitpid(pid, NULL, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &hup);
    posix_spawnattr_setsigdefault(&attributes, &term);
    if (posix_spawn(&pid, self, NULL, &attributes, masked_args, environ) == 0)
        waitpid(pid, NULL, 0);
}

static void serve(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0)
        exit(2);
}

static void waits(int sig)
{
    install(sig, info_handler, SA_SIGINFO, set_of(0, 0, 0));
    sigset_t set = set_of(sig, 0, 0), none = set_of(0, 0, 0);
    struct timespec second = {1, 0};
    struct signalfd_siginfo read_info;
    siginfo_t info;
    int got = 0;
    mask(SIG_BLOCK, set);
    raise(sig);
    show("one is pending");
    printf("sigwait: %d\n", sigwait(&set, &got));
    printf("  got %d\n", got);
    sigqueue(getpid(), sig, (union sigval){.sival_int = 7});
    got = sigtimedwait(&set, &info, &second);
    printf("sigtimedwait: %d code %d value %d\n", got, info.si_code, info.si_value.sival_int);
    raise(sig);
    printf("sigwaitinfo: %d code %d\n", sigwaitinfo(&set, &info), info.si_code);
    raise(sig);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    got =
        read(fd, &read_info, sizeof read_info) == sizeof read_info ? (int)read_info.ssi_signo : -1;
    printf("signalfd: %d\n", got);
    close(fd);
    raise(sig);
    got = ppoll(NULL, 0, &second, &none);
    printf("ppoll: %d %s\n", got, strerror(errno));
    raise(sig);
    got = pselect(0, NULL, NULL, NULL, &second, &none);
    printf("pselect: %d %s\n", got, strerror(errno));
    raise(sig);
    got = sigsuspend(&none);
    printf("sigsuspend: %d %s\n", got, strerror(errno));
    show("after the waits");
    mask(SIG_UNBLOCK, set);
    sigqueue(getpid(), sig, (union sigval){.sival_int = 9});
}

static void actions(int own)
{
    sigset_t none = set_of(0, 0, 0), term = set_of(SIGTERM, 0, 0);
    printf("signal: %s\n", name_of(signal(SIGTERM, handler)));
    printf("signal: %s\n", name_of(signal(SIGTERM, SIG_IGN)));
    printf("signal: %s\n", name_of(signal(65, handler)));
    install(SIGINT, info_handler, SA_SIGINFO | SA_NODEFER, set_of(SIGHUP, SIGTERM, SIGUSR2));
    install(SIGTERM, handler, SA_RESETHAND | SA_RESTART, term);
    install(own, info_handler, SA_SIGINFO, set_of(SIGTERM, SIGHUP, SIGUSR2));
    install(SIGKILL, handler, 0, none);
    install(0, handler, 0, none);
    show("with handlers");
    install(SIGTERM, SIG_DFL, 0, none);
    install(own, SIG_IGN, 0, none);
    show("without some of them");
}

static void masks(void)
{
    mask(SIG_BLOCK, set_of(SIGTERM, SIGHUP, SIGUSR2));
    mask(SIG_BLOCK, set_of(SIGINT, 0, 0));
    mask(SIG_UNBLOCK, set_of(SIGHUP, SIGTERM, 0));
    mask(99, set_of(SIGTERM, 0, 0));
    show("with a mask");
    thread();
    show("the thread changed nothing");
    mask(SIG_SETMASK, set_of(SIGTERM, SIGALRM, 0));
    show("with another");
}

static void handlers(int own)
{
    sigset_t none = set_of(0, 0, 0);
    install(own, info_handler, SA_SIGINFO, set_of(SIGTERM, SIGHUP, SIGUSR2));
    raise(own);
    mask(SIG_SETMASK, set_of(SIGINT, SIGALRM, 0));
    raise(own); /* what its action blocks comes beside */
    mask(SIG_SETMASK, none);
}

/* X/Open's, and BSD's: libc makes them of its own sigaction and sigprocmask. */
static void older(void)
{
    signal(SIGTERM, handler);
    printf("siginterrupt: %d\n", siginterrupt(SIGTERM, 1));
    show("after siginterrupt");
    printf("sighold: %d\n", sighold(SIGTERM));
    show("after sighold");
    printf("sigrelse: %d\n", sigrelse(SIGTERM));
    printf("sigignore: %d\n", sigignore(SIGTERM));
    show("after sigignore");
    printf("sigset: %s\n", name_of(sigset(SIGTERM, handler)));
    printf("sigset: %s\n", name_of(sigset(SIGTERM, SIG_HOLD)));
    show("after sigset");
    printf("sigblock: %x\n", (unsigned)sigblock(1 << (SIGTERM - 1) | 1 << (SIGHUP - 1)));
    /* Not by its name, for which the linker warns. */
    int (*get_mask)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "siggetmask");
    printf("siggetmask: %x\n", (unsigned)get_mask());
    show("after sigblock");
    printf("sigsetmask: %x\n", (unsigned)sigsetmask(1 << (SIGINT - 1)));
    printf("sigsetmask: %x\n", (unsigned)sigsetmask(0));
    show("after sigsetmask");
    sigset(SIGALRM, handler);
    sighold(SIGALRM);
    sighold(SIGTERM);
    raise(SIGALRM);
    printf("sigpause: %d\n", sigpause(SIGALRM)); /* its handler, at once */
    show("after sigpause");
}

int main(int argc, char **argv)
{
    const char *section = argc > 1 ? argv[1] : "";
    int own = argc > 2 ? SIGUSR2 : SIGUSR1;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (!strcmp(section, "inherited")) {
        show(argc > 2 ? argv[2] : "inherited");
        return 0;
    }
    show("at the start");
    serve();
    show("once it listens");
    if (!strcmp(section, "actions"))
        actions(own);
    else if (!strcmp(section, "masks"))
        masks();
    else if (!strcmp(section, "handlers"))
        handlers(own);
    else if (!strcmp(section, "waits"))
        waits(own);
    else if (!strcmp(section, "children"))
        children();
    else if (!strcmp(section, "older"))
        older();
    else
        return 2;
    return 0;
}
