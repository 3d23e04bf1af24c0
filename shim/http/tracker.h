/* SPDX-License-Identifier: MIT */
/*
 * tracker.h - what is asked and what is owed on a connection that speaks HTTP/1.0, 1.1 or 2,
 * WebSocket, FastCGI or PostgreSQL's protocol, from the bytes that the program reads and writes;
 * and in TLS, until that has had its first answer (parser_tls.c).
 *
 * A connection is idle when no request has begun and no answer is owed. Request and answer are
 * counted apart, as a server may answer before it has read all (413, a "100-continue" refused): the
 * connection is idle when both are whole. HTTP/2 has streams: it is idle when none is open,
 * whatever frame came last (parser_frames.c, streams.h); WebSocket between two messages
 * (parser_websocket.c); PostgreSQL when each request has had its ReadyForQuery (parser_postgres.c).
 * Where the framing is not beyond doubt (parser.h) the connection is no HTTP any more, for good,
 * and is served as mode `reply` has it.
 *
 * In mode `http` from a connection's first byte on. In mode `reply` while a drain is on: an answer
 * that is whole by HTTP's own word is the surest sign that there is, and what is no HTTP shows it
 * at once. One thread may read, another write and a third ask, at the same time.
 */
#ifndef WEIR_TRACKER_H
#define WEIR_TRACKER_H

#include "base/common.h"
#include "http/streams.h"

#include <sys/uio.h>

/* Of the requests, or of the answers: how far the message is that is on its way. */
struct tracker_side {
    uint64_t left;         /* bytes of the body or the chunk to come; a number being read */
    _Atomic uint64_t mark; /* all that others look at, in one word: parser.c */
};

/* All zero: a new connection. */
struct tracker {
    struct tracker_side requests, answers;
    _Atomic uint64_t kinds; /* of the requests outstanding: two bits each, by their number */
    union streams streams;  /* HTTP/2 */
};

enum tracker_state {
    HTTP_NONE,   /* nothing has been said yet */
    HTTP_IDLE,   /* nothing has begun, nothing is owed */
    HTTP_IN_USE, /* a request, an answer or both are not whole */
    HTTP_NOT,    /* none of them, or not to be followed any more: for good */
};

/* Whether the answer that is being sent, or was the last one, ends the connection. */
enum tracker_close {
    HTTP_STAYS,
    HTTP_CLOSES,      /* the program has said "Connection: close" in it */
    HTTP_CLOSE_ADDED, /* we have */
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

/* Follows n bytes that a read returned, or a write took; n is at least 1. Returns the state then.
 */
enum tracker_state tracker_received(struct tracker *http, struct bytes bytes, size_t n);
enum tracker_state tracker_sent(struct tracker *http, struct bytes bytes, size_t n);

/* The same of n bytes that lie here. */
enum tracker_state tracker_received_here(struct tracker *http, const char *bytes, size_t n);
enum tracker_state tracker_sent_here(struct tracker *http, const char *bytes, size_t n);

/* Tells whether nothing is owed any more once these n bytes are out. */
bool tracker_would_rest(const struct tracker *http, struct bytes bytes, size_t n);

/* Tells whether the connection that was there before has had streams. */
static inline bool tracker_had_streams(const struct tracker *http)
{
    return GLANCE(&http->streams.all);
}

/* Starts a tracker anew: for a new connection, where there was another one before. reset: also
 * where that has had streams. */
static inline void tracker_begin(struct tracker *http)
{
    atomic_store_explicit(&http->requests.mark, 0, memory_order_release);
    atomic_store_explicit(&http->answers.mark, 0, memory_order_release);
    atomic_store_explicit(&http->kinds, 0, memory_order_relaxed);
}

static inline void tracker_reset(struct tracker *http)
{
    tracker_begin(http);
    if (tracker_had_streams(http))
        streams_give_back(&http->streams);
}

enum tracker_state tracker_state(const struct tracker *http);

/* Where the state is HTTP_NOT, the following mean nothing. */

/* Tells whether a request has begun and has not been read to its end. */
bool tracker_is_half_read(const struct tracker *http);

/* The same of an answer, which has not been written to its end. */
bool tracker_is_half_answered(const struct tracker *http);

/* Tells whether it is FastCGI, whose answers can't say that they are the last. */
bool tracker_has_records(const struct tracker *http);

/* In which frames or messages it goes on, before which one of ours may stand. */
enum tracker_frames { FRAMES_NONE, FRAMES_HTTP2, FRAMES_WEBSOCKET, FRAMES_POSTGRES };
enum tracker_frames tracker_frames(const struct tracker *http);

static inline bool tracker_has_frames(const struct tracker *http)
{
    return tracker_frames(http) != FRAMES_NONE;
}

/*
 * Tells whether more is to come on one that is idle: the client of a WebSocket has sent a message
 * since the server's last, or one side a Close and the other none; PostgreSQL is in a transaction.
 */
bool tracker_is_unfinished(const struct tracker *http);

/* Tells whether nothing has been asked yet: PostgreSQL has let its client in, and no more. (Again
 * after 256 requests: the client is then given WEIR_FIRST_BYTE for the next.) */
bool tracker_has_only_begun(const struct tracker *http);

/* Tells whether the server's next byte begins a frame, before which one of ours may stand, and it
 * has not said goodbye itself. The number of the client's last stream (HTTP/2). */
bool tracker_takes_goodbye(const struct tracker *http);
uint32_t tracker_last_stream(const struct tracker *http);

/* Tells whether the client has answered the PING behind our GOAWAY, and so has read that. */
bool tracker_has_heard(const struct tracker *http);

/* That answer is among these bytes, of which n came: makes it a frame of no type that there is. */
void tracker_hide_answer(struct bytes bytes, size_t n);

/* Tells whether it is TLS: its client's first record was a handshake's, or PostgreSQL's has asked
 * for it. (Its state is HTTP_NOT when the first answer has been seen; HTTP_IN_USE or, where nothing
 * is owed, HTTP_NONE before.) */
bool tracker_is_tls(const struct tracker *http);

/* Tells whether what the server has said last in there may be no answer, and the client still
 * waits for its first one. */
bool tracker_is_in_doubt(const struct tracker *http);

/* Tells whether a byte of an answer was ever seen. */
bool tracker_has_answered(const struct tracker *http);

/* Tells whether the answer that was begun last ends the connection: known when its head is out. */
enum tracker_close tracker_said_close(const struct tracker *http);

/* Fills in what the parser needs of one side; keeps what it has found. */
struct scan;
void tracker_scan(struct scan *scan, const struct tracker *http, bool is_answer);
void tracker_keep(struct tracker *http, const struct scan *scan);

#endif
