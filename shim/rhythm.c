/* SPDX-License-Identifier: MIT */
#include "rhythm.h"

#include "libc.h"
#include "sys.h"

#include <sys/mman.h>
#include <time.h>

#define SAME_LEAST 3    /* answers in a row that were alike, before their length says anything */
#define SIZES 8         /* lengths of answers that are remembered */
#define ANSWERS_MANY 64 /* whole answers before the most writes that one had say anything */
#define OVERLAPS_MOST 8 /* times in a row that a client has sent so soon: it may not wait */
#define SLOW_MS 20      /* between two writes of an answer: it is streamed */

typedef _Atomic uint32_t field_t;

struct rhythm {
    field_t asked, bytes, writes;                /* the request, its answer so far */
    field_t last_asked, last_bytes, most_writes; /* of those before */
    field_t sizes[SIZES];
    field_t wrote_at;    /* coarse ms, of the last write */
    field_t answers;     /* whole ones */
    field_t same;        /* in a row as the last one */
    field_t least, most; /* requests' lengths */
    field_t overlaps;    /* looks in a row that met the next request */
    field_t deaf;        /* 1: at its accept */
    field_t slow;        /* 1: it was so once */
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
    field_t *field = (field_t *)rhythm;
    for (size_t i = 0; rhythm && i < sizeof *rhythm / sizeof *field; i++)
        put(&field[i], 0);
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

/* The answer was whole: a request has come after it. */
static void learn(struct rhythm *rhythm)
{
    uint32_t asked = get(&rhythm->asked), bytes = get(&rhythm->bytes);
    uint32_t writes = get(&rhythm->writes), answers = get(&rhythm->answers);
    bool same = asked == get(&rhythm->last_asked) && bytes == get(&rhythm->last_bytes);
    put(&rhythm->same, same ? get(&rhythm->same) + 1 : 1);
    put(&rhythm->sizes[answers % SIZES], bytes);
    put(&rhythm->last_asked, asked);
    put(&rhythm->last_bytes, bytes);
    if (writes > get(&rhythm->most_writes))
        put(&rhythm->most_writes, writes);
    if (!answers || asked < get(&rhythm->least))
        put(&rhythm->least, asked);
    if (asked > get(&rhythm->most))
        put(&rhythm->most, asked);
    put(&rhythm->answers, answers + 1);
    if (get(&rhythm->overlaps))
        put(&rhythm->overlaps, get(&rhythm->overlaps) - 1);
    put(&rhythm->asked, 0);
    put(&rhythm->bytes, 0);
    put(&rhythm->writes, 0);
}

void rhythm_read(uint32_t number, size_t bytes, bool after_answer)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm)
        return;
    /* What was on its way when the drain began is not known from its beginning. */
    if (after_answer && get(&rhythm->writes) && get(&rhythm->asked))
        learn(rhythm);
    else if (after_answer)
        put(&rhythm->asked, 0), put(&rhythm->bytes, 0), put(&rhythm->writes, 0);
    put(&rhythm->asked, get(&rhythm->asked) + (uint32_t)bytes);
}

/* All requests are about as long: one kind of them. */
static bool asks_alike(const struct rhythm *rhythm)
{
    uint32_t least = get(&rhythm->least), most = get(&rhythm->most), now = get(&rhythm->asked);
    return most <= least + least / 4 + 16 && now >= least && now <= most;
}

/*
 * A dialog says the same small things at its turns ("100 Continue", "354 "), and something else
 * between them: such an answer is not the end of what the client wants. Lengths that never come
 * again, or are all one, are no turns.
 */
static bool is_a_turn(const struct rhythm *rhythm)
{
    uint32_t alike = 0;
    for (int i = 0; i < SIZES; i++)
        alike += get(&rhythm->sizes[i]) == get(&rhythm->bytes);
    return alike && alike < SIZES;
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
    if (get(&rhythm->overlaps) >= OVERLAPS_MOST)
        return false;
    if (get(&rhythm->same) >= SAME_LEAST && get(&rhythm->asked) == get(&rhythm->last_asked) &&
        get(&rhythm->bytes) == get(&rhythm->last_bytes))
        return true;
    return !exact && !get(&rhythm->slow) && (asks_alike(rhythm) || !is_a_turn(rhythm)) &&
           get(&rhythm->answers) >= ANSWERS_MANY &&
           get(&rhythm->writes) == get(&rhythm->most_writes);
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
    return rhythm && !get(&rhythm->overlaps) && get(&rhythm->answers) >= SAME_LEAST;
}
