/* queue_clients: clients who connect all at once (or one after the other), send a line each, and
 * wait for its answer; it classes how each of them ended.
 * SPDX-License-Identifier: MIT
 *
 *   queue_clients [OPTION...] ADDRESS      HOST:PORT, [HOST]:PORT, unix:PATH
 *     --clients N      1
 *     --every US       between two that connect; 0
 *     --endless        who is gone comes again, until the first is refused: N at once at the most
 *     --send-after MS  of silence after a client has connected; 0
 *     --deaf MS        their kernel drops what comes for so long: their handshakes stay half done
 *     --patience S     they wait for their answer; 25
 *     --expect TEXT    that it begins with; "pong"
 *
 * Prints "connecting" when the last has begun to, "connected N" when each has, or could not, and at
 * the end a line of NAME=NUMBER:
 *   answered       a whole line came, then the end, or the client left
 *   unanswered     connected, but a clean end came instead, or another answer
 *   reset          connected, but a reset came instead
 *   refused        could not connect
 *   unconnected    still tried to connect at the end
 *   open           connected, and still waited for an answer at the end
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/filter.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct {
    int clients, every_us, send_after, deaf, patience;
    bool endless;
    const char *expect;
} options = {.clients = 1, .patience = 25, .expect = "pong"};

static union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
} address;
static socklen_t address_len;

enum state { NOT_YET, CONNECTING, SILENT, ASKED, GONE };
static struct client {
    int fd;
    enum state state;
    int64_t send_at; /* ms */
} * clients;
static struct {
    int answered, unanswered, reset, refused, unconnected, open;
} ends;

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static int64_t now_ms(void)
{
    return now_us() / 1000;
}

static void parse(const char *text)
{
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    if (!colon)
        errx(2, "%s: no address", text);
    if (strncmp(text, "unix:", 5) == 0) {
        address.un.sun_family = AF_UNIX;
        strncpy(address.un.sun_path, text + 5, sizeof address.un.sun_path - 1);
        address_len = sizeof address.un;
    } else if (*text == '[') {
        memcpy(host, text + 1, (size_t)(colon - text - 2));
        address.in6.sin6_family = AF_INET6;
        address.in6.sin6_port = htons((uint16_t)atoi(colon + 1));
        inet_pton(AF_INET6, host, &address.in6.sin6_addr);
        address_len = sizeof address.in6;
    } else {
        memcpy(host, text, (size_t)(colon - text));
        address.in.sin_family = AF_INET;
        address.in.sin_port = htons((uint16_t)atoi(colon + 1));
        inet_pton(AF_INET, host, &address.in.sin_addr);
        address_len = sizeof address.in;
    }
}

static void leaves(struct client *client, int *class)
{
    ++*class;
    close(client->fd);
    client->state = GONE;
}

static void is_connected(struct client *client)
{
    client->state = SILENT;
    client->send_at = now_ms() + options.send_after;
}

/* connect(2): EAGAIN on AF_UNIX where the queue is full: to be tried again. */
static void try(struct client *client)
{
    if (connect(client->fd, &address.any, address_len) == 0)
        is_connected(client);
    else if (errno != EINPROGRESS && errno != EAGAIN)
        leaves(client, &ends.refused);
}

static void begin(struct client *client)
{
    client->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        err(1, "socket");
    if (options.deaf) {
        struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
        setsockopt(client->fd, SOL_SOCKET, SO_ATTACH_FILTER, &(struct sock_fprog){1, &nothing},
                   sizeof(struct sock_fprog));
    }
    client->state = CONNECTING;
    try(client);
}

static void goes_on(struct client *client)
{
    char line[200];
    if (client->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error)
            leaves(client, &ends.refused);
        else
            is_connected(client);
        return;
    }
    ssize_t got = recv(client->fd, line, sizeof line, 0);
    if (got >= (ssize_t)strlen(options.expect) &&
        memcmp(line, options.expect, strlen(options.expect)) == 0)
        leaves(client, &ends.answered);
    else if (got >= 0)
        leaves(client, &ends.unanswered);
    else if (errno != EAGAIN)
        leaves(client, &ends.reset);
}

static void hear_again(void)
{
    for (int i = 0; i < options.clients; i++)
        if (clients[i].state != GONE)
            setsockopt(clients[i].fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, sizeof(int));
}

static bool are_to_come(int begun)
{
    return options.endless ? !ends.refused : begun < options.clients;
}

/* Returns the place of the next one; NULL: all are taken. */
static struct client *place(int begun)
{
    if (begun < options.clients)
        return &clients[begun];
    for (int i = 0; i < options.clients; i++)
        if (clients[i].state == GONE)
            return &clients[i];
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"clients", 1, NULL, 'c'}, {"every", 1, NULL, 'e'},
                                          {"endless", 0, NULL, 'n'}, {"send-after", 1, NULL, 's'},
                                          {"deaf", 1, NULL, 'd'},    {"patience", 1, NULL, 'p'},
                                          {"expect", 1, NULL, 'x'},  {0}};
    for (int option; (option = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
        switch (option) {
        case 'c':
            options.clients = atoi(optarg);
            break;
        case 'e':
            options.every_us = atoi(optarg);
            break;
        case 'n':
            options.endless = true;
            break;
        case 's':
            options.send_after = atoi(optarg);
            break;
        case 'd':
            options.deaf = atoi(optarg);
            break;
        case 'p':
            options.patience = atoi(optarg);
            break;
        case 'x':
            options.expect = optarg;
            break;
        default:
            errx(2, "usage: queue_clients [OPTION...] ADDRESS");
        }
    }
    if (optind + 1 != argc || options.clients < 1)
        errx(2, "usage: queue_clients [OPTION...] ADDRESS");
    parse(argv[optind]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct rlimit files = {(rlim_t)options.clients + 50, (rlim_t)options.clients + 50};
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc((size_t)options.clients, sizeof *clients);
    struct pollfd *polled = calloc((size_t)options.clients, sizeof *polled);

    int64_t since = now_us();
    int64_t until = since + options.patience * INT64_C(1000000);
    bool said = false, hears = !options.deaf;
    for (int begun = 0, left = options.clients; left && now_us() < until;) {
        int connecting = 0;
        struct client *next;
        while (are_to_come(begun) && now_us() >= since + (int64_t)begun * options.every_us &&
               (next = place(begun))) {
            begin(next);
            if (++begun == options.clients)
                puts("connecting");
        }
        if (!hears && now_us() >= since + options.deaf * INT64_C(1000)) {
            hear_again();
            hears = true;
        }
        int used = begun < options.clients ? begun : options.clients;
        left = are_to_come(begun);
        for (int i = 0; i < used; i++) {
            struct client *client = &clients[i];
            bool is_unix = address.any.sa_family == AF_UNIX;
            if (client->state == CONNECTING && is_unix)
                try(client);
            if (client->state == SILENT && now_ms() >= client->send_at) {
                /* One that has been ended already is told so by the read that follows. */
                client->state = ASKED;
                send(client->fd, "ping\n", 5, MSG_NOSIGNAL);
            }
            connecting += client->state == CONNECTING;
            left += client->state != GONE;
            polled[i] = (struct pollfd){
                client->state == GONE || (client->state == CONNECTING && is_unix) ? -1 : client->fd,
                client->state == CONNECTING ? POLLOUT : POLLIN, 0};
        }
        if (!said && begun == options.clients && !connecting) {
            printf("connected %d\n", options.clients - ends.refused);
            said = true;
        }
        poll(polled, (nfds_t)used, are_to_come(begun) ? options.every_us / 1000 : 5);
        for (int i = 0; i < used; i++)
            if (polled[i].revents)
                goes_on(&clients[i]);
    }
    for (int i = 0; i < options.clients; i++) {
        ends.unconnected += clients[i].state == CONNECTING;
        ends.open += clients[i].state == SILENT || clients[i].state == ASKED;
    }
    printf("answered=%d unanswered=%d reset=%d refused=%d unconnected=%d open=%d\n", ends.answered,
           ends.unanswered, ends.reset, ends.refused, ends.unconnected, ends.open);
}
