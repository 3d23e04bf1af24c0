/* SPDX-License-Identifier: MIT */
#include "http/tracker.h"

struct room framing_room;

bool framing_begin(uint32_t count, uint32_t most)
{
    return room_reach(&framing_room, sizeof(struct http), count, most);
}

void framing_forget(uint32_t number)
{
    struct http *http = framing_of(number);
    if (http)
        http_begin(http);
}
