/* SPDX-License-Identifier: MIT */
#include "http/framing.h"

#include "http/http_cache.h"

struct framing framing;

bool framing_begin(uint32_t count, uint32_t most)
{
    if (framing.seed && !atomic_load(&framing.room.at))
        http_cache_begin(framing.seed);
    return room_reach(&framing.room, sizeof(struct http), count, most);
}

void framing_forget(uint32_t number)
{
    struct http *http = framing_of(number);
    if (http)
        http_begin(http);
}

typedef enum http_state tell_fn(struct http *http, const char *bytes, size_t n);

/* The first n bytes of all. */
INLINE enum http_state each(struct http *http, struct bytes bytes, size_t n, tell_fn *tell)
{
    enum http_state state = HTTP_NOT;
    if (UNLIKELY(!bytes.iov))
        return tell(http, NULL, n);
    for (const struct iovec *iov = bytes.iov, *end = iov + bytes.count; n && iov < end; iov++) {
        size_t part = iov->iov_len < n ? iov->iov_len : n;
        if (part)
            state = tell(http, iov->iov_base, part);
        n -= part;
    }
    return state;
}

HOT enum http_state framing_received(struct http *http, struct bytes bytes, size_t n)
{
    return each(http, bytes, n, http_received);
}

HOT enum http_state framing_sent(struct http *http, struct bytes bytes, size_t n)
{
    return each(http, bytes, n, http_sent);
}

bool framing_would_rest(const struct http *http, struct bytes bytes, size_t n)
{
    if (http_state(http) != HTTP_IN_USE)
        return false;
    struct http then = *http;
    return framing_sent(&then, bytes, n) == HTTP_IDLE;
}
