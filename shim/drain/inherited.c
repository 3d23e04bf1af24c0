/* SPDX-License-Identifier: MIT */
#include "drain/inherited.h"

#include "base/settings.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/conn.h"
#include "conn/fork_detect.h"
#include "conn/handoff.h"
#include "conn/fdtable.h"
#include "drain/handed.h"
#include "drain/listen_fds.h"
#include "drain/listener.h"
#include "drain/stage.h"

#include <poll.h>
#include <sys/resource.h>

/*
 * The connections that were handed over across exec: inetd's on descriptor 0 (and on 1 and 2, the
 * same), systemd's (Accept=yes) as the first of LISTEN_FDS. Any other that is open has leaked from
 * the process that started us, and is its own.
 */
static void take_connection(int fd, bool (*serve)(void))
{
    int family = sock_family(fd), last = fd == 0 ? 2 : fd;
    enum fingerprint kind;
    uint32_t fingerprint;
    if ((family != AF_INET && family != AF_INET6) || !(fingerprint = sock_connection(fd, &kind)) ||
        !serve())
        return;
    if (stage_began_tree)
        conn_inherited(fd, settings_now()->mode.rest);
    else
        handoff_note_sent();
    for (int copy = fd; copy <= last; copy++) {
        if (sock_connection(copy, &kind) != fingerprint)
            continue;
        if (!stage_began_tree)
            table_set(copy, KIND_RECEIVED); /* another's, until it is read from or written to */
        else if (copy != fd)
            table_alias(fd, copy);
    }
}

#define INHERITED_MOST 256

/* Which of the first descriptors are open. Returns how many were asked for. */
static int find_open(struct pollfd polled[INHERITED_MOST])
{
    struct rlimit limit = {INHERITED_MOST, 0};
    struct timespec now = {0, 0};
    /* poll(2): more entries than RLIMIT_NOFILE are refused. */
    sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    int most = limit.rlim_cur < INHERITED_MOST ? (int)limit.rlim_cur : INHERITED_MOST;
    for (int i = 0; i < most; i++)
        polled[i] = (struct pollfd){.fd = i};
    return sys5(SYS_ppoll, polled, most, &now, NULL, 8) < 0 ? 0 : most;
}

bool inherited_has_listener(void)
{
    struct pollfd polled[INHERITED_MOST];
    int most = find_open(polled);
    for (int fd = 0; fd < most; fd++)
        if (!(polled[fd].revents & POLLNVAL) && !handed_has(fd) && sock_is_listener(fd) == 1)
            return true;
    return false;
}

void inherited_take(bool (*serve)(void))
{
    struct pollfd polled[INHERITED_MOST];
    int most = find_open(polled);
    if (!most)
        return;
    for (int fd = 0; fd < most; fd++)
        if (!(polled[fd].revents & POLLNVAL) && !handed_has(fd) && sock_is_listener(fd) == 1 &&
            serve())
            listener_inherited(fd);
    if (!(polled[0].revents & POLLNVAL))
        take_connection(0, serve);
    if (listen_fds_has(3) && most > 3 && !(polled[3].revents & POLLNVAL))
        take_connection(3, serve);
}
