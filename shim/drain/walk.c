/* SPDX-License-Identifier: MIT */
#include "drain/walk.h"

#include "base/log.h"
#include "base/settings.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/conn.h"
#include "conn/fdtable.h"

/* How many numbers are claimed at a time. */
#define STRIDE 32
_Static_assert(STRIDE <= LOG_KEPT_MOST, "each may have a line in the log");

static bool visit_one(int fd, walk_fn *visit, void *context)
{
    enum kind kind = table_kind(fd);
    if (kind == KIND_RECEIVED && sock_is_listener(fd) == 1)
        return true; /* listener_find_received */
    else if (kind == KIND_RECEIVED)
        conn_received(fd, settings_now()->mode.rest);
    else if (kind != KIND_CONN && kind != KIND_ALIAS)
        return true;
    else if (UNLIKELY(!conn_is_ours(fd)))
        conn_left(fd);
    return visit(fd, context);
}

/* Most of a large table is empty. Its end is one of a whole block (table_make). */
static bool is_empty(uint32_t first)
{
    for (uint32_t n = 0; n < STRIDE; n += sizeof(uint64_t))
        if (__atomic_load_n((const uint64_t *)(const void *)&table.kind[first + n],
                            __ATOMIC_RELAXED))
            return false;
    return true;
}

static _Atomic uint64_t walks; /* the generation of the process that does: a child's copy is void */
static _Atomic bool is_held;

static const struct timespec moment = {0, 50000};

void walk_hold(void)
{
    atomic_store(&is_held, true);
    for (int i = 0; atomic_load(&walks) == generation_now() && i < WALK_HELD_MS * 20; i++)
        sys2(SYS_nanosleep, &moment, NULL); /* 50 us, and what the kernel adds to that */
}

void walk_go_on(void)
{
    atomic_store(&is_held, false);
}

/* One of the two sees the other. */
static void begin(void)
{
    atomic_store(&walks, generation_now());
    while (atomic_load(&is_held)) {
        atomic_store(&walks, 0);
        sys2(SYS_nanosleep, &moment, NULL);
        atomic_store(&walks, generation_now());
    }
}

void walk(walk_fn *visit, void *context)
{
    begin();
    uint32_t high = atomic_load(&table.high);
    bool go_on = true;
    for (uint32_t first = 0; first < high && go_on; first += STRIDE) {
        if (is_empty(first))
            continue;
        table_claim_all(first, STRIDE);
        for (uint32_t n = 0; n < STRIDE && go_on; n++)
            go_on = visit_one((int)(first + n), visit, context);
        table_release();
        log_send_kept();
    }
    atomic_store(&walks, 0);
}
