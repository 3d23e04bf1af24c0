/* SPDX-License-Identifier: MIT */
#include "http/http_cache.h"

#define BLOCK 32
#define LENGTH_LEAST BLOCK /* of a head: shorter ones are looked at as fast */
#define LENGTH_MOST 512
#define ENTRY_BITS 6

/* One in so many heads that are not known is learnt, so that heads which never come again cost
 * little more than a look. */
#ifndef HTTP_CACHE_LEARNS_EACH
#define HTTP_CACHE_LEARNS_EACH 4
#endif

typedef unsigned __int128 sum_t;

/* The first word tells most others of the entry's place apart; the next two are the fingerprint,
 * each mixed with the last. */
struct entry {
    _Atomic uint64_t sample, low, high, head;
} __attribute__((aligned(32)));

LATE static struct entry entries[2][1 << ENTRY_BITS];
LATE static uint64_t key[(LENGTH_MOST + BLOCK) / sizeof(uint64_t)];
static _Atomic bool learns;
static __thread uint8_t turn;

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t word_at(const char *p)
{
    uint64_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return word;
}

static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9); /* Stafford's "Mix13" */
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

void http_cache_begin(const unsigned char seed[16])
{
    uint64_t from[2];
    __builtin_memcpy(from, seed, sizeof from);
    for (uint64_t i = 0; i < COUNT_OF(key); i++)
        key[i] = mixed(mixed(from[0] + i) ^ from[1]);
    atomic_store_explicit(&learns, true, memory_order_release);
}

/* The part of a block. */
INLINE sum_t fingerprint_of(const char *p, const uint64_t *k)
{
    return (sum_t)(word_at(p) + k[0]) * (word_at(p + 8) + k[1]) +
           (sum_t)(word_at(p + 16) + k[2]) * (word_at(p + 24) + k[3]);
}

/* BLOCK bytes at least; the last block begins so that it ends where they do. */
HOT static sum_t fingerprint(const char *p, size_t n)
{
    const char *last = p + n - BLOCK;
    const uint64_t *k = key;
    sum_t sum = 0;
    for (; p < last; p += BLOCK, k += BLOCK / sizeof *k)
        sum += fingerprint_of(p, k);
    return sum + fingerprint_of(last, k);
}

/* Some bytes that differ from head to head: of a target, of what stands amid an answer's head. */
static uint64_t sample_of(bool is_answer, const char *p, size_t n)
{
    size_t middle = (n < 256 ? n : 256) / 2;
    return (word_at(p + (is_answer ? middle : 4)) + n) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct entry *entry_of(bool is_answer, uint64_t sample)
{
    return &entries[is_answer][sample >> (64 - ENTRY_BITS)];
}

/* The word with which a fingerprint's upper half is mixed. */
static uint64_t turned(uint64_t head)
{
    return head << 32 | head >> 32;
}

HOT union http_head http_cache_find(bool is_answer, const char *bytes, size_t n)
{
    const union http_head none = {.all = 0};
    if (n < LENGTH_LEAST || !atomic_load_explicit(&learns, memory_order_acquire))
        return none;
    uint64_t sample = sample_of(is_answer, bytes, n);
    const struct entry *entry = entry_of(is_answer, sample);
    union http_head head = {.all = get(&entry->head)};
    if (get(&entry->sample) != sample || !head.all || head.length > n)
        return none;
    sum_t sum = fingerprint(bytes, head.length);
    bool same = (get(&entry->low) ^ head.all) == (uint64_t)sum &&
                (get(&entry->high) ^ turned(head.all)) == (uint64_t)(sum >> 64);
    return same ? head : none;
}

void http_cache_learn(bool is_answer, const char *bytes, size_t n, union http_head head)
{
    if (head.length < LENGTH_LEAST || head.length > LENGTH_MOST ||
        !atomic_load_explicit(&learns, memory_order_acquire) || ++turn % HTTP_CACHE_LEARNS_EACH)
        return;
    uint64_t sample = sample_of(is_answer, bytes, n);
    sum_t sum = fingerprint(bytes, head.length);
    struct entry *entry = entry_of(is_answer, sample);
    put(&entry->head, head.all);
    put(&entry->low, (uint64_t)sum ^ head.all);
    put(&entry->high, (uint64_t)(sum >> 64) ^ turned(head.all));
    put(&entry->sample, sample);
}
