/* SPDX-License-Identifier: MIT */
/*
 * framing.h - which connection is how far in its HTTP (http.h), by the number of its record.
 *
 * In mode `http` from a connection's first byte on. In mode `reply` while a drain is on: an answer
 * that is whole by HTTP's own word is the surest sign that there is, and what is no HTTP shows it
 * at once. Memory alone, reserved for the whole table and touched where connections are.
 */
#ifndef WEIR_FRAMING_H
#define WEIR_FRAMING_H

#include "http/http.h"
#include "base/room.h"

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

/* The room: of struct http. */
extern HIDDEN struct framing {
    struct room room;
} framing;

/* NULL: there is no room, or nobody asks for it. */
static inline struct http *framing_of(uint32_t number)
{
    struct http *at = atomic_load_explicit(&framing.room.at, memory_order_acquire);
    bool is_there = at && number < atomic_load_explicit(&framing.room.count, memory_order_relaxed);
    return is_there ? &at[number] : NULL;
}

/* The record of this number is a new connection's. */
void framing_forget(uint32_t number);

/* A read has returned n bytes, a write has taken n, which is at least 1: the state then. */
enum http_state framing_received(struct http *http, struct bytes bytes, size_t n);
enum http_state framing_sent(struct http *http, struct bytes bytes, size_t n);

/* Whether nothing is owed any more once these n bytes are out. */
bool framing_would_rest(const struct http *http, struct bytes bytes, size_t n);

#endif
