/* SPDX-License-Identifier: MIT */
#include "drain/listener_store.h"

#include "base/log.h"
#include "base/state_page.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/listener_entry.h"
#include "drain/listener_holders.h"
#include "tree/coordinator.h"
#include "tree/sd_notify.h"

#include <errno.h>

/* How long the coordinator may take: it may have other things to do first. */
#define DECIDES_MOST_MS 3000

static struct {
    bool is_sent, is_over;
    int64_t since; /* 0: not yet begun */
} store;

/* One that a service manager's socket unit has made is not the store's. */
static bool is_ours(const struct listener *listener)
{
    return listener_is_to_stop(listener) && !listener->is_activated &&
           (coordinator_is_here() ||
            (listener->is_own && listener->generation == generation_now()));
}

/* Returns how many there are, or -errno. */
static long send_all(void)
{
    long count = 0;
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++) {
        const struct listener *listener = listener_entry(i);
        int fd = atomic_load_explicit(&listener->number, memory_order_acquire) - 1;
        if (fd < 0 || !is_ours(listener))
            continue;
        long sent = sd_notify_store(fd);
        if (sent < 0)
            return sent;
        count++;
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
static void go_on(int64_t now)
{
    static const char no_answer[] = "the service manager does not answer",
                      refused[] = "the service manager's store is full, switched off or not for "
                                  "this process (FileDescriptorStoreMax= has to be more than there "
                                  "are listeners, and NotifyAccess=all)";
    bool is_late = now - store.since >= DECIDES_MOST_MS;
    if (!store.is_sent) {
        long sent = send_all();
        store.is_sent = sent >= 0;
        if (sent == -EAGAIN && !is_late)
            return;
        if (sent < 0 && coordinator_is_here())
            decide(false, sent == -EAGAIN ? no_answer : "the service manager can't be reached");
        if (sent < 0)
            return;
    }
    if (!coordinator_is_here())
        return;
    enum store_answer answer = sd_notify_ask_store(now);
    if (answer != STORE_SILENT || is_late)
        decide(answer == STORE_HAS_THEM, answer == STORE_REFUSES ? refused : no_answer);
}

enum listeners listener_store(bool whole_tree, bool now)
{
    if (!whole_tree || store.is_over)
        return LISTENERS_AUTO;
    int64_t time = sys_now_ms();
    if (!store.since)
        store.since = time;
    bool undecided = atomic_load(&tree_page->keeps_listeners) == KEEPS_AS_SET;
    if (!sd_notify_has_manager() && undecided && coordinator_is_here())
        decide(false, "no service manager has said where it listens (NOTIFY_SOCKET, NotifyAccess=)");
    else if (undecided)
        go_on(time);
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
    send_all();
}

void listener_store_forked(void)
{
    store.is_sent = store.is_over = false;
    store.since = 0;
}
