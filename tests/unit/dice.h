/* SPDX-License-Identifier: MIT */
/*
 * dice.h - what is said in a talk at random: it comes from a seed, or, where a fuzzer has it
 * (tests/fuzz), from an input, and from a seed behind its end.
 */
#ifndef WEIR_DICE_H
#define WEIR_DICE_H

#include <stddef.h>
#include <stdint.h>

static uint64_t dice;
static const uint8_t *dice_input;
static size_t dice_left;

static inline void dice_take(const uint8_t *input, size_t size)
{
    dice = size + 1;
    dice_input = input;
    dice_left = size;
}

/* Below `most`. (xorshift64*, Vigna) */
static inline uint32_t roll(uint32_t most)
{
    size_t n = most <= 256 ? 1 : 2;
    if (dice_left >= n) {
        uint32_t value = *dice_input++;
        if (n == 2)
            value = value << 8 | *dice_input++;
        dice_left -= n;
        return value % most;
    }
    dice ^= dice >> 12;
    dice ^= dice << 25;
    dice ^= dice >> 27;
    return (uint32_t)((dice * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % most;
}

#endif
