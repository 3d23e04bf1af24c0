/* SPDX-License-Identifier: MIT */
/* conn_own.h - what conn.c and conn_look.c have in common: the steps of a record. */
#ifndef WEIR_CONN_OWN_H
#define WEIR_CONN_OWN_H

#include "base/settings.h"
#include "base/sock.h"
#include "conn/table.h"

static inline enum mode mode_of(uint64_t record)
{
    return (enum mode)((record & CONN_MODE) >> CONN_MODE_SHIFT);
}

static inline enum mode mode_now(const struct conn *conn)
{
    return mode_of(atomic_load_explicit(&conn->record, memory_order_relaxed));
}

static inline bool is_in_use(const struct conn *conn)
{
    return atomic_load_explicit(&conn->turn, memory_order_relaxed) & TURN_IN_USE;
}

static inline uint32_t identity_of(uint64_t record)
{
    return (uint32_t)(record >> CONN_IDENTITY_SHIFT);
}

#define CONN_KIND_SHIFT 8
_Static_assert(CONN_UNIX == (uint64_t)IDENTITY_OWN << CONN_KIND_SHIFT &&
                   CONN_PORT == (uint64_t)IDENTITY_PEER_AND_PORT << CONN_KIND_SHIFT,
               "a record says the kind of its identity");

static inline enum identity identity_kind_of(uint64_t record)
{
    return (enum identity)((record & (CONN_UNIX | CONN_PORT)) >> CONN_KIND_SHIFT);
}

/* Whether fd still is the connection of this record, although the number may have changed hands. */
bool conn_is_still(int fd, uint64_t record);

/* It is no HTTP: mode reply serves it from now on. Returns its record. */
uint64_t conn_becomes_reply(struct conn *conn);

#endif
