/* SPDX-License-Identifier: MIT */
#include "drain/unseen.h"

#include "base/log.h"
#include "base/proc.h"
#include "base/settings.h"
#include "base/sock.h"
#include "base/text.h"
#include "conn/conn.h"
#include "drain/drain_state.h"
#include "drain/handed.h"
#include "drain/listener.h"
#include "drain/listener_kept.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

/* Between two looks: a thread is not held up for so long behind its accept, as a rule. */
#define AGAIN_MS 100
#define UNSEEN_MOST 256 /* in one look; the others are found by the next */

/* What the last look has found. */
static struct {
    int fd;
    uint64_t inode;
} found[UNSEEN_MOST], before[UNSEEN_MOST];
static uint32_t found_count, before_count;

static int64_t again_at; /* 0: nobody looks before the end */
static bool has_said, has_listener;
static bool has_tracked; /* some, in this look */

void unseen_begin(void)
{
    found_count = 0;
    again_at = 1;
    has_said = has_listener = false;
}

static bool was_found_before(int fd, uint64_t inode)
{
    for (uint32_t i = 0; i < before_count; i++)
        if (before[i].fd == fd && before[i].inode == inode)
            return true;
    return false;
}

/* A program that accepts past libc as well would not bear what is done to stop a listener. */
static void name_listener(int fd)
{
    has_listener = true;
    process_slot_set_flag(SLOT_UNCOVERED, true);
    atomic_store(&drain.is_partial, true);
    log_say(LOG_ERROR,
            "not drained: a listener was made past libc (descriptor %d): it still accepts", fd);
}

/* Those that only the shim has are its own. */
static bool is_unseen_listener(int fd)
{
    return sock_is_listener(fd) == 1 && !handed_has(fd) && !listener_keeps(fd);
}

static void visit(int dir, const char *name, void *context)
{
    struct sockaddr_storage own;
    enum fingerprint kind;
    (void)dir, (void)context;
    if (*name == '.')
        return;
    int fd = (int)text_take_number(&name, 10);
    if (conn_is_known(fd))
        return;
    bool listens = !has_listener && is_unseen_listener(fd);
    if (!listens && !sock_connection(fd, &kind))
        return;
    socklen_t len = sock_own_address(fd, &own);
    /* Bound here, before a fork: workers listen on it, and stop it. */
    if (listens && membership_listens_at((struct sockaddr *)&own, len))
        return;
    enum mode mode = listens ? settings_mode(&settings_now()->mode, (struct sockaddr *)&own, len)
                             : listener_mode_at(&own, len);
    if (mode == MODE_OFF)
        return;
    uint64_t inode = sock_inode(fd);
    if (was_found_before(fd, inode) && listens) {
        name_listener(fd);
    } else if (was_found_before(fd, inode)) {
        conn_inherited(fd, mode);
        has_tracked = true;
        if (!has_said)
            log_say(LOG_INFO,
                    "connections were accepted past libc (the first is descriptor %d): "
                    "they are drained by what the kernel knows of them",
                    fd);
        has_said = true;
    } else if (found_count < UNSEEN_MOST) {
        found[found_count].fd = fd;
        found[found_count++].inode = inode;
    }
}

bool unseen_step(int64_t now, bool last)
{
    if (again_at ? now < again_at : !last)
        return again_at;
    for (uint32_t i = 0; i < found_count; i++)
        before[i] = found[i];
    before_count = found_count;
    found_count = 0;
    has_tracked = false;
    proc_each_file("/proc/self/fd/", visit, NULL);
    again_at = found_count ? now + AGAIN_MS : 0;
    return found_count || has_tracked;
}
