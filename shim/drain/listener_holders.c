/* SPDX-License-Identifier: MIT */
#include "drain/listener_holders.h"

#include "base/sock.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/listener_epolls.h"
#include "tree/coordinator.h"
#include "tree/holders.h"
#include "tree/listener_list.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

/* Who else holds a listener is looked up anew where what was found is older than that, before what
 * can't be undone. */
#define HELD_MS 20

/* How long it may be unknown, and how often that is looked up anew: a process that can't be looked
 * into may be just between its setuid and its exec, as a CGI program is (proc(5), dumpable). */
#define UNKNOWN_MOST_MS 1000
#define UNKNOWN_AGAIN_MS 100

static int64_t looked_at;
static bool is_alone; /* nobody else has one that is not held */

bool listener_is_to_stop(const struct listener *listener)
{
    int state = atomic_load(&listener->view.state);
    return atomic_load_explicit(&listener->number, memory_order_acquire) && state &&
           state != STOPPED && listener->view.mode != MODE_OFF;
}

static bool is_wanted(uint64_t inode)
{
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++)
        if (listener_entry(i)->inode == inode && listener_is_to_stop(listener_entry(i)))
            return true;
    return false;
}

static void is_held_elsewhere(uint64_t inode)
{
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++)
        if (listener_entry(i)->inode == inode)
            listener_entry(i)->held = HELD;
}

/*
 * Finds out of each listener whether somebody holds it who goes on when this process drains (or its
 * tree).
 */
static void look_for_holders(bool whole_tree)
{
    static const struct holders_visitor visitor = {is_wanted, is_held_elsewhere,
                                                   listener_epolls_shared};
    is_alone = !atomic_load(&listener_was_sent) && !membership_has_forked() && !sys_has_children();
    for (uint32_t i = 0; i < atomic_load(&listener_entries); i++) {
        struct listener *listener = listener_entry(i);
        listener->held = HELD_BY_NOBODY;
        if (!listener_is_to_stop(listener))
            continue;
        listener->inode = sock_inode(atomic_load(&listener->number) - 1);
        is_alone = is_alone && listener->origin.is_own && listener->origin.is_bound_here &&
                   listener->origin.generation == generation_now();
    }
    listener_epolls_shared_by_nobody();
    bool complete = is_alone || holders_look(&visitor, whole_tree, atomic_load(&listener_was_sent));
    for (uint32_t i = 0; i < atomic_load(&listener_entries) && !complete; i++)
        if (listener_entry(i)->held == HELD_BY_NOBODY)
            listener_entry(i)->held = HELD_UNKNOWN;
    is_alone = is_alone || (complete && (!whole_tree || process_slot_is_alone()));
    looked_at = sys_now_ms();
}

/*
 * Who can't look into all processes does as those of its tree do that can; or else the socket is
 * taken to be held after a while. (Then its queue is served all the same, and clients who come in
 * the last moment are worse off, who would otherwise be the successor's.)
 */
static enum held decide_unknown(struct listener *listener)
{
    enum page_listener_state state = listener_list_state(listener->in_page);
    int64_t now = sys_now_ms();
    if (atomic_load(&listener->view.state) == CLOSING || state == PAGE_CLOSING ||
        state == PAGE_STOPPED)
        return HELD_BY_NOBODY;
    if (!listener->unknown_since)
        listener->unknown_since = now;
    return state == PAGE_KEPT || now - listener->unknown_since >= UNKNOWN_MOST_MS ? HELD
                                                                                  : HELD_UNKNOWN;
}

bool listener_is_alone(void)
{
    return is_alone;
}

int64_t listener_held_age(void)
{
    return sys_now_ms() - looked_at;
}

enum held listener_is_held(struct listener *listener, bool whole_tree, bool fresh)
{
    int64_t age = listener_held_age();
    bool is_unknown = listener->held == HELD_UNKNOWN;
    if (!listener->inode || (fresh && !is_unknown && age > HELD_MS) ||
        (is_unknown && age > UNKNOWN_AGAIN_MS))
        look_for_holders(whole_tree);
    if (listener->held == HELD_UNKNOWN)
        return decide_unknown(listener);
    listener->unknown_since = 0;
    return listener->held;
}
