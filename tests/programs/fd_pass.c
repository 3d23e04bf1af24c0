/* fd_pass: connections that are handed from one process to another over an AF_UNIX socket.
 * SPDX-License-Identifier: MIT
 *
 *   fd_pass accept PORT PATH [keep]     accepts, and sends each connection to PATH; "keep": and
 * keeps its copy fd_pass dial PORT PATH              connects to PORT itself, and sends that (once)
 *   fd_pass serve PATH                  receives at PATH, and echoes, a thread each
 *
 * "serve" answers the line "counts" with weir_counts, "slow" after a second. "accept" prints them
 * after each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"
#include "../../shim/weir.h" /* weak: null without the shim */

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int counts_line(char *line, size_t room)
{
    struct weir_counts counts = {0};
    if (weir_counts)
        weir_counts(&counts);
    return snprintf(line, room, "%llu %llu %llu %llu\n", (unsigned long long)counts.tracked,
                    (unsigned long long)counts.idle, (unsigned long long)counts.in_use,
                    (unsigned long long)counts.accepted);
}

static void send_fd(int channel, int fd)
{
    char byte = 'x';
    struct iovec part = {&byte, 1};
    union control control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.room};
    control.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    if (sendmsg(channel, &message, 0) != 1)
        fail("fd_pass: sendmsg");
}

static int receive_fd(int channel)
{
    char byte;
    int fd;
    struct iovec part = {&byte, 1};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
        return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path)
        fail(path);
    strcpy(address->sun_path, path);
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail(path);
    return fd;
}

static struct sockaddr_in at_port(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void run_accept(const char *port, const char *path, bool keep)
{
    int listener = listen_on(port, SOCK_STREAM, 64), channel = connect_unix(path);
    for (;;) {
        char line[128];
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        send_fd(channel, fd);
        if (!keep)
            close(fd);
        counts_line(line, sizeof line);
        fputs(line, stdout);
    }
}

static int run_dial(const char *port, const char *path)
{
    struct sockaddr_in address = at_port(port);
    int channel = connect_unix(path), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail(port);
    send_fd(channel, fd);
    return 0;
}

static void *echo(void *argument)
{
    int fd = (intptr_t)argument;
    char line[512];
    ssize_t length;
    while ((length = read(fd, line, sizeof line)) > 0) {
        if (!strncmp(line, "counts", 6))
            length = counts_line(line, sizeof line);
        if (!strncmp(line, "slow", 4))
            sleep(1);
        if (write(fd, line, length) != length)
            break;
    }
    close(fd);
    return NULL;
}

static void *receive_all(void *argument)
{
    int fd, channel = (intptr_t)argument;
    while ((fd = receive_fd(channel)) >= 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, echo, (void *)(intptr_t)fd) != 0)
            fail("fd_pass: pthread_create");
        pthread_detach(thread);
    }
    close(channel);
    return NULL;
}

static void run_serve(const char *path)
{
    struct sockaddr_un address;
    int listener = unix_socket(path, &address);
    unlink(path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 8) < 0)
        fail(path);
    for (;;) {
        pthread_t thread;
        int channel = accept(listener, NULL, NULL);
        if (channel < 0)
            continue;
        if (pthread_create(&thread, NULL, receive_all, (void *)(intptr_t)channel) != 0)
            fail("fd_pass: pthread_create");
        pthread_detach(thread);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 4 && !strcmp(argv[1], "accept"))
        run_accept(argv[2], argv[3], argc > 4);
    if (argc == 4 && !strcmp(argv[1], "dial"))
        return run_dial(argv[2], argv[3]);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        run_serve(argv[2]);
    fprintf(stderr, "usage: fd_pass accept PORT PATH [keep] | dial PORT PATH | serve PATH\n");
    return 2;
}
