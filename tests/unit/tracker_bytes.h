/* SPDX-License-Identifier: MIT */
/*
 * tracker_bytes.h - for the tests of tracker.h: bytes told as one buffer, and what only they ask of
 * a connection. Included behind what needs malloc, which the shim poisons.
 */
#ifndef WEIR_TRACKER_BYTES_H
#define WEIR_TRACKER_BYTES_H

#include "http/tracker.h"
#include "http/parser.h"
#include "http/close_header.h"

/* NULL: so many bytes that were not seen. */
static inline enum tracker_state bytes_received(struct tracker *http, const char *bytes, size_t n)
{
    return tracker_received(http, bytes ? BYTES(bytes, n) : BYTES_UNSEEN, n);
}

static inline enum tracker_state bytes_sent(struct tracker *http, const char *bytes, size_t n)
{
    return tracker_sent(http, bytes ? BYTES(bytes, n) : BYTES_UNSEEN, n);
}

/* Requests whose heads were read and whose final answers are not out. */
static inline unsigned int tracker_owed(const struct tracker *http)
{
    union mark requests = {.all = http->requests.mark}, answers = {.all = http->answers.mark};
    return (uint8_t)(requests.count - answers.count);
}

/* An answer has begun, interim or final, and is not out. */
static inline bool tracker_is_half_sent(const struct tracker *http)
{
    return (union mark){.all = http->answers.mark}.at != START;
}

#endif
