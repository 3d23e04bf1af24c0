/* SPDX-License-Identifier: MIT */
#include "rhythm.h"

#include "libc.h"
#include "sys.h"

#include <sys/mman.h>
#include <time.h>

#define SIZES 4             /* lengths of whole answers that are remembered */
#define ANSWERS_LEAST 3     /* whole answers before a length says anything */
#define SAME_WRITES_LEAST 8 /* and in a row, before their number of writes does */
#define SLOW_MS 20          /* between two writes of an answer: it is streamed */

struct rhythm {
    uint32_t bytes, sizes[SIZES]; /* of this answer; of those before it */
    uint32_t wrote_at;            /* coarse ms, of its last write */
    uint8_t writes, last_writes;  /* of this answer, of the one before */
    uint8_t answers, same_writes; /* whole ones; in a row with as many writes */
    bool overlaps, slow;
};

static struct rhythm *rhythms;
static uint32_t count;
_Atomic bool rhythm_notes;

void rhythm_begin(uint32_t limit)
{
    if (rhythms || !limit)
        return;
    long at = sys6(SYS_mmap, NULL, limit * sizeof *rhythms, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return; /* who never rests is cut at the timeout */
    rhythms = (struct rhythm *)at;
    count = limit;
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
    if (number < count)
        rhythms[number] = (struct rhythm){0};
}

static uint8_t one_more(uint8_t n)
{
    return n < UINT8_MAX ? n + 1 : n;
}

void rhythm_read(uint32_t number, bool after_answer)
{
    struct rhythm *rhythm = number < count ? &rhythms[number] : NULL;
    if (!rhythm || !after_answer || !rhythm->writes)
        return;
    rhythm->same_writes = rhythm->writes == rhythm->last_writes ? one_more(rhythm->same_writes) : 0;
    rhythm->last_writes = rhythm->writes;
    rhythm->sizes[rhythm->answers % SIZES] = rhythm->bytes;
    rhythm->answers = rhythm->answers == UINT8_MAX ? UINT8_MAX - SIZES + 1 : rhythm->answers + 1;
    rhythm->bytes = 0;
    rhythm->writes = 0;
}

bool rhythm_wrote(uint32_t number, size_t bytes, bool exact)
{
    struct rhythm *rhythm = number < count ? &rhythms[number] : NULL;
    if (!rhythm)
        return false;
    uint32_t now = now_ms();
    if (rhythm->writes && now - rhythm->wrote_at > SLOW_MS)
        rhythm->slow = true;
    rhythm->wrote_at = now;
    rhythm->writes = one_more(rhythm->writes);
    rhythm->bytes += (uint32_t)bytes;
    if (rhythm->overlaps || rhythm->answers < ANSWERS_LEAST)
        return false;
    for (int i = 0; i < SIZES && i < rhythm->answers; i++)
        if (rhythm->sizes[i] == rhythm->bytes)
            return true;
    return !exact && !rhythm->slow && rhythm->same_writes >= SAME_WRITES_LEAST &&
           rhythm->writes == rhythm->last_writes;
}

void rhythm_overlaps(uint32_t number)
{
    if (number < count)
        rhythms[number].overlaps = true;
}

bool rhythm_waits_for_answers(uint32_t number)
{
    return number < count && !rhythms[number].overlaps && rhythms[number].answers >= ANSWERS_LEAST;
}
