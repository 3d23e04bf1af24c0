/* SPDX-License-Identifier: MIT */
#include "drain/drain_say.h"

#include "base/log.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/fdtable.h"
#include "drain/drain_state.h"
#include "drain/stage.h"
#include "drain/uncovered.h"
#include "drain/walk.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/process_slot.h"
#include "tree/sd_notify.h"

#include <time.h>

#define NAMED_MOST 10 /* connections named in one report */

const struct origin drain_inherited = {0, -1, 0};

/* How long it has been in use: since the drain began, or since its peer's last byte. */
static int64_t in_use_ms(int fd, int64_t now)
{
    struct sock_info info;
    sock_info(fd, &info);
    int64_t draining = now - drain.since;
    return info.has && info.received_ms > draining ? info.received_ms : draining;
}

void drain_name(struct log_line *line, const char *what, int fd)
{
    log_begin(line, LOG_INFO);
    text_string(&line->text, what);
    sock_peer(fd, &line->text);
}

void drain_describe(struct log_line *line, int fd, enum conn_class look,
                    const struct sock_queues *queues, int64_t now)
{
    if (look == CONN_IS_SHUT)
        text_string(&line->text, ": idle, but the program does not close it, ");
    else if (look != CONN_IS_IN_USE)
        text_string(&line->text, ": idle, ");
    else
        text_add(&line->text, ": in use %lus, ", (uint64_t)in_use_ms(fd, now) / 1000);
    text_add(&line->text, "%u bytes unsent", queues->unsent);
    if (queues->unread)
        text_add(&line->text, ", %u unread", queues->unread);
}

struct oldest {
    int64_t age;
    struct text peer;
    uint64_t named;
    int64_t now;
    struct drain_count count;
};

static bool find_oldest(int fd, void *context)
{
    struct oldest *oldest = context;
    if (drain_count(fd, &oldest->count) != CONN_IS_IN_USE)
        return true;
    int64_t age = in_use_ms(fd, oldest->now);
    if (age > oldest->age) {
        oldest->age = age;
        oldest->peer.used = 0;
        sock_peer(fd, &oldest->peer);
    }
    return true;
}

static bool name_one(int fd, void *context)
{
    struct oldest *oldest = context;
    struct conn_limits now = drain_limits();
    if (conn_classify(fd, &now, true) != CONN_IS_IN_USE)
        return true;
    struct sock_queues queues;
    struct log_line line;
    sock_queues(fd, &queues);
    drain_name(&line, "still waits for ", fd);
    drain_describe(&line, fd, CONN_IS_IN_USE, &queues, oldest->now);
    log_keep(&line);
    return ++oldest->named < NAMED_MOST;
}

static void say_origin(struct text *text, const struct origin *origin)
{
    if (!origin->signal && origin->pid <= 0) {
        text_string(text, origin->pid == drain_inherited.pid
                              ? "as the process that it was forked from"
                              : "the program asked for it");
        return;
    }
    if (origin->signal)
        settings_say_signal(text, origin->signal);
    else
        text_string(text, "`weir`");
    text_add(text, " from pid %lu uid %lu", (uint64_t)origin->pid, (uint64_t)origin->uid);
}

/* An order to the whole tree is one event, which its coordinator logs. A dormant process logs
 * nothing.
 */
static bool speaks(bool whole_tree)
{
    return whole_tree ? coordinator_is_here() : !stage_is_dormant();
}

/* Of the tree, before the others are told: they may have closed what is idle when we come to say
 * how much it was. */
static struct totals before_wake;
static bool has_before_wake;

void drain_count_before_wake(void)
{
    has_before_wake = speaks(true);
    if (has_before_wake)
        membership_totals(&before_wake);
}

struct totals drain_totals_to_say(bool whole_tree)
{
    struct totals totals = {0};
    bool is_before_wake = whole_tree && has_before_wake;
    if (!speaks(whole_tree))
        return totals;
    has_before_wake = has_before_wake && !whole_tree;
    if (whole_tree && coordinator_tree_drains() && atomic_load(&drain.phase) != PHASE_DELAYING)
        return tree_page->asked;
    if (is_before_wake)
        totals = before_wake;
    else if (whole_tree)
        membership_totals(&totals);
    else
        table_totals(&totals);
    return totals;
}

/* How many connections of the tree are in use, once its processes have told; but it waits no longer
 * than it takes them as a rule. */
#define COUNT_MS 100

static uint64_t in_use_of_tree(void)
{
    static const struct timespec moment = {0, 1000000};
    struct totals totals;
    for (int ms = 0; ms < COUNT_MS && !process_slots_have_counted(); ms++)
        sys2(SYS_nanosleep, &moment, NULL);
    membership_totals(&totals);
    return totals.in_use;
}

void drain_say_begin(const char *what, const struct origin *origin, bool whole_tree,
                     struct totals *totals)
{
    struct log_line line;
    if (!speaks(whole_tree))
        return;
    if (whole_tree)
        totals->in_use = in_use_of_tree();
    page_settle(totals);
    log_begin(&line, LOG_INFO);
    text_string(&line.text, what);
    say_origin(&line.text, origin);
    text_add(&line.text, "; %lu idle, %lu in use", totals->tracked - totals->in_use,
             totals->in_use);
    log_send(&line);
}

void drain_say_progress(int64_t now)
{
    char peer[160] = "";
    struct oldest oldest = {-1, TEXT_ON(peer), 0, now, {.limits = drain_limits()}};
    const struct drain_count *count = &oldest.count;
    walk(find_oldest, &oldest);

    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_add(&line.text, "draining %lus: %lu in use", (uint64_t)(now - drain.since) / 1000,
             count->in_use);
    if (count->idle + count->shut)
        text_add(&line.text, ", %lu idle", count->idle + count->shut);
    if (oldest.age >= 0)
        text_add(&line.text, ", oldest %s for %lus", peer, (uint64_t)oldest.age / 1000);
    if (drain.until)
        text_add(&line.text, "; %lus left",
                 (uint64_t)(drain.until > now ? drain.until - now + 999 : 0) / 1000);
    log_send(&line);
}

void drain_say_end(bool again, const char *afterwards)
{
    struct log_line line;
    bool whole_tree = drain.whole_tree || again || coordinator_has_ended_it();
    if (whole_tree ? !coordinator_has_ended_it() : !speaks(false))
        return;
    if (whole_tree)
        log_take(); /* what others have to say comes first */
    struct totals totals;
    struct drain_terms terms = {false, drain.since, 0};
    int64_t ended_at = sys_now_ms();
    if (whole_tree) {
        coordinator_terms(&terms);
        ended_at = coordinator_totals_at_end(&totals);
    } else {
        table_totals(&totals);
    }
    struct page_drained done =
        page_drained(&totals, whole_tree ? &tree_page->asked : &drain.at_begin);
    bool partial = whole_tree ? process_slot_any_has(SLOT_UNCOVERED) || coordinator_gave_up() ||
                                    uncovered_accepts()
                              : atomic_load(&drain.is_partial);
    log_begin(&line, LOG_INFO);
    const char *what = line.buffer + line.text.used;
    text_string(&line.text, partial ? "not wholly drained in " : "drained in ");
    text_tenths(&line.text, ended_at - terms.since);
    text_add(&line.text, ": %lu closed clean, %lu forced; %s", done.clean, done.forced, afterwards);
    if (whole_tree)
        sd_notify_end(what);
    log_send(&line);
}

void drain_say_waited_for(int64_t now)
{
    struct oldest names = {.now = now};
    walk(name_one, &names);
}
