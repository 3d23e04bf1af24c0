/* SPDX-License-Identifier: MIT */
#include "http/head_cache.h"

LATE struct head_entry head_cache[2][1 << HEAD_CACHE_BITS];
__thread uint8_t head_cache_turns[2];

static void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void put_block(struct head_block *block, const char *p)
{
    for (size_t i = 0; i < COUNT_OF(block->word); i++)
        put(&block->word[i], head_cache_word(p + i * sizeof(uint64_t)));
}

void head_cache_learn(bool is_answer, const char *bytes, size_t n, size_t length,
                      struct head_end after)
{
    if (length < HEAD_BLOCK || length > HEAD_MOST)
        return;
    uint64_t sample = head_cache_sample(is_answer, bytes, n);
    struct head_entry *entry = head_cache_entry(is_answer, sample);
    uint32_t before = atomic_load_explicit(&entry->version, memory_order_relaxed);
    if (before % 2 || !atomic_compare_exchange_strong(&entry->version, &before, before + 1))
        return; /* another writes it, or did so when a signal or a fork came between */
    atomic_thread_fence(memory_order_release);
    const char *last = bytes + length - HEAD_BLOCK;
    put(&entry->sample, sample);
    put(&entry->n, n);
    put(&entry->last_at, length - HEAD_BLOCK);
    put(&entry->left, after.left);
    put(&entry->mark, after.mark.all);
    put_block(&entry->last, last);
    for (struct head_block *block = entry->block; bytes < last; bytes += HEAD_BLOCK, block++)
        put_block(block, bytes);
    atomic_store_explicit(&entry->version, before + 2, memory_order_release);
}
