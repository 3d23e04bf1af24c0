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
 *   fuzz SECONDS OUT WEIR...  runs each WEIR on itself, while a thread writes anything to the page
 */
#define WEIR_COMMAND
#include "conn/fdtable.h"

#include <fcntl.h>
#include <pthread.h>
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
    page->slot[0].since = (uint64_t)clock_ms(CLOCK_BOOTTIME);
    page->slot[0].pid = page->pid;
    page->shard[0].in_use = 2;
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
    page->slot[0].forced_in_use = forced;
    page->shard[0].in_use = 0;
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
        page->slot[i].since = (uint64_t)clock_ms(CLOCK_BOOTTIME);
        page->slot[i].pid = atoi(*pids);
        page->head = atoi(*pids);
    }
}

/* ---- fuzz ---- */

static pthread_mutex_t page_lock = PTHREAD_MUTEX_INITIALIZER; /* the file has its whole length */
static _Atomic unsigned int writes_each;                      /* us */

/* Anything, and what is known to be hard to reckon with. */
static uint64_t any_word(void)
{
    const uint64_t hard[] = {0,         UINT64_MAX, (uint64_t)page->pid,    INT64_MAX,
                             INT64_MIN, UINT32_MAX, (uint64_t)random() % 8, UINT64_MAX << 32};
    return random() % 3 ? hard[(size_t)random() % COUNT_OF(hard)]
                        : (uint64_t)random() << 32 ^ (uint64_t)random();
}

static void write_over(void)
{
    /* Now and then what makes it a page at all. */
    size_t from = random() % 100 ? offsetof(struct page, tree_pid) : 0;
    for (long i = random() % 200; i >= 0; i--) {
        size_t at = from + (size_t)random() % (sizeof *page - from - 16);
        bool whole = random() % 2;
        uint64_t word = any_word();
        at = whole ? (at + 7) / 8 * 8 : at;
        memcpy((char *)page + at, &word, whole ? 8 : 1 + (size_t)random() % 8);
    }
}

static void *write_on(void *unused)
{
    for (;; usleep(writes_each)) {
        pthread_mutex_lock(&page_lock);
        write_over();
        pthread_mutex_unlock(&page_lock);
    }
    return unused;
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
    mine.conn = (void *)(random() % 8 ? (uintptr_t)(room + random() % 1000) : any_word());
    mine.alias = (void *)(random() % 8 ? (uintptr_t)(room + random() % 1000) : any_word());
    page->slot[0].table = (uint64_t)(uintptr_t)&mine + (random() % 8 ? 0 : 4);
    page->slot[0].generation = random() % 8 ? (uint32_t)random() % 4 << 24 : (uint32_t)random();
}

/* What weir is called with: "PID" is our own. One that waits may do so for ever: it is interrupted.
 */
static const struct call {
    const char *argument[6];
    bool waits;
} calls[] = {
    {{"status", "PID", "--json"}, false},
    {{"status", "PID", "--prometheus"}, false},
    {{"status", "PID"}, false},
    {{"status", "--json"}, false},
    {{"list"}, false},
    {{"list", "PID"}, false},
    {{"drain", "PID", "--timeout", "1s"}, false},
    {{"drain-all", "PID", "--wait", "--timeout", "1s"}, true},
    {{"close-idle", "PID", "--wait"}, true},
};

static pid_t start_weir(const char *weir, const struct call *call, const char *out)
{
    char self[16], file[4096];
    const char *argv[COUNT_OF(call->argument) + 1] = {weir};
    bool is_json = false;
    snprintf(self, sizeof self, "%d", getpid());
    for (int i = 0; call->argument[i]; i++) {
        argv[i + 1] = strcmp(call->argument[i], "PID") ? call->argument[i] : self;
        is_json = is_json || !strcmp(call->argument[i], "--json");
    }
    pid_t child = fork();
    if (child)
        return child;
    snprintf(file, sizeof file, "%s%s", out, is_json ? "--json" : "");
    dup2(open(file, O_WRONLY | O_CREAT | O_APPEND, 0644), 1);
    snprintf(file, sizeof file, "%s.err", out);
    dup2(open(file, O_WRONLY | O_CREAT | O_APPEND, 0644), 2);
    execv(weir, (char **)argv);
    _exit(127);
}

#define WAITS_MS 200

static bool ends_well(pid_t child, bool waits)
{
    int status = 0;
    pid_t ended = 0;
    for (int i = 0; waits && !ended && i < WAITS_MS; i++) {
        usleep(1000);
        ended = waitpid(child, &status, WNOHANG);
    }
    if (waits && !ended)
        kill(child, SIGINT);
    if (!ended)
        waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        return waits && WTERMSIG(status) == SIGINT;
    return WEXITSTATUS(status) <= 5 || (waits && WEXITSTATUS(status) == 128 + SIGINT);
}

static bool run_weir(const char *weir, const char *out)
{
    const struct call *call = &calls[(size_t)random() % COUNT_OF(calls)];
    bool is_cut = random() % 32 == 0;
    if (is_cut) {
        pthread_mutex_lock(&page_lock);
        if (ftruncate(fd, random() % (long)sizeof *page))
            exit(1);
    }
    bool well = ends_well(start_weir(weir, call, out), call->waits);
    if (!well)
        printf("bad: %s %s\n", weir, call->argument[0]);
    if (is_cut) {
        if (ftruncate(fd, sizeof *page))
            exit(1);
        pthread_mutex_unlock(&page_lock);
    }
    return well;
}

static void fuzz(int seconds, const char *out, char **weirs)
{
    int64_t end = clock_ms(CLOCK_MONOTONIC) + seconds * 1000;
    int runs = 0, bad = 0, pair[2];
    long seed = time(NULL);
    pthread_t writer;
    srandom((unsigned int)seed);
    for (int i = 20; i < 60 && !socketpair(AF_UNIX, SOCK_STREAM, 0, pair); i++)
        dup2(pair[0], i);
    if (pthread_create(&writer, NULL, write_on, NULL))
        exit(1);
    while (clock_ms(CLOCK_MONOTONIC) < end ||
           (runs < 20 && clock_ms(CLOCK_MONOTONIC) < end + 30000)) { /* on a busy machine */
        pthread_mutex_lock(&page_lock);
        writes_each = 100u << random() % 8;
        fill_in();
        if (random() % 2)
            write_over();
        make_table();
        pthread_mutex_unlock(&page_lock);
        for (char **weir = weirs; *weir; weir++, runs++)
            bad += !run_weir(*weir, out);
    }
    printf("seed %ld runs %d bad %d\n", seed, runs, bad);
    exit(0);
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
        page->slot[0].pid = getpid();
        printf("child %d\n", getpid());
    }
    if (!strcmp(kind, "deaf"))
        page->slot[0].flags = SLOT_NOT_WOKEN;
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
    if (!strcmp(kind, "fuzz"))
        fuzz(atoi(argv[3]), argv[4], argv + 5);
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
