/* SPDX-License-Identifier: MIT */
#include "http/parser.h"
#include "http/close_header.h"

#define ALIVE "keep-alive"
#define LENGTH_OF(literal) (sizeof(literal) - 1)

/* What is written that the program has not: union mark's text says how much of which is out. */
static const char inserted[] = "Connection: close\r\n";
static const char replaced[] = "close     ";
_Static_assert(LENGTH_OF(replaced) == LENGTH_OF(ALIVE), "as long");

enum {
    INSERTS = 1,   /* and so many bytes more are out */
    REPLACES = 64, /* the same */
    TEXTS = 128,
};
_Static_assert(INSERTS + sizeof inserted <= REPLACES && REPLACES + sizeof replaced <= TEXTS, "fit");

static bool inserts(const struct scan *scan)
{
    return scan->mark.text >= INSERTS && scan->mark.text < REPLACES;
}

/* The rest of the text that is partly out. */
static struct iovec rest_of(const struct scan *scan)
{
    size_t out = scan->mark.text - (inserts(scan) ? INSERTS : REPLACES);
    if (inserts(scan))
        return (struct iovec){(char *)inserted + out, LENGTH_OF(inserted) - out};
    return (struct iovec){(char *)replaced + out, LENGTH_OF(replaced) - out};
}

/* So many bytes of it more are out. A list goes on as if the keep-alive had not been there. */
static void say(struct scan *scan, size_t n)
{
    bool is_whole = n == rest_of(scan).iov_len;
    scan->mark.text = (uint8_t)(is_whole ? 0 : scan->mark.text + n);
    if (is_whole)
        scan->mark.flags |= CLOSES | NOTICED;
}

/* Whether the answer is one whose head tells the client to send no more. */
static bool tells(const struct scan *scan)
{
    union mark requests = scan->other;
    bool is_reading_head = requests.at >= METHOD && requests.at <= HEAD_LF;
    return scan->mark.what >= 200 && !parser_begins_tunnel(scan) && requests.at != NOT &&
           (uint8_t)(requests.count - scan->mark.count) == 1 &&
           (!is_reading_head || requests.flags & TRAILER);
}

/* Whether what begins at p is a keep-alive, and all of its element. */
static bool is_alive(const char *p, const char *end)
{
    for (size_t i = 0; i < LENGTH_OF(ALIVE); i++, p++) {
        bool is_capital = p < end && *p >= 'A' && *p <= 'Z';
        if (p == end || (is_capital ? *p + 'a' - 'A' : *p) != ALIVE[i])
            return false;
    }
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p < end && (*p == ',' || *p == '\r');
}

/* The look pauses before p: the text that is said there, or 0. */
static uint8_t text_at(const struct scan *scan, const char *p, const char *end)
{
    if (scan->mark.flags & TRAILER || !tells(scan))
        return 0;
    if (scan->mark.at == LIST)
        return is_alive(p, end) ? REPLACES : 0;
    return scan->mark.flags & CLOSES ? 0 : INSERTS;
}

/* False: there is no room. */
static bool add(struct rewrite *plan, const void *bytes, size_t n, bool is_own)
{
    if (n == 0)
        return true;
    if (plan->count == REWRITE_PIECES)
        return false;
    plan->piece[plan->count++] = (struct iovec){(void *)bytes, n};
    plan->own += is_own ? n : 0;
    return true;
}

/* What goes out instead of these bytes. False: the pieces have run out. */
static bool plan_buffer(struct scan *scan, const char *p, const char *end, struct rewrite *plan)
{
    const char *from = p;
    while (p < end) {
        if (scan->mark.text) {
            struct iovec rest = rest_of(scan);
            size_t n = rest.iov_len, room = (size_t)(end - p);
            if (!inserts(scan) && n > room)
                n = room;
            if (!add(plan, from, (size_t)(p - from), true) ||
                !add(plan, rest.iov_base, n, !inserts(scan)))
                return false;
            p += inserts(scan) ? 0 : n;
            from = p;
            plan->same = false;
            say(scan, n);
            continue;
        }
        p = parser_run(scan, p, end);
        if (p < end)
            scan->mark.text = text_at(scan, p, end);
        scan->paused = p;
    }
    return add(plan, from, (size_t)(p - from), true);
}

void close_header_plan(const struct tracker *http, const struct iovec *iov, size_t count,
                       struct rewrite *plan)
{
    struct scan scan;
    tracker_scan(&scan, http, true);
    scan.pauses = true;
    plan->count = 0;
    plan->own = 0;
    plan->same = true;
    for (size_t i = 0; i < count; i++) {
        const char *bytes = iov[i].iov_base;
        scan.paused = NULL; /* the same buffer may come twice */
        if (iov[i].iov_len && !plan_buffer(&scan, bytes, bytes + iov[i].iov_len, plan)) {
            plan->same = false;
            return;
        }
    }
}

/* The text that a piece is of: its first byte's INSERTS or REPLACES, or 0 where it is none. */
static uint8_t text_of(const char *piece)
{
    uintptr_t at = (uintptr_t)piece;
    if (at - (uintptr_t)inserted < LENGTH_OF(inserted))
        return (uint8_t)(INSERTS + (at - (uintptr_t)inserted));
    if (at - (uintptr_t)replaced < LENGTH_OF(replaced))
        return (uint8_t)(REPLACES + (at - (uintptr_t)replaced));
    return 0;
}

size_t close_header_took(struct tracker *http, const struct rewrite *plan, size_t taken)
{
    struct scan scan;
    tracker_scan(&scan, http, true);
    scan.streams = &http->streams;
    size_t own = 0;
    for (int i = 0; i < plan->count && taken; i++) {
        const char *bytes = plan->piece[i].iov_base;
        size_t n = taken < plan->piece[i].iov_len ? taken : plan->piece[i].iov_len;
        uint8_t text = text_of(bytes);
        if (text) {
            scan.mark.text = text;
            own += inserts(&scan) ? 0 : n;
            say(&scan, n);
        } else {
            parser_run(&scan, bytes, bytes + n);
            own += n;
        }
        taken -= n;
    }
    tracker_keep(http, &scan);
    return own;
}

bool close_header_is_pending(const struct tracker *http)
{
    struct scan scan;
    tracker_scan(&scan, http, true);
    return scan.mark.text;
}
