/* SPDX-License-Identifier: MIT */
#include "rhythm.h"

#include "libc.h"
#include "sys.h"

#include <sys/mman.h>
#include <time.h>

#define SIZES 4             /* lengths of whole answers that are remembered */
#define ANSWERS_LEAST 3     /* whole answers before a length says anything */
#define SAME_WRITES_LEAST 8 /* and in a row, before their number of writes does */
#define ANSWERS_MANY 32     /* whole answers before the most writes that one had say anything */
#define OVERLAPS_MOST 8     /* times in a row that a client has sent so soon: it does not wait */
#define SLOW_MS 20          /* between two writes of an answer: it is streamed */

typedef _Atomic uint32_t field_t;

struct rhythm {
    field_t bytes, sizes[SIZES];              /* of this answer; of those before it */
    field_t wrote_at;                         /* coarse ms, of its last write */
    field_t writes, last_writes, most_writes; /* of this answer, of the one before */
    field_t answers, same_writes;             /* whole ones; in a row with as many writes */
    field_t overlaps;                         /* in a row */
    field_t deaf;                             /* 1: at its accept */
    field_t slow;                             /* 1: it was so once */
};

static struct rhythm *_Atomic rhythms;
static field_t count;
_Atomic bool rhythm_notes;

static uint32_t get(const field_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

static void put(field_t *field, uint32_t value)
{
    atomic_store_explicit(field, value, memory_order_relaxed);
}

/* NULL: there are no notes of it. */
static struct rhythm *find(uint32_t number)
{
    struct rhythm *at = atomic_load_explicit(&rhythms, memory_order_acquire);
    return at && number < get(&count) ? &at[number] : NULL;
}

void rhythm_begin(uint32_t limit)
{
    if (atomic_load(&rhythms) || !limit)
        return;
    long at = sys6(SYS_mmap, NULL, limit * sizeof(struct rhythm), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return; /* who never rests is cut at the timeout */
    put(&count, limit);
    atomic_store(&rhythms, (struct rhythm *)at);
    atomic_store(&rhythm_notes, true);
}

static uint32_t now_ms(void)
{
    struct timespec now = {0, 0};
    libc_clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

void rhythm_forget(uint32_t number)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm)
        return;
    put(&rhythm->bytes, 0);
    put(&rhythm->writes, 0);
    put(&rhythm->last_writes, 0);
    put(&rhythm->most_writes, 0);
    put(&rhythm->answers, 0);
    put(&rhythm->same_writes, 0);
    put(&rhythm->overlaps, 0);
    put(&rhythm->slow, 0);
    put(&rhythm->deaf, 0);
}

void rhythm_was_deaf(uint32_t number)
{
    struct rhythm *rhythm = find(number);
    if (rhythm)
        put(&rhythm->deaf, 1);
}

bool rhythm_needs_time(uint32_t number)
{
    const struct rhythm *rhythm = find(number);
    return rhythm && get(&rhythm->deaf);
}

void rhythm_read(uint32_t number, bool after_answer)
{
    struct rhythm *rhythm = find(number);
    uint32_t writes = rhythm ? get(&rhythm->writes) : 0;
    if (!writes || !after_answer)
        return;
    put(&rhythm->same_writes,
        writes == get(&rhythm->last_writes) ? get(&rhythm->same_writes) + 1 : 0);
    put(&rhythm->last_writes, writes);
    if (writes > get(&rhythm->most_writes))
        put(&rhythm->most_writes, writes);
    put(&rhythm->sizes[get(&rhythm->answers) % SIZES], get(&rhythm->bytes));
    put(&rhythm->answers, get(&rhythm->answers) + 1);
    put(&rhythm->bytes, 0);
    put(&rhythm->writes, 0);
}

/* As long as one of the answers before it. */
static bool is_known_length(const struct rhythm *rhythm)
{
    for (uint32_t i = 0; i < SIZES && i < get(&rhythm->answers); i++)
        if (get(&rhythm->sizes[i]) == get(&rhythm->bytes))
            return true;
    return false;
}

bool rhythm_wrote(uint32_t number, size_t bytes, bool exact)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm)
        return false;
    uint32_t now = now_ms();
    if (get(&rhythm->writes) && now - get(&rhythm->wrote_at) > SLOW_MS)
        put(&rhythm->slow, 1);
    put(&rhythm->wrote_at, now);
    put(&rhythm->writes, get(&rhythm->writes) + 1);
    put(&rhythm->bytes, get(&rhythm->bytes) + (uint32_t)bytes);
    if (get(&rhythm->overlaps) >= OVERLAPS_MOST || get(&rhythm->answers) < ANSWERS_LEAST)
        return false;
    if (is_known_length(rhythm))
        return true;
    bool as_last = get(&rhythm->same_writes) >= SAME_WRITES_LEAST &&
                   get(&rhythm->writes) == get(&rhythm->last_writes);
    bool as_most =
        get(&rhythm->answers) >= ANSWERS_MANY && get(&rhythm->writes) == get(&rhythm->most_writes);
    return !exact && !get(&rhythm->slow) && (as_last || as_most);
}

void rhythm_looked(uint32_t number, bool has_sent)
{
    struct rhythm *rhythm = find(number);
    if (rhythm)
        put(&rhythm->overlaps, has_sent ? get(&rhythm->overlaps) + 1 : 0);
}

bool rhythm_waits_for_answers(uint32_t number)
{
    const struct rhythm *rhythm = find(number);
    return rhythm && get(&rhythm->overlaps) < OVERLAPS_MOST &&
           get(&rhythm->answers) >= ANSWERS_LEAST;
}
