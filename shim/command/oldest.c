/* SPDX-License-Identifier: MIT */
#include "command/oldest.h"

#include "command/proc/budget.h"
#include "command/proc/memory.h"
#include "command/say.h"
#include "base/text.h"

#include <inttypes.h>
#include <sys/un.h>

static int32_t any_process(struct tree *tree)
{
    int32_t pid = tree_first(tree);
    for (uint32_t i = 0; !pid && i < PAGE_LINES; i++)
        pid = tree_process(tree, i);
    return pid;
}

/* Finds out which entries' connections are open: some process holds a socket with this identity. */
static void find_open(const struct page *page, int32_t pid, uint32_t uid,
                      const struct sockets *sockets, bool open[PAGE_GAPS])
{
    if (!sockets->is_known) {
        struct budget *budget = budget_of(uid);
        int64_t began = now_ms();
        if (budget->time_ms > 0)
            proc_open_gaps(page->gap, PAGE_GAPS, pid, began, open);
        budget->time_ms -= now_ms() - began;
        return;
    }
    for (uint32_t i = 0; i < PAGE_GAPS; i++) {
        uint64_t entry = page->gap[i];
        if (!entry || entry & (GAP_ADOPTED | GAP_UNIX))
            proc_open_gaps(&page->gap[i], 1, pid, now_ms(), &open[i]);
        else
            open[i] = sockets_have(sockets, (uint32_t)(entry >> 32));
    }
}

void add_handed_on(struct view *view, struct tree *tree, struct sockets *sockets)
{
    int32_t pid = tree->page.gap_used ? any_process(tree) : 0;
    if (!pid)
        return;
    bool open[PAGE_GAPS] = {false};
    sockets_read(sockets, pid);
    find_open(&tree->page, pid, tree->uid, sockets, open);
    for (uint32_t i = 0; i < PAGE_GAPS; i++) {
        if (open[i]) {
            view->totals.tracked++;
            view->totals.in_use++;
            view->totals.closed_by_program--; /* who handed it on has counted a close */
        }
    }
}

/* The inode of a socket that a process holds. 0: it is none. */
static uint64_t socket_of(int32_t pid, int32_t fd)
{
    char path[64], target[64];
    uint64_t inode;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length <= 0)
        return 0;
    target[length] = '\0';
    return sscanf(target, "socket:[%" SCNu64, &inode) == 1 ? inode : 0;
}

static void describe(struct view_connection *connection, const struct socket *socket)
{
    struct text text = TEXT_ON(connection->peer);
    *connection->peer = '\0';
    if (!socket) {
        text_string(&text, "?");
        return;
    }
    connection->in_use_ms = socket->quiet_ms;
    if (socket->path) {
        text_string(&text, "unix:");
        text_escaped(&text, socket->path, sizeof(((struct sockaddr_un *)0)->sun_path));
    } else {
        text_address(&text, (const struct sockaddr *)&socket->peer, sizeof socket->peer);
    }
}

static int by_age(const void *a, const void *b)
{
    const struct view_connection *one = a, *other = b;
    return one->in_use_ms > other->in_use_ms ? -1 : one->in_use_ms < other->in_use_ms;
}

/* Adds those of one process. */
static void add_process(struct view *view, int32_t pid, const struct in_use *in_use,
                        struct sockets *sockets)
{
    size_t count = view->oldests + in_use->count;
    void *room = in_use->count ? realloc(view->oldest, count * sizeof *view->oldest) : NULL;
    if (!room)
        return;
    view->oldest = room;
    sockets_read(sockets, pid);
    for (size_t i = 0; i < in_use->count; i++) {
        struct view_connection *connection = &view->oldest[view->oldests];
        *connection = (struct view_connection){.pid = pid, .in_use_ms = -1};
        uint64_t inode = socket_of(pid, in_use->fd[i]);
        if (!inode)
            continue; /* it was closed on a path that the shim does not see, or just now */
        describe(connection, sockets_find(sockets, inode));
        view->oldests++;
    }
    if (view->oldests)
        qsort(view->oldest, view->oldests, sizeof *view->oldest, by_age);
    if (view->oldests > OLDEST_MOST)
        view->oldests = OLDEST_MOST;
}

void take_oldest(struct view *view, struct tree *tree, struct sockets *sockets)
{
    for (struct tree *part = tree; part; part = part == tree ? tree->joined : part->next) {
        for (uint32_t i = 0; i < PAGE_LINES; i++) {
            const struct page_line *line = &part->page.line[i];
            struct in_use in_use = {0};
            int32_t pid = line->pid > 0 ? tree_process(part, i) : 0;
            if (!pid)
                continue;
            struct budget *budget = budget_of(part->uid);
            int64_t began = now_ms();
            if (budget->time_ms <= 0 || !memory_in_use(pid, line->table, line->epoch, &in_use))
                view->is_hidden = true;
            add_process(view, pid, &in_use, sockets);
            free(in_use.fd);
            budget->time_ms -= now_ms() - began;
        }
    }
}
