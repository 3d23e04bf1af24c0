/* SPDX-License-Identifier: MIT */
#include "drain/listener_epolls.h"

#include "base/proc.h"
#include "base/sock.h"
#include "base/sys.h"
#include "base/text.h"
#include "drain/listener_entry.h"
#include "tree/holders.h"

#include <fcntl.h>

#define REGISTRATIONS_MOST 8192

static _Atomic uint32_t used; /* list_take */
static _Atomic bool missed;   /* there were more */

static BIG(6) struct registration {
    _Atomic int number; /* the listener's descriptor + 1; -1: being written */
    int epoll;
    bool is_shared; /* the epoll, with somebody who holds the listener and goes on */
    struct epoll_event event;
} registrations[REGISTRATIONS_MOST];

static bool take(uint32_t i)
{
    int none = 0;
    return atomic_compare_exchange_strong(&registrations[i].number, &none, -1);
}

void listener_registered(int epoll, int op, int fd, const struct epoll_event *event)
{
    struct registration *at = NULL;
    for (uint32_t i = 0; i < atomic_load(&used) && !at; i++)
        if (atomic_load(&registrations[i].number) == fd + 1 && registrations[i].epoll == epoll)
            at = &registrations[i];
    if (op == EPOLL_CTL_DEL) {
        if (at)
            atomic_store(&at->number, 0);
        return;
    }
    if (!at) {
        uint32_t taken = list_take(&used, REGISTRATIONS_MOST, take);
        if (taken == REGISTRATIONS_MOST) {
            atomic_store(&missed, true);
            return;
        }
        at = &registrations[taken];
        at->is_shared = false;
    }
    at->epoll = epoll;
    at->event = *event;
    atomic_store(&at->number, fd + 1);
}

/* ---- as /proc tells them ---- */

static bool is_known(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++)
        if (atomic_load(&registrations[i].number) == fd + 1)
            return true;
    return false;
}

/* A number behind its label. Moves *at behind it. */
static uint64_t number_after(const char **at, const char *label, unsigned base)
{
    const char *digits = NULL;
    for (; **at && !digits; ++*at)
        digits = text_after(*at, label);
    while (digits && *digits == ' ')
        digits++;
    return digits ? text_take_number(&digits, base) : 0;
}

/* proc(5), fdinfo: "tfd: 19 events: 19 data: ffff pos:0 ino:4d9f sdev:8", but for the first three
 * and the second in hexadecimal. */
static void read_member(int epoll, const char *at)
{
    if (!text_after(at, "tfd:"))
        return;
    int fd = (int)number_after(&at, "tfd:", 10);
    struct listener *listener = listener_find(fd);
    if (!listener || !listener->seeks_epolls)
        return;
    struct epoll_event event = {.events = (uint32_t)number_after(&at, "events:", 16)};
    event.data.u64 = number_after(&at, "data:", 16);
    if (number_after(&at, "ino:", 16) == sock_inode(fd))
        listener_registered(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void visit_descriptor(int dir, const char *name, void *context)
{
    char target[64], path[48];
    struct text text = TEXT_ON(path);
    struct proc_lines members;
    const char *line;
    (void)context;
    proc_link(dir, name, target);
    if (!text_equal(target, "anon_inode:[eventpoll]"))
        return;
    text_add(&text, "fdinfo/%s", name);
    int epoll = (int)text_take_number(&name, 10);
    if (proc_open_lines(&members, 0, path))
        return;
    while ((line = proc_next_line(&members)))
        read_member(epoll, line);
    proc_close_lines(&members);
}

void listener_epolls_find(void)
{
    bool seeks = false;
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++) {
        struct listener *at = listener_entry(i);
        int fd = atomic_load(&at->number) - 1;
        at->seeks_epolls = !at->has_sought_epolls && fd >= 0 && !is_known(fd);
        at->has_sought_epolls = true;
        seeks = seeks || at->seeks_epolls;
    }
    if (seeks && !sys_is_sandboxed())
        proc_each_file("/proc/self/fd", visit_descriptor, NULL);
}

/* ---- */

void listener_epolls_forget(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++) {
        int number = fd + 1;
        atomic_compare_exchange_strong(&registrations[i].number, &number, 0);
    }
}

bool listener_epolls_missed(void)
{
    return atomic_exchange(&missed, false);
}

/*
 * Takes fd out of every epoll that holds it, or puts it back into those that held it. One that is
 * shared with somebody who goes on is left alone: he would not be told of clients any more.
 */
static void register_again(int fd, bool *held, int op)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++) {
        struct registration *at = &registrations[i];
        if (op == EPOLL_CTL_DEL)
            held[i] = atomic_load(&at->number) == fd + 1 && !at->is_shared;
        if (held[i])
            held[i] = sys4(SYS_epoll_ctl, at->epoll, op, fd, &at->event) == 0;
    }
}

bool listener_epolls_is_shared(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++)
        if (atomic_load(&registrations[i].number) == fd + 1 && registrations[i].is_shared)
            return true;
    return false;
}

void listener_epolls_shared_by_nobody(void)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++)
        registrations[i].is_shared = false;
}

void listener_epolls_shared(int32_t pid, int fd)
{
    for (uint32_t i = 0; i < atomic_load(&used); i++) {
        struct registration *at = &registrations[i];
        if (atomic_load(&at->number) > 0 && !at->is_shared)
            at->is_shared = holders_share(at->epoll, pid, fd);
    }
}

/* Puts another socket in fd's place, also in its epolls. */
void listener_epolls_put(int fd, int other)
{
    static LATE bool held[REGISTRATIONS_MOST];
    long on_exec = sys2(SYS_fcntl, fd, F_GETFD);
    register_again(fd, held, EPOLL_CTL_DEL);
    sys3(SYS_dup3, other, fd, on_exec & FD_CLOEXEC ? O_CLOEXEC : 0);
    register_again(fd, held, EPOLL_CTL_ADD);
}
