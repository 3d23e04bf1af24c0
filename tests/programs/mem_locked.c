/* SPDX-License-Identifier: MIT */
/*
 * A program that locks all memory that it is to have (mlockall(2), MCL_FUTURE), and then listens
 * and accepts. Prints "locked N resident N": by how many kB that has grown meanwhile.
 */
#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static long kilobytes(const char *what)
{
    char line[256];
    long value = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, what, strlen(what)))
            sscanf(line + strlen(what), " %ld", &value);
    if (status)
        fclose(status);
    return value;
}

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        err(3, "mlockall");
    long locked = kilobytes("VmLck:"), resident = kilobytes("VmRSS:");
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 5) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
        connect(client, (struct sockaddr *)&at, len) < 0 || accept(listener, NULL, NULL) < 0)
        err(1, "listen");
    printf("locked %ld resident %ld\n", kilobytes("VmLck:") - locked,
           kilobytes("VmRSS:") - resident);
    return 0;
}
