/* SPDX-License-Identifier: MIT */
#include "framing.h"

#include "sys.h"

#include <sys/mman.h>

static struct http *_Atomic room;
static _Atomic uint32_t count;

void framing_begin(uint32_t limit)
{
    if (atomic_load(&room) || !limit)
        return;
    long at = sys6(SYS_mmap, NULL, limit * sizeof(struct http), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return; /* then all is as in mode reply */
    atomic_store(&count, limit);
    atomic_store(&room, (struct http *)at);
}

struct http *framing_of(uint32_t number)
{
    struct http *at = atomic_load_explicit(&room, memory_order_acquire);
    return at && number < atomic_load_explicit(&count, memory_order_relaxed) ? &at[number] : NULL;
}

void framing_forget(uint32_t number)
{
    struct http *http = framing_of(number);
    if (http)
        http_begin(http);
}

typedef void tell_fn(struct http *http, const char *bytes, size_t n);

static void each(struct http *http, struct bytes bytes, size_t n, tell_fn *tell)
{
    if (!bytes.iov)
        tell(http, NULL, n);
    for (size_t i = 0; bytes.iov && i < bytes.count && n; i++) {
        size_t part = bytes.iov[i].iov_len < n ? bytes.iov[i].iov_len : n;
        if (part)
            tell(http, bytes.iov[i].iov_base, part);
        n -= part;
    }
}

void framing_received(struct http *http, struct bytes bytes, size_t n)
{
    each(http, bytes, n, http_received);
}

void framing_sent(struct http *http, struct bytes bytes, size_t n)
{
    each(http, bytes, n, http_sent);
}

bool framing_would_rest(const struct http *http, struct bytes bytes, size_t n)
{
    if (http_state(http) != HTTP_IN_USE)
        return false;
    struct http then = *http;
    framing_sent(&then, bytes, n);
    return http_state(&then) == HTTP_IDLE;
}
