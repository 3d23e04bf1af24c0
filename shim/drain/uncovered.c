/* SPDX-License-Identifier: MIT */
#include "drain/uncovered.h"

#include "base/log.h"
#include "base/proc.h"
#include "base/settings.h"
#include "base/text.h"
#include "conn/fork_detect.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#define PROCESSES_MOST 64  /* that are looked at */
#define LISTENING_MOST 256 /* sockets of one process's network */

static struct {
    int32_t pid[PROCESSES_MOST];
    uint32_t count;
} family;

static struct {
    uint64_t inode[LISTENING_MOST];
    uint32_t count;
} listening;

static void add_child(int32_t child)
{
    if (family.count < PROCESSES_MOST)
        family.pid[family.count++] = child;
}

/* ---- the listeners of a network, as /proc/PID/net/tcp tells them ---- */

/*
 * Whether the tree has made or been given a listener of this port: who shares that goes on by
 * right, as a successor does. Not so a process in a sandbox, but with one that is kept or left
 * alone.
 */
static bool goes_on_by_right(uint64_t port, bool is_sandboxed)
{
    for (uint32_t i = 0; i < PAGE_LISTENERS; i++) {
        const struct page_listener *at = &tree_page->listener[i];
        const char *port_there = NULL;
        for (uint32_t c = 0; c < sizeof at->address && at->address[c]; c++)
            if (at->address[c] == ':')
                port_there = &at->address[c + 1];
        bool is_left = atomic_load(&at->state) == PAGE_KEPT || at->mode == MODE_OFF;
        if (atomic_load(&at->pid) && port_there && text_take_number(&port_there, 10) == port &&
            (is_left || !is_sandboxed))
            return true;
    }
    return false;
}

/* "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ..." (proc(5)). */
static void read_listening(int32_t pid, const char *name, bool is_sandboxed)
{
    struct proc_lines lines;
    const char *line;
    if (proc_open_lines(&lines, pid, name))
        return;
    while ((line = proc_next_line(&lines)) && listening.count < LISTENING_MOST) {
        const char *port = text_skip_words(line, 1), *state = text_skip_words(port, 2);
        const char *inode = text_skip_words(state, 6);
        while (*port && *port != ':')
            port++;
        port += *port == ':';
        if (text_take_number(&state, 16) == 0x0A &&
            !goes_on_by_right(text_take_number(&port, 16), is_sandboxed))
            listening.inode[listening.count++] = text_take_number(&inode, 10);
    }
    proc_close_lines(&lines);
}

static void visit_descriptor(int dir, const char *name, void *context)
{
    bool *listens = context;
    uint64_t inode = proc_socket(dir, name);
    for (uint32_t i = 0; inode && i < listening.count; i++)
        *listens = *listens || listening.inode[i] == inode;
}

static bool listens(int32_t pid, bool is_sandboxed)
{
    char path[48];
    struct text text = TEXT_ON(path);
    bool found = false;
    listening.count = 0;
    read_listening(pid, "net/tcp", is_sandboxed);
    read_listening(pid, "net/tcp6", is_sandboxed);
    text_add(&text, "/proc/%lu/fd", (uint64_t)pid);
    if (listening.count)
        proc_each_file(path, visit_descriptor, &found);
    return found;
}

static bool is_in_sandbox(int32_t pid)
{
    const struct page_slot *slot = process_slot_of(pid);
    return slot && atomic_load(&slot->flags) & SLOT_SANDBOXED;
}

bool uncovered_accepts(void)
{
    family.count = 0;
    if (!tree_page || settings_now()->leave_children)
        return false;
    proc_each_child(fork_pid(), add_child);
    for (uint32_t i = 0; i < family.count; i++) {
        int32_t pid = family.pid[i];
        bool is_member = process_slot_lives(pid), is_sandboxed = is_member && is_in_sandbox(pid);
        if ((is_sandboxed || (!is_member && !proc_has_shim(pid))) && listens(pid, is_sandboxed)) {
            log_say(LOG_ERROR, "not drained: pid %lu %s, and still accepts", (uint64_t)pid,
                    is_sandboxed ? "is in a seccomp sandbox" : "runs without the shim");
            return true;
        }
        proc_each_child(pid, add_child);
    }
    return false;
}
