/* SPDX-License-Identifier: MIT */
#include "command/outside.h"

#include "base/text.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/proc/sockets.h"
#include "command/say.h"

#include <errno.h>
#include <netinet/in.h>

/* ---- what the page says of a listener ---- */

static const char *port_in(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon ? colon + 1 : "";
}

/* Finds a listener of the tree by its address, or by its port alone. */
static const struct page_listener *listed(const struct tree *tree, const char *address,
                                          bool by_port)
{
    for (const struct tree *part = tree; part; part = part->attached) {
        for (uint32_t i = 0; i < PAGE_LISTENERS; i++) {
            const struct page_listener *at = &part->page.listener[i];
            if (at->pid > 0 && text_equal(by_port ? port_in(at->address) : at->address,
                                          by_port ? port_in(address) : address))
                return at;
        }
    }
    return NULL;
}

/* A socket that the shim has put in a listener's place (sock_unreachable_listener). */
static bool is_substitute(const struct socket *socket)
{
    const struct sockaddr_in *in = (const void *)&socket->own;
    unsigned int name;
    int end = 0;
    if (socket->path) /* unix(7), "Autobind feature" */
        return sscanf(socket->path, "@%5x%n", &name, &end) == 1 && end == 6 && !socket->path[end];
    if (socket->backlog)
        return false;
    return in->sin_family == AF_INET ? in->sin_addr.s_addr == htonl(INADDR_LOOPBACK)
                                     : IN6_IS_ADDR_LOOPBACK(&socket->own.sin6_addr);
}

/* ---- the sockets of one process ---- */

struct outside {
    struct tree *tree;
    bool says;
    uint32_t found;
    uint64_t disowned; /* connections that the program has taken over are nobody's here */
    int32_t pid;       /* of this process: */
    bool is_member;
    uint64_t connections;
    char first[480]; /* the address of the first of them */
};

static bool is_sandboxed(struct tree *tree, int32_t pid)
{
    for (; tree; tree = tree->attached)
        for (uint32_t i = 0; i < PAGE_SLOTS; i++)
            if (tree_process(tree, i) == pid && tree->page.slot[i].flags & SLOT_SANDBOXED)
                return true;
    return false;
}

static void name_process(const struct outside *outside, const char *does, const char *address)
{
    if (outside->says)
        say("pid %d %s %s, %s", outside->pid, does, address,
            !find_has_shim(outside->pid)                ? "without the shim (see `weir check`)"
            : is_sandboxed(outside->tree, outside->pid) ? "in a seccomp sandbox"
                                                        : "by a socket that the shim does not see");
}

static void look_at_listener(struct outside *outside, const struct socket *socket)
{
    const char *address = sockets_address(socket, &socket->own);
    const struct page_listener *known = listed(outside->tree, address, false);
    bool is_off = known && known->mode == MODE_OFF;
    /* A shell that has started the server, or a helper of it, has it still, and accepts nobody. */
    bool is_kept =
        known && known->state == PAGE_KEPT && (outside->is_member || find_has_shim(outside->pid));
    if (is_off || is_kept || is_substitute(socket))
        return;
    outside->found++;
    name_process(outside, "still accepts on", address);
}

static void look_at_connection(struct outside *outside, const struct socket *socket)
{
    const char *address = sockets_address(socket, &socket->own);
    const struct page_listener *known = listed(outside->tree, address, !socket->path);
    /* Of a half-close the kernel tells TCP's alone: on AF_UNIX the shim's word stands. */
    if (!known || known->mode == MODE_OFF || (socket->path && outside->is_member))
        return;
    if (!outside->connections++)
        snprintf(outside->first, sizeof outside->first, "%s", address);
}

static void look_at_descriptor(int dir, const char *name, void *context)
{
    struct outside *outside = context;
    uint64_t inode = proc_socket(dir, name);
    const struct socket *socket = inode ? sockets_find(outside->pid, inode) : NULL;
    if (socket && socket->listens)
        look_at_listener(outside, socket);
    else if (socket && socket->can_talk)
        look_at_connection(outside, socket);
}

/* ---- the processes ---- */

/* Whether a process is one of the tree's, or descends from one and is no other tree's. */
static bool is_related(const struct outside *outside, int32_t pid)
{
    int32_t at = pid;
    for (int i = 0; at && !tree_has(outside->tree, at); i++)
        at = i < ANCESTORS_MOST ? process_parent(at) : 0;
    bool is_related = at && (at == pid || !outside->tree->page.settings.leaves_children);
    for (; is_related && pid != at; pid = process_parent(pid))
        is_related = !find_is_of_another(pid, outside->tree);
    return is_related;
}

static void look_at_process(int32_t pid, void *context)
{
    struct outside *outside = context;
    char path[64], does[64];
    if (!is_related(outside, pid))
        return;
    outside->pid = pid;
    outside->is_member = tree_has(outside->tree, pid);
    outside->connections = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    if (proc_each_file(path, look_at_descriptor, outside) == -EACCES && !outside->is_member &&
        proc_start_time(pid)) {
        outside->found++;
        if (outside->says)
            say("pid %d can't be looked into: whether it accepts is not known (use root)", pid);
    }
    if (outside->connections <= outside->disowned) {
        outside->disowned -= outside->connections;
        return;
    }
    outside->found++;
    snprintf(does, sizeof does, "still has %lu connections to",
             outside->connections - outside->disowned);
    outside->disowned = 0;
    name_process(outside, does, outside->first);
}

uint32_t outside_look(struct tree *tree, bool says)
{
    struct outside outside = {.tree = tree, .says = says};
    for (struct tree *part = tree; part; part = part->attached) {
        struct totals totals;
        page_add_all(&totals, &part->page);
        outside.disowned += totals.disowned;
    }
    process_forget_parents();
    sockets_forget();
    proc_each_process(look_at_process, &outside);
    sockets_forget();
    return outside.found;
}
