/* SPDX-License-Identifier: MIT */
/*
 * tracker_talk.h - what the tests of tracker.h have in common. Included first: the shim poisons
 * malloc.
 */
#ifndef WEIR_TRACKER_TALK_H
#define WEIR_TRACKER_TALK_H

#include "unit.h"

/* A copy that ends where its block does, so that a byte read past it is found. */
static inline char *copy_of(const char *bytes, size_t n)
{
    char *copy = malloc(n ? n : 1);
    CHECK(copy);
    if (n)
        memcpy(copy, bytes, n);
    return copy;
}

static inline void drop(char *copy)
{
    free(copy);
}

#include "tracker_bytes.h"

static inline void receive(struct tracker *http, const char *bytes, size_t n)
{
    char *copy = copy_of(bytes, n);
    bytes_received(http, copy, n);
    drop(copy);
}

static inline void answer(struct tracker *http, const char *bytes, size_t n)
{
    char *copy = copy_of(bytes, n);
    bytes_sent(http, copy, n);
    drop(copy);
}

/* "." nothing yet, "-" idle, "+2" in use with two answers owed, "!" no HTTP. */
static inline const char *told(const struct tracker *http)
{
    static char text[4];
    enum tracker_state state = tracker_state(http);
    unsigned int owed = tracker_owed(http), at = 0;
    text[at++] = ".-+!"[state];
    if (state == HTTP_IN_USE && owed > 9)
        text[at++] = (char)('0' + owed / 10);
    if (state == HTTP_IN_USE)
        text[at++] = (char)('0' + owed % 10);
    text[at] = '\0';
    return text;
}

#endif
