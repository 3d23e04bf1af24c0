/* SPDX-License-Identifier: MIT */
/*
 * goodbye.h - what a drain says to a client of HTTP/2, WebSocket or PostgreSQL before it closes the
 * connection.
 *
 * HTTP/2 (RFC 9113, 6.8):
 *
 *   GOAWAY, the last stream being the highest that there can be: open no more. While no stream is
 *     open, since some clients fail an open one at that; where there is no such moment, beside them
 *     from half of WEIR_TIMEOUT on. A request that crosses it is served. Behind it a PING, whose
 *     answer the program gets as a frame of a type that there is not: Node takes one that it has
 *     not asked for as an error.
 *   GOAWAY, the last stream being the last that the program has read of, and our FIN: WEIR_SETTLE
 *     behind that answer, or after WEIR_LINGER without one, when none is open. What the program
 *     reads or says from then on is nobody's. It closes when the client has, or is told to after
 *     WEIR_LINGER: a reset makes some clients fail their next call.
 *
 * WebSocket (RFC 6455, 5.5.1): a Close between two messages, and our FIN. What crosses it and the
 *   client's own goes to the program, and the end behind it; what the program answers is nobody's.
 *   What it has not answered within WEIR_NOTICE, or at half of WEIR_TIMEOUT, is taken for a message
 *   that wants no answer.
 *
 * PostgreSQL (its manual, "Message Formats", ErrorResponse): FATAL, 57P01, as it says itself on a
 *   TERM, and our FIN, between two statements of a session that is in no transaction.
 *
 * A close-idle says the last two as well. Each goes out between two frames of the program's: by
 * the program's thread behind a write that leaves nothing owed; or by the drainer, which has
 * claimed the connection, while the program is in no write. A program that says the second itself
 * is left to it.
 */
#ifndef WEIR_GOODBYE_H
#define WEIR_GOODBYE_H

#include "conn/conn.h"

/*
 * A write to the connection begins, in a drain or a close-idle: waits for the drainer, if it is
 * about to say something. Returns whether goodbye_leaves has to be called behind it, where the
 * program's bytes have been followed.
 */
bool goodbye_enters(int fd, struct conn *conn);
void goodbye_leaves(int fd, struct conn *conn);

/* ---- for the drainer: fd is claimed ---- */

/* Tells whether a goodbye can be said on it at all. */
bool goodbye_may_be_said(int fd, const struct conn *conn);

/* Says the first one, if this is a moment for it. */
void goodbye_warns(int fd, struct conn *conn);

/* Goes on with a connection of this record and state, which is idle. Returns whether it is
 * half-closed now. */
bool goodbye_shuts(int fd, struct conn *conn, uint64_t record, uint8_t state);

/* The client has not closed a connection of this record for WEIR_LINGER: the program is to. */
void goodbye_lingers(int fd, uint64_t record);

#endif
