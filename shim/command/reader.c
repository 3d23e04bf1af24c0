/* SPDX-License-Identifier: MIT */
#include "command/reader.h"

#include "base/libc_versions.h"
#include "base/sys.h"
#include "base/text.h"
#include "command/proc/process.h"
#include "command/proc/sockets.h"
#include "command/say.h"
#include "tree/pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- opening ---- */

char tree_other_version[96];

/* Its texts end, whoever has written them. */
static void end_texts(struct page *page)
{
    page->program[sizeof page->program - 1] = '\0';
    for (size_t i = 0; i < PAGE_LISTENERS; i++)
        page->listener[i].address[sizeof page->listener[i].address - 1] = '\0';
}

/* Reads the page of an open descriptor, whatever file it may be of. Every layout begins alike. */
static int read_page(int fd, struct page *page)
{
    ssize_t got = pread(fd, page, sizeof *page, 0);
    if (got < (ssize_t)offsetof(struct page, program))
        return got < 0 ? errno : NOT_A_PAGE;
    if (memcmp(page->magic, PAGE_MAGIC, sizeof page->magic))
        return NOT_A_PAGE;
    page->version[sizeof page->version - 1] = '\0';
    if (page->layout != PAGE_LAYOUT || page->size != sizeof *page) {
        snprintf(tree_other_version, sizeof tree_other_version, "%s (layout %u)",
                 escaped(page->version), page->layout);
        return OTHER_LAYOUT;
    }
    end_texts(page);
    return page_is_sound(page, (size_t)got) ? 0 : NOT_SOUND;
}

/* Accepts files of the command's own user, of root, and of the user of the process in question. */
static int check_file(const struct stat *status, uint32_t uid)
{
    if (!S_ISREG(status->st_mode))
        return NOT_A_PAGE;
    if (status->st_uid != uid && status->st_uid != geteuid() && status->st_uid != 0)
        return NOT_SOUND;
    /* A file that others can write may hold anything. */
    return status->st_mode & (S_IWGRP | S_IWOTH) ? NOT_SOUND : 0;
}

/* A lease (fcntl(2)) does not hold this up: EWOULDBLOCK. */
#define OPEN_FLAGS (O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

static int open_again(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | OPEN_FLAGS);
}

/* A page's counters lie on cache lines of their own, which malloc(3) knows nothing of. */
static struct tree *tree_new(void)
{
    struct tree *tree = aligned_alloc(_Alignof(struct tree), sizeof *tree);
    return tree ? memset(tree, 0, sizeof *tree) : NULL;
}

/*
 * Opens path_fd (O_PATH, which it closes) for reading once it is known to be a regular file: to
 * open a device or a FIFO by name may already have an effect. wanted: the file that it has to be,
 * which process pid maps; or NULL.
 */
static int open_found(int path_fd, const char *path, uint32_t uid, int32_t pid,
                      const struct proc_file *wanted, struct tree **found)
{
    struct tree *tree = NULL;
    struct stat status;
    int32_t first;
    uint64_t start;
    uint32_t own = proc_namespace(0, "ns/pid");
    int fd = -1, error = glibc_fstat(path_fd, &status) ? errno : 0;
    if (!error)
        error = wanted && status.st_ino != wanted->inode ? ENOENT : check_file(&status, uid);
    if (!error) {
        fd = open_again(path_fd, O_RDONLY);
        error = fd < 0 ? errno : 0;
    }
    close(path_fd);
    if (!error) {
        tree = tree_new();
        error = tree ? read_page(fd, &tree->page) : ENOMEM;
    }
    if (!error &&
        (!proc_opened_file(fd, &tree->file) ||
         (wanted && (tree->file.inode != wanted->inode || tree->file.device != wanted->device))))
        error = ENOENT;
    if (!error && (!pagefile_parse_name(path, &first, &start) || first != tree->page.pid ||
                   start != tree->page.start))
        error = NOT_SOUND;
    if (error) {
        if (fd >= 0)
            close(fd);
        free(tree);
        return error;
    }
    tree->fd = fd;
    tree->uid = status.st_uid;
    tree->namespace = wanted ? proc_namespace(pid, "ns/pid") : tree->page.pid_namespace;
    tree->is_foreign = tree->namespace && own && tree->namespace != own;
    snprintf(tree->path, sizeof tree->path, "%s", path);
    tree->name = base_name(tree->path);
    *found = tree;
    return 0;
}

int tree_open_mapped(int32_t pid, const struct proc_mapping *mapping, struct tree **tree)
{
    int64_t user = proc_user(pid);
    uint32_t uid = user < 0 ? geteuid() : (uint32_t)user;
    char path[PATH_MAX + 64];
    int worst = ENOENT;
    /*
     * What is mapped itself (root only), which no name may lead to any more; by its name; by its
     * name where the process has another root.
     */
    for (int way = 0; way < 3; way++) {
        if (way == 0)
            snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", pid, mapping->from,
                     mapping->to);
        else if (way == 1)
            snprintf(path, sizeof path, "%s", mapping->path);
        else
            snprintf(path, sizeof path, "/proc/%d/root%s", pid, mapping->path);
        int fd = open(path, O_PATH | O_CLOEXEC | (way == 0 ? 0 : O_NOFOLLOW));
        int error = fd < 0 ? errno : open_found(fd, mapping->path, uid, pid, &mapping->file, tree);
        if (!error)
            return 0;
        if (error < 0 || error == EACCES || error == EPERM)
            worst = error;
        if (error < 0)
            break;
    }
    return worst;
}

int tree_open_at(int dir, const char *path, uint32_t uid, struct tree **tree)
{
    int fd = openat(dir, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? errno : open_found(fd, path, uid, 0, NULL, tree);
}

void tree_free(struct tree *list)
{
    while (list) {
        struct tree *next = list->next;
        tree_free(list->attached);
        close(list->fd);
        free(list);
        list = next;
    }
}

/* ---- copies ---- */

static bool is_changing(const struct page *page)
{
    for (uint32_t i = 0; i < PAGE_SLOTS; i++)
        if (page->slot[i].pid == -1)
            return true;
    return false;
}

/* A listener that was left is there if its address listens: or if it does no more, for a drain. */
static void settle_left(struct tree *tree)
{
    int32_t pid = 0;
    for (uint32_t i = 0; i < PAGE_LISTENERS; i++) {
        struct page_listener *at = &tree->page.listener[i];
        if (at->pid != PAGE_LEFT)
            continue;
        if (!pid)
            sockets_forget();
        pid = pid ? pid : tree_any(tree);
        at->pid =
            pid && (at->state != PAGE_ACCEPTING || sockets_listen_at(pid, at->address)) ? pid : 0;
    }
    if (pid)
        sockets_forget();
}

static bool copy_page(struct tree *tree)
{
    /* A line is changed in no time; one that stays so was left by a process that was killed. */
    for (int tries = 0; tries < 5; tries++) {
        struct page page;
        if (read_page(tree->fd, &page))
            return false;
        /* Which tree it is was found out when it was opened. */
        page.pid = tree->page.pid;
        page.start = tree->page.start;
        page.tree_pid = tree->page.tree_pid;
        page.tree_start = tree->page.tree_start;
        memcpy(&tree->page, &page, sizeof page);
        if (!is_changing(&tree->page))
            break;
        usleep(1000);
    }
    settle_left(tree);
    return true;
}

bool tree_copy(struct tree *tree)
{
    bool is_whole = copy_page(tree);
    while (is_whole && (tree = tree->attached))
        copy_page(tree); /* one that is cut off keeps its last figures */
    return is_whole;
}

bool tree_is(const struct tree *tree, const char *name, const struct proc_file *file)
{
    return tree->file.inode == file->inode && tree->file.device == file->device &&
           text_equal(tree->name, name);
}

int tree_ask(struct tree *tree, enum action action, const struct origin *origin, int64_t timeout,
             bool *news)
{
    static struct page copy, now;
    struct totals totals;
    int fd = open_again(tree->fd, O_RDWR);
    if (fd < 0)
        return errno;
    bool sound = pagefile_copy(fd, &copy), is_first = !copy.by_taken;
    /* Each entry is a look at all connections: not for another user's page. */
    const uint64_t *handoff =
        tree->uid == geteuid() && copy.handoffs_used ? (const uint64_t *)copy.handoff : NULL;
    page_add_all(&totals, &copy);
    *news = sound && pagefile_ask(fd, &copy, action, origin, timeout, sys_now_ms(), &totals);
    /* Nobody has been woken yet. Clients come and go meanwhile: the order is left first. */
    if (*news && is_first && action != ACTION_CLOSE_IDLE && pagefile_copy(fd, &now)) {
        proc_finish_asked(&totals, handoff, &now, 0);
        pagefile_put_asked(fd, &copy, &totals);
    }
    close(fd);
    return sound ? 0 : EIO;
}

int tree_keep(struct tree *tree, bool keeps)
{
    static struct page copy;
    int error = 0;
    for (; tree && !error; tree = tree->attached) {
        int fd = open_again(tree->fd, O_RDWR);
        if (fd < 0)
            return errno;
        error = pagefile_copy(fd, &copy) ? 0 : EIO;
        if (!error)
            pagefile_put_keeps(fd, &copy, keeps);
        close(fd);
    }
    return error;
}

int tree_is_mapped(const struct tree *tree, int32_t pid)
{
    return proc_maps(pid, &tree->file, tree->name, &budget_of(tree->uid)->lines);
}

/* ---- processes ---- */

/* For so long a process is taken to map the page still: its maps need not be read each time. */
#define BELIEVED_MS 500

/* Finds the number that a process of the tree has in our pid namespace. 0: it is not one. */
static int32_t process_of(struct tree *tree, struct known *known, int32_t pid, uint64_t since)
{
    if (pid <= 0)
        return 0;
    for (size_t i = 0; i < COUNT_OF(tree->known); i++) { /* other lines may have the same */
        const struct known *other = &tree->known[i];
        if (other->pid != pid || other->since != since || !other->checked ||
            sys_now_ms() - other->checked > BELIEVED_MS)
            continue;
        *known = *other;
        return known->here = proc_is_alive(known->here, since) ? known->here : 0;
    }
    int32_t here = tree->is_foreign ? process_outer_pid(tree->uid, tree->namespace, pid) : pid;
    *known = (struct known){pid, since, here, sys_now_ms()};
    /* A user other than root may not read the maps of a process that has become privileged. */
    int maps = here ? tree_is_mapped(tree, here) : 0;
    if (maps == 0 || (maps < 0 && geteuid() == 0) || proc_is_alive(here, since) == 0)
        known->here = 0;
    return known->here;
}

/* A process has one line. A page that is full of one process must not cost a look for each line. */
static bool is_repeated(const struct page *page, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (page->slot[i].pid == page->slot[index].pid && !(page->slot[i].flags & SLOT_EXECS))
            return true;
    return false;
}

int32_t tree_process(struct tree *tree, uint32_t index)
{
    const struct page_slot *line = &tree->page.slot[index];
    if (line->pid <= 0 || line->flags & SLOT_EXECS || is_repeated(&tree->page, index))
        return 0;
    return process_of(tree, &tree->known[index], line->pid, line->since);
}

int32_t tree_first(struct tree *tree)
{
    return process_of(tree, &tree->known[PAGE_SLOTS], tree->page.pid, tree->page.start * TICK_MS);
}

bool tree_first_execs(const struct tree *tree)
{
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        const struct page_slot *line = &tree->page.slot[i];
        if (line->pid == tree->page.pid && line->flags & SLOT_EXECS)
            return proc_is_alive(line->pid, line->since) != 0;
    }
    return false;
}

int32_t tree_any(struct tree *tree)
{
    int32_t pid = tree_first(tree);
    for (uint32_t i = 0; !pid && i < PAGE_SLOTS; i++)
        pid = tree_process(tree, i);
    return pid;
}

bool tree_lives(struct tree *tree)
{
    while (tree && !tree_any(tree))
        tree = tree->attached;
    return tree;
}

/* Whether the page has it. In another namespace its number there is another one. */
static bool has(struct tree *tree, int32_t pid)
{
    if ((tree->is_foreign || tree->page.pid == pid) && tree_first(tree) == pid)
        return true;
    for (uint32_t i = 0; i < PAGE_SLOTS; i++)
        if ((tree->is_foreign || tree->page.slot[i].pid == pid) && tree_process(tree, i) == pid)
            return true;
    return false;
}

bool tree_has(struct tree *tree, int32_t pid)
{
    while (tree && !has(tree, pid))
        tree = tree->attached;
    return tree;
}

int32_t tree_pid(struct tree *tree)
{
    int32_t pid = tree_any(tree), parent = pid;
    if (!pid)
        return tree->page.pid;
    if (pid != tree_first(tree))
        while ((parent = proc_parent(parent)) && has(tree, parent))
            pid = parent;
    return pid;
}

/* A page is not to be believed: by it a worker that was broken into could make root send the master
 * a signal that the master takes for an order. */
bool tree_signal_is_harmless(const struct tree *tree)
{
    int32_t sig = tree->page.settings.control_signal;
    return sig >= SIGRTMIN || sig == SIGUSR1 || sig == SIGUSR2 || sig == SIGURG || sig == SIGWINCH;
}

/*
 * By a pidfd (pidfd_open(2)), so that it is this process that gets the signal, whatever becomes of
 * its number: it is looked at once more after that.
 */
int tree_wake(struct tree *tree, uint32_t index)
{
    const struct page_slot *slot = &tree->page.slot[index];
    int32_t pid = tree_process(tree, index), sig = tree->page.settings.control_signal;
    int error = ESRCH;
    if (!pid || slot->flags & SLOT_NOT_WOKEN || !tree_signal_is_harmless(tree))
        return ESRCH;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno;
    /* The signal would end a process that has no handler for it. */
    if (proc_is_alive(pid, slot->since) == 1 && tree_is_mapped(tree, pid) == 1 &&
        proc_catches(pid, sig) == 1)
        error = syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) == 0 ? 0 : errno;
    close(fd);
    return error;
}
