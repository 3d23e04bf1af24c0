/* SPDX-License-Identifier: MIT */
/* tracker_steps.h - talks by hand with a tracker, step by step, cut anywhere. */
#ifndef WEIR_TRACKER_STEPS_H
#define WEIR_TRACKER_STEPS_H

#include "tracker_talk.h"

struct talk_step {
    char kind; /* > read, < written, w written unseen; 0: no more */
    const char *bytes;
    size_t n;
    int want; /* what the tracker says then */
};

/* clang-format off */
#define ASK(bytes, want) {'>', bytes, sizeof(bytes) - 1, want}
#define SAYS(bytes, want) {'<', bytes, sizeof(bytes) - 1, want}
#define UNSEEN(n, want) {'w', NULL, n, want}
/* clang-format on */

/* Its bytes in two pieces, where there are more than `cut`. */
static inline void take_step(struct tracker *http, const struct talk_step *step, size_t cut)
{
    size_t first = step->bytes && cut < step->n ? cut : 0;
    bool is_read = step->kind == '>';
    if (first)
        (is_read ? receive : answer)(http, step->bytes, first);
    if (step->bytes)
        (is_read ? receive : answer)(http, step->bytes + first, step->n - first);
    else
        bytes_sent(http, NULL, step->n);
}

#endif
