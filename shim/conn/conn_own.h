/* SPDX-License-Identifier: MIT */
/* conn_own.h - what conn.c and idle.c have in common: the steps of a record. */
#ifndef WEIR_CONN_OWN_H
#define WEIR_CONN_OWN_H

#include "base/settings.h"
#include "base/sock.h"
#include "conn/fdtable.h"
#include "http/tracker.h"

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
    return atomic_load_explicit(&conn->state, memory_order_relaxed) & STATE_IN_USE;
}

static inline uint32_t fingerprint_of(uint64_t record)
{
    return (uint32_t)(record >> CONN_FINGERPRINT_SHIFT);
}

#define CONN_KIND_SHIFT 8
_Static_assert(CONN_UNIX == (uint64_t)FINGERPRINT_OWN << CONN_KIND_SHIFT &&
                   CONN_PORT == (uint64_t)FINGERPRINT_PEER_AND_PORT << CONN_KIND_SHIFT,
               "a record says the kind of its fingerprint");

static inline enum fingerprint fingerprint_kind_of(uint64_t record)
{
    return (enum fingerprint)((record & (CONN_UNIX | CONN_PORT)) >> CONN_KIND_SHIFT);
}

/* Whether fd still is the connection of this record, although the number may have changed hands. */
bool conn_is_still(int fd, uint64_t record);

/* Whether the process has ever answered on a connection of mode reply. */
bool conn_any_answered(void);

/* How long mode reply wants it to be quiet behind an answer. */
struct conn_limits;
int64_t quiet_needed(const struct conn *conn, const struct conn_limits *limits,
                     const struct sock_info *info);

/* In mode reply an answer ends what is in use. Whether the framing knows of a request behind it; of
 * a program that writes past our wrappers it knows of no answer either. */
static inline bool is_owed_more(const struct conn *conn)
{
    return tracker_has_answered(&conn->http) && tracker_state(&conn->http) == HTTP_IN_USE;
}

/* It is no HTTP: mode reply serves it from now on. Returns its record. */
uint64_t conn_becomes_reply(struct conn *conn);

/* In a drain: the tracker of what a connection of mode reply says, where it began with a request
 * that began then. NULL: it is not known. */
struct tracker *tracker_in_drain(struct conn *conn, bool begins);

/* Note in a drain what a read or a write has brought. A write that completes the last answer closes
 * the connection behind it. */
void notes_read(struct conn *conn, size_t n, struct bytes bytes);
void notes_wrote(int fd, struct conn *conn, size_t done, bool whole, struct bytes bytes);

/* Notes in a drain that the program closes the last descriptor of a connection of this record. */
void notes_close(uint64_t record);

#endif
