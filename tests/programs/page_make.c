/* SPDX-License-Identifier: MIT */
/*
 * page_make DIR KIND [ARG...]: a process that has a state page, sound or not, and no shim: what
 * weir(1) may meet. It says "ready", and "woken" when the control signal comes.
 *
 *   sound                  serves: 5 connections, 2 in use
 *   drains MS FORCED       when woken, is drained after so long, having cut so many in use; ends
 *   ends                   when woken, ends
 *   texts                  texts without an end, full of what a terminal obeys
 *   lists PID...           says that these processes are of its tree, too
 *   signal N               says that N is the control signal; it catches TERM, as a master does
 *   leaves                 the first process ends, and leaves a child
 *   delay MS               has a WEIR_DELAY
 *   deaf                   says that the program uses the control signal itself
 *   other                  the file is no page at all
 *   layout N | size N      says that the page is of another version
 *   named PID START        says that it belongs to the tree of another page
 *   cut                    the file is cut off
 *   fuzz SECONDS OUT WEIR  runs WEIR on itself, while the page is written over with anything
 */
#define WEIR_COMMAND
#include "table.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct page *page;
static int fd;
static volatile sig_atomic_t woken;

static void on_control(int sig)
{
    (void)sig;
    woken = 1;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t start_time(void)
{
    char stat[1024];
    int file = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(file, stat, sizeof stat - 1);
    close(file);
    stat[length > 0 ? length : 0] = '\0';
    char *at = strrchr(stat, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

static uint32_t pid_namespace(void)
{
    struct stat own;
    return stat("/proc/self/ns/pid", &own) ? 0 : (uint32_t)own.st_ino;
}

static void fill_in(void)
{
    memset(page, 0, sizeof *page);
    memcpy(page->magic, PAGE_MAGIC, sizeof page->magic);
    page->layout = PAGE_LAYOUT;
    page->size = sizeof *page;
    strcpy(page->version, WEIR_VERSION);
    strcpy(page->program, "page_make");
    page->pid = page->tree_pid = getpid();
    page->start = page->tree_start = start_time();
    page->pid_namespace = pid_namespace();
    page->settings = (struct page_settings){
        .mode = MODE_REPLY, .signal = SIGUSR2, .control_signal = SIGRTMAX - 3, .timeout = 25000};
    page->timeout = -1;
    page->head = page->pid;
    page->listener[0].mode = MODE_REPLY;
    strcpy(page->listener[0].address, "127.0.0.1:80");
    page->listener[0].pid = page->pid;
    page->line[0].since = (uint64_t)clock_ms(CLOCK_BOOTTIME);
    page->line[0].pid = page->pid;
    page->shard[0].live = 5 * LIVE_TRACKED + 2 * LIVE_IN_USE;
    page->shard[1].accepted = 7;
    page->shard[1].closed_by_program = 2;
}

static void make(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%d.%llu.%u", dir, getpid(), (unsigned long long)start_time(),
             pid_namespace());
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *page))
        exit(1);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        exit(1);
    fill_in();
}

static void drained(int ms, uint32_t forced)
{
    usleep((unsigned int)ms * 1000);
    page->line[0].forced_in_use = forced;
    page->shard[0].live = 0;
    page->shard[0].forced = forced;
    page->shard[0].closed_idle = 5 - forced;
    page->ended = clock_ms(CLOCK_MONOTONIC);
    page->phase = PHASE_DRAINED;
}

static void texts(void)
{
    static const char nasty[] = "\033]0;owned\007\033[2J\"},{\"a\\\n\r\xff\xc3( {}=\"\t%s%n";
    char *at[] = {page->program, page->version, page->listener[0].address};
    size_t size[] = {sizeof page->program, sizeof page->version, sizeof page->listener[0].address};
    for (size_t i = 0; i < 3; i++)
        for (size_t c = 0; c < size[i]; c++)
            at[i][c] = nasty[c % (sizeof nasty - 1)];
}

static void lists(char **pids)
{
    for (int i = 1; *pids; i++, pids++) {
        page->line[i].since = (uint64_t)clock_ms(CLOCK_BOOTTIME);
        page->line[i].pid = atoi(*pids);
        page->head = atoi(*pids);
    }
}

/* ---- fuzz ---- */

static void write_over(void)
{
    /* Now and then what makes it a page at all. */
    size_t from = random() % 10 ? offsetof(struct page, tree_pid) : 0;
    for (long i = random() % 200; i >= 0; i--) {
        size_t at = from + (size_t)random() % (sizeof *page - from - 8);
        uint64_t word = (uint64_t)random() << 32 ^ (uint64_t)random();
        word = random() % 3 ? word : random() % 2 ? UINT64_MAX : (uint64_t)page->pid;
        memcpy((char *)page + at, &word, 1 + (size_t)random() % 8);
    }
}

/* The table of descriptors that weir reads out of this process: wrong in any way. */
static void make_table(void)
{
    static struct table mine;
    static uint64_t room[65536];
    for (size_t i = 0; i < COUNT_OF(room); i++)
        room[i] = (uint64_t)random() << 32 ^ (uint64_t)random() % 4 << 24 ^ (uint64_t)random();
    for (size_t i = 0; i < sizeof room; i++)
        if (random() % 4 == 0)
            ((uint8_t *)room)[i] = KIND_CONN + random() % 2;
    mine.limit = (uint32_t)(random() % 8 ? 512 * (random() % 64) : random());
    mine.high = (uint32_t)(random() % 8 ? random() % 20000 : random());
    mine.kind = (void *)(random() % 8 ? room : NULL);
    mine.record = (void *)(room + random() % 1000);
    mine.link = (void *)(room + random() % 1000);
    page->line[0].table = (uint64_t)(uintptr_t)&mine + (random() % 8 ? 0 : 4);
    page->line[0].epoch = random() % 8 ? (uint32_t)random() % 4 << 24 : (uint32_t)random();
}

static int run_weir(const char *weir, const char *out)
{
    static const char *const formats[] = {"--json", "--json", "--prometheus", NULL};
    const char *format = formats[random() % 4];
    bool acts = random() % 8 == 0, is_cut = random() % 32 == 0;
    char self[16], file[4096];
    int status;
    snprintf(self, sizeof self, "%d", getpid());
    snprintf(file, sizeof file, "%s%s", out, acts || !format ? "" : format);
    pid_t child = fork();
    if (child == 0) {
        int to = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
        dup2(to, 1);
        snprintf(file, sizeof file, "%s.err", out);
        dup2(open(file, O_WRONLY | O_CREAT | O_APPEND, 0644), 2);
        if (acts)
            execl(weir, weir, "drain", self, NULL);
        execl(weir, weir, "status", self, format, NULL);
        _exit(127);
    }
    if (is_cut && !ftruncate(fd, random() % (long)sizeof *page)) {
        waitpid(child, &status, 0);
        if (ftruncate(fd, sizeof *page))
            exit(1);
    } else {
        for (int i = 0; waitpid(child, &status, WNOHANG) == 0; i++) {
            if (i % 4 == 0)
                write_over();
            usleep(1000);
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) <= 5 ? 0 : 1;
}

static void fuzz(int seconds, const char *out, const char *weir)
{
    int64_t end = clock_ms(CLOCK_MONOTONIC) + seconds * 1000;
    int runs = 0, bad = 0, pair[2];
    long seed = time(NULL);
    srandom((unsigned int)seed);
    for (int i = 20; i < 60 && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair); i++)
        dup2(pair[0], i);
    while (clock_ms(CLOCK_MONOTONIC) < end ||
           (runs < 20 && clock_ms(CLOCK_MONOTONIC) < end + 30000)) { /* on a busy machine */
        fill_in();
        if (random() % 2)
            write_over();
        make_table();
        bad += run_weir(weir, out);
        runs++;
    }
    printf("seed %ld runs %d bad %d\n", seed, runs, bad);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 2 ? argv[2] : "";
    struct sigaction action = {.sa_handler = on_control};
    sigset_t none, control;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGRTMAX - 3, &action, NULL);
    sigemptyset(&none);
    sigemptyset(&control);
    sigaddset(&control, SIGRTMAX - 3);
    sigprocmask(SIG_BLOCK, &control, NULL);
    make(argc > 1 ? argv[1] : ".");
    if (!strcmp(kind, "texts"))
        texts();
    if (!strcmp(kind, "lists"))
        lists(argv + 3);
    if (!strcmp(kind, "signal")) {
        page->settings.control_signal = atoi(argv[3]);
        sigaction(SIGTERM, &action, NULL);
    }
    if (!strcmp(kind, "delay"))
        page->settings.delay = atoi(argv[3]);
    if (!strcmp(kind, "leaves")) {
        if (fork())
            _exit(0);
        page->line[0].pid = getpid();
        printf("child %d\n", getpid());
    }
    if (!strcmp(kind, "deaf"))
        page->line[0].flags = LINE_DEAF;
    if (!strcmp(kind, "other"))
        memset(page, 'x', sizeof *page);
    if (!strcmp(kind, "layout"))
        page->layout = (uint32_t)atoi(argv[3]);
    if (!strcmp(kind, "size"))
        page->size = (uint32_t)atoi(argv[3]);
    if (!strcmp(kind, "named")) {
        page->tree_pid = atoi(argv[3]);
        page->tree_start = strtoull(argv[4], NULL, 10);
    }
    if (!strcmp(kind, "cut") && ftruncate(fd, 1000))
        return 1;
    if (!strcmp(kind, "fuzz")) {
        fuzz(atoi(argv[3]), argv[4], argv[5]);
        return 0;
    }
    puts("ready");
    while (!woken)
        sigsuspend(&none);
    puts("woken");
    if (!strcmp(kind, "drains"))
        drained(atoi(argv[3]), (uint32_t)atoi(argv[4]));
    else if (strcmp(kind, "ends"))
        for (woken = 0;; sigsuspend(&none))
            if (woken)
                puts("woken");
    return 0;
}
