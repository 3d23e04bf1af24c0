/* SPDX-License-Identifier: MIT */
#include "http/tracker.h"

struct room tracker_room;

bool tracker_begin(uint32_t count, uint32_t most)
{
    return room_reach(&tracker_room, sizeof(struct tracker), count, most);
}

void tracker_forget(uint32_t number)
{
    struct tracker *http = tracker_of(number);
    if (http)
        tracker_reset(http);
}
