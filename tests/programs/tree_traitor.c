/* SPDX-License-Identifier: MIT */
/*
 * tree_traitor PORT: root's master, which forks a process of nobody's for each connection, and says
 * "killed SIGNAL" where a signal ends one. A line "slow SECONDS" is answered so much later, any
 * other at once. "writes WHAT" makes the process write to the state page that its tree shares,
 * again and again until its client has gone:
 *
 *   timeout    the drain has none         drained    the drain is over
 *   orders     there is no drain          head       this process acts for the tree
 *   log        lines for the log without an end, of what a terminal obeys
 *   tables     a hundred other processes, and what has been handed on, are to be looked after
 *   anything SEED
 *              any word of it, but for the order to drain and, where SEED is odd, who is in the
 * tree; a child of that process goes on with it for as long as the master lives
 */
#define WEIR_COMMAND /* no rules of the shim (common.h) */
#include "base/state_page.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static struct page *find_page(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long from;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, " rw-s ") && sscanf(line, "%lx", &from) == 1 &&
            memcmp((void *)from, PAGE_MAGIC, 8) == 0)
            return (struct page *)from;
    exit(1);
}

static void write_once(struct page *page, const char *what)
{
    if (!strcmp(what, "timeout")) {
        page->timeout = 0;
        page->settings.timeout = 0;
        page->since = INT64_MAX / 2;
    } else if (!strcmp(what, "drained")) {
        page->phase = PHASE_DRAINED;
    } else if (!strcmp(what, "orders")) {
        page->order = 0;
    } else if (!strcmp(what, "head")) {
        page->head = getpid();
    } else if (!strcmp(what, "log")) {
        for (int i = 0; i < PAGE_LOG_LINES; i++) {
            memset(page->log.line[i].text, '\033', sizeof page->log.line[i].text);
            page->log.line[i].text[9] = '\n';
            page->log.line[i].state = PAGE_LOG_FULL;
        }
    } else if (!strcmp(what, "tables")) {
        page->unlisted = 1;
        page->slots_used = UINT32_MAX;
        for (int i = 300; i < 400; i++)
            page->slot[i].pid = getppid();
    }
}

/* Anything, and what is known to be hard to reckon with. */
static uint64_t any_word(void)
{
    const uint64_t hard[] = {0,
                             UINT64_MAX,
                             INT64_MAX,
                             INT64_MIN,
                             UINT64_MAX << 32,
                             UINT32_MAX,
                             (uint64_t)random() % 8,
                             (uint64_t)getppid(),
                             (uint64_t)getpid() << 32 | (uint64_t)getpid()};
    return random() % 3 ? hard[(size_t)random() % COUNT_OF(hard)]
                        : (uint64_t)random() << 32 ^ (uint64_t)random();
}

static void write_anything(struct page *page, size_t from, size_t to)
{
    for (int i = 0; i < 300; i++) {
        size_t at = from + (size_t)random() % ((to - from) / 4 - 1) * 4;
        size_t size = random() % 2 ? 4 : 8;
        uint64_t word = any_word();
        if (at + size <= offsetof(struct page, order) || at >= offsetof(struct page, timeout))
            memcpy((char *)page + at, &word, size);
    }
}

/* The order stands before the timeout (state_page.h). */
_Static_assert(offsetof(struct page, timeout) == offsetof(struct page, order) + 8, "");

static void write_on(struct page *page, unsigned int seed)
{
    pid_t master = getppid();
    if (fork() != 0)
        return;
    srandom(seed);
    for (int i = 3; i < 100; i++)
        close(i);
    while (kill(master, 0) == 0 || errno == EPERM) {
        if (seed % 2)
            write_anything(page, offsetof(struct page, timeout), offsetof(struct page, gone));
        else
            write_anything(page, 0, sizeof *page);
        usleep(500);
    }
    _exit(0);
}

static void serve(int fd, struct page *page)
{
    char line[100];
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    for (ssize_t n; (n = read(fd, line, sizeof line - 1)) > 0;) {
        line[n] = '\0';
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "slow ", 5))
            sleep((unsigned)atoi(line + 5));
        if (!strncmp(line, "writes anything ", 16))
            write_on(page, (unsigned)atoi(line + 16));
        dprintf(fd, "done\n");
        for (; !strncmp(line, "writes ", 7) && poll(&polled, 1, 1) == 0;)
            write_once(page, line + 7);
    }
    exit(0);
}

static void on_child(int sig)
{
    int status;
    while (waitpid(-1, &status, WNOHANG) > 0)
        if (WIFSIGNALED(status))
            dprintf(1, "killed %d\n", WTERMSIG(status));
    (void)sig;
}

int main(int argc, char **argv)
{
    struct sigaction reap = {.sa_handler = on_child, .sa_flags = SA_RESTART};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(argv[argc - 1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (argc != 2 || bind(listener, (void *)&addr, sizeof addr) || listen(listener, 64))
        return 1;
    sigaction(SIGCHLD, &reap, NULL);
    signal(SIGPIPE, SIG_IGN);        /* a client that the drain has cut */
    struct page *page = find_page(); /* before anybody writes to it */
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(listener);
            if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
                return 1;
            serve(fd, page);
        }
        close(fd);
    }
}
