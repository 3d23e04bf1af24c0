/* SPDX-License-Identifier: MIT */
/*
 * close_header.h - the notice, a "Connection: close" in the head of an answer on its way out.
 *
 * While the process drains, a write to a connection that is HTTP is planned first, the
 * plan's pieces are written instead, and http_took is told in place of framing_sent what the kernel
 * took of them. A piece is a run of the program's bytes, or a text of ours:
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
 * A short write may end within a text. That is remembered, and the next plan begins with the rest:
 * so once a write has been planned, all that follow are, until http_is_in_text is no more.
 */
#ifndef WEIR_CLOSE_HEADER_H
#define WEIR_CLOSE_HEADER_H

#include "http/tracker.h"

#define HTTP_PIECES 32

struct http_plan {
    struct iovec piece[HTTP_PIECES];
    int count;
    bool same;  /* it is what the program wants to write, all of it: its own call does as well */
    size_t own; /* bytes of the program's that it stands for: not all where the pieces run out */
};

/* What to write instead of these buffers. They are not changed, nor is the state. */
void http_plan(const struct http *http, const struct iovec *iov, size_t count,
               struct http_plan *plan);

/*
 * The kernel took so many bytes of the plan. Returns how many of the program's own that are: what
 * its write returns. 0 though `taken` is not: they were all ours, and to the program it is EAGAIN.
 */
size_t http_took(struct http *http, const struct http_plan *plan, size_t taken);

/* A part of a text is out, the rest is due. */
bool http_is_in_text(const struct http *http);

#endif
