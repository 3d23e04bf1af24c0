/* SPDX-License-Identifier: MIT */
#include "conn/pacing.h"

#include "base/sys.h"

/* By the quiet time's bit length and the three bits after the first: an eighth of it, or less. */
#define BUCKETS (64 * 8)

static LATE struct {
    int64_t begun, since, length;
    uint64_t closed;        /* so far */
    uint64_t due;           /* in this round */
    uint32_t least, within; /* buckets above `least` go whole, of that one this many */
    uint64_t idle[BUCKETS];
} spread;

void pacing_begin(int64_t now, int64_t since, int64_t length)
{
    spread.begun = now;
    spread.since = since;
    spread.closed = 0;
    __atomic_store_n(&spread.length, length, __ATOMIC_RELEASE);
}

bool pacing_is_on(int64_t now)
{
    return spread.length && now - spread.since < spread.length;
}

static uint32_t bucket(int64_t quiet_ms)
{
    uint64_t quiet = quiet_ms > 0 ? (uint64_t)quiet_ms + 8 : 8;
    uint32_t bits = 63 - (uint32_t)__builtin_clzll(quiet);
    return bits * 8 + (uint32_t)(quiet >> (bits - 3) & 7);
}

void pacing_round_begins(void)
{
    for (uint32_t i = 0; i < BUCKETS; i++)
        spread.idle[i] = 0;
}

void pacing_count(int64_t quiet_ms)
{
    spread.idle[bucket(quiet_ms)]++;
}

void pacing_round_decides(int64_t now)
{
    uint64_t idle = 0, passed = 0;
    for (uint32_t i = 0; i < BUCKETS; i++)
        idle += spread.idle[i];
    uint64_t all = idle + spread.closed;
    uint64_t passed_ms = now > spread.since ? (uint64_t)(now - spread.since) : 0;
    uint64_t by_now = all * passed_ms / (uint64_t)spread.length;
    spread.due = by_now > spread.closed ? by_now - spread.closed : 0;
    spread.least = BUCKETS - 1;
    while (spread.least && passed + spread.idle[spread.least] <= spread.due)
        passed += spread.idle[spread.least--];
    spread.within = (uint32_t)(spread.due - passed);
}

bool pacing_may_close(int64_t quiet_ms)
{
    uint32_t at = bucket(quiet_ms);
    if (at < spread.least || (at == spread.least && !spread.within) || !spread.due)
        return false;
    spread.within -= at == spread.least;
    spread.due--;
    spread.closed++;
    return true;
}

bool pacing_lets(uint32_t fingerprint)
{
    int64_t length = __atomic_load_n(&spread.length, __ATOMIC_ACQUIRE);
    return !length || sys_now_ms() - spread.begun >= length * (fingerprint % 1024) / 1024;
}
