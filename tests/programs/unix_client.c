/* unix_client: standard input to an AF_UNIX socket, and what it answers to standard output.
 * SPDX-License-Identifier: MIT */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int copy(int from, int to)
{
    char buffer[4096];
    ssize_t length = read(from, buffer, sizeof buffer);
    return length > 0 && write(to, buffer, length) == length;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: unix_client PATH\n");
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror(argv[1]);
        return 1;
    }
    struct pollfd wait[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    while (poll(wait, 2, -1) > 0) {
        if (wait[1].revents && !copy(fd, STDOUT_FILENO))
            return 0;
        if (wait[0].revents && !copy(STDIN_FILENO, fd))
            return 0;
    }
    return 1;
}
