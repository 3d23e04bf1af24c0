/* SPDX-License-Identifier: MIT */
#include "tree/sd_notify.h"

#include "tree/coordinator.h"
#include "base/sys.h"
#include "tree/membership.h"

#include <errno.h>
#include <sys/un.h>

#define EVERY_MS 5000 /* as the log's lines of progress */
#define AGAIN_MS 100  /* the service manager's queue was full */

/*
 * How long after the drain the program may take for its own end. With a service manager that counts
 * from the signal on it had the whole of TimeoutStopSec, which nothing tells us.
 */
#define PROGRAM_ENDS_MS 10000

static struct sockaddr_un manager = {AF_UNIX, ""};
static socklen_t manager_len; /* 0: there is none */

void sd_notify_remember(const char *value)
{
    size_t length = text_length(value);
    /* vsock: (systemd 254) is for a whole machine. */
    if ((*value != '/' && *value != '@') || length < 2 || length >= sizeof manager.sun_path)
        return;
    for (size_t i = 0; i < length; i++)
        manager.sun_path[i] = value[i];
    /* unix(7): an abstract name begins with a NUL and ends with its length. */
    if (*value == '@')
        manager.sun_path[0] = '\0';
    manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*value == '/'));
}

static bool is_heard(void)
{
    return manager_len && !sys_is_sandboxed() && coordinator_is_here();
}

/* False: the queue is full, and has room again in a moment. */
static bool notify(const struct text *text)
{
    long fd = sys3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true;
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    long sent = sys6(SYS_sendto, fd, text->at, text->used, flags, &manager, manager_len);
    sys1(SYS_close, fd);
    return sent != -EAGAIN;
}

/* Within this time the manager hears of us again, or the service may be killed. */
static void ask_for_time(struct text *text, int64_t ms)
{
    struct drain_terms terms;
    coordinator_terms(&terms);
    if (!terms.timeout)
        return;
    text_add(text, "\nEXTEND_TIMEOUT_USEC=%lu", (uint64_t)ms * 1000);
}

/* What the last message was about. */
static struct {
    bool stopping;
    uint32_t phase;
    int64_t due; /* the next */
} told;

void sd_notify_forked(void)
{
    told.due = 0;
}

static void say_progress(struct text *text, int64_t now)
{
    struct totals totals;
    const struct page *page = tree_page;
    struct drain_terms terms;
    coordinator_terms(&terms);
    int64_t since = terms.since, timeout = terms.timeout;
    int64_t left = since + timeout > now ? since + timeout - now : 0;

    membership_totals(&totals);
    text_string(text, "STATUS=Weir: ");
    if (atomic_load(&page->phase) == PHASE_DELAYING) {
        int64_t delay = since + page->settings.delay - now;
        text_add(text, "accepts for %lus more, then drains",
                 (uint64_t)(delay > 0 ? delay + 999 : 0) / 1000);
    } else {
        text_string(text, "draining");
    }
    if (totals.tracked > totals.in_use)
        text_add(text, ", %lu idle", totals.tracked - totals.in_use);
    text_add(text, ", %lu in use", totals.in_use);
    if (!timeout)
        return;
    text_add(text, ", %lus left", (uint64_t)(left + 999) / 1000);
    ask_for_time(text, left + PROGRAM_ENDS_MS);
}

int64_t sd_notify_step(int64_t now, bool stopping)
{
    if (!manager_len || !coordinator_tree_drains() || coordinator_tree_is_drained())
        return -1;
    uint32_t phase = atomic_load(&tree_page->phase);
    if (now < told.due && stopping == told.stopping && phase == told.phase)
        return told.due - now;
    told.stopping = stopping;
    told.phase = phase;
    told.due = now + EVERY_MS;
    if (!is_heard())
        return told.due - now;

    char buffer[256];
    struct text text = TEXT_ON(buffer);
    say_progress(&text, now);
    if (!notify(&text))
        told.due = now + AGAIN_MS;
    return told.due - now;
}

void sd_notify_end(const char *what)
{
    char buffer[512];
    struct text text = TEXT_ON(buffer);
    if (!is_heard())
        return;
    text_add(&text, "STATUS=Weir: %s", what);
    ask_for_time(&text, PROGRAM_ENDS_MS);
    notify(&text);
}
