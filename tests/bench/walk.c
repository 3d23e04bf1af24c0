/* SPDX-License-Identifier: MIT */
/*
 * The shim's own objects over as many descriptors as one likes, without a kernel behind them.
 *
 *   walk close-idle COUNT   walk_close_idle ms=N yard=NS: drain.c's close-idle over COUNT idle
 *                           connections
 *   walk counts COUNT       walk_counts ns=N: weir_counts() beside COUNT connections
 *   walk steps COUNT        walk_steps NAME=NS...: read (in use already), request (read and write),
 *                           accept and close, on 64 of COUNT connections in turn and on all at
 *                           random; the walk for each connection, and over an empty table
 *   walk lines              walk_lines shared=N: how many numbers have their record on the
 *                           next one's cache line
 *
 * It is linked with the library's objects. What sock.h asks of the kernel is answered by the
 * functions below (ld(1), --wrap), and what the wrappers pass on goes to functions that do nothing:
 * descriptors need not exist, and RLIMIT_NOFILE does not matter.
 */
#include "bench.h"

#include "conn/conn.h"
#include "drain/drain.h"
#include "base/libc.h"
#include "weir.h"

#include <netinet/in.h>

/* ---- no kernel ---- */

bool __wrap_sock_is(int fd, uint32_t whose, enum fingerprint kind);
void __wrap_sock_queues(int fd, struct sock_queues *queues);
void __wrap_sock_info(int fd, struct sock_info *info);
bool __wrap_sock_shut_read_of(int fd, uint32_t whose, enum fingerprint kind);

static uint32_t fingerprint; /* of every connection: they come from the same address */
static uint64_t shut;

bool __wrap_sock_is(int fd, uint32_t whose, enum fingerprint kind)
{
    (void)fd, (void)kind;
    return whose == fingerprint;
}

void __wrap_sock_queues(int fd, struct sock_queues *queues)
{
    (void)fd;
    *queues = (struct sock_queues){0};
}

/* It has been answered, long ago. */
static const struct sock_figures figures = {.info = {.has = true,
                                                     .has_sent = true,
                                                     .has_received = true,
                                                     .received_ms = 100000,
                                                     .sent_ms = 100000,
                                                     .rtt_us = 50}};

void __wrap_sock_info(int fd, struct sock_info *info)
{
    (void)fd;
    *info = figures.info;
}

bool __wrap_sock_shut_read_of(int fd, uint32_t whose, enum fingerprint kind)
{
    (void)fd, (void)kind;
    shut += whose == fingerprint;
    return whose == fingerprint;
}

static int next_accepted;

static int no_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    (void)fd;
    *(struct sockaddr_in *)(void *)addr =
        (struct sockaddr_in){AF_INET, htons(40000), {htonl(INADDR_LOOPBACK)}, {0}};
    *len = sizeof(struct sockaddr_in);
    return next_accepted;
}

static ssize_t no_read(int fd, void *buf, size_t n)
{
    (void)fd, (void)buf;
    return (ssize_t)n;
}

static ssize_t no_write(int fd, const void *buf, size_t n)
{
    (void)fd, (void)buf;
    return (ssize_t)n;
}

static int no_close(int fd)
{
    (void)fd;
    return 0;
}

/* ---- a table of any size ---- */

enum { FIRST = 64, MOST = 1000000, ROUNDS = 7, SOME = 64 };

static int listener;
static char buffer[64];

static void begin(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 ||
        listen(listener, 1) < 0)
        err(1, "listen");
    if (table_make(FIRST + MOST, FIRST + MOST) < 0)
        errx(1, "no room for a table of %d", MOST);
    libc_accept = no_accept;
    libc_read = no_read;
    libc_write = no_write;
    libc_close = no_close;
}

static void accept_as(int fd)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    next_accepted = fd;
    accept(listener, (struct sockaddr *)&from, &len);
}

static void accept_all(int count)
{
    for (int i = 0; i < count; i++)
        accept_as(FIRST + i);
    if (!table_find(FIRST))
        errx(1, "nothing is tracked");
    fingerprint = (uint32_t)(atomic_load(&table_find(FIRST)->record) >> CONN_FINGERPRINT_SHIFT);
}

static void close_all(int count)
{
    for (int i = 0; i < count; i++)
        close(FIRST + i);
}

static double close_idle_ns(void)
{
    const struct drain_terms terms = {0};
    const struct origin origin = {0};
    double start = thread_ns();
    drain_begin(ACTION_CLOSE_IDLE, &origin, &terms);
    return thread_ns() - start;
}

/* The median over tables that are made anew, and the yardstick beside it. */
static double walk_ns(int count, double *yard)
{
    double times[ROUNDS], yards[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        accept_all(count);
        uint64_t before = shut;
        yards[i] = yardstick_ns();
        times[i] = close_idle_ns();
        yards[i] += yardstick_ns();
        if (shut - before != (uint64_t)count)
            errx(1, "%llu of %d were closed", (unsigned long long)(shut - before), count);
        close_all(count);
    }
    return quiet_median(times, yards, ROUNDS, yard);
}

static double empty_ns(int count)
{
    double times[ROUNDS];
    accept_as(FIRST + count - 1);
    close(FIRST + count - 1);
    for (int i = 0; i < ROUNDS; i++)
        times[i] = close_idle_ns();
    return median(times, ROUNDS);
}

static double counts_ns(void)
{
    double times[1001];
    struct weir_counts counts;
    for (int i = 0; i < 1001; i++) {
        double start = now_ns();
        for (int k = 0; k < 10; k++)
            weir_counts(&counts);
        times[i] = (now_ns() - start) / 10;
    }
    return median(times, 1001);
}

/* ---- steps ---- */

static void step_read(int fd)
{
    read(fd, buffer, sizeof buffer);
}

static void step_request(int fd)
{
    read(fd, buffer, sizeof buffer);
    write(fd, buffer, sizeof buffer);
}

static void step_renew(int fd)
{
    close(fd);
    accept_as(fd);
}

/* On 64 of them in turn, or on any at random. */
static double step_ns(void (*step)(int fd), int count, bool random)
{
    double times[51];
    static int order[4096];
    uint32_t dice = 1;
    for (int i = 0; i < 51; i++) {
        for (int k = 0; k < 4096; k++) {
            dice = dice * 1664525u + 1013904223u;
            int some = k % SOME * (count / SOME);
            order[k] = FIRST + (random ? (int)((dice >> 8) % (uint32_t)count) : some);
        }
        for (int k = 0; !random && k < SOME; k++)
            step(order[k]);
        double start = now_ns();
        for (int k = 0; k < 4096; k++)
            step(order[k]);
        times[i] = (now_ns() - start) / 4096;
    }
    return median(times, 51);
}

static void measure_steps(int count)
{
    double yard, empty = empty_ns(count), walk = walk_ns(count, &yard);
    accept_all(count);
    SAY("walk_steps count=%d", count);
    SAY(" request=%.2f request_any=%.2f", step_ns(step_request, count, false),
        step_ns(step_request, count, true));
    SAY(" renew=%.2f renew_any=%.2f", step_ns(step_renew, count, false),
        step_ns(step_renew, count, true));
    for (int i = 0; i < count; i++)
        step_read(FIRST + i);
    SAY(" read=%.2f read_any=%.2f", step_ns(step_read, count, false),
        step_ns(step_read, count, true));
    SAY(" counts=%.1f walk=%.2f empty=%.3f\n", counts_ns(), walk / count, empty / count);
}

static void check_lines(void)
{
    uint32_t shared = 0;
    for (uint32_t n = 0; n + 1 < table.limit; n++) {
        uintptr_t one = (uintptr_t)table_conn(n), two = (uintptr_t)table_conn(n + 1);
        shared += one / CACHE_LINE == two / CACHE_LINE;
    }
    SAY("walk_lines numbers=%u shared=%u\n", table.limit, shared);
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[2]) : MOST;
    if (argc < 2 || count < SOME || count > MOST)
        errx(2, "usage: walk close-idle|counts|steps|lines [COUNT]");
    pin_to(0);
    begin();
    if (!strcmp(argv[1], "lines"))
        check_lines();
    if (!strcmp(argv[1], "close-idle")) {
        double yard, ns = walk_ns(count, &yard);
        SAY("walk_close_idle count=%d ms=%.2f yard=%.0f\n", count, ns / 1e6, yard / 2);
    }
    if (!strcmp(argv[1], "counts")) {
        accept_all(count);
        SAY("walk_counts count=%d ns=%.1f\n", count, counts_ns());
    }
    if (!strcmp(argv[1], "steps"))
        measure_steps(count);
    fflush(stdout);
    _exit(0);
}
