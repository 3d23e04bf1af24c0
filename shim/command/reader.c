/* SPDX-License-Identifier: MIT */
#include "reader.h"

#include "glibc.h"
#include "say.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

bool is_page_name(const char *name)
{
    int numbers = 1;
    for (; numbers <= 3; numbers++) {
        size_t digits = strspn(name, "0123456789");
        if (!digits || digits > 20)
            return false;
        name += digits;
        if (*name != '.')
            break;
        name++;
    }
    return !*name && (numbers == 2 || numbers == 3);
}

/* Whether it is the page's own, or what it was before it told the namespace. */
static bool is_own_name(const struct page *page, const char *name)
{
    char own[48];
    struct text text = TEXT_ON(own);
    page_name(&text, page->pid, page->start, page->pid_namespace);
    const char *rest = text_after(own, name);
    return rest && (!*rest || *rest == '.');
}

/* ---- opening ---- */

/* The part of a page that every layout has. */
struct head {
    char magic[8];
    uint32_t layout, size;
    char version[16];
};

/* Reads the page of an open descriptor, whatever it may be of. */
static int read_page(int fd, struct page *page, char version[VERSION_TEXT])
{
    struct text text = {version, 0, VERSION_TEXT};
    struct head head;
    char copy[sizeof head.version + 1] = "";
    ssize_t got = pread(fd, page, sizeof *page, 0);
    if (got < (ssize_t)sizeof head)
        return got < 0 ? errno : NOT_A_PAGE;
    memcpy(&head, page, sizeof head);
    if (memcmp(head.magic, PAGE_MAGIC, sizeof head.magic))
        return NOT_A_PAGE;
    if (head.layout != PAGE_LAYOUT || head.size != sizeof *page) {
        memcpy(copy, head.version, sizeof head.version);
        *version = '\0';
        text_escaped(&text, copy, sizeof copy);
        text_string(&text, " (layout ");
        text_number(&text, head.layout);
        text_string(&text, ")");
        return OTHER_LAYOUT;
    }
    return page_is_sound(page, (size_t)got) ? 0 : NOT_SOUND;
}

/*
 * path_fd (O_PATH, which it takes over) is opened for reading once it is known to be a file: who
 * opens a device or a FIFO by name has done something to it already.
 */
static int open_found(int path_fd, const char *name, struct tree **found,
                      char version[VERSION_TEXT])
{
    struct tree *tree = NULL;
    struct stat status;
    char path[64];
    int fd = -1, error = glibc_fstat(path_fd, &status) ? errno : 0;
    if (!error && !S_ISREG(status.st_mode))
        error = NOT_A_PAGE;
    if (!error) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", path_fd);
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        error = fd < 0 ? errno : 0;
    }
    close(path_fd);
    if (!error) {
        tree = calloc(1, sizeof *tree);
        error = tree ? read_page(fd, &tree->page, version) : ENOMEM;
    }
    if (!error) {
        /* One that others can write is nobody's. */
        bool is_shared = status.st_mode & (S_IWGRP | S_IWOTH);
        error = is_own_name(&tree->page, name) && !is_shared ? 0 : NOT_SOUND;
        snprintf(tree->name, sizeof tree->name, "%s", name);
    }
    if (error) {
        if (fd >= 0)
            close(fd);
        free(tree);
        return error;
    }
    tree->fd = fd;
    tree->inode = status.st_ino;
    tree->uid = status.st_uid;
    *found = tree;
    return 0;
}

static void lives_in(struct tree *tree, uint64_t namespace)
{
    uint64_t own = process_namespace(0, "pid");
    tree->namespace = namespace;
    tree->is_foreign = namespace && own && namespace != own;
}

int tree_open_mapped(int32_t pid, const struct mapping *mapping, struct tree **tree,
                     char version[VERSION_TEXT])
{
    const char *name = base_name(mapping->path);
    char path[PATH_MAX + 64];
    int worst = ENOENT;
    /*
     * What is mapped itself (root only), which no name may lead to any more; by its name; by its
     * name where the process has another root.
     */
    for (int way = 0; way < 3; way++) {
        struct stat status;
        int flags = O_PATH | O_CLOEXEC;
        if (way == 0)
            snprintf(path, sizeof path, "/proc/%d/map_files/%s", pid, mapping->range);
        else if (way == 1)
            snprintf(path, sizeof path, "%s", mapping->path);
        else
            snprintf(path, sizeof path, "/proc/%d/root%s", pid, mapping->path);
        int fd = open(path, way == 0 ? flags : flags | O_NOFOLLOW);
        if (fd >= 0 && (glibc_fstat(fd, &status) || status.st_ino != mapping->inode)) {
            close(fd);
            continue;
        }
        int error = fd < 0 ? errno : open_found(fd, name, tree, version);
        if (!error) {
            snprintf((*tree)->path, sizeof(*tree)->path, "%s", mapping->path);
            lives_in(*tree, process_namespace(pid, "pid"));
            return 0;
        }
        if (error < 0 || error == EACCES || error == EPERM)
            worst = error;
        if (error < 0)
            break;
    }
    return worst;
}

int tree_open_at(int dir, const char *name, const char *path, struct tree **tree,
                 char version[VERSION_TEXT])
{
    int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int error = fd < 0 ? errno : open_found(fd, name, tree, version);
    if (!error) {
        snprintf((*tree)->path, sizeof(*tree)->path, "%s/%s", path, name);
        lives_in(*tree, (*tree)->page.pid_namespace);
    }
    return error;
}

void tree_free(struct tree *tree)
{
    if (!tree)
        return;
    tree_free_list(tree->joined);
    close(tree->fd);
    free(tree);
}

void tree_free_list(struct tree *list)
{
    while (list) {
        struct tree *next = list->next;
        tree_free(list);
        list = next;
    }
}

/* ---- copies ---- */

static bool is_changing(const struct page *page)
{
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        if (page->line[i].pid == -1)
            return true;
    return false;
}

bool tree_copy(struct tree *tree)
{
    /* A line is changed in no time; one that stays so was left by a process that was killed. */
    for (int tries = 0; tries < 5; tries++) {
        char version[VERSION_TEXT];
        struct page page;
        if (read_page(tree->fd, &page, version))
            return false;
        /* Which tree it is was found out when it was opened. */
        page.pid = tree->page.pid;
        page.start = tree->page.start;
        page.tree_pid = tree->page.tree_pid;
        page.tree_start = tree->page.tree_start;
        memcpy(&tree->page, &page, sizeof page);
        if (!is_changing(&tree->page))
            break;
        sleep_ms(1);
    }
    for (struct tree *part = tree->joined; part; part = part->next)
        tree_copy(part); /* one that is cut off keeps its last figures */
    return true;
}

static void cut_off(int sig)
{
    static const char text[] = "weir: the state page was cut off while it was written to: somebody "
                               "has tampered with it\n";
    (void)sig;
    ssize_t done = write(STDERR_FILENO, text, sizeof text - 1);
    (void)done;
    _exit(EXIT_FAILED);
}

struct page *tree_map(const struct tree *tree)
{
    struct sigaction action = {.sa_handler = cut_off};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", tree->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int error = errno;
    close(fd);
    errno = error;
    if (page == MAP_FAILED)
        return NULL;
    sigaction(SIGBUS, &action, NULL);
    return page;
}

/* ---- processes ---- */

/* How long a process is believed to map the page still: its maps are not read at each look. */
#define BELIEVED_MS 500

/* The number that a process of the tree has here, if it is one (known->pid, since). */
static int32_t process_of(struct tree *tree, struct known *known, int32_t pid, uint64_t since)
{
    if (pid <= 0)
        return 0;
    int64_t now = now_ms();
    if (known->pid != pid || known->since != since || now - known->checked > BELIEVED_MS) {
        int32_t here = tree->is_foreign ? process_outer_pid(tree->namespace, pid) : pid;
        *known = (struct known){pid, since, here, now};
        /* Who is not root may not look into what a process of its own has become. */
        int maps = here ? process_maps_file(here, tree->name, tree->inode) : 0;
        if (maps == 0 || (maps < 0 && geteuid() == 0) || proc_is_alive(here, since) == 0)
            known->here = 0;
    } else if (known->here && proc_is_alive(known->here, since) == 0) {
        known->here = 0;
    }
    return known->here;
}

int32_t tree_process(struct tree *tree, uint32_t index)
{
    const struct page_line *line = &tree->page.line[index];
    if (line->flags & LINE_EXECS)
        return 0;
    return process_of(tree, &tree->known[index], line->pid, line->since);
}

#define TICK_MS 10 /* of a start time (page.c) */

int32_t tree_first(struct tree *tree)
{
    return process_of(tree, &tree->known[PAGE_LINES], tree->page.pid, tree->page.start * TICK_MS);
}

bool tree_lives(struct tree *tree)
{
    if (tree_first(tree))
        return true;
    for (uint32_t i = 0; i < PAGE_LINES; i++)
        if (tree_process(tree, i))
            return true;
    return false;
}

int32_t tree_pid(struct tree *tree)
{
    int32_t first = tree_first(tree);
    return first ? first : tree->page.pid;
}
