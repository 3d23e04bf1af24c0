// A line server, one thread and one epoll, that makes another call of each family at each turn:
// "quiet_server PORT" answers each line of a client's with the length of the line.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "listen.h"

static int epoll, scratch; // scratch: an unlinked file, for sendfile

static int accept_by(unsigned turn, int listener)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer, little = 4;
    switch (turn % 6) {
    case 0:
        return accept(listener, NULL, NULL);
    case 1:
        return accept(listener, (struct sockaddr *)&peer, &length);
    case 2:
        return accept(listener, (struct sockaddr *)&peer, &little);
    case 3:
        return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    case 4:
        return accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK);
    default:
        return (int)syscall(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC);
    }
}

static ssize_t read_by(unsigned turn, int fd, char *line, size_t room)
{
    struct iovec part = {line, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    switch (turn % 8) {
    case 0:
        return read(fd, line, room);
    case 1:
        return readv(fd, &part, 1);
    case 2:
        return recv(fd, line, room, 0);
    case 3:
        return recvfrom(fd, line, room, 0, (struct sockaddr *)&peer, &length);
    case 4:
        return recvmsg(fd, &message, 0);
    case 5:
        return recvmmsg(fd, &messages, 1, 0, NULL) < 1 ? -1 : (ssize_t)messages.msg_len;
    case 6:
        return syscall(SYS_read, fd, line, room);
    default:
        return recv(fd, line, room, MSG_PEEK) > 0 ? read(fd, line, room) : 0;
    }
}

static ssize_t write_by(unsigned turn, int fd, char *line, size_t size)
{
    struct iovec part = {line, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    off_t zero = 0;
    switch (turn % 9) {
    case 0:
        return write(fd, line, size);
    case 1:
        return writev(fd, &part, 1);
    case 2:
        return send(fd, line, size, MSG_NOSIGNAL);
    case 3:
        return sendto(fd, line, size, 0, NULL, 0);
    case 4:
        return sendmsg(fd, &message, 0);
    case 5:
        return sendmmsg(fd, &messages, 1, 0);
    case 6:
        return syscall(SYS_write, fd, line, size);
    case 7:
        return pwrite(scratch, line, size, 0) + sendfile(fd, scratch, &zero, size);
    default:
        return dprintf(fd, "%s", line);
    }
}

static int ready[2]; // a pipe

// Tells its maker without a futex, whose calls would depend on who is faster.
static void *thread(void *argument)
{
    write(ready[1], "", 1);
    return argument;
}

// What a program may do beside its reads and writes; fd is the connection.
static void chore(unsigned turn, int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd}, got;
    struct timespec now = {0, 1000}, left;
    struct timeval at_once = {0, 0};
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigset_t set, before;
    fd_set fds;
    pthread_attr_t detached;
    pid_t child;
    FD_ZERO(&fds);
    FD_SET(fd, &fds);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    switch (turn % 22) {
    case 0:
        close(dup(fd));
        break;
    case 1:
        dup2(fd, 50), close(dup2(fd, 50));
        break; // first on a free number, then over a copy
    case 2:
        close(dup3(fd, 51, O_CLOEXEC));
        break;
    case 3:
        close(fcntl(fd, F_DUPFD, 60));
        break;
    case 4:
        syscall(SYS_close, fcntl(fd, F_DUPFD_CLOEXEC, 61));
        break;
    case 5:
        dup2(fd, 70), close_range(70, 80, 0);
        break;
    case 6:
        dup2(fd, 90), closefrom(90);
        break;
    case 7:
        fclose(fdopen(dup(fd), "r"));
        break;
    case 8:
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){1, 0}, sizeof at_once);
        break;
    case 9:
        epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
        break;
    case 10:
        poll(&polled, 1, 1000);
        break;
    case 11:
        ppoll(&polled, 1, &now, &set);
        break;
    case 12:
        select(fd + 1, NULL, &fds, NULL, &at_once);
        break;
    case 13:
        pselect(fd + 1, NULL, &fds, NULL, &now, &set);
        break;
    case 14:
        epoll_pwait(epoll, &got, 1, 0, &set);
        break;
    case 15:
        nanosleep(&now, &left), usleep(1), clock_nanosleep(CLOCK_MONOTONIC, 0, &now, NULL);
        break;
    case 16:
        sigaction(SIGUSR1, &action, NULL), signal(SIGUSR1, SIG_DFL);
        break;
    case 17:
        sigprocmask(SIG_BLOCK, &set, &before), sigprocmask(SIG_SETMASK, &before, NULL);
        break;
    case 18:
        pthread_sigmask(SIG_BLOCK, &set, &before), pthread_sigmask(SIG_SETMASK, &before, NULL);
        break;
    case 19:
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        pthread_create(&(pthread_t){0}, &detached, thread, NULL);
        read(ready[0], &(char){0}, 1);
        break;
    case 20: // a child that uses its copy of the connection
        if ((child = fork()) == 0) {
            send(fd, "child ", 6, 0);
            recv(fd, &(char){0}, 1, MSG_DONTWAIT);
            close(dup(fd));
            close(fd);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        break;
    default: // a child on its parent's memory, as CPython's subprocess makes them
        if ((child = vfork()) == 0) {
            dup2(scratch, fd);
            close(fd);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: quiet_server PORT");
    char name[] = "/tmp/quiet_server.XXXXXX";
    scratch = mkstemp(name);
    unlink(name);
    if (scratch < 0 || pipe(ready))
        err(1, "%s", name);
    int listener = listen_on(argv[1], SOCK_STREAM, 64);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);

    for (unsigned turn = 0, accepts = 0;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 1)
            continue;
        int fd = event.data.fd;
        if (fd == listener) {
            event.data.fd = accept_by(accepts++, listener);
            epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
            continue;
        }
        char *line = malloc(1000), answer[32]; // on the heap: allocations are counted
        ssize_t got = read_by(turn, fd, line, 1000);
        free(line);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0) {
            if (turn % 2)
                shutdown(fd, SHUT_RDWR);
            close(fd);
            continue;
        }
        int size = snprintf(answer, sizeof answer, "%zd\n", got);
        chore(turn, fd);
        write_by(turn, fd, answer, (size_t)size);
        turn++;
    }
}
