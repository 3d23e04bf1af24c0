/* SPDX-License-Identifier: MIT */
/* The functions of weir.h. */
#define WEIR_API __attribute__((visibility("default")))
#include "base/common.h"
#include "weir.h"

#include "conn/conn.h"
#include "drain/drain.h"
#include "drain/worker.h"
#include "drain/start.h"
#include "base/sys.h"
#include "conn/fdtable.h"

#include <errno.h>

static int fail_with(int error)
{
    if (!error)
        return 0;
    errno = error;
    return -1;
}

int weir_mark_idle(int fd)
{
    return LIKELY(table_marks_fast(fd, false)) ? 0 : fail_with(conn_mark(fd, false));
}

int weir_mark_in_use(int fd)
{
    return LIKELY(table_marks_fast(fd, true)) ? 0 : fail_with(conn_mark(fd, true));
}

int weir_disown(int fd)
{
    return fail_with(conn_disown(fd));
}

static const struct origin itself = {0, 0, 0};

int weir_close_idle(void)
{
    const _Atomic uint32_t *sweeps = drain_sweeps();
    uint32_t before = atomic_load(sweeps);
    if (!start_serving())
        return 0;
    worker_order(ACTION_CLOSE_IDLE, &itself);
    /* A drain that began meanwhile closes what is idle as well, and counts no sweeps. */
    while (atomic_load(sweeps) == before && drain_phase() <= PHASE_DELAYING)
        sys_futex_wait(sweeps, before, 10);
    return 0;
}

static int drain_and_wait(enum action action)
{
    if (!start_serving())
        return 0;
    if (drain_phase() != PHASE_DRAINED && !worker_order(action, &itself))
        return fail_with(EAGAIN);
    return fail_with(drain_wait());
}

int weir_drain(void)
{
    return drain_and_wait(ACTION_DRAIN);
}

int weir_drain_all(void)
{
    return drain_and_wait(ACTION_DRAIN_ALL);
}

int weir_counts(struct weir_counts *counts)
{
    struct totals totals;
    generation_now();
    table_totals(&totals);
    counts->tracked = totals.tracked;
    counts->idle = totals.tracked - totals.in_use;
    counts->in_use = totals.in_use;
    counts->accepted = totals.accepted;
    return 0;
}
