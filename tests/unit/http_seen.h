/* SPDX-License-Identifier: MIT */
/* http_seen.h - what the tests see of a tracker that the library does not ask for. */
#ifndef HTTP_SEEN_H
#define HTTP_SEEN_H

#include "http/http_look.h"

static inline union mark seen_mark(const struct http_side *side)
{
    return (union mark){.all = atomic_load(&side->mark)};
}

/* Requests whose heads were read and whose final answers are not out. */
static inline unsigned int http_owed(const struct http *http)
{
    return (uint8_t)(seen_mark(&http->requests).count - seen_mark(&http->answers).count);
}

/* An answer has begun, interim or final, and is not out. */
static inline bool http_is_half_sent(const struct http *http)
{
    enum place at = (enum place)seen_mark(&http->answers).at;
    return at != START && at != START_LF;
}

#endif
