/* SPDX-License-Identifier: MIT */
#include "drain/listener_store.h"

#include "base/log.h"
#include "base/sock.h"
#include "base/state_page.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/listener_entry.h"
#include "drain/listener_holders.h"
#include "tree/coordinator.h"
#include "tree/listener_list.h"
#include "tree/process_slot.h"
#include "tree/sd_notify.h"
#include "tree/wake.h"

#include <errno.h>
#include <sys/prctl.h>

/* How long the coordinator may take: it may have other things to do first. */
#define DECIDES_MOST_MS 3000

static struct {
    bool is_sent, is_over;
    int64_t since; /* 0: not yet begun */
} store;

/* One that a service manager's socket unit has made is not the store's. */
static bool is_ours(const struct listener *listener)
{
    return listener_is_to_stop(listener) && !listener->origin.is_activated &&
           !listener->origin.is_picked &&
           (coordinator_is_here() ||
            (listener->origin.is_own && listener->origin.generation == generation_now()));
}

/* While nobody accepts as many wait as the kernel allows: who finds the queue full waits a second
 * for its next SYN. listen(2) of a socket that listens sets that alone. */
static void make_room_in(int fd)
{
    sys2(SYS_listen, fd, INT32_MAX);
}

/* Returns how many there are, or -errno. */
static long send_all(bool drains)
{
    long count = 0;
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++) {
        const struct listener *listener = listener_entry(i);
        int fd = atomic_load_explicit(&listener->number, memory_order_acquire) - 1;
        if (fd < 0 || !is_ours(listener) || !sock_is_reached(fd))
            continue;
        long sent = sd_notify_store(fd);
        if (sent < 0)
            return sent;
        if (drains)
            make_room_in(fd);
        count++;
    }
    return count;
}

/* Those of another process, of which only the first descriptors are looked at. */
#define LOOKED_AT 256

static long send_those_of(int32_t pid)
{
    long count = 0, process = sys_move_up(sys2(SYS_pidfd_open, pid, 0));
    for (int fd = 0; process >= 0 && fd < LOOKED_AT && count >= 0; fd++) {
        struct sockaddr_storage own;
        long copy = sys_move_up(sys3(SYS_pidfd_getfd, process, fd, 0));
        if (copy < 0)
            continue;
        socklen_t len = sock_is_listener((int)copy) == 1 ? sock_own_address((int)copy, &own) : 0;
        const struct sockaddr *addr = (struct sockaddr *)&own;
        if (len && sock_is_reached((int)copy) &&
            !listener_list_has(tree_page, addr, len, LISTENER_IS_HANDED) &&
            !listener_list_has(tree_page, addr, len, LISTENER_IS_PICKED) &&
            settings_mode(&settings_now()->mode, addr, len) != MODE_OFF) {
            long sent = sd_notify_store((int)copy);
            make_room_in((int)copy);
            count = sent < 0 ? sent : count + 1;
        }
        sys1(SYS_close, copy);
    }
    if (process >= 0)
        sys1(SYS_close, process);
    return count;
}

/*
 * A master may have no listener itself, and its workers, in a chroot, no way to the manager
 * (HAProxy). Under a filter of systemd's (SystemCallFilter=) pidfd_getfd would be the end: then,
 * and of a process that may not be looked at, `unknown` says that it may still send its own.
 */
static long send_others(bool *unknown)
{
    long count = 0;
    bool may_look = sys5(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == 0;
    for (uint32_t i = 0; i < process_slots_used(); i++) {
        int32_t pid = atomic_load(&tree_page->slot[i].pid);
        if (pid <= 0 || pid == fork_pid())
            continue;
        if (!may_look || !wake_reaches(pid)) {
            *unknown = true;
            continue;
        }
        long sent = send_those_of(pid);
        if (sent < 0)
            return sent;
        count += sent;
    }
    return count;
}

static void decide(bool has_them, const char *why)
{
    atomic_store(&tree_page->keeps_listeners, has_them ? KEEPS_ALL : KEEPS_NOT_STORED);
    if (has_them)
        return;
    sd_notify_empties_store();
    log_say(LOG_ERROR, "the listeners are closed, and not stored for the next start: %s", why);
}

/* Sends what there is, and finds out whether the store has taken it. */
static void go_on(int64_t now, bool awaits_bind)
{
    static const char no_answer[] = "the service manager does not answer",
                      refused[] = "the service manager's store is full, switched off or not for "
                                  "this process (FileDescriptorStoreMax= has to be more than there "
                                  "are listeners, and NotifyAccess=all)";
    bool has_none = false, is_late = now - store.since >= DECIDES_MOST_MS, unknown = false;
    if (!store.is_sent) {
        long sent = send_all(true);
        if (sent > 0 && !coordinator_is_here())
            atomic_store(&tree_page->has_stored, 1);
        if (sent == 0 && coordinator_is_here()) {
            sent = send_others(&unknown);
            has_none = sent == 0 && !atomic_load(&tree_page->has_stored) &&
                       !awaits_bind; /* which the store still has */
        }
        if ((sent == -EAGAIN || (has_none && unknown)) && !is_late)
            return;
        store.is_sent = sent >= 0;
        if (sent < 0 && coordinator_is_here())
            decide(false, sent == -EAGAIN ? no_answer : "the service manager can't be reached");
        else if (has_none)
            decide(false, "none was found in the first process, nor by it in the others");
        if (sent < 0 || has_none)
            return;
    }
    if (!coordinator_is_here())
        return;
    enum store_answer answer = sd_notify_ask_store(now);
    if (answer != STORE_SILENT || is_late)
        decide(answer == STORE_HAS_THEM, answer == STORE_REFUSES ? refused : no_answer);
}

enum listeners listener_store(bool whole_tree, bool now, bool awaits_bind)
{
    if (!whole_tree || store.is_over)
        return LISTENERS_AUTO;
    int64_t time = sys_now_ms();
    if (!store.since)
        store.since = time;
    bool undecided = atomic_load(&tree_page->keeps_listeners) == KEEPS_AS_SET;
    if (!sd_notify_has_manager() && undecided && coordinator_is_here())
        decide(false,
               "no service manager has said where it listens (NOTIFY_SOCKET, NotifyAccess=)");
    else if (undecided)
        go_on(time, awaits_bind);
    switch (atomic_load(&tree_page->keeps_listeners)) {
    case KEEPS_ALL:
        return LISTENERS_KEEP;
    case KEEPS_AS_SET:
        if (!now && time - store.since < DECIDES_MOST_MS)
            return LISTENERS_STORE;
    }
    store.is_over = true;
    return LISTENERS_AUTO;
}

void listener_store_again(void)
{
    send_all(false);
}

void listener_store_forked(void)
{
    store.is_sent = store.is_over = false;
    store.since = 0;
}
