/* SPDX-License-Identifier: MIT */
#include "tree/sd_notify.h"

#include "tree/coordinator.h"
#include "base/sys.h"
#include "tree/membership.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
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

/* Sends a message, with a descriptor (-1: none). -EAGAIN: the queue is full, and has room again in
 * a moment. */
static long send_message(const char *at, size_t length, int passed)
{
    struct iovec part = {(char *)at, length};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof passed)];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof passed),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {
        .msg_name = &manager, .msg_namelen = manager_len, .msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        *(int *)CMSG_DATA(&control.head) = passed;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    long fd = sys_move_up(sys3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd < 0)
        return fd;
    long sent = sys3(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    sys1(SYS_close, fd);
    return sent;
}

/* False: the queue is full. */
static bool notify(const struct text *text)
{
    return send_message(text->at, text->used, -1) != -EAGAIN;
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

/* What the store is asked by. */
static struct {
    int probe, barrier; /* our ends + 1; 0: there is none */
    int64_t until;
} asked;

void sd_notify_forked(void)
{
    told.due = 0;
    asked.probe = asked.barrier = 0;
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

/* ---- the descriptor store ---- */

/* sd_notify(3): FDSTOREREMOVE=1 removes all of that name. */
#define NAMED "\nFDNAME=" SD_NOTIFY_STORED

bool sd_notify_has_manager(void)
{
    return manager_len && !sys_is_sandboxed();
}

long sd_notify_store(int fd)
{
    static const char message[] = "FDSTORE=1" NAMED;
    return send_message(message, sizeof message - 1, fd);
}

void sd_notify_empties_store(void)
{
    static const char message[] = "FDSTOREREMOVE=1" NAMED;
    if (sd_notify_has_manager())
        send_message(message, sizeof message - 1, -1);
}

/* Sends the other end of a pipe. Returns our end, or -errno. */
static long send_pipe(const char *message)
{
    int ends[2];
    long made = sys_pipe(ends);
    if (made < 0)
        return made;
    long sent = send_message(message, text_length(message), ends[1]);
    sys1(SYS_close, ends[1]);
    if (sent < 0)
        sys1(SYS_close, ends[0]);
    return sent < 0 ? sent : ends[0];
}

static bool is_hung_up(int fd)
{
    struct pollfd one = {fd, 0, 0};
    struct timespec now = {0, 0};
    return sys5(SYS_ppoll, &one, 1, &now, NULL, 8) > 0;
}

static void end_of(int *fd)
{
    if (*fd)
        sys1(SYS_close, *fd - 1);
    *fd = 0;
}

enum store_answer sd_notify_ask_store(int64_t now)
{
    if (!asked.probe) {
        long fd = send_pipe("FDSTORE=1" NAMED);
        if (fd < 0)
            return fd == -EAGAIN ? STORE_SILENT : STORE_REFUSES;
        asked.probe = (int)fd + 1;
        asked.until = now + STORE_ANSWER_MS;
    }
    if (!asked.barrier) {
        long fd = send_pipe("BARRIER=1");
        asked.barrier = fd < 0 ? 0 : (int)fd + 1;
    }
    bool refuses = is_hung_up(asked.probe - 1);
    if (!refuses && now < asked.until && !(asked.barrier && is_hung_up(asked.barrier - 1)))
        return STORE_SILENT;
    refuses = is_hung_up(asked.probe - 1); /* as it is behind the barrier */
    end_of(&asked.probe);
    end_of(&asked.barrier);
    return refuses ? STORE_REFUSES : STORE_HAS_THEM;
}
