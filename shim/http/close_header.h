/* SPDX-License-Identifier: MIT */
/*
 * close_header.h - puts "Connection: close" into the head of an answer on its way out.
 *
 * While the process drains, a write to a connection that is HTTP is planned first. The rewrite's
 * pieces are written instead, and close_header_took is told in place of tracker_sent what the
 * kernel took of them. A piece is a run of the program's bytes, or a text of ours:
 *
 *   "Connection: close\r\n", directly before the empty line that ends a head, where no `close` is
 *     in a Connection field of it. Instead of none of the program's bytes.
 *   "close     ", instead of a `keep-alive` of a Connection field: as long.
 *
 * Which of them is decided as the bytes pass, so a keep-alive is replaced only where all of it, and
 * the comma or the line's end that shows it to be all, is in one buffer of the call. Otherwise it
 * goes out as it is ("keep-al" may still become "keep-alas"), and the text before the empty line
 * wins over it (RFC 9112, 9.3: first rule). A `close` of the program's is left alone.
 *
 * Only the answer to the last request known says it, since a client drops what it has asked for
 * behind an answer that does (RFC 9112, 9.6): not while the next request has begun or others are
 * owed. Interim answers and tunnels (101, 2xx to CONNECT) never do.
 *
 * A short write may end within a text. That is remembered, and the next plan begins with the rest.
 * So once a write has been planned, all that follow are, until close_header_is_pending is false.
 */
#ifndef WEIR_CLOSE_HEADER_H
#define WEIR_CLOSE_HEADER_H

#include "http/tracker.h"

#define REWRITE_PIECES 32

struct rewrite {
    struct iovec piece[REWRITE_PIECES];
    int count;
    bool same;  /* it is what the program wants to write, all of it: its own call does as well */
    size_t own; /* bytes of the program's that it stands for: not all where the pieces run out */
};

/* Plans what to write instead of these buffers. Changes neither them nor the state. */
void close_header_plan(const struct tracker *http, const struct iovec *iov, size_t count,
                       struct rewrite *plan);

/*
 * Follows so many bytes of the plan that the kernel took. Returns how many of them are the
 * program's own, which is what its write returns. 0 though `taken` is not: all were ours, and to
 * the program it is EAGAIN.
 */
size_t close_header_took(struct tracker *http, const struct rewrite *plan, size_t taken);

/* Tells whether a part of a text is out and the rest is due. */
bool close_header_is_pending(const struct tracker *http);

#endif
