/* SPDX-License-Identifier: MIT */
#include "conn/rhythm.h"

#include "base/libc.h"
#include "base/room.h"

#include <time.h>

#define SAME_LEAST 8    /* answers in a row that were alike, before their length says anything */
#define SIZES 8         /* lengths of answers that are remembered */
#define ANSWERS_MANY 24 /* whole answers before the most writes that one had say anything */
#define WAITS_LEAST 3   /* answers that a client has waited for, before it may be one that waits */
#define WAITS_MANY 24   /* before it is one */
#define WAITS_AGAIN 64  /* the same where it has sent ahead before */
#define SLOW_MS 20      /* between two writes of an answer: it is streamed */
/*
 * A stream in both directions can keep step for a thousand rounds, where its sender and its
 * receiver take turns: that is 30 ms, and no count of answers tells it from a client that waits.
 * Sooner or later it sends ahead.
 *
 * Only a look before a write tells. A request that is there after one can be the next: the writer
 * was preempted, as a rule by the client that it has woken.
 */
#define WATCH_MS 200

typedef _Atomic uint32_t field_t;

/* What ANSWERS_MANY answers in a row had in common: what was odd once is forgotten after two. */
struct span {
    field_t writes;      /* the most that one had */
    field_t slow;        /* 1: one was so */
    field_t least, most; /* requests' lengths; most 0: there was none yet */
};

/* A request of so many bytes has had an answer of so many, so often. */
struct kind {
    field_t asked, bytes, times;
};
#define KINDS 16

struct rhythm {
    field_t asked, bytes, writes;   /* the request, its answer so far */
    field_t last_asked, last_bytes; /* of the one before */
    field_t sizes[SIZES];
    field_t wrote_at;     /* coarse ms, of the last write */
    field_t answers;      /* whole ones */
    field_t same;         /* in a row as the last one */
    field_t full;         /* 1: the last read filled its buffer, so that there may be more of it */
    field_t wrote_on;     /* 1: the last write was behind our half-close */
    field_t held;         /* enum rhythm_hold */
    field_t in_step;      /* answers in a row before which nothing more had come */
    field_t ahead;        /* 1: it has sent ahead */
    field_t watched_from; /* coarse ms: the first read, or when it sent ahead; 0: neither yet */
    struct span span[2];
    struct kind kind[KINDS];
};

static struct room rhythms; /* of struct rhythm */

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
    struct rhythm *at = atomic_load_explicit(&rhythms.at, memory_order_acquire);
    return at && number < get(&rhythms.count) ? &at[number] : NULL;
}

bool rhythm_begin(uint32_t count, uint32_t most)
{
    return room_reach(&rhythms, sizeof(struct rhythm), count, most);
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

void rhythm_wrote_on(uint32_t number)
{
    struct rhythm *rhythm = find(number);
    if (rhythm)
        put(&rhythm->wrote_on, 1);
}

bool rhythm_wrote_on_within(uint32_t number, uint32_t ms)
{
    const struct rhythm *rhythm = find(number);
    return rhythm && get(&rhythm->wrote_on) && !get(&rhythm->asked) &&
           now_ms() - get(&rhythm->wrote_at) <= ms;
}

void rhythm_holds(uint32_t number, enum rhythm_hold hold)
{
    struct rhythm *rhythm = find(number);
    if (rhythm)
        put(&rhythm->held, hold);
}

enum rhythm_hold rhythm_held(uint32_t number)
{
    const struct rhythm *rhythm = find(number);
    return rhythm ? (enum rhythm_hold)get(&rhythm->held) : HOLD_NONE;
}

static void sent_ahead(struct rhythm *rhythm)
{
    put(&rhythm->watched_from, now_ms());
    put(&rhythm->in_step, 0);
    put(&rhythm->ahead, 1);
}

void rhythm_looked_ahead(uint32_t number, bool has_sent)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm || get(&rhythm->full)) /* what there is more is of the same request */
        return;
    if (has_sent)
        sent_ahead(rhythm);
    else if (!get(&rhythm->writes))
        put(&rhythm->in_step, get(&rhythm->in_step) + 1);
}

bool rhythm_is_in_step(uint32_t number)
{
    const struct rhythm *rhythm = find(number);
    return rhythm && get(&rhythm->in_step) >= (get(&rhythm->ahead) ? WAITS_AGAIN : WAITS_MANY) &&
           now_ms() - get(&rhythm->watched_from) >= WATCH_MS;
}

static struct span *span_now(struct rhythm *rhythm)
{
    return &rhythm->span[get(&rhythm->answers) / ANSWERS_MANY % 2];
}

static void span_learn(struct span *span, uint32_t asked, uint32_t writes)
{
    if (writes > get(&span->writes))
        put(&span->writes, writes);
    if (!get(&span->most) || asked < get(&span->least))
        put(&span->least, asked);
    if (asked > get(&span->most))
        put(&span->most, asked);
}

static void span_forget(struct span *span)
{
    put(&span->writes, 0);
    put(&span->slow, 0);
    put(&span->least, 0);
    put(&span->most, 0);
}

/* Of both spans. */
static uint32_t most_writes(const struct rhythm *rhythm)
{
    uint32_t one = get(&rhythm->span[0].writes), other = get(&rhythm->span[1].writes);
    return one > other ? one : other;
}

static bool is_slow(const struct rhythm *rhythm)
{
    return get(&rhythm->span[0].slow) || get(&rhythm->span[1].slow);
}

/* The place of a kind that is remembered, or else a free one; NULL: there is neither. */
static struct kind *kind_of(struct rhythm *rhythm, uint32_t asked, uint32_t bytes)
{
    struct kind *place = NULL;
    for (int i = 0; i < KINDS; i++) {
        struct kind *kind = &rhythm->kind[i];
        if (!get(&kind->times))
            place = kind;
        else if (get(&kind->asked) == asked && get(&kind->bytes) == bytes)
            return kind;
    }
    return place;
}

/* Where there is no place all the others lose a little, so that the usual ones stay (Misra, Gries:
 * Finding repeated elements, 1982). */
static void kind_learn(struct rhythm *rhythm, uint32_t asked, uint32_t bytes)
{
    struct kind *kind = kind_of(rhythm, asked, bytes);
    for (int i = 0; i < KINDS && !kind; i++) {
        uint32_t times = get(&rhythm->kind[i].times);
        put(&rhythm->kind[i].times, times ? times - 1 : 0);
    }
    if (!kind)
        return;
    put(&kind->times, get(&kind->times) + 1);
    put(&kind->asked, asked);
    put(&kind->bytes, bytes);
}

/* How often there has been an answer of so many bytes to such a request. */
static uint32_t times_of_kind(struct rhythm *rhythm, uint32_t bytes)
{
    const struct kind *kind = kind_of(rhythm, get(&rhythm->asked), bytes);
    return kind ? get(&kind->times) : 0;
}

/*
 * Whether requests that were all alike, with answers that were, are followed by several at once.
 * The client has sent ahead then, and the program was late: its one read took what a look before
 * its write would have seen.
 */
static bool were_several(const struct rhythm *rhythm)
{
    uint32_t asked = get(&rhythm->asked), bytes = get(&rhythm->bytes);
    uint32_t one = get(&rhythm->last_asked), answer = get(&rhythm->last_bytes);
    return get(&rhythm->same) >= SAME_LEAST && asked > one && asked % one == 0 &&
           bytes == (uint64_t)answer * (asked / one);
}

/* The answer was whole: a request has come after it. */
static void learn(struct rhythm *rhythm)
{
    if (were_several(rhythm))
        sent_ahead(rhythm);
    uint32_t asked = get(&rhythm->asked), bytes = get(&rhythm->bytes);
    uint32_t writes = get(&rhythm->writes), answers = get(&rhythm->answers);
    bool same = asked == get(&rhythm->last_asked) && bytes == get(&rhythm->last_bytes);
    put(&rhythm->same, same ? get(&rhythm->same) + 1 : 1);
    put(&rhythm->sizes[answers % SIZES], bytes);
    put(&rhythm->last_asked, asked);
    put(&rhythm->last_bytes, bytes);
    span_learn(span_now(rhythm), asked, writes);
    kind_learn(rhythm, asked, bytes);
    put(&rhythm->answers, answers + 1);
    if ((answers + 1) % ANSWERS_MANY == 0)
        span_forget(span_now(rhythm));
    put(&rhythm->asked, 0);
    put(&rhythm->bytes, 0);
    put(&rhythm->writes, 0);
}

void rhythm_read(uint32_t number, size_t bytes, bool full, bool after_answer)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm)
        return;
    if (!get(&rhythm->watched_from))
        put(&rhythm->watched_from, now_ms());
    /* A program that reads on before it answers takes away what a look before its write would see.
     * More, behind as much as the whole request before, is the next. */
    if (!after_answer && !get(&rhythm->full) && get(&rhythm->asked) &&
        get(&rhythm->asked) == get(&rhythm->last_asked))
        sent_ahead(rhythm);
    /* What was on its way when the drain began is not known from its beginning. */
    if (after_answer && get(&rhythm->writes) && get(&rhythm->asked))
        learn(rhythm);
    else if (after_answer)
        put(&rhythm->asked, 0), put(&rhythm->bytes, 0), put(&rhythm->writes, 0);
    put(&rhythm->asked, get(&rhythm->asked) + (uint32_t)bytes);
    put(&rhythm->full, full);
}

/* All requests are about as long: one kind of them. */
static bool asks_alike(const struct rhythm *rhythm)
{
    uint32_t now = get(&rhythm->asked), least = now, most = now;
    for (int i = 0; i < 2; i++) {
        const struct span *span = &rhythm->span[i];
        if (get(&span->most) && get(&span->least) < least)
            least = get(&span->least);
        if (get(&span->most) > most)
            most = get(&span->most);
    }
    return most <= least + least / 4 + 16;
}

/*
 * A dialog says the same small things at its turns ("100 Continue", "354 "), and something else
 * between them: such an answer is not the end of what the client wants. Lengths that never come
 * again, or are all one, are no turns.
 */
static bool is_a_turn(const struct rhythm *rhythm, uint32_t bytes)
{
    uint32_t alike = 0;
    for (int i = 0; i < SIZES; i++)
        alike += get(&rhythm->sizes[i]) == bytes;
    return alike && alike < SIZES;
}

/*
 * For so long it has kept step that it will not come to a better moment. What it says may well have
 * turns, but most who go on like that ask for one thing after the other (a value to be kept, and
 * that value); all would be cut at the timeout else, in the middle of an answer. Not who sends
 * much: that may be an upload, of which a turn (a "100 Continue") is the beginning.
 */
#define GOES_ON_MS 1000
#define MUCH 16384 /* bytes of a request */

static bool sends_much(const struct rhythm *rhythm)
{
    return get(&rhythm->asked) > MUCH || get(&rhythm->span[0].most) > MUCH ||
           get(&rhythm->span[1].most) > MUCH;
}

static bool goes_on(const struct rhythm *rhythm)
{
    return now_ms() - get(&rhythm->watched_from) >= GOES_ON_MS && !sends_much(rhythm);
}

/* Of an answer of so many bytes in so many writes. */
static enum rhythm_sign sign_of(struct rhythm *rhythm, uint32_t bytes, uint32_t writes)
{
    if (get(&rhythm->full))
        return RHYTHM_NONE;
    if (get(&rhythm->same) >= SAME_LEAST && get(&rhythm->asked) == get(&rhythm->last_asked) &&
        bytes == get(&rhythm->last_bytes))
        return RHYTHM_SURE;
    if (goes_on(rhythm) && times_of_kind(rhythm, bytes) >= SAME_LEAST)
        return RHYTHM_SURE;
    bool is_likely = !is_slow(rhythm) && get(&rhythm->answers) >= ANSWERS_MANY &&
                     writes == most_writes(rhythm) &&
                     (asks_alike(rhythm) || !is_a_turn(rhythm, bytes) || goes_on(rhythm));
    return is_likely ? RHYTHM_LIKELY : RHYTHM_NONE;
}

enum rhythm_sign rhythm_expects(uint32_t number, size_t bytes)
{
    struct rhythm *rhythm = find(number);
    return rhythm ? sign_of(rhythm, get(&rhythm->bytes) + (uint32_t)bytes, get(&rhythm->writes) + 1)
                  : RHYTHM_NONE;
}

enum rhythm_sign rhythm_wrote(uint32_t number, size_t bytes)
{
    struct rhythm *rhythm = find(number);
    if (!rhythm)
        return RHYTHM_NONE;
    uint32_t now = now_ms();
    if (get(&rhythm->writes) && now - get(&rhythm->wrote_at) > SLOW_MS)
        put(&span_now(rhythm)->slow, 1);
    /* What came so far was as long as a whole one, and was none. */
    if (get(&rhythm->writes) && times_of_kind(rhythm, get(&rhythm->bytes)))
        put(&kind_of(rhythm, get(&rhythm->asked), get(&rhythm->bytes))->times, 0);
    put(&rhythm->wrote_at, now);
    put(&rhythm->wrote_on, 0);
    put(&rhythm->writes, get(&rhythm->writes) + 1);
    put(&rhythm->bytes, get(&rhythm->bytes) + (uint32_t)bytes);
    return sign_of(rhythm, get(&rhythm->bytes), get(&rhythm->writes));
}

bool rhythm_waits_for_answers(uint32_t number)
{
    const struct rhythm *rhythm = find(number);
    return rhythm && get(&rhythm->in_step) >= WAITS_LEAST;
}
