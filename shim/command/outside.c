/* SPDX-License-Identifier: MIT */
#include "command/outside.h"

#include "base/text.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/proc/sockets.h"
#include "command/say.h"

#include <errno.h>
#include <netinet/in.h>

/* ---- the processes ---- */

struct relative {
    int32_t pid, parent;
    bool is_member;  /* has a slot in the page, or is its first */
    bool is_related; /* a member, or descends from one */
};

struct family {
    struct relative *at;
    size_t count;
};

static struct relative *find(const struct family *family, int32_t pid)
{
    for (size_t i = 0; i < family->count; i++)
        if (family->at[i].pid == pid)
            return &family->at[i];
    return NULL;
}

static void add_process(int32_t pid, void *context)
{
    struct family *family = context;
    family->at = grow(family->at, family->count, sizeof *family->at);
    family->at[family->count++] = (struct relative){.pid = pid, .parent = proc_parent(pid)};
}

static void add_member(struct family *family, int32_t pid)
{
    struct relative *member = pid ? find(family, pid) : NULL;
    if (member)
        member->is_member = member->is_related = true;
}

/* The tree's processes, and those that descend from them. */
static struct family gather(struct tree *tree)
{
    struct family family = {0};
    proc_each_process(add_process, &family);
    for (struct tree *part = tree; part; part = part->attached) {
        add_member(&family, tree_first(part));
        for (uint32_t i = 0; i < PAGE_SLOTS; i++)
            add_member(&family, tree_process(part, i));
    }
    for (bool more = !tree->page.settings.leaves_children; more;) {
        more = false;
        for (size_t i = 0; i < family.count; i++) {
            struct relative *at = &family.at[i];
            const struct relative *parent = at->is_related ? NULL : find(&family, at->parent);
            if (!parent || !parent->is_related || find_is_of_another(at->pid, tree))
                continue;
            at->is_related = more = true;
        }
    }
    return family;
}

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
    const struct relative *process;
    bool says;
    uint32_t found;
    uint64_t connections; /* of this process */
    char first[480];      /* the address of the first of them */
};

static void name_process(const struct outside *outside, const char *does, const char *address)
{
    int32_t pid = outside->process->pid;
    if (outside->says)
        say("pid %d %s %s, %s", pid, does, address,
            find_has_shim(pid) ? "by a socket that the shim does not see"
                               : "without the shim (see `weir check`)");
}

static void look_at_listener(struct outside *outside, const struct socket *socket)
{
    const char *address = sockets_address(socket, &socket->own);
    const struct page_listener *known = listed(outside->tree, address, false);
    bool is_off = known && known->mode == MODE_OFF;
    /* A shell that has started the server, or a helper of it, has it still, and accepts nobody. */
    bool is_kept = known && known->state == PAGE_KEPT &&
                   (outside->process->is_member || find_has_shim(outside->process->pid));
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
    if (!known || known->mode == MODE_OFF || (socket->path && outside->process->is_member))
        return;
    if (!outside->connections++)
        snprintf(outside->first, sizeof outside->first, "%s", address);
}

static void look_at_descriptor(int dir, const char *name, void *context)
{
    struct outside *outside = context;
    uint64_t inode = proc_socket(dir, name);
    const struct socket *socket = inode ? sockets_find_inode(outside->process->pid, inode) : NULL;
    if (socket && socket->listens)
        look_at_listener(outside, socket);
    else if (socket && socket->can_talk)
        look_at_connection(outside, socket);
}

/* ---- all of them ---- */

/* Those that the program has taken over are nobody's here. */
static uint64_t disowned_by(const struct tree *tree)
{
    uint64_t disowned = 0;
    for (const struct tree *part = tree; part; part = part->attached) {
        struct totals totals;
        page_add_all(&totals, &part->page);
        disowned += totals.disowned;
    }
    return disowned;
}

static void look_at_process(struct outside *outside, uint64_t *disowned)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", outside->process->pid);
    outside->connections = 0;
    if (proc_each_file(path, look_at_descriptor, outside) == -EACCES &&
        !outside->process->is_member && proc_start_time(outside->process->pid)) {
        outside->found++;
        if (outside->says)
            say("pid %d can't be looked into: whether it accepts is not known (use root)",
                outside->process->pid);
    }
    if (outside->connections <= *disowned) {
        *disowned -= outside->connections;
        return;
    }
    outside->found++;
    char does[64];
    snprintf(does, sizeof does, "still has %lu connections to", outside->connections - *disowned);
    *disowned = 0;
    name_process(outside, does, outside->first);
}

uint32_t outside_look(struct tree *tree, bool says)
{
    struct outside outside = {.tree = tree, .says = says};
    struct family family = gather(tree);
    uint64_t disowned = disowned_by(tree);
    sockets_forget();
    for (size_t i = 0; i < family.count; i++) {
        outside.process = &family.at[i];
        if (family.at[i].is_related)
            look_at_process(&outside, &disowned);
    }
    sockets_forget();
    free(family.at);
    return outside.found;
}
