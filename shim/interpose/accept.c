/* SPDX-License-Identifier: MIT */
/* bind, listen, getsockopt, accept, accept4, epoll_ctl: where connections come from. */
#include "conn/conn.h"
#include "drain/worker.h"
#include "tree/coordinator.h"
#include "base/libc.h"
#include "drain/handed.h"
#include "drain/listener.h"
#include "drain/listener_epolls.h"
#include "drain/listener_kept.h"
#include "drain/signals_eintr.h"
#include "drain/start.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>

EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    start_settled();
    bool adopted = handed_any() && addr && !in_vfork_child() && handed_adopt(fd, addr, len);
    int result = adopted ? 0 : libc_bind(fd, addr, len);
    if (UNLIKELY(result != 0) && errno == EADDRINUSE && handed_any() && addr && !in_vfork_child() &&
        handed_makes_way(fd, addr, len))
        result = libc_bind(fd, addr, len);
    if (UNLIKELY(result != 0) && errno == EADDRINUSE && listener_any_is_kept() &&
        !in_vfork_child() && listener_binds_again(fd, addr, len))
        result = 0;
    if (result == 0 && addr && !in_vfork_child())
        listener_bound(fd, addr, len);
    return result;
}

/* A program may ask by a connection whether its like runs already (PgBouncer): what its predecessor
 * has left for it is nobody who runs. */
EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (UNLIKELY(handed_any()) && addr && !in_vfork_child() && handed_is_at(fd, addr, len)) {
        errno = ECONNREFUSED;
        return -1;
    }
    return libc_connect(fd, addr, len);
}

EXPORT int listen(int fd, int backlog)
{
    bool serving = start_serving(); /* before it listens: it is not an inherited one */
    int result = libc_listen(fd, backlog);
    if (result == 0 && serving) {
        listener_listens(fd);
        worker_sees_listener();
        if (handed_any())
            worker_waits_for_bind(fd);
    }
    return result;
}

/* What bind has adopted listens already, and who finds that out has no need to call listen
 * (HAProxy): it is to see what its own socket would say. */
EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    int result = libc_getsockopt(fd, level, name, value, len);
    if (UNLIKELY(handed_any()) && name == SO_ACCEPTCONN && level == SOL_SOCKET && result == 0 &&
        handed_awaits_listen(fd))
        __builtin_memset(value, 0, *len);
    return result;
}

/*
 * The peer's address is the connection's fingerprint. Where the program does not ask for it (or not
 * for all of it) the kernel writes it to room of ours: a substituted argument, not a call more.
 */
struct peer {
    struct sockaddr_storage addr;
    socklen_t len;
};

static void copy_out(const struct peer *peer, struct sockaddr *addr, socklen_t *len)
{
    const char *from = (const char *)&peer->addr;
    char *to = (char *)addr;
    for (socklen_t i = 0; i < *len && i < peer->len; i++)
        to[i] = from[i];
    *len = peer->len;
}

/* The call itself. accept and accept4 differ in flags alone: -1 is accept. */
INLINE int call(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return flags < 0 ? libc_accept(fd, addr, len) : libc_accept4(fd, addr, len, flags);
}

static bool blocks(int fd)
{
    return !(sys2(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK);
}

/* A thread that waits in accept waits on, until the listener is swapped. */
static void wait_for_swap(int fd)
{
    struct timespec step = {0, 1000000};
    for (int ms = 0; ms < 2000 && !listener_is_stopped(fd); ms++)
        sys2(SYS_nanosleep, &step, NULL);
}

/*
 * An accept that began before the listener was swapped ends with EINVAL on the old socket: it goes
 * on, on the new one. One with SO_RCVTIMEO ends with EINTR after our handler (signal(7)).
 */
static bool must_go_on(int fd)
{
    if ((errno == EINVAL || errno == EAGAIN) && UNLIKELY(listener_ran_dry(fd))) {
        if (errno == EAGAIN || sys_is_sandboxed() || !blocks(fd)) {
            errno = EAGAIN;
            return false;
        }
        wait_for_swap(fd);
        if (!fork_thread.was_told)
            return true;
        /* Its poll has told it of the shutdown, and nobody connects to the new one. */
        errno = EAGAIN;
        return false;
    }
    return (errno == EINVAL && listener_is_stopped(fd)) || signals_must_call_again();
}

static __attribute__((noinline)) int call_again(int fd, struct sockaddr *addr, socklen_t *len,
                                                socklen_t room, int flags)
{
    int got = -1;
    for (int tries = 0; got < 0 && tries < 3 && must_go_on(fd); tries++) {
        *len = room;
        got = call(fd, addr, len, flags);
    }
    return got;
}

INLINE int call_on(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    socklen_t room = *len;
    int got = call(fd, addr, len, flags);
    return LIKELY(got >= 0) ? got : call_again(fd, addr, len, room, flags);
}

/* got was accepted, from a peer with this address. */
INLINE void accepted(int fd, int got, const struct sockaddr *from, socklen_t len)
{
    const struct listener_view *view = listener_view(fd);
    uint32_t fingerprint = sock_hash(from, len);
    enum fingerprint kind = FINGERPRINT_PEER;
    if (UNLIKELY(view->is_unix) || UNLIKELY(from->sa_family == AF_UNIX)) {
        fingerprint = view->address;
        kind = FINGERPRINT_OWN;
        listener_met(fd, got);
    } else if (LIKELY(view->port)) {
        fingerprint = sock_hash_port(fingerprint, view->port);
        kind = FINGERPRINT_PEER_AND_PORT;
    }
    /* Another process of the tree may have had the listener drop SYNs. This comes before the
     * drainer can see the connection: sock_had_minttl tells it that the peer needs time. */
    bool may_have_minttl = listener_has_dropped_syns() || coordinator_tree_drains();
    if (UNLIKELY(may_have_minttl) && !sys_is_sandboxed())
        sock_clear_minttl(got);
    conn_accepted(got, view->mode, fingerprint, kind);
}

INLINE int accept_on(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    if (!start_serving() || libc_is_behind() || (addr && (!len || (int)*len < 0)))
        return call(fd, addr, len, flags);
    if (UNLIKELY(listener_would_wait(fd)) && !sys_is_sandboxed() && blocks(fd)) {
        errno = EAGAIN;
        return -1;
    }

    bool asks = addr && LIKELY(*len >= sizeof(struct sockaddr_in6));
    struct peer peer; /* no zeros: the kernel fills in what it says that it has */
    peer.len = sizeof peer.addr;
    struct sockaddr *from = asks ? addr : (struct sockaddr *)&peer.addr;
    socklen_t *from_len = asks ? len : &peer.len;
    int got = call_on(fd, from, from_len, flags);
    if (UNLIKELY(got < 0))
        return got;
    if (!asks && addr)
        copy_out(&peer, addr, len);
    accepted(fd, got, from, *from_len);
    return got;
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return accept_on(fd, addr, len, -1);
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    /* Flags that accept4 refuses are negative only where they are nonsense. */
    return flags < 0 ? libc_accept4(fd, addr, len, flags) : accept_on(fd, addr, len, flags);
}

EXPORT int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    int result = libc_epoll_ctl(epoll, op, fd, event);
    if (UNLIKELY(table_knows(fd)) && result == 0 && !in_vfork_child()) {
        enum kind kind = table_kind(fd);
        if (kind == KIND_LISTENER || kind == KIND_BOUND)
            listener_registered(epoll, op, fd, event);
        else if (op != EPOLL_CTL_DEL)
            conn_watched(epoll, fd, event->events);
    }
    return result;
}
