/* SPDX-License-Identifier: MIT */
/*
 * http.h - what is asked and what is owed on a connection that speaks HTTP/1.0 or 1.1, from the
 * bytes that the program reads and writes; and the notice, a "Connection: close" in the head of an
 * answer on its way out.
 *
 * Pure: memory in, memory out, no call of anybody's. Nothing is held back or looked ahead for: a
 * head is looked at once, a body is counted, wherever the calls cut them.
 *
 * A connection is idle when no request has begun and no answer is owed. Request and answer are
 * counted apart, as a server may answer before it has read all (413, a "100-continue" refused): the
 * connection is idle when both are whole. Where the framing is not beyond doubt the connection is
 * no HTTP any more, for good, and is served as mode `reply` has it. Never a guess: what one server
 * reads in one way and the next in another is in doubt, and so is what this table refuses although
 * some server takes it.
 *
 *   the whole connection is no HTTP from                    because
 *   ------------------------------------------------------ ----------------------------------------
 *   a first byte that begins no method; a method with       TLS, HTTP/2, other protocols; who reads
 *     small letters or more than tchar                        "head" as HEAD?
 *   a request line without version, with one that is not    HTTP/0.9, HTTP/2's preface, PROXY v1;
 *     HTTP/1.0 or HTTP/1.1, with other than single spaces     some servers split at other spaces
 *   a line end that is not CR LF, a CR within a line        servers differ in what ends a line
 *   a control character but HTAB in a head, a chunk's       NUL ends lines, VT and FF are space to
 *     extension or a trailer (any in a request's target)      some
 *   a header line that begins with a space (obs-fold), has  some skip it, some join it, some cut it
 *     no colon, an empty name, a space or more than tchar
 *     before its colon
 *   a second Content-Length, also the same again; one that  RFC 9112, 6.3: rejected or made one, as
 *     is a list, empty, signed, no number, >= 2^63            the recipient likes
 *   Transfer-Encoding: all but one that is "chunked" alone  what does "gzip, chunked, identity" end
 *   Content-Length and Transfer-Encoding together           the classic of smuggling
 *   Transfer-Encoding in HTTP/1.0                           RFC 9112, 6.1: faulty
 *   either of them in a trailer                             must not be merged, and sometimes is
 *   a chunk's size that is empty, no hex number, longer     overflow; "5 ;a" and "5 " are cut in
 *     than 16 digits, >= 2^63, followed by a space            different places
 *   a chunk's data that is not followed by CR LF            the size was another one to the sender
 *   an answer that begins before the head of its request    unsolicited: an answer to what?
 *     has been read to the end
 *   a status line that is not HTTP/1.0 or 1.1, three        ICY, and what came before HTTP/1.0
 *     digits from 100 on, a space or the line's end
 *   101, and 2xx to CONNECT                                 a tunnel from here on
 *   CONNECT with a body; a byte behind a CONNECT that has   the tunnel's, or the next request's?
 *     not been answered
 *   more than 32 requests outstanding                       that many are remembered
 *   bytes that were not seen (sendfile, splice) other than  they hold a head or a chunk's size
 *     in a body whose length is known or which the end ends
 *
 * And what is allowed: empty lines (CR LF) before a request, which begin none; any number of 1xx
 * before an answer; 204, 304 and the answer to HEAD end with their heads, whatever these say; an
 * answer with neither length nor chunks lasts as long as the connection; leading zeros; a status
 * line that ends behind the digits; bytes from 0x7f on in targets, values and extensions; a body
 * after its refused "100-continue", by the letter.
 *
 * One thread may read, another write and a third ask, at the same time.
 */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include "base/common.h"

#include <sys/uio.h>

/* Of the requests, or of the answers: how far the message is that is on its way. */
struct http_side {
    uint64_t left;         /* bytes of the body or the chunk to come; a number being read */
    _Atomic uint64_t mark; /* all that others look at, in one word: http.c */
};

/* All zero: a new connection. */
struct http {
    struct http_side requests, answers;
    _Atomic uint64_t kinds; /* of the requests outstanding: two bits each, by their number */
};

enum http_state {
    HTTP_NONE,   /* nothing has been said yet */
    HTTP_IDLE,   /* nothing has begun, nothing is owed */
    HTTP_IN_USE, /* a request, an answer or both are not whole */
    HTTP_NOT,    /* no HTTP/1.x, or not to be followed any more: for good */
};

/* Whether the answer that is being sent, or was the last one, ends the connection. */
enum http_close {
    HTTP_STAYS,
    HTTP_CLOSES,  /* the program has said "Connection: close" in it */
    HTTP_NOTICED, /* we have */
};

/* A new connection, where there was another one before. */
void http_begin(struct http *http);

enum http_state http_state(const struct http *http);

/* Of what is HTTP_NOT the following say nothing. */

/* A request has begun, and has not been read to its end. */
bool http_is_half_read(const struct http *http);

/* A byte of an answer was seen, once. */
bool http_has_answered(const struct http *http);

/* Of the answer that was begun last: known when its head is out. */
enum http_close http_said_close(const struct http *http);

/*
 * The notice. While the process drains, a write to a connection that is HTTP is planned first, the
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
