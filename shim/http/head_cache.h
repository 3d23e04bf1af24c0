/* SPDX-License-Identifier: MIT */
/*
 * head_cache.h - heads that were looked at before, and what a look at them came to.
 *
 * Heads come again: a client asks for the same with the same, and all answers of a second bear the
 * same date. Comparing such a head, byte for byte, costs a third of a look. A head is kept, with
 * how many bytes the call had, until another takes its place, in memory that is no less the
 * program's own than its buffers are.
 *
 * Any thread may look and learn at any time. An entry's version is odd while one writes it, and
 * another afterwards: what is read of it counts where the version was even before and is the same
 * then. Nobody waits: a thread that would have to does without.
 */
#ifndef WEIR_HEAD_CACHE_H
#define WEIR_HEAD_CACHE_H

#include "base/common.h"
#include "http/parser.h"

#define HEAD_BLOCK 32 /* bytes that are compared at once; a shorter head is looked at as fast */
#define HEAD_MOST 512
#define HEAD_CACHE_BITS 5

struct head_block {
    _Atomic uint64_t word[HEAD_BLOCK / sizeof(uint64_t)];
} __attribute__((aligned(HEAD_BLOCK)));

extern HIDDEN struct head_entry {
    _Atomic uint64_t sample, n; /* of the bytes with which it came */
    _Atomic uint64_t last_at;
    _Atomic uint64_t left, mark; /* the side's then, as of its first message */
    _Atomic uint32_t version;
    struct head_block last; /* the head's last bytes; some of them may be in the others, too */
    struct head_block block[HEAD_MOST / HEAD_BLOCK - 1];
} __attribute__((aligned(CACHE_LINE))) head_cache[2][1 << HEAD_CACHE_BITS];

/* One in so many heads that are not known is learnt, so that heads which never come again cost
 * little more than a look. */
#ifndef HEAD_CACHE_LEARNS_EACH
#define HEAD_CACHE_LEARNS_EACH 16
#endif

extern HIDDEN __thread uint8_t head_cache_turns[2];

INLINE bool head_cache_is_turn(bool is_answer)
{
    return ++head_cache_turns[is_answer] % HEAD_CACHE_LEARNS_EACH == 0;
}

/* Keeps a head of this length, with which n bytes begin that have come to this end. */
void head_cache_learn(bool is_answer, const char *bytes, size_t n, size_t length,
                      struct head_end after);

INLINE uint64_t head_cache_word(const char *p)
{
    uint64_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return word;
}

/* Some bytes that differ from head to head: of a target, of what stands amid an answer's head. */
INLINE uint64_t head_cache_sample(bool is_answer, const char *p, size_t n)
{
    size_t at = is_answer ? (n < 256 ? n : 256) / 2 : 4;
    return (head_cache_word(p + at) + n) * UINT64_C(0x9e3779b97f4a7c15);
}

INLINE struct head_entry *head_cache_entry(bool is_answer, uint64_t sample)
{
    return &head_cache[is_answer][sample >> (64 - HEAD_CACHE_BITS)];
}

/* What is the same so far: nothing but ones, where all is. */
#if defined(__SSE2__) && !defined(PARSER_PLAIN)
typedef char head_same_t __attribute__((vector_size(16), may_alias));
typedef head_same_t head_loose_t __attribute__((aligned(1)));

INLINE head_same_t head_cache_same(const struct head_block *block, const char *p)
{
    const head_same_t *q = (const head_same_t *)block;
    return (((const head_loose_t *)p)[0] == q[0]) & (((const head_loose_t *)p)[1] == q[1]);
}

INLINE bool head_cache_all(head_same_t same)
{
    return __builtin_ia32_pmovmskb128(same) == 0xffff;
}
#else
typedef uint64_t head_same_t;

INLINE head_same_t head_cache_same(const struct head_block *block, const char *p)
{
    uint64_t differs = 0;
    for (size_t i = 0; i < COUNT_OF(block->word); i++)
        differs |= head_cache_word(p + i * sizeof(uint64_t)) ^
                   atomic_load_explicit(&block->word[i], memory_order_relaxed);
    return ~differs;
}

INLINE bool head_cache_all(head_same_t same)
{
    return !~same;
}
#endif

INLINE bool head_cache_is_same(const struct head_entry *entry, const char *p, size_t last_at)
{
    head_same_t same = head_cache_same(&entry->last, p + last_at);
    const char *blocks = (const char *)entry->block;
    for (size_t at = 0; at < last_at; at += HEAD_BLOCK)
        same &= head_cache_same((const struct head_block *)(blocks + at), p + at);
    return head_cache_all(same);
}

/* Finds what these bytes come to, where they begin with a head that has been learnt, of as many. */
INLINE bool head_cache_find(bool is_answer, const char *bytes, size_t n, struct head_end *after)
{
    if (n < HEAD_BLOCK)
        return false;
    uint64_t sample = head_cache_sample(is_answer, bytes, n);
    const struct head_entry *entry = head_cache_entry(is_answer, sample);
    __asm__("" : "+r"(entry)); /* one register */
    uint32_t version = atomic_load_explicit(&entry->version, memory_order_acquire);
    if (atomic_load_explicit(&entry->sample, memory_order_relaxed) != sample ||
        atomic_load_explicit(&entry->n, memory_order_relaxed) != n)
        return false;
    /* While another is written these two may be of different ones: never beyond the bytes. */
    uint64_t last_at = atomic_load_explicit(&entry->last_at, memory_order_relaxed);
    if (UNLIKELY(last_at > n - HEAD_BLOCK) || !head_cache_is_same(entry, bytes, last_at))
        return false;
    after->left = atomic_load_explicit(&entry->left, memory_order_relaxed);
    after->mark.all = atomic_load_explicit(&entry->mark, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&entry->version, memory_order_relaxed) == (version & ~1u);
}

#endif
