/* SPDX-License-Identifier: MIT */
#include "fake_sock.h"

struct fake fakes[FAKES];
void (*fake_hook)(int fd, bool acts);

static struct fake *fake(int fd, bool acts)
{
    if (fake_hook)
        fake_hook(fd, acts);
    return &fakes[fd];
}

uint32_t sock_connection(int fd, enum fingerprint *kind)
{
    *kind = FINGERPRINT_PEER;
    return fake(fd, false)->fingerprint;
}

/* What one is sent is no descriptor of a connection that it has. (Also asked of a number that nobody
 * claims.) */
uint64_t sock_inode(int fd)
{
    return (uint64_t)fd + 1;
}

void sock_queues(int fd, struct sock_queues *queues)
{
    *queues = fake(fd, false)->queues;
}

uint32_t sock_unread(int fd)
{
    return fake(fd, false)->queues.unread;
}

uint32_t sock_unread_now(int fd)
{
    return fakes[fd].queues.unread;
}

void sock_info(int fd, struct sock_info *info)
{
    *info = fake(fd, false)->info;
}

int sock_guard(int fd)
{
    return fd;
}

void sock_unguard(int fd, int pin)
{
    (void)fd, (void)pin;
}

bool sock_had_minttl(int fd)
{
    return fake(fd, false)->was_deaf;
}

bool sock_is_unconnected(int fd)
{
    return !fake(fd, false)->fingerprint;
}

void sock_shut_read(int fd)
{
    fake(fd, true)->shut_read++;
}

bool sock_is(int fd, uint32_t fingerprint, enum fingerprint kind)
{
    (void)kind;
    return !fingerprint || fake(fd, false)->fingerprint == fingerprint;
}

bool sock_shut_read_of(int fd, uint32_t fingerprint, enum fingerprint kind)
{
    if (!sock_is(fd, fingerprint, kind))
        return false;
    sock_shut_read(fd);
    return true;
}

void sock_shut_write(int fd)
{
    fake(fd, true)->shut_write++;
}

bool sock_say(int fd, const void *bytes, size_t n)
{
    (void)bytes;
    fake(fd, true)->said += n;
    return true;
}

void sock_shut_both(int fd)
{
    fake(fd, true)->shut_both++;
}

bool sock_has_met_cut(int fd, uint32_t segments)
{
    (void)segments;
    return fake(fd, false)->reset;
}

bool sock_cork(int fd)
{
    return !atomic_exchange(&fake(fd, true)->corked, true);
}

void sock_uncork(int fd)
{
    atomic_store(&fake(fd, true)->corked, false);
}

/* Of lingering_close.h: nothing is kept. */
struct conn;
void lingering_before_close(int fd, const struct conn *conn, uint64_t record);
void lingering_before_close(int fd, const struct conn *conn, uint64_t record)
{
    (void)fd, (void)conn, (void)record;
}

void lingering_behind_end(int fd, struct conn *conn, bool is_claimed);
void lingering_behind_end(int fd, struct conn *conn, bool is_claimed)
{
    (void)fd, (void)conn, (void)is_claimed;
}

void lingering_remember_epoll(int epoll);
void lingering_remember_epoll(int epoll)
{
    (void)epoll;
}

/* Of handoff.h: nobody else is there to hand a connection on. */
void handoff_adopt(uint32_t fingerprint);
bool handoff_take(uint32_t fingerprint);
bool handoff_take(uint32_t fingerprint)
{
    return !fingerprint;
}

bool handoff_is_apart(void);
bool handoff_is_apart(void)
{
    return false;
}

bool handoff_any_sent(void);
bool handoff_any_sent(void)
{
    return false;
}

void handoff_adopt(uint32_t fingerprint)
{
    (void)fingerprint;
}
