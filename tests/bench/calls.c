/* SPDX-License-Identifier: MIT */
/*
 * What the shim adds to a call: the same calls through it and past it, in one process.
 *
 *   calls ns STEP...         in ns, over the stub: NAME bare=NS shim=NS more=NS of the pairs in
 *                            which the machine was quiet, which had that yard=NS; all=NS, from=NS
 *                            and to=NS: of all pairs the median and the quartiles of more
 *   calls instructions STEP...   under callgrind: a dump for each, "NAME bare" and "NAME shim"
 *   calls allocations        of 1,000 times accept, read, write, close: their number
 *   calls threads            a request's cycle on two neighbouring descriptors: in ns, one thread
 *                            and two
 *   calls kernel             in ns, the real calls: recv(MSG_PEEK), accept, close
 *
 * To be run with libweir.so and the stub (stub.c) preloaded, kernel without the stub. Without
 * libweir.so both ways are the same one, and `more` says what the method is worth.
 */
#include "bench.h"

#include <dlfcn.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <valgrind/callgrind.h>

struct face {
    ssize_t (*read)(int fd, void *buf, size_t n);
    ssize_t (*recv)(int fd, void *buf, size_t n, int flags);
    ssize_t (*write)(int fd, const void *buf, size_t n);
    int (*accept)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*close)(int fd);
    int (*dup)(int fd);
    int (*mark_idle)(int fd);
};

static struct face bare, shim;
static int listener;
static int *stub_accepts;
static volatile unsigned long *stub_allocations;
static char buffer[64];

enum { UNTRACKED = 50, TRACKED = 100, PASSING = 200 };

static int no_mark(int fd)
{
    return fd;
}

static struct face face_of(void *library)
{
    struct face face = {.mark_idle = (int (*)(int))dlsym(RTLD_DEFAULT, "weir_mark_idle")};
#define FIND(name)                                       \
    if (!(*(void **)&face.name = dlsym(library, #name))) \
    errx(1, "%s: %s", #name, dlerror())
    FIND(read);
    FIND(recv);
    FIND(write);
    FIND(accept);
    FIND(close);
    FIND(dup);
    if (!face.mark_idle)
        face.mark_idle = no_mark;
    return face;
}

/* The listener is the kernel's own; who is accepted from it comes out of the stub. */
static void listen_on_loopback(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 ||
        listen(listener, 4096) < 0)
        err(1, "listen");
}

static void accept_stub(int fd)
{
    *stub_accepts = fd;
    shim.accept(listener, NULL, NULL);
}

/* ---- the steps: n times ---- */

#define STEP static __attribute__((noinline)) void

STEP step_read(const struct face *face, long n)
{
    while (n--)
        face->read(UNTRACKED, buffer, sizeof buffer);
}

STEP step_recv(const struct face *face, long n)
{
    while (n--)
        face->recv(UNTRACKED, buffer, sizeof buffer, 0);
}

/* In use after the first. */
STEP step_tracked_read(const struct face *face, long n)
{
    while (n--)
        face->read(TRACKED, buffer, sizeof buffer);
}

STEP step_tracked_recv(const struct face *face, long n)
{
    while (n--)
        face->recv(TRACKED, buffer, sizeof buffer, 0);
}

STEP step_request(const struct face *face, long n)
{
    while (n--) {
        face->read(TRACKED, buffer, sizeof buffer);
        face->write(TRACKED, buffer, sizeof buffer);
    }
}

/* Of 90 bytes, and its answer of 160: by read and write, whose stub leaves the buffers alone. */
static char get[] =
    "GET /0000000 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: benchmark/1.234\r\n"
    "Accept: */*\r\n\r\n";
static char answer[] =
    "HTTP/1.1 200 OK\r\nServer: example/1.22.1\r\nContent-Type: text/plain\r\n"
    "Content-Length: 28\r\nConnection: keep-alive\r\nETag: \"0123456789-ab\"\r\n\r\n"
    "twenty-eight bytes of answer";

STEP step_get(const struct face *face, long n)
{
    while (n--) {
        face->read(TRACKED, get, sizeof get - 1);
        face->write(TRACKED, answer, sizeof answer - 1);
    }
}

/* Each target and each ETag is another one. */
STEP step_new_get(const struct face *face, long n)
{
    static unsigned int number;
    char *target = strchr(get, '/') + 1, *tag = strchr(answer, '"') + 1;
    while (n--) {
        number++;
        for (int i = 0; i < 7; i++)
            target[i] = tag[i] = (char)('0' + (number >> 3 * i & 7));
        face->read(TRACKED, get, sizeof get - 1);
        face->write(TRACKED, answer, sizeof answer - 1);
    }
}

/* A request after another thread has had one on a connection. */
static void *ask_once(void *face)
{
    step_request(face, 1);
    return NULL;
}

STEP step_among(const struct face *face, long n)
{
    static bool has_asked;
    pthread_t thread;
    if (!has_asked && !pthread_create(&thread, NULL, ask_once, &shim))
        has_asked = !pthread_join(thread, NULL);
    step_request(face, n);
}

/* weir_mark_idle has no counterpart: bare, it is the read alone. */
STEP step_marked(const struct face *face, long n)
{
    bool marks = face == &shim;
    while (n--) {
        face->read(TRACKED, buffer, sizeof buffer);
        if (marks)
            face->mark_idle(TRACKED);
    }
}

STEP step_accept_asks(const struct face *face, long n)
{
    while (n--) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        face->close(face->accept(listener, (struct sockaddr *)&from, &len));
    }
}

STEP step_accept(const struct face *face, long n)
{
    while (n--)
        face->close(face->accept(listener, NULL, NULL));
}

static const struct step {
    const char *name;
    void (*run)(const struct face *face, long n);
    int accepts;
} steps[] = {
    {"read", step_read, 0},
    {"recv", step_recv, 0},
    {"tracked_read", step_tracked_read, 0},
    {"tracked_recv", step_tracked_recv, 0},
    {"request", step_request, 0},
    {"get", step_get, 0},
    {"new_get", step_new_get, 0},
    {"among", step_among, 0},
    {"marked", step_marked, 0},
    {"accept_asks", step_accept_asks, PASSING},
    {"accept", step_accept, PASSING},
};

static const struct step *step_named(const char *name)
{
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!strcmp(steps[i].name, name)) {
            *stub_accepts = steps[i].accepts;
            return &steps[i];
        }
    errx(2, "%s: there is no such step", name);
}

/* ---- ns ---- */

enum { PAIRS = 4001, BLOCK = 1000 };
static double bares[PAIRS], shims[PAIRS], mores[PAIRS], yards[PAIRS];

static double time_of(const struct step *step, const struct face *face, long n)
{
    double begin = now_ns();
    step->run(face, n);
    return (now_ns() - begin) / (double)n;
}

static void say_pairs(const char *name, size_t pairs)
{
    double yard, bare_ns = quiet_median(bares, yards, pairs, &yard);
    double shim_ns = quiet_median(shims, yards, pairs, &yard);
    for (size_t i = 0; i < pairs; i++)
        mores[i] = shims[i] - bares[i];
    double more = quiet_median(mores, yards, pairs, &yard);
    double all = median(mores, pairs);
    printf("%s bare=%.2f shim=%.2f more=%.2f all=%.2f from=%.2f to=%.2f yard=%.0f\n", name, bare_ns,
           shim_ns, more, all, mores[pairs / 4], mores[pairs * 3 / 4], yard);
    fflush(stdout);
}

static void measure_ns(const struct step *step)
{
    for (int i = 0; i < PAIRS; i++) {
        bares[i] = time_of(step, &bare, BLOCK);
        shims[i] = time_of(step, &shim, BLOCK);
        yards[i] = yardstick_ns();
    }
    say_pairs(step->name, PAIRS);
}

/* ---- instructions ---- */

static void count_instructions(const struct step *step)
{
    char name[64];
    for (int i = 0; i < 2; i++) {
        const struct face *face = i ? &shim : &bare;
        step->run(face, 10);
        snprintf(name, sizeof name, "%s %s", step->name, i ? "shim" : "bare");
        CALLGRIND_ZERO_STATS;
        step->run(face, BLOCK);
        CALLGRIND_DUMP_STATS_AT(name);
    }
}

static void count_allocations(void)
{
    struct sockaddr_storage from;
    unsigned long before = *stub_allocations;
    for (int i = 0; i < 1000; i++) {
        socklen_t len = sizeof from;
        *stub_accepts = TRACKED + i;
        int fd =
            shim.accept(listener, i % 2 ? (struct sockaddr *)&from : NULL, i % 2 ? &len : NULL);
        shim.read(fd, buffer, sizeof buffer);
        shim.write(fd, buffer, sizeof buffer);
        shim.close(fd);
    }
    unsigned long made = *stub_allocations - before;
    void *volatile seen = malloc(100);
    free(seen);
    printf("allocations made=%lu sees=%lu\n", made, *stub_allocations - before - made);
}

/* ---- two threads ---- */

struct worker {
    int fd, processor;
    const struct face *face;
    pthread_barrier_t *start;
    double ns;
};

enum { CYCLES = 100000 };

static void *work(void *arg)
{
    struct worker *worker = arg;
    pin_to(worker->processor);
    pthread_barrier_wait(worker->start);
    double begin = thread_ns();
    for (int i = 0; i < CYCLES; i++) {
        worker->face->read(worker->fd, buffer, sizeof buffer);
        worker->face->write(worker->fd, buffer, sizeof buffer);
    }
    worker->ns = (thread_ns() - begin) / CYCLES;
    return NULL;
}

/* The slower of `count` threads, which work on descriptors that follow each other. */
static double run_workers(int count)
{
    pthread_barrier_t start;
    pthread_t threads[2];
    struct worker workers[2];
    pthread_barrier_init(&start, NULL, (unsigned int)count);
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){TRACKED + i, i, &shim, &start, 0};
        if (pthread_create(&threads[i], NULL, work, &workers[i]))
            errx(1, "pthread_create");
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    return count == 2 && workers[1].ns > workers[0].ns ? workers[1].ns : workers[0].ns;
}

static void measure_threads(void)
{
    enum { ROUNDS = 41 };
    double one[ROUNDS], two[ROUNDS];
    accept_stub(TRACKED + 1);
    for (int i = 0; i < ROUNDS; i++) {
        one[i] = run_workers(1);
        two[i] = run_workers(2);
    }
    printf("threads one=%.2f two=%.2f\n", median(one, ROUNDS), median(two, ROUNDS));
}

/* ---- the kernel's calls ---- */

enum { QUEUE = 100, KERNEL_PAIRS = 301 };

static void connect_many(int *clients)
{
    struct sockaddr_in to;
    socklen_t len = sizeof to;
    getsockname(listener, (struct sockaddr *)&to, &len);
    for (int i = 0; i < QUEUE; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (clients[i] < 0 || connect(clients[i], (struct sockaddr *)&to, len) < 0)
            err(1, "connect");
    }
}

/*
 * Accepts a queue of clients, and closes them; the ns of both for one. A copy of each connection is
 * kept meanwhile (past the shim), so that close is the descriptor's end alone and not TCP's.
 */
static double accept_and_close(const struct face *face, bool asks)
{
    static int clients[QUEUE], accepted[QUEUE], copies[QUEUE];
    struct linger reset = {1, 0};
    connect_many(clients);
    double begin = now_ns();
    for (int i = 0; i < QUEUE; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        accepted[i] = asks ? face->accept(listener, (struct sockaddr *)&from, &len)
                           : face->accept(listener, NULL, NULL);
    }
    double ns = now_ns() - begin;
    for (int i = 0; i < QUEUE; i++)
        copies[i] = bare.dup(accepted[i]);
    begin = now_ns();
    for (int i = 0; i < QUEUE; i++)
        face->close(accepted[i]);
    ns += now_ns() - begin;
    for (int i = 0; i < QUEUE; i++) {
        setsockopt(clients[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        bare.close(clients[i]);
        bare.close(copies[i]);
    }
    return ns / QUEUE;
}

static void measure_accept(const char *name, bool bare_asks, const struct face *face, bool asks)
{
    for (int i = 0; i < KERNEL_PAIRS; i++) {
        bares[i] = accept_and_close(&bare, bare_asks);
        shims[i] = accept_and_close(face, asks);
        yards[i] = yardstick_ns();
    }
    say_pairs(name, KERNEL_PAIRS);
}

/* A byte that stays: MSG_PEEK. */
static void measure_recv(void)
{
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to;
    socklen_t len = sizeof to;
    getsockname(listener, (struct sockaddr *)&to, &len);
    if (connect(client, (struct sockaddr *)&to, len) < 0 || bare.write(client, "x", 1) != 1)
        err(1, "connect");
    int fd = shim.accept(listener, NULL, NULL);
    enum { TURNS = 2001, CALLS = 100 };
    for (int i = 0; i < TURNS; i++) {
        double begin = now_ns();
        for (int k = 0; k < CALLS; k++)
            bare.recv(fd, buffer, sizeof buffer, MSG_PEEK);
        double middle = now_ns();
        for (int k = 0; k < CALLS; k++)
            shim.recv(fd, buffer, sizeof buffer, MSG_PEEK);
        bares[i] = (middle - begin) / CALLS;
        shims[i] = (now_ns() - middle) / CALLS;
        yards[i] = yardstick_ns();
    }
    say_pairs("kernel_recv", TURNS);
    shim.close(fd);
    bare.close(client);
}

static void *library(const char *name)
{
    void *found = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    if (!found)
        errx(2, "%s is not preloaded", name);
    return found;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        errx(2, "usage: calls ns|instructions|allocations|threads|kernel [STEP...]");
    const char *what = argv[1];
    bool stubbed = strcmp(what, "kernel") != 0;
    void *under = library(stubbed ? getenv("BENCH_STUB") : "libc.so.6");
    shim = face_of(RTLD_DEFAULT);
    bare = face_of(under);
    listen_on_loopback();
    pin_to(0);
    if (!stubbed) {
        measure_recv();
        measure_accept("kernel_address", false, &bare, true);
        measure_accept("kernel_accept_asks", true, &shim, true);
        measure_accept("kernel_accept", false, &shim, false);
        return 0;
    }
    stub_accepts = dlsym(under, "stub_accepts");
    stub_allocations = dlsym(under, "stub_allocations");
    accept_stub(TRACKED);
    for (int i = 2; i < argc; i++) {
        if (!strcmp(what, "ns"))
            measure_ns(step_named(argv[i]));
        if (!strcmp(what, "instructions"))
            count_instructions(step_named(argv[i]));
    }
    if (!strcmp(what, "allocations"))
        count_allocations();
    if (!strcmp(what, "threads"))
        measure_threads();
    return 0;
}
