/* SPDX-License-Identifier: MIT */
#include "drain/drain_state.h"

#include "base/settings.h"
#include "base/sys.h"

struct drain drain;

/* What the kernel calls as long may be a tick shorter. */
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
    return (struct conn_limits){.settle = at_least(settings->settle),
                                .first_byte = at_least(settings->first_byte),
                                .notice_until = draining ? drain.notice_until : 0,
                                .now = sys_now_ms(),
                                .seen_at = draining ? atomic_load(&drain.seen.at) : NULL,
                                .seen_count = atomic_load(&drain.seen.count)};
}

enum conn_look drain_count(int fd, struct drain_count *count)
{
    enum conn_look look = conn_look(fd, &count->limits, count->verify);
    count->idle += look == LOOK_IDLE || look == LOOK_WAITING;
    count->in_use += look == LOOK_IN_USE;
    count->shut += look == LOOK_SHUT || look == LOOK_FORCED;
    return look;
}

bool drain_count_one(int fd, void *context)
{
    drain_count(fd, context);
    return true;
}
