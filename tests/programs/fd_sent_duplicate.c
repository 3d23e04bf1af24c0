/* SPDX-License-Identifier: MIT */
/*
 * A duplicate of a closed connection is sent to another process while a second connection has the
 * closed one's number: fd_sent_duplicate ROUNDS. Prints what is read from the second each time.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int client(const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
        exit(1);
    return fd;
}

static void send_descriptor(int over, int fd)
{
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(over, &msg, 0) != 1)
        exit(1);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), pair[2];
    bind(listener, (struct sockaddr *)&at, len);
    getsockname(listener, (struct sockaddr *)&at, &len);
    listen(listener, 5);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return 1;
    for (int rounds = argc > 1 ? atoi(argv[1]) : 1; rounds > 0; rounds--) {
        int from = client(&at), from_second = client(&at);
        int first = accept(listener, NULL, NULL), copy = dup(first);
        close(first);
        int second = accept(listener, NULL, NULL);
        char text[16] = "";
        send_descriptor(pair[0], copy);
        if (second != first || write(from_second, "hello", 5) != 5)
            return 1;
        ssize_t got = read(second, text, sizeof text - 1);
        printf("%zd %s\n", got, text);
        close(second);
        close(copy);
        close(from);
        close(from_second);
    }
    return 0;
}
