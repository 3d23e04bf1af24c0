/* SPDX-License-Identifier: MIT */
#include "drain/listener_epolls.h"

#include "base/sys.h"
#include "tree/holders.h"

#include <fcntl.h>

#define REGISTRATIONS_MOST 8192

static _Atomic uint32_t used; /* list_grows */
static _Atomic bool missed;   /* there were more */

static BIG(6) struct registration {
    _Atomic int number; /* the listener's descriptor + 1; -1: being written */
    int epoll;
    bool is_shared; /* the epoll, with somebody who holds the listener and goes on */
    struct epoll_event event;
} registrations[REGISTRATIONS_MOST];

static bool hold(struct registration *at)
{
    int none = 0;
    return atomic_compare_exchange_strong(&at->number, &none, -1);
}

static struct registration *free_registration(void)
{
    uint32_t fresh;
    do {
        for (uint32_t i = 0; i < atomic_load(&used); i++)
            if (hold(&registrations[i]))
                return &registrations[i];
        fresh = list_grows(&used, REGISTRATIONS_MOST);
        if (fresh < REGISTRATIONS_MOST && hold(&registrations[fresh]))
            return &registrations[fresh]; /* else another thread has found it by then */
    } while (fresh < REGISTRATIONS_MOST);
    return NULL;
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
        if (!(at = free_registration())) {
            atomic_store(&missed, true);
            return;
        }
        at->is_shared = false;
    }
    at->epoll = epoll;
    at->event = *event;
    atomic_store(&at->number, fd + 1);
}

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
