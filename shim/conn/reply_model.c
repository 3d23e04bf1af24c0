/* SPDX-License-Identifier: MIT */
#include "conn/reply_model.h"

#include "base/libc.h"
#include "base/room.h"

#define SAME_LEAST 8    /* answers in a row that were alike, before their length says anything */
#define SIZES 8         /* lengths of answers that are remembered */
#define ANSWERS_MANY 24 /* whole answers before the most writes that one had say anything */
#define WAITS_LEAST 3   /* answers that a client has waited for, before it may be one that waits */
#define WAITS_MANY 32   /* before it is one */
#define WAITS_AGAIN 64  /* the same where it has sent ahead before */
#define SLOW_MS 20      /* between two writes of an answer: it is streamed */
/*
 * A stream in both directions can keep step for a thousand rounds, where its sender and its
 * receiver take turns: that is 30 ms, and no count of answers tells it from a client that waits.
 * Sooner or later it sends ahead. Where that is in one of twenty rounds, it has been seen before it
 * is taken for one that waits, whichever the round in which the drain begins: the first
 * SAME_LEAST of WAITS_MANY may be over before two at once are told from one (were_several).
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

struct reply_model {
    field_t asked, bytes, writes;   /* the request, its answer so far */
    field_t last_asked, last_bytes; /* of the one before */
    field_t sizes[SIZES];
    field_t wrote_at;     /* coarse ms, of the last write */
    field_t answers;      /* whole ones */
    field_t same;         /* in a row as the last one */
    field_t full;         /* 1: the last read filled its buffer, so that there may be more of it */
    field_t wrote_on;     /* 1: the last write was behind our half-close */
    field_t held;         /* enum reply_model_hold */
    field_t in_step;      /* answers in a row before which nothing more had come */
    field_t ahead;        /* 1: it has sent ahead */
    field_t watched_from; /* coarse ms: the first read, or when it sent ahead; 0: neither yet */
    struct span span[2];
    struct kind kind[KINDS];
};

static struct room models; /* of struct reply_model */

static uint32_t get(const field_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

static void put(field_t *field, uint32_t value)
{
    atomic_store_explicit(field, value, memory_order_relaxed);
}

/* NULL: there are no notes of it. */
static struct reply_model *find(uint32_t number)
{
    struct reply_model *at = atomic_load_explicit(&models.at, memory_order_acquire);
    return at && number < get(&models.count) ? &at[number] : NULL;
}

bool reply_model_begin(uint32_t count, uint32_t most)
{
    return room_reach(&models, sizeof(struct reply_model), count, most);
}

static uint32_t now_ms(void)
{
    return (uint32_t)libc_coarse_ms();
}

void reply_model_forget(uint32_t number)
{
    struct reply_model *model = find(number);
    field_t *field = (field_t *)model;
    for (size_t i = 0; model && i < sizeof *model / sizeof *field; i++)
        put(&field[i], 0);
}

void reply_model_wrote_on(uint32_t number)
{
    struct reply_model *model = find(number);
    if (model)
        put(&model->wrote_on, 1);
}

bool reply_model_wrote_on_within(uint32_t number, uint32_t ms)
{
    const struct reply_model *model = find(number);
    return model && get(&model->wrote_on) && !get(&model->asked) &&
           now_ms() - get(&model->wrote_at) <= ms;
}

static field_t has_pieces;             /* 1: an answer has had several writes */
static field_t longest_pause;          /* ms, between two writes of an answer in a drain */
static _Atomic int64_t longest_before; /* ms, that an answer which began before it has taken */

void reply_model_goes_on(uint32_t number, uint32_t most)
{
    if (!get(&has_pieces))
        put(&has_pieces, 1);
    const struct reply_model *model = find(number);
    uint32_t at = model ? get(&model->wrote_at) : 0, pause = at ? now_ms() - at : 0;
    if (pause > get(&longest_pause) && pause <= most)
        put(&longest_pause, pause);
}

int64_t reply_model_pause_ms(uint32_t number, int64_t took)
{
    const struct reply_model *model = find(number);
    int64_t pause = get(&longest_pause);
    if (!get(&has_pieces) || !model || get(&model->watched_from))
        return pause;
    if (took > atomic_load(&longest_before))
        atomic_store(&longest_before, took);
    return atomic_load(&longest_before) > pause ? atomic_load(&longest_before) : pause;
}

void reply_model_holds(uint32_t number, enum reply_model_hold hold)
{
    struct reply_model *model = find(number);
    if (model)
        put(&model->held, hold);
}

enum reply_model_hold reply_model_held(uint32_t number)
{
    const struct reply_model *model = find(number);
    return model ? (enum reply_model_hold)get(&model->held) : HOLD_NONE;
}

static void sent_ahead(struct reply_model *model)
{
    put(&model->watched_from, now_ms());
    put(&model->in_step, 0);
    put(&model->ahead, 1);
}

void reply_model_looked_ahead(uint32_t number, bool has_sent)
{
    struct reply_model *model = find(number);
    if (!model || (get(&model->full) && has_sent)) /* what there is more is of the same request */
        return;
    put(&model->full, 0); /* it took all there was: OpenSSL asks for as much as a record has */
    if (has_sent)
        sent_ahead(model);
    else if (!get(&model->writes))
        put(&model->in_step, get(&model->in_step) + 1);
}

bool reply_model_is_in_step(uint32_t number)
{
    const struct reply_model *model = find(number);
    return model && get(&model->in_step) >= (get(&model->ahead) ? WAITS_AGAIN : WAITS_MANY) &&
           now_ms() - get(&model->watched_from) >= WATCH_MS;
}

static struct span *span_now(struct reply_model *model)
{
    return &model->span[get(&model->answers) / ANSWERS_MANY % 2];
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
static uint32_t most_writes(const struct reply_model *model)
{
    uint32_t one = get(&model->span[0].writes), other = get(&model->span[1].writes);
    return one > other ? one : other;
}

static bool is_slow(const struct reply_model *model)
{
    return get(&model->span[0].slow) || get(&model->span[1].slow);
}

/* The place of a kind that is remembered, or else a free one; NULL: there is neither. */
static struct kind *kind_of(struct reply_model *model, uint32_t asked, uint32_t bytes)
{
    struct kind *place = NULL;
    for (int i = 0; i < KINDS; i++) {
        struct kind *kind = &model->kind[i];
        if (!get(&kind->times))
            place = kind;
        else if (get(&kind->asked) == asked && get(&kind->bytes) == bytes)
            return kind;
    }
    return place;
}

/* Where there is no place all the others lose a little, so that the usual ones stay (Misra, Gries:
 * Finding repeated elements, 1982). */
static void kind_learn(struct reply_model *model, uint32_t asked, uint32_t bytes)
{
    struct kind *kind = kind_of(model, asked, bytes);
    for (int i = 0; i < KINDS && !kind; i++) {
        uint32_t times = get(&model->kind[i].times);
        put(&model->kind[i].times, times ? times - 1 : 0);
    }
    if (!kind)
        return;
    put(&kind->times, get(&kind->times) + 1);
    put(&kind->asked, asked);
    put(&kind->bytes, bytes);
}

/* How often there has been an answer of so many bytes to such a request. */
static uint32_t times_of_kind(struct reply_model *model, uint32_t bytes)
{
    const struct kind *kind = kind_of(model, get(&model->asked), bytes);
    return kind ? get(&kind->times) : 0;
}

/*
 * Whether requests that were all alike, with answers that were, are followed by several at once.
 * The client has sent ahead then, and the program was late: its one read took what a look before
 * its write would have seen.
 */
static bool were_several(const struct reply_model *model)
{
    uint32_t asked = get(&model->asked), bytes = get(&model->bytes);
    uint32_t one = get(&model->last_asked), answer = get(&model->last_bytes);
    return get(&model->same) >= SAME_LEAST && asked > one && asked % one == 0 &&
           bytes == (uint64_t)answer * (asked / one);
}

/* The answer was whole: a request has come after it. */
static void learn(struct reply_model *model)
{
    if (were_several(model))
        sent_ahead(model);
    uint32_t asked = get(&model->asked), bytes = get(&model->bytes);
    uint32_t writes = get(&model->writes), answers = get(&model->answers);
    bool same = asked == get(&model->last_asked) && bytes == get(&model->last_bytes);
    put(&model->same, same ? get(&model->same) + 1 : 1);
    put(&model->sizes[answers % SIZES], bytes);
    put(&model->last_asked, asked);
    put(&model->last_bytes, bytes);
    span_learn(span_now(model), asked, writes);
    kind_learn(model, asked, bytes);
    put(&model->answers, answers + 1);
    if ((answers + 1) % ANSWERS_MANY == 0)
        span_forget(span_now(model));
    put(&model->asked, 0);
    put(&model->bytes, 0);
    put(&model->writes, 0);
}

void reply_model_read(uint32_t number, size_t bytes, bool full, bool after_answer)
{
    struct reply_model *model = find(number);
    if (!model)
        return;
    if (!get(&model->watched_from))
        put(&model->watched_from, now_ms());
    /* A program that reads on before it answers takes away what a look before its write would see.
     * More, behind as much as the whole request before, is the next. */
    if (!after_answer && !get(&model->full) && get(&model->asked) &&
        get(&model->asked) == get(&model->last_asked))
        sent_ahead(model);
    /* What was on its way when the drain began is not known from its beginning. */
    if (after_answer && get(&model->writes) && get(&model->asked))
        learn(model);
    else if (after_answer)
        put(&model->asked, 0), put(&model->bytes, 0), put(&model->writes, 0);
    put(&model->asked, get(&model->asked) + (uint32_t)bytes);
    put(&model->full, full);
}

/* All requests are about as long: one kind of them. */
static bool asks_alike(const struct reply_model *model)
{
    uint32_t now = get(&model->asked), least = now, most = now;
    for (int i = 0; i < 2; i++) {
        const struct span *span = &model->span[i];
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
static bool is_a_turn(const struct reply_model *model, uint32_t bytes)
{
    uint32_t alike = 0;
    for (int i = 0; i < SIZES; i++)
        alike += get(&model->sizes[i]) == bytes;
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

static bool sends_much(const struct reply_model *model)
{
    return get(&model->asked) > MUCH || get(&model->span[0].most) > MUCH ||
           get(&model->span[1].most) > MUCH;
}

static bool goes_on(const struct reply_model *model)
{
    return now_ms() - get(&model->watched_from) >= GOES_ON_MS && !sends_much(model);
}

/* Of an answer of so many bytes in so many writes. */
static enum reply_model_sign sign_of(struct reply_model *model, uint32_t bytes, uint32_t writes)
{
    if (get(&model->full))
        return REPLY_NONE;
    if (get(&model->same) >= SAME_LEAST && get(&model->asked) == get(&model->last_asked) &&
        bytes == get(&model->last_bytes))
        return REPLY_SURE;
    if (goes_on(model) && times_of_kind(model, bytes) >= SAME_LEAST)
        return REPLY_SURE;
    bool is_likely = !is_slow(model) && get(&model->answers) >= ANSWERS_MANY &&
                     writes == most_writes(model) &&
                     (asks_alike(model) || !is_a_turn(model, bytes) || goes_on(model));
    return is_likely ? REPLY_LIKELY : REPLY_NONE;
}

enum reply_model_sign reply_model_expects(uint32_t number, size_t bytes)
{
    struct reply_model *model = find(number);
    return model ? sign_of(model, get(&model->bytes) + (uint32_t)bytes, get(&model->writes) + 1)
                 : REPLY_NONE;
}

enum reply_model_sign reply_model_wrote(uint32_t number, size_t bytes)
{
    struct reply_model *model = find(number);
    if (!model)
        return REPLY_NONE;
    uint32_t now = now_ms();
    if (get(&model->writes) && now - get(&model->wrote_at) > SLOW_MS)
        put(&span_now(model)->slow, 1);
    /* What came so far was as long as a whole one, and was none. */
    if (get(&model->writes) && times_of_kind(model, get(&model->bytes)))
        put(&kind_of(model, get(&model->asked), get(&model->bytes))->times, 0);
    put(&model->wrote_at, now);
    put(&model->wrote_on, 0);
    put(&model->writes, get(&model->writes) + 1);
    put(&model->bytes, get(&model->bytes) + (uint32_t)bytes);
    return sign_of(model, get(&model->bytes), get(&model->writes));
}

bool reply_model_waits_for_answers(uint32_t number)
{
    const struct reply_model *model = find(number);
    return model && get(&model->in_step) >= WAITS_LEAST;
}
