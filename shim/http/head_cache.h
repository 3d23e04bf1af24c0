/* SPDX-License-Identifier: MIT */
/*
 * head_cache.h - heads that were looked at before, and what a look at them came to.
 *
 * Under a load that makes a look at each head cost something, heads come again and again: a client
 * asks for the same with the same, and all answers of a second bear the same date. Comparing such a
 * head, byte for byte, costs a tenth of a look. A head is kept until another takes its place, in
 * memory that is no less the program's own than its buffers are.
 *
 * Any thread may look and learn at any time. An entry's turn is odd while one writes it, and
 * another afterwards: what is read of it counts where the turn was even before and is the same
 * then. Nobody waits: a thread that would have to does without.
 */
#ifndef WEIR_HEAD_CACHE_H
#define WEIR_HEAD_CACHE_H

#include "base/common.h"

#define HTTP_BLOCK 32 /* bytes that are compared at once; a shorter head is looked at as fast */
#define HTTP_HEAD_MOST 512
#define HTTP_CACHE_BITS 5

/* What a look at a head has come to, where it begins a message and is whole. */
struct http_head {
    size_t length; /* bytes, of the head itself; 0: it is not known */
    uint64_t left; /* bytes of the body that follows it */
    uint64_t mark; /* of the side when all of these have come; its count: how many are whole then */
};

struct http_block {
    _Atomic uint64_t word[HTTP_BLOCK / sizeof(uint64_t)];
} __attribute__((aligned(HTTP_BLOCK)));

extern HIDDEN struct http_entry {
    _Atomic uint64_t sample, length, left, mark;
    _Atomic uint32_t turn;
    struct http_block last; /* the head's last bytes; some of them may be in the others, too */
    struct http_block block[HTTP_HEAD_MOST / HTTP_BLOCK - 1];
} __attribute__((aligned(CACHE_LINE))) http_cache[2][1 << HTTP_CACHE_BITS];

/* One in so many heads that are not known is learnt, so that heads which never come again cost
 * little more than a look. */
#ifndef HTTP_CACHE_LEARNS_EACH
#define HTTP_CACHE_LEARNS_EACH 16
#endif

extern HIDDEN __thread uint8_t http_cache_turns[2];

INLINE bool http_cache_learns(bool is_answer)
{
    return ++http_cache_turns[is_answer] % HTTP_CACHE_LEARNS_EACH == 0;
}

/* These bytes begin with this head, which a look at all of it has shown. */
void http_cache_learn(bool is_answer, const char *bytes, size_t n, struct http_head head);

INLINE uint64_t http_cache_word(const char *p)
{
    uint64_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return word;
}

/* Some bytes that differ from head to head: of a target, of what stands amid an answer's head. */
INLINE uint64_t http_cache_sample(bool is_answer, const char *p, size_t n)
{
    size_t at = is_answer ? (n < 256 ? n : 256) / 2 : 4;
    return (http_cache_word(p + at) + n) * UINT64_C(0x9e3779b97f4a7c15);
}

INLINE struct http_entry *http_cache_entry(bool is_answer, uint64_t sample)
{
    return &http_cache[is_answer][sample >> (64 - HTTP_CACHE_BITS)];
}

/* What is the same so far: nothing but ones, where all is. */
#if defined(__SSE2__) && !defined(HTTP_PLAIN)
typedef char http_same_t __attribute__((vector_size(16), may_alias));
typedef http_same_t http_loose_t __attribute__((aligned(1)));

INLINE http_same_t http_cache_same(const struct http_block *block, const char *p)
{
    const http_same_t *q = (const http_same_t *)block;
    return (((const http_loose_t *)p)[0] == q[0]) & (((const http_loose_t *)p)[1] == q[1]);
}

INLINE bool http_cache_all(http_same_t same)
{
    return __builtin_ia32_pmovmskb128(same) == 0xffff;
}
#else
typedef uint64_t http_same_t;

INLINE http_same_t http_cache_same(const struct http_block *block, const char *p)
{
    uint64_t differs = 0;
    for (size_t i = 0; i < COUNT_OF(block->word); i++)
        differs |= http_cache_word(p + i * sizeof(uint64_t)) ^
                   atomic_load_explicit(&block->word[i], memory_order_relaxed);
    return ~differs;
}

INLINE bool http_cache_all(http_same_t same)
{
    return !~same;
}
#endif

INLINE bool http_cache_is_same(const struct http_entry *entry, const char *p, size_t n)
{
    size_t last = n - HTTP_BLOCK;
    http_same_t same = http_cache_same(&entry->last, p + last);
    const char *blocks = (const char *)entry->block;
    for (size_t at = 0; at < last; at += HTTP_BLOCK)
        same &= http_cache_same((const struct http_block *)(blocks + at), p + at);
    return http_cache_all(same);
}

/* The head with which these bytes begin, where it has been learnt. */
INLINE struct http_head http_cache_find(bool is_answer, const char *bytes, size_t n)
{
    const struct http_head none = {.length = 0};
    if (n < HTTP_BLOCK)
        return none;
    uint64_t sample = http_cache_sample(is_answer, bytes, n);
    const struct http_entry *entry = http_cache_entry(is_answer, sample);
    __asm__("" : "+r"(entry)); /* one register */
    uint32_t turn = atomic_load_explicit(&entry->turn, memory_order_acquire);
    if (atomic_load_explicit(&entry->sample, memory_order_relaxed) != sample)
        return none;
    struct http_head head = {.length = atomic_load_explicit(&entry->length, memory_order_relaxed)};
    if (head.length - HTTP_BLOCK > n - HTTP_BLOCK || /* also where there is none yet */
        !http_cache_is_same(entry, bytes, head.length))
        return none;
    head.left = atomic_load_explicit(&entry->left, memory_order_relaxed);
    head.mark = atomic_load_explicit(&entry->mark, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&entry->turn, memory_order_relaxed) == (turn & ~1u) ? head : none;
}

#endif
