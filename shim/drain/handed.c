/* SPDX-License-Identifier: MIT */
#include "drain/handed.h"

#include "base/log.h"
#include "base/settings.h"
#include "base/sock.h"
#include "base/sock_option.h"
#include "base/state_page.h"
#include "base/sys.h"
#include "base/text.h"
#include "drain/listen_fds.h"
#include "drain/listener.h"
#include "drain/listener_store.h"
#include "tree/listener_list.h"
#include "tree/sd_notify.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define HANDED_MOST 256

/* Behind a number in the variable, among processes of one tree. */
#define IS_STORED 's'

/* Above what a program counts on, where its limit allows that. */
#define HANDED_LEAST 1000

static struct handed {
    _Atomic int fd; /* our copy; -1: there is none any more */
    int bound_to;   /* the program's own descriptor, which has been bound and does not listen yet */
    bool is_stored; /* by the service manager: no predecessor lives that may go on with it */
    uint64_t inode;
} handed[HANDED_MOST];
static uint32_t handed_count; /* how many there were */
_Atomic int handed_left;

/* The pid of the process that has bound each. Shared across fork. */
enum { OWNER_NONE = 0, OWNER_BINDS = -1, OWNER_LISTENS = -2, OWNER_IS_LATE = -3 };
static _Atomic int32_t *owner;

static bool has_listened; /* on one of them. Varnish first tries whether it can listen at all */
static _Atomic bool has_made_way; /* one of them: it is to be removed from the store */
static int64_t closes_at;         /* what is left is closed then; 0: not yet known */

/* ---- taken ---- */

static int high_number(void)
{
    struct rlimit limit = {0, 0};
    sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    if (limit.rlim_cur > HANDED_LEAST + HANDED_MOST)
        return HANDED_LEAST;
    return limit.rlim_cur > 2 * HANDED_MOST ? (int)limit.rlim_cur - HANDED_MOST
                                            : (int)limit.rlim_cur / 2;
}

static void take(int fd, bool is_stored)
{
    if (handed_count == HANDED_MOST || handed_has(fd) || sock_is_listener(fd) != 1)
        return;
    int high = high_number();
    long copy = fd >= high ? -1 : sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, high);
    if (copy >= 0)
        sys1(SYS_close, fd);
    else
        sys3(SYS_fcntl, copy = fd, F_SETFD, FD_CLOEXEC);
    handed[handed_count++] = (struct handed){(int)copy, -1, is_stored, sock_inode((int)copy)};
    atomic_fetch_add(&handed_left, 1);
}

/* One of the service manager's, whose number is the program's. */
static void take_stored(int fd)
{
    take(fd, true);
    if (!handed_has(fd))
        sys1(SYS_close, fd);
}

static bool make_owners(void)
{
    long at = sys6(SYS_mmap, NULL, HANDED_MOST * sizeof *owner, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        return false;
    owner = (void *)at;
    return true;
}

bool handed_take(char **envp)
{
    const char *value = text_variable(envp, HANDED_NAME);
    text_drop_variables(envp, HANDED_NAME);
    if (getauxval(AT_SECURE)) /* whoever starts such a program has not its rights */
        return false;
    bool stored = listen_fds_take(envp, take_stored);
    if ((value || handed_count) && !make_owners()) {
        handed_count = 0;
        atomic_store(&handed_left, 0);
        return false;
    }
    while (value && *value) {
        const char *from = value;
        uint64_t fd = text_take_number(&value, 10);
        bool is_stored = *value == IS_STORED;
        if (value > from && fd <= INT32_MAX)
            take((int)fd, is_stored);
        value += is_stored;
        value += *value != '\0';
    }
    return stored;
}

/* ---- bound ---- */

static void drop(struct handed *at)
{
    int fd =
        atomic_exchange(&at->fd, -1); /* both the worker and a thread that listens may be here */
    if (fd < 0)
        return;
    sys1(SYS_close, fd);
    atomic_fetch_sub(&handed_left, 1);
}

/* fork_pid may be the parent's. */
static int32_t own_pid(void)
{
    return (int32_t)sys0(SYS_getpid);
}

/* Claims one for this process: also one that it has bound to a descriptor which is closed by now.
 */
static bool claim(struct handed *at)
{
    int32_t who = OWNER_NONE;
    if (atomic_compare_exchange_strong(&owner[at - handed], &who, OWNER_BINDS))
        return true;
    return who == own_pid() && sock_inode(at->bound_to) != at->inode &&
           atomic_compare_exchange_strong(&owner[at - handed], &who, OWNER_BINDS);
}

/* The predecessor's drain may have made it deaf, and with it those who came in since. */
static bool put_in_place(struct handed *at, int fd)
{
    if (sock_is_deaf(at->fd))
        atomic_store(&listener_dropped_syns, true);
    return sock_take_place(at->fd, fd);
}

bool handed_adopt(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (len < sizeof addr->sa_family || sock_is_listener(fd) != 0 || sys_is_sandboxed())
        return false;
    for (struct handed *at = handed; at < handed + handed_count; at++) {
        if (at->fd < 0 || !sock_may_take_place(at->fd, fd, addr, len) || !claim(at))
            continue;
        bool is_placed = put_in_place(at, fd);
        at->bound_to = fd;
        atomic_store(&owner[at - handed], is_placed ? own_pid() : OWNER_NONE);
        if (is_placed)
            return true;
    }
    return false;
}

bool handed_is_at(int fd, const struct sockaddr *addr, socklen_t len)
{
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0 && atomic_load(&owner[at - handed]) == OWNER_NONE &&
            sock_leads_to(at->fd, fd, addr, len))
            return true;
    return false;
}

bool handed_awaits_listen(int fd)
{
    uint64_t inode = sock_inode(fd);
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0 && at->inode == inode)
            return true;
    return false;
}

bool handed_listens(int fd)
{
    uint64_t inode = sock_inode(fd);
    for (struct handed *at = handed; at < handed + handed_count; at++) {
        if (at->fd < 0 || at->inode != inode)
            continue;
        atomic_store(&owner[at - handed], OWNER_LISTENS);
        drop(at);
        has_listened = true;
    }
    if (!closes_at)
        closes_at = sys_now_ms() + HANDED_MS;
    return handed_any();
}

/* ---- left ---- */

struct address {
    struct sockaddr_storage of;
    socklen_t len;
};

static bool is_in_group(int fd)
{
    int in_group = 0;
    get_int(fd, SOL_SOCKET, SO_REUSEPORT, &in_group);
    return in_group;
}

/*
 * A shell may start two programs, which know nothing of each other but by the page: of a group's
 * sockets (SO_REUSEPORT) that does not tell which.
 */
static bool is_bound_by_another(const struct handed *at, const struct address *address)
{
    return !is_in_group(at->fd) &&
           listener_list_has(tree_page, (const struct sockaddr *)&address->of, address->len,
                             LISTENER_IS_MADE);
}

static void say_closed(const struct address *address, const char *why)
{
    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "closed ");
    text_address(&line.text, (const struct sockaddr *)&address->of, address->len);
    text_add(&line.text, ", which its predecessor has handed over: %s", why);
    log_send(&line);
}

/* Returns whether there are any. */
static bool find_late(void)
{
    bool found = false;
    for (struct handed *at = handed; at < handed + handed_count; at++) {
        int32_t who = OWNER_NONE;
        struct address address;
        if (at->fd < 0)
            continue;
        address.len = sock_own_address(at->fd, &address.of);
        if (is_bound_by_another(at, &address) ||
            !atomic_compare_exchange_strong(&owner[at - handed], &who, OWNER_IS_LATE))
            continue;
        say_closed(&address, "not bound in " STRING(HANDED_S) "s");
        /* A shell that has started the program has it, too: who came would wait for nobody, and the
         * program could not bind it later. (Of a group another program may have bound it.) */
        if (at->is_stored && address.of.ss_family != AF_UNIX && !is_in_group(at->fd))
            sock_shut_both(at->fd);
        found = true;
    }
    return found;
}

bool handed_makes_way(int fd, const struct sockaddr *addr, socklen_t len)
{
    static const int on = 1;
    bool found = false;
    for (struct handed *at = handed; at < handed + handed_count && !sys_is_sandboxed(); at++) {
        int32_t who = OWNER_NONE;
        struct address address;
        if (at->fd < 0 || !at->is_stored || !sock_is_in_way(at->fd, fd, addr, len))
            continue;
        address.len = sock_own_address(at->fd, &address.of);
        if (listener_list_has(tree_page, (struct sockaddr *)&address.of, address.len,
                              LISTENER_IS_MADE) ||
            !atomic_compare_exchange_strong(&owner[at - handed], &who, OWNER_IS_LATE))
            continue;
        say_closed(&address, "what is bound now takes its place");
        /* For a shell that has it as well, which keeps its number. */
        sys5(SYS_setsockopt, at->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sock_shut_both(at->fd);
        atomic_store(&has_made_way, true);
        found = true;
    }
    return found;
}

/* In the manager's store they have one name, by which all are removed: so the others are sent
 * again. */
static void remove_from_store(void)
{
    if (settings_now()->listeners != LISTENERS_STORE || !sd_notify_has_manager())
        return;
    sd_notify_empties_store();
    listener_store_again();
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0 && atomic_load(&owner[at - handed]) != OWNER_IS_LATE)
            sd_notify_store(at->fd);
}

int64_t handed_step(int64_t now)
{
    if (!handed_any() || !closes_at)
        return -1;
    if (now < closes_at)
        return closes_at - now;
    if (find_late() || has_made_way)
        remove_from_store();
    for (struct handed *at = handed; at < handed + handed_count; at++) {
        int32_t who = atomic_load(&owner[at - handed]);
        if (at->fd < 0)
            continue;
        if (who != OWNER_BINDS && who != own_pid()) /* a thread may be about to take our copy */
            drop(at);
    }
    return -1;
}

/* ---- kept out of the program's way ---- */

bool handed_has(int fd)
{
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd == fd && fd >= 0)
            return true;
    return false;
}

int handed_next(unsigned int from)
{
    int next = -1;
    if (!handed_any() || has_listened)
        return -1;
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0 && (unsigned int)at->fd >= from && (next < 0 || at->fd < next))
            next = at->fd;
    return next;
}

bool handed_keeps_path(const char *path)
{
    for (struct handed *at = handed; handed_any() && at < handed + handed_count; at++) {
        struct sockaddr_storage own;
        socklen_t len = at->fd < 0 ? 0 : sock_own_address(at->fd, &own);
        if (len && atomic_load(&owner[at - handed]) == OWNER_NONE &&
            sock_is_path((struct sockaddr *)&own, len, path))
            return true;
    }
    return false;
}

const char *handed_entry(void)
{
    static char
        entry[sizeof HANDED_NAME + HANDED_MOST * 11]; /* nine digits, a letter and a comma */
    struct text text = TEXT_ON(entry);
    if (!handed_any() || has_listened)
        return NULL;
    text_string(&text, HANDED_NAME);
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0)
            text_add(&text, "%s%d%s", entry[text.used - 1] == '=' ? "" : ",", at->fd,
                     at->is_stored ? "s" : "");
    return entry;
}

static void set_flags(int flags)
{
    for (struct handed *at = handed; at < handed + handed_count; at++)
        if (at->fd >= 0)
            sys3(SYS_fcntl, at->fd, F_SETFD, flags);
}

void handed_exec_begins(void)
{
    if (handed_any() && !has_listened)
        set_flags(0);
}

void handed_exec_ends(void)
{
    if (handed_any() && !has_listened)
        set_flags(FD_CLOEXEC);
}
