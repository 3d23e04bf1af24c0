/* SPDX-License-Identifier: MIT */
/*
 * tracker.h - what is asked and what is owed on a connection that speaks HTTP/1.0 or 1.1, from the
 * bytes that the program reads and writes; and which connection is how far, by the number of its
 * record.
 *
 * A connection is idle when no request has begun and no answer is owed. Request and answer are
 * counted apart, as a server may answer before it has read all (413, a "100-continue" refused): the
 * connection is idle when both are whole. Where the framing is not beyond doubt (parser.h) the
 * connection is no HTTP any more, for good, and is served as mode `reply` has it.
 *
 * In mode `http` from a connection's first byte on. In mode `reply` while a drain is on: an answer
 * that is whole by HTTP's own word is the surest sign that there is, and what is no HTTP shows it
 * at once. Memory alone, reserved for the whole table and touched where connections are. One thread
 * may read, another write and a third ask, at the same time.
 */
#ifndef WEIR_TRACKER_H
#define WEIR_TRACKER_H

#include "base/common.h"
#include "base/room.h"

#include <sys/uio.h>

/* Of the requests, or of the answers: how far the message is that is on its way. */
struct http_side {
    uint64_t left;         /* bytes of the body or the chunk to come; a number being read */
    _Atomic uint64_t mark; /* all that others look at, in one word: parser.c */
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

/* What a call has read, or is to write: of its buffers the first so many bytes. */
struct bytes {
    const struct iovec *iov; /* NULL: not seen (sendfile, splice) */
    size_t count;
};

#define BYTES(buf, n) ((struct bytes){&(struct iovec){(void *)(buf), n}, 1})
#define BYTES_UNSEEN ((struct bytes){NULL, 0})

static inline size_t bytes_room(struct bytes bytes)
{
    size_t room = 0;
    for (size_t i = 0; i < bytes.count; i++)
        room += bytes.iov[i].iov_len;
    return room;
}

/* Makes room for `count` records of `most` that there may be. False: there is none for all. */
bool framing_begin(uint32_t count, uint32_t most);

extern HIDDEN struct room framing_room; /* of struct http */

/* NULL: there is no room, or nobody asks for it. */
static inline struct http *framing_of(uint32_t number)
{
    struct http *at = atomic_load_explicit(&framing_room.at, memory_order_acquire);
    bool is_there = at && number < atomic_load_explicit(&framing_room.count, memory_order_relaxed);
    return is_there ? &at[number] : NULL;
}

/* The record of this number is a new connection's. */
void framing_forget(uint32_t number);

/* A read has returned n bytes, a write has taken n, which is at least 1: the state then. */
enum http_state framing_received(struct http *http, struct bytes bytes, size_t n);
enum http_state framing_sent(struct http *http, struct bytes bytes, size_t n);

/* Whether nothing is owed any more once these n bytes are out. */
bool framing_would_rest(const struct http *http, struct bytes bytes, size_t n);

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

/* The parser's look at the requests, or at the answers, begins; what it has found is kept. */
struct scan;
void http_scan(struct scan *scan, const struct http *http, bool is_answer);
void http_keep(struct http *http, const struct scan *scan);

#endif
