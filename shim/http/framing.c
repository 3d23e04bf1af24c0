/* SPDX-License-Identifier: MIT */
#include "http/framing.h"

struct framing framing;

bool framing_begin(uint32_t count, uint32_t most)
{
    return room_reach(&framing.room, sizeof(struct http), count, most);
}

void framing_forget(uint32_t number)
{
    struct http *http = framing_of(number);
    if (http)
        http_begin(http);
}

bool framing_would_rest(const struct http *http, struct bytes bytes, size_t n)
{
    if (http_state(http) != HTTP_IN_USE)
        return false;
    struct http then = *http;
    return framing_sent(&then, bytes, n) == HTTP_IDLE;
}
