// A load client: N connections that ask, read the whole answer, pause, and ask again; it classes
// how each request ended.
// SPDX-License-Identifier: MIT
//
// load [OPTION...] PORT               on 127.0.0.1
//   --protocol http|redis|memcached|postgres|line    http; line: a line out, any line back;
//                                      postgres: user postgres, without a password, and SELECT 1
//   --connections N                    50
//   --seconds S                        10; it ends earlier when all connections are gone
//   --pause MIN-MAX                    ms between an answer and the next request; 0-250
//   --path P                           http: the path, "/"; redis: SET P-CONNECTION NUMBER instead
//                                      of PING; memcached: get P instead of version; line: the line
//                                      P instead of CONNECTION NUMBER
//   --careful                          watches for the server's close, and looks right before it
//                                      sends; without it a close shows only in the next request
//   --one-shot                         a new connection for each request; says at the end how long
//                                      the slowest took from connect to its whole answer
//
// At the end it prints one line of NAME=NUMBER:
//   answered       requests with a whole answer
//   unanswered     sent; a clean end came instead of the first byte of an answer
//   reset          sent; a reset came instead of the first byte of an answer
//   truncated      sent; the connection ended in the middle of the answer
//   refused        connections refused; postgres: or told that "the database system is starting up"
//   connect_reset  connections reset (one-shot, careful: or ended) before their first request went
//                  out
//   open           connections still open at the end
//   last_end_ms    when the last connection ended (ms of the real-time clock; 0: none did)
//   crossed        careful: the request and the server's FIN passed each other on the way. The FIN
//                  itself says so: it does not acknowledge the request
//   idle_reset     connections reset between two requests: nothing was lost by that
// The first five that lose a request, and that are still open, are named on stderr.
#define _GNU_SOURCE // memmem
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum protocol { HTTP, REDIS, MEMCACHED, POSTGRES, LINE };

static struct {
    enum protocol protocol;
    int connections;
    double seconds;
    double pause_min, pause_max; // seconds
    const char *path;
    bool careful, one_shot;
    struct sockaddr_in address;
} options = {.connections = 50, .seconds = 10, .pause_max = 0.25};

static struct {
    unsigned long answered, unanswered, reset, truncated, refused, connect_reset, crossed;
    unsigned long idle_reset, open, last_end_ms;
} totals;

// What the next line or the bytes to skip belong to.
enum part { HEAD, HEADER, CHUNK_SIZE, TRAILER, BODY, WHOLE };

struct answer {
    enum part part;
    bool begun; // a byte of it is there
    bool chunked, until_close, says_close, starting_up;
    uint64_t skip;   // bytes to pass over before the next line
    uint64_t length; // Content-Length; UINT64_MAX: none
    size_t line_length;
    char line[256]; // a longer line is cut
};

struct connection {
    enum { GONE, CONNECTING, PAUSING, WAITING } state;
    int fd; // -1 while a one-shot client pauses between two connections
    int number;
    double due;     // PAUSING: when the next request goes out
    double sent_at; // when the last one went out
    double opened_at;
    unsigned long sent; // requests on this connection
    bool answered_once;
    struct answer answer;
};

static int epoll;
static int alive;         // connections that are not GONE
static int not_yet_ready; // connections without a first answer
static volatile sig_atomic_t stopped;
static double slowest; // one-shot: s

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// The pauses: a heap, the earliest first. An entry whose connection ended meanwhile is stale, and
// there is at most one such for each connection.
static struct pause {
    double due;
    struct connection *connection;
} * pauses;
static int pause_count;

static void pauses_swap(int a, int b)
{
    struct pause kept = pauses[a];
    pauses[a] = pauses[b];
    pauses[b] = kept;
}

static void pauses_add(struct connection *c)
{
    int i = pause_count++;
    pauses[i] = (struct pause){c->due, c};
    for (; i > 0 && pauses[i].due < pauses[(i - 1) / 2].due; i = (i - 1) / 2)
        pauses_swap(i, (i - 1) / 2);
}

static struct pause pauses_take(void)
{
    struct pause first = pauses[0];
    pauses[0] = pauses[--pause_count];
    for (int i = 0, child; (child = 2 * i + 1) < pause_count; i = child) {
        if (child + 1 < pause_count && pauses[child + 1].due < pauses[child].due)
            child++;
        if (pauses[i].due <= pauses[child].due)
            break;
        pauses_swap(i, child);
    }
    return first;
}

static void begin_pause(struct connection *c, double at_least)
{
    double pause = options.pause_min + drand48() * (options.pause_max - options.pause_min);
    c->state = PAUSING;
    c->due = now() + (pause > at_least ? pause : at_least);
    pauses_add(c);
}

static void begin_answer(struct answer *a)
{
    memset(a, 0, offsetof(struct answer, line));
    a->length = UINT64_MAX;
}

static void first_answer_or_end(struct connection *c)
{
    if (!c->answered_once && --not_yet_ready == 0)
        fprintf(stderr, "load: ready: each connection was answered once or is gone\n");
    c->answered_once = true;
}

// The connection is over, whoever ended it.
static void end_connection(struct connection *c)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    totals.last_end_ms = (unsigned long)t.tv_sec * 1000 + (unsigned long)t.tv_nsec / 1000000;
    close(c->fd);
    c->fd = -1;
    first_answer_or_end(c);
    if (options.one_shot) {
        begin_pause(c, 0.001); // who is refused must not spin
    } else {
        c->state = GONE;
        alive--;
    }
}

// Whether the request passed the server's FIN on the way: the server's kernel had not got it when
// it sent the FIN. tcp(7), SIOCOUTQ: bytes sent and not acknowledged. Every FIN acknowledges all
// that has arrived before it, so a request that it leaves out came later; an answer to a request
// that was there, however slow this program is to look, can't look like that. (An acknowledgement
// that comes behind the FIN, from a server that reads on, makes it look like the server's fault:
// look at once.)
static bool has_crossed(const struct connection *c)
{
    int unacknowledged = 0;
    return options.careful && ioctl(c->fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0;
}

// What became of a connection, for whoever looks for the reason.
static void describe(const struct connection *c, const char *what)
{
    static const char *const states[] = {"gone", "connecting", "pausing", "waiting"};
    struct sockaddr_in address = {0};
    int unread = 0, unacknowledged = 0;
    getsockname(c->fd, (struct sockaddr *)&address, &(socklen_t){sizeof address});
    ioctl(c->fd, SIOCINQ, &unread);
    ioctl(c->fd, SIOCOUTQ, &unacknowledged);
    fprintf(stderr,
            "load: connection %d, port %u: %s, %s, %lu requests, the last %.6f s ago, "
            "%d bytes unread, %d unacknowledged\n",
            c->number, ntohs(address.sin_port), what, states[c->state], c->sent,
            c->sent ? now() - c->sent_at : 0, unread, unacknowledged);
}

// How a request ended that has no answer.
static void lose(const struct connection *c, unsigned long *class, const char *what)
{
    static int described;
    if (described++ < 5)
        describe(c, what);
    (*class)++;
}

// The server ended the connection; error is 0 for a clean end.
static void ended_by_server(struct connection *c, int error)
{
    if (c->state == CONNECTING) {
        if (error == ECONNREFUSED)
            totals.refused++;
        else
            lose(c, &totals.connect_reset, "reset at connect");
    } else if (c->state == WAITING) {
        if (c->answer.until_close && !error)
            totals.answered++;
        else if (c->answer.starting_up)
            totals.refused++;
        else if (c->answer.begun)
            lose(c, &totals.truncated, "truncated");
        else if (error)
            lose(c, &totals.reset, "reset");
        else if (has_crossed(c))
            lose(c, &totals.crossed, "crossed");
        else
            lose(c, &totals.unanswered, "unanswered");
    } else if (error && c->sent == 0) {
        lose(c, &totals.connect_reset, "reset at connect");
    } else if (error) {
        totals.idle_reset++;
    }
    end_connection(c);
}

static void nonsense(const struct answer *a)
{
    errx(1, "this is no answer: \"%.*s\"", (int)a->line_length, a->line);
}

static bool begins(const char *line, const char *word)
{
    return strncasecmp(line, word, strlen(word)) == 0;
}

static void http_head(struct answer *a)
{
    unsigned status;
    char minor;
    if (sscanf(a->line, "HTTP/1.%c %u", &minor, &status) != 2)
        nonsense(a);
    a->says_close = minor == '0';
    if (status < 200 || status == 204 || status == 304)
        a->length = 0;
    a->part = HEADER;
}

static void http_header(struct answer *a)
{
    const char *value = strchr(a->line, ':');
    value = value ? value + 1 + strspn(value + 1, " ") : "";
    if (begins(a->line, "content-length:") && a->length)
        a->length = strtoull(value, NULL, 10);
    else if (begins(a->line, "transfer-encoding:"))
        a->chunked = begins(value, "chunked");
    else if (begins(a->line, "connection:"))
        a->says_close = begins(value, "close");
    if (a->line_length > 0)
        return;
    if (a->chunked) {
        a->part = CHUNK_SIZE;
    } else if (a->length == UINT64_MAX) {
        a->until_close = true;
        a->part = BODY;
        a->skip = UINT64_MAX;
    } else {
        a->part = a->length ? BODY : WHOLE;
        a->skip = a->length;
    }
}

static void http_chunk_size(struct answer *a)
{
    if (!isxdigit((unsigned char)a->line[0]))
        nonsense(a);
    uint64_t size = strtoull(a->line, NULL, 16);
    a->part = size ? CHUNK_SIZE : TRAILER;
    a->skip = size ? size + 2 : 0; // the chunk's own CR LF
}

static void redis_line(struct answer *a)
{
    if (!strchr("+-:", a->line[0]))
        nonsense(a);
    a->part = WHOLE;
}

static void memcached_line(struct answer *a)
{
    unsigned long long size;
    if (sscanf(a->line, "VALUE %*s %*u %llu", &size) == 1)
        a->skip = size + 2;
    else if (begins(a->line, "END") || begins(a->line, "VERSION") || strstr(a->line, "ERROR"))
        a->part = WHOLE;
    else
        nonsense(a);
}

static void on_line(struct answer *a)
{
    if (options.protocol == LINE)
        a->part = WHOLE;
    else if (options.protocol == REDIS)
        redis_line(a);
    else if (options.protocol == MEMCACHED)
        memcached_line(a);
    else if (a->part == HEAD)
        http_head(a);
    else if (a->part == HEADER)
        http_header(a);
    else if (a->part == CHUNK_SIZE)
        http_chunk_size(a);
    else if (a->line_length == 0)
        a->part = WHOLE; // the trailer's empty line
}

// Messages of a type, a length that counts itself, and a body. An answer ends with ReadyForQuery;
// an error (protocol 3.0, FATAL) in place of the first of them, or behind the last, is the server's
// last word, no answer.
static void feed_postgres(struct answer *a, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (a->part == WHOLE && bytes[i] == 'E') {
            a->says_close = true;
            return;
        }
        if (a->part == WHOLE)
            errx(1, "%zu bytes after the end of an answer", count - i);
        if (a->skip > 0) {
            if (a->line[0] == 'E' && a->line_length < sizeof a->line - 1)
                a->line[++a->line_length] = bytes[i];
            if (--a->skip > 0)
                continue;
            a->part = a->line[0] == 'Z' ? WHOLE : HEAD;
            a->starting_up |= memmem(a->line + 1, a->line_length, "C57P03", 7) != NULL;
            a->line_length = 0;
            continue;
        }
        a->line[a->line_length++] = bytes[i];
        a->begun |= a->line[0] != 'E';
        if (a->line_length < 5)
            continue;
        uint32_t length;
        memcpy(&length, a->line + 1, sizeof length);
        a->skip = ntohl(length) - sizeof length;
        a->line_length = 0;
    }
}

static void feed(struct answer *a, const char *bytes, size_t count)
{
    if (options.protocol == POSTGRES) {
        feed_postgres(a, bytes, count);
        return;
    }
    a->begun = true;
    for (size_t i = 0; i < count;) {
        if (a->part == WHOLE)
            errx(1, "%zu bytes after the end of an answer", count - i);
        if (a->skip > 0) {
            size_t passed = count - i < a->skip ? count - i : (size_t)a->skip;
            i += passed;
            if (a->skip != UINT64_MAX)
                a->skip -= passed;
            if (a->skip == 0 && a->part == BODY)
                a->part = WHOLE;
        } else if (bytes[i] != '\n') {
            if (a->line_length < sizeof a->line - 1)
                a->line[a->line_length++] = bytes[i];
            i++;
        } else {
            if (a->line_length > 0 && a->line[a->line_length - 1] == '\r')
                a->line_length--;
            a->line[a->line_length] = '\0';
            on_line(a);
            a->line_length = 0;
            i++;
        }
    }
}

static void read_answer(struct connection *c)
{
    static char bytes[65536];
    ssize_t got;
    while ((got = recv(c->fd, bytes, sizeof bytes, 0)) > 0) {
        feed(&c->answer, bytes, (size_t)got);
        if (c->answer.part != WHOLE)
            continue;
        totals.answered++;
        if (now() - c->opened_at > slowest)
            slowest = now() - c->opened_at;
        first_answer_or_end(c);
        if (options.one_shot || c->answer.says_close)
            end_connection(c);
        else
            begin_pause(c, 0);
        return;
    }
    if (got == 0 || errno != EAGAIN)
        ended_by_server(c, got ? errno : 0);
}

// In a pause: true when the server has ended the connection, which is over then.
static bool look(struct connection *c)
{
    char byte;
    ssize_t got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0 && options.protocol == POSTGRES && byte == 'E')
        got = 0; // it says why it ends the connection
    if (got > 0)
        errx(1, "data that nobody asked for");
    if (got < 0 && errno == EAGAIN)
        return false;
    ended_by_server(c, got ? errno : 0);
    return true;
}

// The first request is the startup message.
static int write_postgres(char *to, const struct connection *c)
{
    static const char startup[] = "\0\0\0\x17\0\3\0\0user\0postgres\0";
    static const char query[] = "Q\0\0\0\x0dSELECT 1";
    size_t size = c->sent ? sizeof query : sizeof startup;
    memcpy(to, c->sent ? query : startup, size);
    return (int)size;
}

static int write_request(char *to, size_t room, const struct connection *c)
{
    if (options.protocol == POSTGRES)
        return write_postgres(to, c);
    const char *path = options.path;
    if (options.protocol == HTTP)
        return snprintf(to, room, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path ? path : "/");
    if (options.protocol == MEMCACHED)
        return snprintf(to, room, path ? "get %s\r\n" : "version\r\n", path);
    if (options.protocol == LINE && path)
        return snprintf(to, room, "%s\n", path);
    if (options.protocol == LINE)
        return snprintf(to, room, "%d %lu\n", c->number, c->sent);
    if (!path)
        return snprintf(to, room, "PING\r\n");
    return snprintf(to, room, "SET %s-%d %lu\r\n", path, c->number, c->sent);
}

static void send_request(struct connection *c)
{
    char request[1024];
    if (options.careful && look(c))
        return;
    int length = write_request(request, sizeof request, c);
    if (length >= (int)sizeof request)
        errx(2, "--path: too long");
    ssize_t sent = send(c->fd, request, (size_t)length, MSG_NOSIGNAL);
    if (sent < 0 && c->sent == 0) {
        ended_by_server(c, errno); // it had been reset before
        return;
    }
    begin_answer(&c->answer);
    c->state = WAITING;
    c->sent_at = now();
    c->sent++;
    if (sent < 0)
        ended_by_server(c, errno);
    else if (sent != length)
        errx(1, "a request of %d bytes did not fit", length);
    else
        read_answer(c); // at once: a careless client's edge has passed, see has_crossed for others
}

static void open_connection(struct connection *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        err(1, "socket");
    c->state = CONNECTING;
    c->sent = 0;
    c->opened_at = now();
    if (connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) < 0 &&
        errno != EINPROGRESS) {
        if (errno == EADDRNOTAVAIL)
            err(1, "connect");
        ended_by_server(c, errno);
        return;
    }
    // An edge each for the handshake's end, an answer, the server's close.
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        err(1, "epoll_ctl");
}

static void on_event(struct connection *c, uint32_t events)
{
    if (c->state == CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
        if (error)
            ended_by_server(c, error);
        else if (options.one_shot)
            send_request(c);
        else
            begin_pause(c, 0);
    } else if (c->state == WAITING) {
        read_answer(c);
    } else if (c->state == PAUSING && c->fd >= 0 && options.careful) {
        look(c);
    }
}

static void run_pauses(void)
{
    double time = now();
    while (pause_count > 0 && pauses[0].due <= time) {
        struct pause p = pauses_take();
        if (p.connection->state != PAUSING || p.connection->due != p.due)
            continue;
        if (p.connection->fd >= 0)
            send_request(p.connection);
        else
            open_connection(p.connection);
    }
}

static void run(struct connection *connections)
{
    struct epoll_event events[256];
    double end = now() + options.seconds;
    for (int i = 0; i < options.connections; i++) {
        connections[i].number = i;
        open_connection(&connections[i]);
    }
    for (double time; alive > 0 && !stopped && (time = now()) < end;) {
        double until = pause_count > 0 && pauses[0].due < end ? pauses[0].due : end;
        double wait = until > time ? until - time : 0;
        struct timespec timeout = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
        int count = epoll_pwait2(epoll, events, 256, &timeout, NULL);
        if (count < 0 && errno != EINTR)
            err(1, "epoll_pwait2");
        for (int i = 0; i < count; i++)
            on_event(events[i].data.ptr, events[i].events);
        run_pauses();
    }
    for (int i = 0; i < options.connections; i++)
        if (connections[i].state != GONE && connections[i].fd >= 0 && totals.open++ < 5)
            describe(&connections[i], "open");
}

static void parse_pause(const char *text)
{
    char *end;
    options.pause_min = options.pause_max = strtod(text, &end) / 1000;
    if (*end == '-')
        options.pause_max = strtod(end + 1, &end) / 1000;
    if (*end || options.pause_min < 0 || options.pause_max < options.pause_min)
        errx(2, "--pause: \"%s\" is no range of milliseconds", text);
}

static enum protocol protocol(const char *name)
{
    if (strcmp(name, "redis") == 0)
        return REDIS;
    if (strcmp(name, "memcached") == 0)
        return MEMCACHED;
    if (strcmp(name, "postgres") == 0)
        return POSTGRES;
    if (strcmp(name, "line") == 0)
        return LINE;
    if (strcmp(name, "http") != 0)
        errx(2, "--protocol: \"%s\" is none of http, redis, memcached, postgres, line", name);
    return HTTP;
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"protocol", required_argument, 0, 'P'}, {"connections", required_argument, 0, 'n'},
        {"seconds", required_argument, 0, 's'},  {"pause", required_argument, 0, 'p'},
        {"path", required_argument, 0, 'u'},     {"careful", no_argument, 0, 'c'},
        {"one-shot", no_argument, 0, '1'},       {0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'P')
            options.protocol = protocol(optarg);
        else if (option == 'n')
            options.connections = atoi(optarg);
        else if (option == 's')
            options.seconds = atof(optarg);
        else if (option == 'u')
            options.path = optarg;
        else if (option == 'c')
            options.careful = true;
        else if (option == '1')
            options.one_shot = true;
        else if (option == 'p')
            parse_pause(optarg);
        else
            exit(2);
    }
    if (optind != argc - 1 || options.connections < 1)
        errx(2, "usage: load [OPTION...] PORT");
    options.address = (struct sockaddr_in){.sin_family = AF_INET,
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                           .sin_port = htons((uint16_t)atoi(argv[optind]))};
}

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    srand48(1);

    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    pauses = calloc(2 * (size_t)options.connections + 1, sizeof *pauses);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || !pauses || epoll < 0)
        err(1, "start");
    alive = not_yet_ready = options.connections;
    run(connections);
    if (options.one_shot)
        fprintf(stderr, "load: the slowest took %.0f ms\n", slowest * 1e3);
    printf("answered=%lu unanswered=%lu reset=%lu truncated=%lu refused=%lu connect_reset=%lu "
           "open=%lu last_end_ms=%lu crossed=%lu idle_reset=%lu\n",
           totals.answered, totals.unanswered, totals.reset, totals.truncated, totals.refused,
           totals.connect_reset, totals.open, totals.last_end_ms, totals.crossed,
           totals.idle_reset);
}
