// Clients that never rest: each of N connections asks, reads the whole answer, looks whether the
// server has closed, and asks again at once, for ever.
// SPDX-License-Identifier: MIT
//
// answer_busy [OPTION...] PORT        on 127.0.0.1
//   --protocol http|upload|redis|memcached|cache|postgres     http
//                  (cache: memcached, asked in turn to keep a value of 1,000 bytes and for it)
//   --connections N    50, a thread each
//   --seconds S        10; it ends earlier when all connections are gone
//   --requests N       so many on each connection, then it rests until the server closes it
//   --pause MIN-MAX    ms between an answer and the next request; 0-3
//   --pipeline N       so many requests in one write; 1
//   --path P           http, upload: the path; /
//   --body N           upload: a PUT of so many bytes after "100 Continue"; 200000
//
// redis is asked for answers of 1 to 3,000 bytes, postgres for rows of 1 to 2,000.
//
// At the end it prints one line of NAME=NUMBER:
//   answered    requests with a whole answer
//   unanswered  sent; a clean end came, and no byte of an answer
//   truncated   sent; the end came in the middle of the answer, or of the request
//   reset       sent; a reset came, and no byte of an answer
//   stalled     sent; nothing came for ten seconds
//   crossed     the request and the server's FIN passed each other on the way, after the last look
//               for it: the FIN does not acknowledge the request, so no server can help that
//   open        connections still open at the end
//   least       requests with a whole answer on the connection that had the fewest
//   ended_ms    when the last connection ended (ms of the real-time clock; 0: none did)
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum protocol { HTTP, UPLOAD, REDIS, MEMCACHED, CACHE, POSTGRES };
static const char *const protocols[] = {"http",      "upload", "redis",
                                        "memcached", "cache",  "postgres"};

static struct {
    enum protocol protocol;
    int connections, pipeline;
    unsigned long requests;
    double seconds, pause_min, pause_max; // pauses in ms
    size_t body;
    const char *path;
    struct sockaddr_in address;
} options = {.connections = 50,
             .pipeline = 1,
             .requests = ULONG_MAX,
             .seconds = 10,
             .pause_max = 3,
             .path = "/",
             .body = 200000};

static _Atomic unsigned long answered, unanswered, truncated, reset, stalled, crossed, open_ones;
static _Atomic unsigned long least = ULONG_MAX, ended_ms;
static _Atomic bool stopped;
static pthread_barrier_t connected;

struct client {
    pthread_t thread;
    int fd;
    struct drand48_data dice;
    unsigned long answered;
    char bytes[65536]; // what has been received and not used yet
    size_t used, have;
    bool begun;     // a byte of the answer that is being read is there
    bool told;      // the server has said that it ends the session
    double last_at; // when something was received last, in ms
};

enum end { GOES_ON, CLEAN_END, RESET, NOTHING };

static uint64_t draw(struct client *c, uint64_t below)
{
    double number;
    drand48_r(&c->dice, &number);
    return (uint64_t)(number * (double)below);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

// More bytes, behind those that are there.
static enum end more(struct client *c)
{
    memmove(c->bytes, c->bytes + c->used, c->have - c->used);
    c->have -= c->used;
    c->used = 0;
    if (c->have == sizeof c->bytes)
        errx(1, "a line that never ends");
    ssize_t got = recv(c->fd, c->bytes + c->have, sizeof c->bytes - c->have, 0);
    if (got > 0)
        c->have += (size_t)got;
    c->begun |= got > 0;
    c->last_at = got > 0 ? now_ms() : c->last_at;
    return got > 0 ? GOES_ON : got == 0 ? CLEAN_END : errno == EAGAIN ? NOTHING : RESET;
}

static enum end skip(struct client *c, uint64_t count)
{
    while (c->have - c->used < count) {
        count -= c->have - c->used;
        c->used = c->have;
        enum end end = more(c);
        if (end)
            return end;
    }
    c->used += count;
    return GOES_ON;
}

// One line without its CR LF, which stays in the buffer until more is received.
static enum end take_line(struct client *c, char **line)
{
    char *end;
    while (!(end = memchr(c->bytes + c->used, '\n', c->have - c->used))) {
        enum end over = more(c);
        if (over)
            return over;
    }
    *line = c->bytes + c->used;
    c->used = (size_t)(end + 1 - c->bytes);
    *end = '\0';
    if (end > *line && end[-1] == '\r')
        end[-1] = '\0';
    return GOES_ON;
}

static void nonsense(const char *line)
{
    errx(1, "this is no answer: \"%s\"", line);
}

static enum end http_answer(struct client *c, unsigned wanted)
{
    char *line;
    unsigned long length = ULONG_MAX;
    unsigned status;
    bool chunked = false;
    enum end end = take_line(c, &line);
    if (end)
        return end;
    if (sscanf(line, "HTTP/1.1 %u", &status) != 1 || status != wanted)
        nonsense(line);
    while (!(end = take_line(c, &line)) && *line) {
        sscanf(line, "%*[Cc]ontent-%*[Ll]ength: %lu", &length);
        chunked |= !strncasecmp(line, "transfer-encoding: chunked", 26);
    }
    if (end || wanted == 100)
        return end;
    if (!chunked)
        return skip(c, length);
    do {
        if ((end = take_line(c, &line)))
            return end;
        length = strtoul(line, NULL, 16);
        end = skip(c, length + 2);
    } while (!end && length);
    return end;
}

static enum end redis_answer(struct client *c)
{
    char *line;
    unsigned long length;
    enum end end = take_line(c, &line);
    if (end || *line == '+')
        return end;
    if (sscanf(line, "$%lu", &length) != 1)
        nonsense(line);
    return skip(c, length + 2);
}

static enum end memcached_answer(struct client *c)
{
    char *line;
    enum end end = take_line(c, &line);
    if (!end && strncmp(line, "VERSION", 7))
        nonsense(line);
    return end;
}

static enum end cache_answer(struct client *c)
{
    char *line;
    unsigned long length;
    enum end end = take_line(c, &line);
    if (end || !strcmp(line, "STORED"))
        return end;
    if (sscanf(line, "VALUE %*s 0 %lu", &length) != 1)
        nonsense(line);
    return skip(c, length + strlen("\r\nEND\r\n"));
}

// The server's own word that the session ends here, which is said where nothing is owed: what was
// asked meanwhile has crossed it.
static void postgres_ends(struct client *c, size_t length)
{
    static const char code[] = "C57P01";
    const char *from = c->bytes + c->used, *end = from + length;
    for (const char *at = from; at + sizeof code <= end; at++)
        c->told |= !memcmp(at, code, sizeof code);
    if (c->told)
        return;
    fprintf(stderr, "answer_busy: postgres says there is an error:");
    for (const char *field = from + 5; field < end && *field; field += strlen(field) + 1)
        fprintf(stderr, " %s", field);
    errx(1, "answer %lu of a connection", c->answered + 1);
}

// Up to "ready for query".
static enum end postgres_answer(struct client *c)
{
    for (;;) {
        uint32_t length;
        while (c->have - c->used < 5) {
            enum end end = more(c);
            if (end)
                return end;
        }
        char kind = c->bytes[c->used];
        memcpy(&length, c->bytes + c->used + 1, 4);
        size_t whole = ntohl(length) + 1;
        while (kind == 'E' && c->have - c->used < whole) {
            enum end end = more(c);
            if (end)
                return end;
        }
        if (kind == 'E')
            postgres_ends(c, whole);
        if (c->told)
            return CLEAN_END;
        enum end end = skip(c, whole);
        if (end || kind == 'Z')
            return end;
    }
}

static enum end take_answer(struct client *c)
{
    c->begun = c->have > c->used;
    switch (options.protocol) {
    case HTTP:
    case UPLOAD:
        return http_answer(c, options.protocol == HTTP ? 200 : 201);
    case REDIS:
        return redis_answer(c);
    case MEMCACHED:
        return memcached_answer(c);
    case CACHE:
        return cache_answer(c);
    default:
        return postgres_answer(c);
    }
}

static size_t write_request(struct client *c, char *to, size_t room)
{
    int length;
    if (options.protocol == HTTP) {
        length = snprintf(to, room, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", options.path);
    } else if (options.protocol == UPLOAD) {
        length = snprintf(to, room,
                          "PUT %s%lu HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                          "Content-Length: %zu\r\n\r\n",
                          options.path, c->answered + (unsigned long)c->fd * 1000000, options.body);
    } else if (options.protocol == REDIS) {
        int size = (int)draw(c, 3000) + 1;
        length = snprintf(to, room, "*2\r\n$4\r\nECHO\r\n$%d\r\n%0*d\r\n", size, size, 1);
    } else if (options.protocol == MEMCACHED) {
        length = snprintf(to, room, "version\r\n");
    } else if (options.protocol == CACHE && c->answered % 2) {
        length = snprintf(to, room, "get %d\r\n", c->fd);
    } else if (options.protocol == CACHE) {
        length = snprintf(to, room, "set %d 0 0 1000\r\n%01000d\r\n", c->fd, 1);
    } else {
        length = 6 + snprintf(to + 5, room - 5, "SELECT repeat('x', %d)", (int)draw(c, 2000) + 1);
        uint32_t size = htonl((uint32_t)length - 1);
        to[0] = 'Q';
        memcpy(to + 1, &size, 4);
    }
    return (size_t)length;
}

// Whether the server has closed.
static bool has_ended(const struct client *c)
{
    char byte;
    ssize_t got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN) ||
           (got == 1 && options.protocol == POSTGRES && byte == 'E'); // see postgres_ends
}

// Every FIN acknowledges all that has arrived before it (load.c).
static bool has_crossed(const struct client *c)
{
    int unacknowledged = 0;
    return !ioctl(c->fd, SIOCOUTQ, &unacknowledged) && unacknowledged > 0;
}

static enum end send_all(struct client *c, const char *bytes, size_t count)
{
    while (count) {
        ssize_t sent = send(c->fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? NOTHING : RESET;
        bytes += sent;
        count -= (size_t)sent;
    }
    return GOES_ON;
}

static enum end upload(struct client *c)
{
    static char zeros[1 << 20];
    enum end end = http_answer(c, 100);
    return end ? end : send_all(c, zeros, options.body);
}

static void count_end(const struct client *c, enum end end, bool cut, unsigned long missing)
{
    fprintf(stderr, "answer_busy: answer %lu of a connection: %s%s, %.0f ms after its last byte\n",
            c->answered + 1, cut ? "cut by " : "", end == CLEAN_END ? "an end" : "an error",
            now_ms() - c->last_at);
    if (cut) {
        truncated++;
        missing--;
    }
    if (end == CLEAN_END)
        unanswered += missing;
    else if (end == NOTHING)
        stalled += missing;
    else
        reset += missing;
}

// Asks, and reads the answers. False: the connection is over, and it has been counted how.
static bool ask(struct client *c)
{
    char requests[65536];
    size_t length = 0;
    for (int i = 0; i < options.pipeline; i++)
        length += write_request(c, requests + length, sizeof requests - length);
    c->used = c->have = 0;
    if (has_ended(c))
        return false;
    enum end end = send_all(c, requests, length);
    if (has_ended(c)) {
        crossed++;
        return false;
    }
    bool cut = false;
    if (!end && options.protocol == UPLOAD) {
        end = upload(c);
        cut = end; // part of it was sent
    }
    for (int i = 0; i < options.pipeline; i++) {
        if (!end) {
            end = take_answer(c);
            cut = end && (c->begun || options.protocol == UPLOAD);
        }
        if (end == CLEAN_END && i == 0 && (c->told || (!cut && has_crossed(c)))) {
            crossed++;
            return false;
        }
        if (end) {
            count_end(c, end, cut, (unsigned long)(options.pipeline - i));
            return false;
        }
        answered++;
        c->answered++;
    }
    return true;
}

static bool log_in(struct client *c)
{
    static const char hello[] = "\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0";
    if (options.protocol != POSTGRES)
        return true;
    return !send_all(c, hello, sizeof hello) && !postgres_answer(c);
}

static void *run(void *argument)
{
    struct client *c = argument;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) < 0)
        err(1, "connect");
    if (!log_in(c) || !ask(c))
        errx(1, "no first answer");
    pthread_barrier_wait(&connected);
    bool goes_on = true;
    while (!stopped && goes_on && c->answered < options.requests) {
        goes_on = ask(c);
        double range = (options.pause_max - options.pause_min) * 1000;
        useconds_t pause =
            (useconds_t)(options.pause_min * 1000 + (double)draw(c, 1000) * range / 1000);
        if (pause)
            usleep(pause);
    }
    if (goes_on && c->answered >= options.requests)
        goes_on = more(c) == NOTHING;
    if (goes_on) {
        open_ones++;
    } else {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        ended_ms = (unsigned long)t.tv_sec * 1000 + (unsigned long)t.tv_nsec / 1000000;
    }
    close(c->fd);
    unsigned long fewest = least;
    while (c->answered < fewest && !atomic_compare_exchange_weak(&least, &fewest, c->answered)) {
    }
    return NULL;
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {{"protocol", required_argument, 0, 'P'},
                                          {"connections", required_argument, 0, 'n'},
                                          {"seconds", required_argument, 0, 's'},
                                          {"pause", required_argument, 0, 'p'},
                                          {"pipeline", required_argument, 0, 'l'},
                                          {"requests", required_argument, 0, 'r'},
                                          {"path", required_argument, 0, 'u'},
                                          {"body", required_argument, 0, 'b'},
                                          {0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'P') {
            options.protocol = HTTP;
            while (options.protocol <= POSTGRES && strcmp(optarg, protocols[options.protocol]))
                options.protocol++;
            if (options.protocol > POSTGRES)
                errx(2, "--protocol: \"%s\" is none", optarg);
        } else if (option == 'n')
            options.connections = atoi(optarg);
        else if (option == 's')
            options.seconds = atof(optarg);
        else if (option == 'l')
            options.pipeline = atoi(optarg);
        else if (option == 'r')
            options.requests = strtoul(optarg, NULL, 10);
        else if (option == 'u')
            options.path = optarg;
        else if (option == 'b')
            options.body = strtoul(optarg, NULL, 10);
        else if (option != 'p' ||
                 sscanf(optarg, "%lf-%lf", &options.pause_min, &options.pause_max) != 2)
            exit(2);
    }
    if (optind != argc - 1 || options.connections < 1 || options.pipeline < 1 ||
        options.pipeline > 100 || options.body > 1 << 20)
        errx(2, "usage: answer_busy [OPTION...] PORT");
    options.address = (struct sockaddr_in){.sin_family = AF_INET,
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                           .sin_port = htons((uint16_t)atoi(argv[optind]))};
}

static void stop(int signal)
{
    (void)signal;
    stopped = true;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = stop, .sa_flags = SA_RESTART}, NULL);
    struct client *clients = calloc((size_t)options.connections, sizeof *clients);
    if (!clients || pthread_barrier_init(&connected, NULL, (unsigned)options.connections + 1))
        err(1, "start");
    for (int i = 0; i < options.connections; i++) {
        srand48_r(i + 1, &clients[i].dice);
        if (pthread_create(&clients[i].thread, NULL, run, &clients[i]))
            errx(1, "no thread");
    }
    pthread_barrier_wait(&connected);
    fprintf(stderr, "answer_busy: ready: each connection was answered once\n");
    struct itimerval end = {
        .it_value = {.tv_sec = (time_t)options.seconds,
                     .tv_usec = (suseconds_t)(options.seconds * 1e6) % 1000000}};
    setitimer(ITIMER_REAL, &end, NULL);
    for (int i = 0; i < options.connections; i++)
        pthread_join(clients[i].thread, NULL);
    printf("answered=%lu unanswered=%lu truncated=%lu reset=%lu stalled=%lu crossed=%lu open=%lu "
           "least=%lu ended_ms=%lu\n",
           answered, unanswered, truncated, reset, stalled, crossed, open_ones, least, ended_ms);
}
