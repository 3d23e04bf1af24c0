/* race: many connections in and out of use while a drain begins; not one request may be cut.
 * SPDX-License-Identifier: MIT
 *
 *   race server automatic|manual PORT FILE [DRAIN_AFTER_MS]
 *   race clients CONNECTIONS PORT FILE
 *
 * A request is a line with the number of its connection. For each the server counts in FILE (shared
 * memory) what it has read, the client what was answered: at the end, read and not answered is cut.
 * A request that the server never read is the keep-alive race, which nobody but HTTP can win.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

enum { MAX_CONNECTIONS = 1000, USE_MS = 50, PAUSE_MS = 20, STAGGER_MS = 5, LIFE_MS = 15000 };

struct tally {
    atomic_int read[MAX_CONNECTIONS], answered[MAX_CONNECTIONS];
};

static struct tally *tally;
static struct sockaddr_in address = {.sin_family = AF_INET};
static bool manual;
static atomic_int refused, ended;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void sleep_us(long us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ; /* signal(7): never restarted, whatever SA_RESTART says */
}

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void start(void *(*function)(void *), intptr_t argument)
{
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &small, function, (void *)argument) != 0)
        fail("race: pthread_create");
    pthread_attr_destroy(&small);
}

static void *serve_one(void *argument)
{
    int fd = (intptr_t)argument;
    unsigned seed = fd;
    char line[64];
    for (;;) {
        ssize_t length = read(fd, line, sizeof line - 1);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            break;
        if (manual && weir_mark_in_use)
            weir_mark_in_use(fd);
        line[length] = '\0';
        int number = atoi(line);
        if (number < 0 || number >= MAX_CONNECTIONS)
            break;
        tally->read[number]++;
        sleep_us(rand_r(&seed) % (USE_MS * 1000));
        if (write(fd, line, length) != length)
            break;
        if (weir_mark_idle)
            weir_mark_idle(fd);
    }
    close(fd);
    return NULL;
}

static void *accept_all(void *argument)
{
    int listener = (intptr_t)argument;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0)
            start(serve_one, fd);
        else
            sleep_us(1000);
    }
    return NULL;
}

static int run_server(long drain_after_ms)
{
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, MAX_CONNECTIONS) < 0)
        fail("race: listen");
    start(accept_all, listener);
    if (drain_after_ms < 0 || !weir_drain) {
        sleep_us(LIFE_MS * 1000L);
        return 1;
    }
    sleep_us(drain_after_ms * 1000);
    long begin = now_ms();
    int result = weir_drain();
    printf("drained %d in %ld ms\n", result, now_ms() - begin);
    return result != 0;
}

static void *ask(void *argument)
{
    int number = (intptr_t)argument, fd = socket(AF_INET, SOCK_STREAM, 0);
    unsigned seed = number;
    char request[64], response[64];
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sleep_us(number * STAGGER_MS * 1000L);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        refused++;
    } else {
        int length = snprintf(request, sizeof request, "%d\n", number);
        for (long until = now_ms() + LIFE_MS; now_ms() < until;) {
            /* Whoever looks before it sends sees most closes; the rest is the race. */
            struct pollfd look = {.fd = fd, .events = POLLIN};
            if (poll(&look, 1, rand_r(&seed) % PAUSE_MS) != 0 ||
                send(fd, request, length, MSG_NOSIGNAL) != length ||
                recv(fd, response, length, MSG_WAITALL) != length)
                break;
            tally->answered[number]++;
        }
    }
    close(fd);
    ended++;
    return NULL;
}

static int run_clients(int count)
{
    int answered = 0, cut = 0;
    for (int i = 0; i < count; i++)
        start(ask, i);
    for (long until = now_ms() + LIFE_MS; ended < count && now_ms() < until;)
        sleep_us(1000);
    for (int i = 0; i < count; i++) {
        answered += tally->answered[i];
        if (tally->read[i] > tally->answered[i])
            cut++;
    }
    printf("%d answered, %d cut, %d refused, %d still open\n", answered, cut, (int)refused,
           count - ended);
    return cut > 0 || ended < count;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: race server automatic|manual PORT FILE [DRAIN_AFTER_MS]\n"
                        "       race clients CONNECTIONS PORT FILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    address.sin_port = htons(atoi(argv[3]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int file = open(argv[4], O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *tally) < 0)
        fail(argv[4]);
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (tally == MAP_FAILED)
        fail("race: mmap");
    close(file);
    if (!strcmp(argv[1], "server")) {
        manual = !strcmp(argv[2], "manual");
        return run_server(argc > 5 ? atol(argv[5]) : -1);
    }
    int count = atoi(argv[2]);
    return run_clients(count > 0 && count <= MAX_CONNECTIONS ? count : MAX_CONNECTIONS);
}
