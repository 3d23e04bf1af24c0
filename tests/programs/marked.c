/* marked: a TCP and AF_UNIX server that is told, line by line, what to do with its connections.
 * SPDX-License-Identifier: MIT
 *
 *   marked COMMANDS REPLIES ADDRESS...      two FIFOs; PORT, HOST:PORT, [HOST]:PORT or unix:PATH
 *
 * Connections are numbered from 1 as they are accepted. Each has a thread that reads until the end
 * and then closes the descriptor. Each command gets one line of answer: 0, -1 ENOENT, or figures:
 *
 *   in_use N, idle N, disown N      the marks; N is a number, or fd:NUMBER for any descriptor
 *   close_idle, counts              counts answers "TRACKED IDLE IN_USE ACCEPTED"
 *   drain, drain_all                answers "started", and waits in a thread of its own
 *   drained MS                      what the last of these came to: "0 53" (ms), or "pending"
 *   state N                         none, open, ended (held after its end), closed; and the bytes
 *   write N TEXT, print N TEXT      answer the client, with write(2), and out of sight, with stdio
 *   rcvtimeo N                      setsockopt(SO_RCVTIMEO)
 *   close N, dup N, close_dup N     dup answers the descriptor; close takes fd:NUMBER too
 *   hold N                          do not close at the end of file
 *   pause, resume, close_listener   the accepting
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/weir.h" /* weak: null without the shim */

enum { MAX_CONNECTIONS = 1024, MAX_LISTENERS = 8, STEP_MS = 20 };
enum state { NONE, OPEN, ENDED, CLOSED };

struct connection {
    int fd, copy;
    atomic_int state;
    atomic_size_t bytes;
    atomic_bool hold, stop;
};

static struct connection connections[MAX_CONNECTIONS + 1];
static int last_connection;
static pthread_mutex_t accepting = PTHREAD_MUTEX_INITIALIZER;

static int listeners[MAX_LISTENERS], listener_count;
static atomic_bool paused, listeners_closed;
static atomic_int listeners_left;

static struct {
    pthread_t thread;
    bool all;
    int result, error;
    long ms;
    atomic_bool done;
} drain;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* ---- what the connections' and the listeners' threads do ---- */

/* Polls in steps and is the only one to close its descriptor: a close under another thread's
 * blocked read would leave the socket open for as long as that read lasts. */
static void *read_to_the_end(void *argument)
{
    struct connection *connection = argument;
    char buffer[4096];
    while (!connection->stop) {
        struct pollfd wait = {.fd = connection->fd, .events = POLLIN};
        if (connection->state == ENDED || poll(&wait, 1, STEP_MS) <= 0) {
            if (connection->state == ENDED)
                sleep_ms(STEP_MS);
            continue;
        }
        ssize_t length = read(connection->fd, buffer, sizeof buffer);
        if (length > 0)
            connection->bytes += length;
        else if (length == 0 && connection->hold)
            connection->state = ENDED;
        else if (length == 0 || (errno != EINTR && errno != EAGAIN))
            break;
    }
    close(connection->fd);
    connection->state = CLOSED;
    return NULL;
}

static void *accept_all(void *argument)
{
    int listener = *(int *)argument;
    while (!listeners_closed) {
        struct pollfd wait = {.fd = listener, .events = POLLIN};
        if (paused || poll(&wait, 1, STEP_MS) <= 0) {
            if (paused)
                sleep_ms(STEP_MS);
            continue;
        }
        pthread_mutex_lock(&accepting);
        int fd = paused ? -1 : accept(listener, NULL, NULL);
        if (fd >= 0 && last_connection < MAX_CONNECTIONS) {
            struct connection *connection = &connections[last_connection + 1];
            pthread_t thread;
            connection->fd = fd;
            connection->copy = -1;
            connection->state = OPEN;
            last_connection++;
            if (pthread_create(&thread, NULL, read_to_the_end, connection) != 0)
                fail("marked: pthread_create");
            pthread_detach(thread);
        }
        pthread_mutex_unlock(&accepting);
        if (fd < 0)
            sleep_ms(STEP_MS); /* a listener that a drain has taken away stays "ready" */
    }
    close(listener);
    listeners_left--;
    return NULL;
}

static void *drain_and_wait(void *argument)
{
    long start = now_ms();
    errno = 0;
    drain.result = drain.all ? weir_drain_all() : weir_drain();
    drain.error = errno;
    drain.ms = now_ms() - start;
    drain.done = true;
    return argument;
}

/* ---- the commands ---- */

static FILE *replies;

static void answer_text(const char *text)
{
    fprintf(replies, "%s\n", text);
}

static const char *error_name(int error)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {{ENOENT, "ENOENT"}, {EALREADY, "EALREADY"}, {ETIMEDOUT, "ETIMEDOUT"},
                 {EBADF, "EBADF"},   {EPIPE, "EPIPE"},       {ECONNRESET, "ECONNRESET"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].error == error)
            return names[i].name;
    return strerror(error);
}

static void answer(long result)
{
    if (result < 0)
        fprintf(replies, "%ld %s\n", result, error_name(errno));
    else
        fprintf(replies, "%ld\n", result);
}

static void mark(int (*function)(int), int fd)
{
    if (function)
        answer(function(fd));
    else
        answer_text("no shim");
}

static void start_drain(bool all)
{
    if (!(all ? weir_drain_all : weir_drain)) {
        answer_text("no shim");
        return;
    }
    drain.all = all;
    drain.done = false;
    if (pthread_create(&drain.thread, NULL, drain_and_wait, NULL) != 0)
        fail("marked: pthread_create");
    pthread_detach(drain.thread);
    answer_text("started");
}

static void answer_drained(long patience_ms)
{
    for (long until = now_ms() + patience_ms; !drain.done && now_ms() < until;)
        sleep_ms(1);
    if (!drain.done)
        answer_text("pending");
    else if (drain.result < 0)
        fprintf(replies, "%d %s %ld\n", drain.result, error_name(drain.error), drain.ms);
    else
        fprintf(replies, "%d %ld\n", drain.result, drain.ms);
}

static void answer_counts(void)
{
    struct weir_counts counts;
    if (!weir_counts)
        answer_text("no shim");
    else if (weir_counts(&counts) < 0)
        answer(-1);
    else
        fprintf(replies, "%llu %llu %llu %llu\n", (unsigned long long)counts.tracked,
                (unsigned long long)counts.idle, (unsigned long long)counts.in_use,
                (unsigned long long)counts.accepted);
}

static void answer_state(struct connection *connection)
{
    static const char *const names[] = {"none", "open", "ended", "closed"};
    if (connection->state == NONE)
        answer_text("none");
    else
        fprintf(replies, "%s %zu\n", names[connection->state], connection->bytes);
}

static void answer_client(int fd, const char *text)
{
    char line[512];
    answer(write(fd, line, snprintf(line, sizeof line, "%s\n", text)));
}

static void close_connection(struct connection *connection)
{
    connection->stop = true;
    for (int step = 0; connection->state != CLOSED && step < 200; step++)
        sleep_ms(10);
    errno = EBADF;
    answer(connection->state == CLOSED ? 0 : -1);
}

static void close_listeners(void)
{
    listeners_closed = true;
    for (int step = 0; listeners_left > 0 && step < 200; step++)
        sleep_ms(10);
    answer(listeners_left);
}

/* Under the lock: once "pause" is answered, nothing more is accepted. */
static void set_flag(atomic_bool *flag, bool value)
{
    pthread_mutex_lock(&accepting);
    *flag = value;
    pthread_mutex_unlock(&accepting);
    answer(0);
}

static void obey(const char *command, const char *operand, const char *text)
{
    bool named = strncmp(operand, "fd:", 3) == 0;
    int number = named ? 0 : atoi(operand);
    struct connection *connection =
        &connections[number > 0 && number <= MAX_CONNECTIONS ? number : 0];
    int fd = named ? atoi(operand + 3) : connection->fd;
    struct timeval timeout = {.tv_sec = 10};

    if (!strcmp(command, "in_use"))
        mark(weir_mark_in_use, fd);
    else if (!strcmp(command, "idle"))
        mark(weir_mark_idle, fd);
    else if (!strcmp(command, "disown"))
        mark(weir_disown, fd);
    else if (!strcmp(command, "close_idle"))
        weir_close_idle ? answer(weir_close_idle()) : answer_text("no shim");
    else if (!strcmp(command, "drain") || !strcmp(command, "drain_all"))
        start_drain(!strcmp(command, "drain_all"));
    else if (!strcmp(command, "drained"))
        answer_drained(number);
    else if (!strcmp(command, "counts"))
        answer_counts();
    else if (!strcmp(command, "state"))
        answer_state(connection);
    else if (!strcmp(command, "rcvtimeo"))
        answer(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    else if (!strcmp(command, "write"))
        answer_client(fd, text);
    else if (!strcmp(command, "print"))
        answer(dprintf(fd, "%s\n", text));
    else if (!strcmp(command, "close") && named)
        answer(close(fd));
    else if (!strcmp(command, "close"))
        close_connection(connection);
    else if (!strcmp(command, "dup"))
        answer(connection->copy = dup(fd));
    else if (!strcmp(command, "close_dup"))
        answer(close(connection->copy));
    else if (!strcmp(command, "hold"))
        set_flag(&connection->hold, true);
    else if (!strcmp(command, "pause") || !strcmp(command, "resume"))
        set_flag(&paused, !strcmp(command, "pause"));
    else if (!strcmp(command, "close_listener"))
        close_listeners();
    else
        answer_text("what?");
}

/* ---- the listeners ---- */

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail(path);
    return fd;
}

static int listen_tcp(char *address)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char *colon = strrchr(address, ':'), *host = "0.0.0.0", *port = address;
    if (colon) {
        *colon = '\0';
        port = colon + 1;
        host = address;
    }
    if (*host == '[') {
        host++;
        host[strcspn(host, "]")] = '\0';
    }
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        fprintf(stderr, "marked: not an address: %s %s\n", host, port);
        exit(2);
    }
    int yes = 1, fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0)
        fail(port);
    freeaddrinfo(found);
    return fd;
}

static void open_listener(char *address)
{
    int fd = strncmp(address, "unix:", 5) ? listen_tcp(address) : listen_unix(address + 5);
    if (listen(fd, 128) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        fail(address);
    listeners[listener_count++] = fd;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc - 3 > MAX_LISTENERS) {
        fprintf(stderr, "usage: marked COMMANDS REPLIES ADDRESS...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    connections[0] = (struct connection){.fd = -1, .copy = -1};
    for (int i = 3; i < argc; i++)
        open_listener(argv[i]);
    listeners_left = listener_count;
    for (int i = 0; i < listener_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, accept_all, &listeners[i]) != 0)
            fail("marked: pthread_create");
        pthread_detach(thread);
    }

    FILE *commands = fopen(argv[1], "r");
    replies = fopen(argv[2], "w");
    if (!commands || !replies)
        fail("marked: the FIFOs");
    setvbuf(replies, NULL, _IOLBF, BUFSIZ);
    char line[512];
    while (fgets(line, sizeof line, commands)) {
        char command[32] = "", operand[32] = "", text[400] = "";
        sscanf(line, "%31s %31s %399[^\n]", command, operand, text);
        obey(command, operand, text);
    }
    return 0;
}
