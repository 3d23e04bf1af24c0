/* SPDX-License-Identifier: MIT */
#include "drain/drain_state.h"

#include "base/settings.h"
#include "base/sys.h"
#include "conn/gate.h"
#include "tree/listener_list.h"

struct drain drain;

/* A time that the kernel tells may be a tick too long. */
static int64_t at_least(int64_t ms)
{
    static int64_t tick;
    if (!tick)
        tick = sys_tick_ms();
    return ms ? ms + tick : 0;
}

struct conn_limits drain_limits(void)
{
    const struct settings *settings = settings_now();
    bool draining = atomic_load(&drain.phase) > PHASE_DELAYING;
    int64_t now = sys_now_ms(), settle = at_least(settings->settle);
    int64_t answer = !draining ? settings->notice : now < drain.warn_at ? drain.notice : 0;
    return (struct conn_limits){
        .settle = settle,
        .first_byte = at_least(settings->first_byte),
        .notice_until = draining ? drain.notice_until : 0,
        .now = now,
        .seen_at = draining || drain.sweeping ? atomic_load(&drain.seen.at) : NULL,
        .seen_count = atomic_load(&drain.seen.count),
        .answer = answer,
        .heard = answer < settings->linger ? answer : settings->linger,
        .pause_most = draining && now < drain.warn_at ? at_least(settings->first_byte) : 0,
        .first_look = drain.inherited    ? 0
                      : drain.first_look ? drain.first_look
                                         : INT64_MAX};
}

/* A look costs a system call or three, and so many of them a ms are what a drain may cost. */
#define LOOKS_PER_MS 2
#define AGAIN_MS 5    /* where only the kernel knows when it is over */
#define VERIFY_MS 100 /* a connection that was closed where we don't see it is found out */

static struct drain_note *note_of(int fd)
{
    struct drain_note *notes = atomic_load(&drain.notes.at);
    const struct conn *conn = table_find(fd);
    uint32_t number = conn ? table_number(conn) : UINT32_MAX;
    return notes && number < atomic_load(&drain.notes.count) ? &notes[number] : NULL;
}

/* How long what was found holds, if nothing happens on the connection. */
static int64_t holds_ms(enum conn_class look)
{
    int64_t all = (int64_t)drain.tracked / LOOKS_PER_MS, lasts = conn_lasts_ms();
    int64_t least = lasts == CONN_LASTS || look == CONN_IS_FORCED ? VERIFY_MS : AGAIN_MS;
    if (look == CONN_IS_IDLE || look == CONN_IS_GONE)
        return 0;
    return lasts && lasts != CONN_LASTS ? lasts : all > least ? all : least;
}

/*
 * Whether another process of the tree has connected to this one, its helper. It may ask it for what
 * it needs to answer (h2o aborts where the process that has its keys has closed), so that such a
 * connection stays as long as any process of the tree serves somebody else.
 */
static bool is_of_tree(int fd)
{
    const struct conn *conn = table_find(fd);
    return (drain.whole_tree || atomic_load(&drain.phase) <= PHASE_DELAYING) && conn &&
           atomic_load(&conn->record) & CONN_UNIX && listener_list_is_of_tree(sock_peer_pid(fd));
}

static enum conn_class classify(int fd, const struct conn_limits *limits, bool verify,
                                bool *of_tree)
{
    *of_tree = is_of_tree(fd);
    bool is_kept = *of_tree && listener_list_tree_serves(0);
    if (!is_kept)
        conn_lets_answer_end(fd);
    enum conn_class look = conn_classify(fd, limits, verify);
    *of_tree = *of_tree && look != CONN_IS_GONE;
    return look == CONN_IS_IDLE && is_kept ? CONN_IS_WAITING : look;
}

enum conn_class drain_classify(int fd, const struct conn_limits *limits, bool verify)
{
    bool of_tree;
    return classify(fd, limits, verify, &of_tree);
}

enum conn_class drain_count(int fd, struct drain_count *count)
{
    struct drain_note *note = count->verify ? NULL : note_of(fd);
    enum conn_class look;
    bool of_tree;
    if (note && count->limits.now < note->due && conn_is_unchanged(fd)) {
        look = note->look;
        of_tree = note->of_tree;
    } else {
        look = classify(fd, &count->limits, true, &of_tree);
        count->awaited += look == CONN_IS_WAITING && conn_goes_by_sight();
        if (look != CONN_IS_GONE && gate_drains()) /* else table_publish_in_use has it */
            conn_counts(fd, look == CONN_IS_IN_USE);
        if (note)
            *note = (struct drain_note){count->limits.now + holds_ms(look), look, of_tree};
    }
    count->of_tree += of_tree;
    count->idle += look == CONN_IS_IDLE || look == CONN_IS_WAITING;
    count->in_use += look == CONN_IS_IN_USE;
    count->shut += look == CONN_IS_SHUT || look == CONN_IS_FORCED;
    return look;
}

bool drain_count_one(int fd, void *context)
{
    drain_count(fd, context);
    return true;
}
