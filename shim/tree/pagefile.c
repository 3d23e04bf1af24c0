/* SPDX-License-Identifier: MIT */
#include "tree/pagefile.h"

#include "base/proc.h"
#include "base/sys.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- directories ---- */

/* Accepts a run directory only if no other user can put files into it in our name. */
static bool is_trusted(const struct stat *status, uint32_t uid)
{
    bool others_write = status->st_mode & (S_IWGRP | S_IWOTH);
    return (status->st_uid == uid || status->st_uid == 0) &&
           (!others_write || status->st_mode & S_ISVTX);
}

/*
 * Opens it, and makes it first where it is missing. A link is followed where the user has named it
 * (WEIR_RUN_DIR) alone: in /dev/shm anybody can make one. -errno.
 */
static long open_dir(const char *path, bool is_named, mode_t mode, uint32_t uid)
{
    struct stat status;
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_named ? 0 : O_NOFOLLOW);
    long dir = sys4(SYS_openat, AT_FDCWD, path, flags, 0);
    if (dir == -ENOENT) {
        long made = sys3(SYS_mkdirat, AT_FDCWD, path, mode);
        if (made < 0 && made != -EEXIST)
            return made;
        dir = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    }
    if (dir < 0)
        return dir;
    long failed = sys2(SYS_fstat, dir, &status);
    if (failed >= 0 && is_trusted(&status, uid))
        return dir;
    sys1(SYS_close, dir);
    return failed < 0 ? failed : -PAGEFILE_REFUSED - (long)(status.st_mode & 07777);
}

bool pagefile_usual_directory(uint32_t i, uint32_t uid, char dir[PAGEFILE_PATH])
{
    struct text text = {dir, 0, PAGEFILE_PATH};
    *dir = '\0';
    if (i == 0)
        text_string(&text, "/run/weir");
    else if (i == 1)
        text_add(&text, "/run/user/%u/weir", uid);
    else
        text_add(&text, "/dev/shm/weir-%u", uid);
    return i < PAGEFILE_DIRECTORIES;
}

/*
 * The i-th directory to try. False: no more. "": not this one. The one that the user has named is
 * the only one, but for what runs as another user in a tree (inetd's services): subtrees.c finds
 * it there.
 */
static bool choose_dir(uint32_t i, const struct settings *settings, char *const *envp, uint32_t uid,
                       char path[PAGEFILE_PATH], mode_t *mode)
{
    const char *runtime = text_variable(envp, "XDG_RUNTIME_DIR=");
    struct text text = {path, 0, PAGEFILE_PATH};
    *mode = i == 0 ? 0755 : 0700;
    *path = '\0';
    if (*settings->run_dir && i == 0) {
        text_string(&text, settings->run_dir);
        return true;
    }
    if (*settings->run_dir)
        i = i == 1 && text_variable(envp, "WEIR_TREE=") ? 2 : 3;
    if (i != 1) /* of the user's session: it says where that is */
        return pagefile_usual_directory(i, uid, path);
    if (runtime && *runtime == '/' && text_length(runtime) < 150)
        text_add(&text, "%s/weir", runtime);
    return true;
}

/* ---- names ---- */

static bool take_number(const char **at, uint64_t most, uint64_t *number)
{
    const char *from = *at;
    *number = text_take_number(at, 10);
    return *at > from && *number <= most;
}

bool pagefile_parse_name(const char *path, int32_t *pid, uint64_t *start)
{
    const char *at = path;
    uint64_t number, namespace;
    for (const char *c = path; *c; c++)
        if (*c == '/')
            at = c + 1;
    if (!take_number(&at, INT32_MAX, &number) || !number || *at++ != '.' ||
        !take_number(&at, UINT64_MAX - 1, start))
        return false;
    *pid = (int32_t)number;
    /* A page of an older version has no namespace in its name. */
    return !*at || (*at++ == '.' && take_number(&at, UINT32_MAX, &namespace) && !*at);
}

/* ---- files ---- */

static long fill(int fd, size_t size)
{
    static const char zeros[4096];
    long failed = sys4(SYS_fallocate, fd, 0, 0, size);
    if (failed != -EOPNOTSUPP && failed != -ENOSYS)
        return failed;
    for (size_t at = 0; at < size; at += sizeof zeros) {
        size_t n = size - at < sizeof zeros ? size - at : sizeof zeros;
        long done = sys4(SYS_pwrite64, fd, zeros, n, at);
        if (done != (long)n)
            return done < 0 ? done : -ENOSPC;
    }
    return 0;
}

/* -errno. Under a limit of the size of files (RLIMIT_FSIZE) it would end the program. */
static long allocate(int fd, size_t size)
{
    struct sys_quiet quiet;
    sys_quiet_begin(&quiet);
    return sys_quiet_end(&quiet, fill(fd, size));
}

static struct page *map(int fd)
{
    long at = sys6(SYS_mmap, NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at < 0 && at > -4096 ? NULL : (struct page *)at;
}

/* Opens what is there already. NULL: it is not a page of ours. */
static struct page *open_at(int dir, const char *name)
{
    struct stat status;
    struct page *page = NULL;
    long fd =
        sys4(SYS_openat, dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    if (sys2(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_uid == (uint32_t)sys0(SYS_geteuid) && (size_t)status.st_size >= sizeof *page)
        page = map((int)fd);
    sys1(SYS_close, fd);
    if (page && !page_is_sound(page, (size_t)status.st_size)) {
        sys2(SYS_munmap, page, sizeof *page);
        page = NULL;
    }
    return page;
}

static bool is_others_page(const struct stat *status, uint32_t uid)
{
    return S_ISREG(status->st_mode) && status->st_uid == uid &&
           !(status->st_mode & (S_IWGRP | S_IWOTH));
}

int pagefile_open_others(const char *path, const char *name, uint32_t uid)
{
    const int flags = O_NOFOLLOW | O_CLOEXEC;
    struct stat status;
    long fd = -1;
    long dir = sys_move_up(sys4(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | flags, 0));
    if (dir < 0)
        return -1;
    /* A lease holds nobody up, a terminal is not taken: what it is, is looked at before as well. */
    if (sys4(SYS_newfstatat, dir, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_others_page(&status, uid))
        fd = sys_move_up(sys4(SYS_openat, dir, name, O_RDWR | O_NONBLOCK | O_NOCTTY | flags, 0));
    sys1(SYS_close, dir);
    if (fd < 0)
        return -1;
    if (sys2(SYS_fstat, fd, &status) == 0 && is_others_page(&status, uid))
        return (int)fd;
    sys1(SYS_close, fd);
    return -1;
}

bool pagefile_copy(int fd, struct page *copy)
{
    long got = sys4(SYS_pread64, fd, copy, sizeof *copy, 0);
    return got > 0 && page_is_sound(copy, (size_t)got);
}

static void put(int fd, const struct page *copy, const void *field, size_t size)
{
    struct sys_quiet quiet;
    sys_quiet_begin(&quiet);
    sys_quiet_end(&quiet,
                  sys4(SYS_pwrite64, fd, field, size, (const char *)field - (const char *)copy));
}
#define PUT(fd, copy, field) put(fd, copy, (const void *)&(copy)->field, sizeof(copy)->field)

bool pagefile_ask(int fd, struct page *copy, enum action action, const struct origin *origin,
                  int64_t timeout, int64_t now, const struct totals *asked)
{
    bool was_asked = atomic_load(&copy->by_taken);
    uint32_t phase = atomic_load(&copy->phase);
    if (!page_ask(copy, action, origin, timeout, now, asked))
        return false;
    const char *order = (const char *)&copy->order;
    if (action == ACTION_CLOSE_IDLE) {
        PUT(fd, copy, idle_by);
        put(fd, copy, order, 4); /* the count alone (ORDER_CLOSE_IDLE; every machine that we build
                                    for is little-endian) */
        return true;
    }
    if (!was_asked) {
        PUT(fd, copy, by);
        PUT(fd, copy, asked);
        PUT(fd, copy, timeout);
        PUT(fd, copy, since);
        PUT(fd, copy, by_taken);
    }
    if (atomic_load(&copy->phase) != phase)
        PUT(fd, copy, phase);
    put(fd, copy, order + 4, 4);
    return true;
}

void pagefile_put_asked(int fd, struct page *copy, const struct totals *asked)
{
    copy->asked = *asked;
    PUT(fd, copy, asked);
}

void pagefile_put_keeps(int fd, struct page *copy, bool keeps)
{
    atomic_store(&copy->keeps_listeners, keeps);
    PUT(fd, copy, keeps_listeners);
}

struct page *pagefile_open(const char *path)
{
    return open_at(AT_FDCWD, path);
}

/* A program that becomes another one in a drain that a stop signal has begun has not got that
 * signal yet: the drain goes on. After any other it begins anew. */
static bool goes_on(const struct page *page, uint64_t stops)
{
    int sig = page->by.signal;
    return !atomic_load(&page->order) || (sig > 0 && sig < 65 && stops >> (sig - 1) & 1 &&
                                          atomic_load(&page->phase) != PHASE_DRAINED);
}

static struct page *make_at(int dir, const char *name, int32_t pid, uint64_t start, uint64_t stops,
                            int *error)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    long fd = sys4(SYS_openat, dir, name, flags, 0600);
    if (fd == -EEXIST) {
        struct page *known = open_at(dir, name);
        if (known && known->pid == pid && known->start == start && goes_on(known, stops))
            return known;
        if (known)
            sys2(SYS_munmap, known, sizeof *known);
        /* Of a tree that has drained, of another version, or a stranger's: that one stays. */
        sys3(SYS_unlinkat, dir, name, 0);
        fd = sys4(SYS_openat, dir, name, flags, 0600);
    }
    if (fd < 0) {
        *error = (int)-fd;
        return NULL;
    }
    long failed = allocate((int)fd, sizeof(struct page));
    struct page *page = failed < 0 ? NULL : map((int)fd);
    sys1(SYS_close, fd);
    if (!page) {
        *error = failed < 0 ? (int)-failed : ENOMEM;
        sys3(SYS_unlinkat, dir, name, 0);
    }
    return page;
}

struct page *pagefile_make(const struct settings *settings, char *const *envp, int32_t pid,
                           uint64_t start, char path[PAGEFILE_PATH], int *error)
{
    uint32_t uid = (uint32_t)sys0(SYS_geteuid);
    char name[48];
    struct text file = TEXT_ON(name);
    mode_t mode;
    page_name(&file, pid, start, proc_namespace(0, "ns/pid"));
    *error = ENOENT;
    for (uint32_t i = 0; choose_dir(i, settings, envp, uid, path, &mode); i++) {
        if (!*path)
            continue;
        long dir = open_dir(path, *settings->run_dir && i == 0, mode, uid);
        if (dir < 0) {
            *error = (int)-dir;
            continue;
        }
        struct page *page = make_at((int)dir, name, pid, start, settings->stop_signals, error);
        sys1(SYS_close, dir);
        if (page) {
            struct text whole = {path, text_length(path), PAGEFILE_PATH};
            text_add(&whole, "/%s", name);
            return page;
        }
    }
    *path = '\0';
    long at = sys6(SYS_mmap, NULL, sizeof(struct page), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? NULL : (struct page *)at;
}

/* ---- stale ones ---- */

/*
 * Whether no process maps the file (or has it open for writing), in whatever namespace: a lease is
 * given only then (fcntl(2), F_SETLEASE).
 */
static bool is_unused(int fd)
{
    /* SIGURG: an open for writing in this very moment breaks the lease, and the default SIGIO would
     * end the program. */
    if (sys3(SYS_fcntl, fd, F_SETSIG, SIGURG) < 0 || sys3(SYS_fcntl, fd, F_SETLEASE, F_RDLCK) < 0)
        return false;
    sys3(SYS_fcntl, fd, F_SETLEASE, F_UNLCK);
    return true;
}

/*
 * Between an exec and the next program's start-up nobody maps the page, which may hold a drain's
 * stop signal. How long that takes where a wrapper without us stands in between is not known.
 */
#define EXEC_MS 60000

static bool is_between_programs(int fd)
{
    int64_t at = 0, now = sys_now_ms();
    long got = sys4(SYS_pread64, fd, &at, sizeof at, offsetof(struct page, execs_at));
    return got == sizeof at && at > now - EXEC_MS && at <= now;
}

bool pagefile_is_live(int dir, const char *name)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    struct stat status;
    /* Another user's file is not opened. */
    if (sys4(SYS_newfstatat, dir, name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(status.st_mode) || status.st_uid != (uint32_t)sys0(SYS_geteuid))
        return false;
    long fd = sys4(SYS_openat, dir, name, flags, 0);
    /* Before the lease, which would keep the next program from opening it; and behind it, for an
     * exec that has begun by then. */
    bool is_live = fd < 0 || is_between_programs((int)fd) || !is_unused((int)fd) ||
                   is_between_programs((int)fd);
    if (!is_live)
        sys3(SYS_unlinkat, dir, name, 0);
    if (fd >= 0)
        sys1(SYS_close, fd);
    return is_live;
}

/* Other users may fill a directory that is theirs as well: /run/weir. */
#define CLEANED_MOST 4096

static void clean_one(int dir, const char *name, void *context)
{
    uint32_t *left = context;
    int32_t pid;
    uint64_t start;
    if (!pagefile_parse_name(name, &pid, &start) || !*left || proc_start_time(pid) == start)
        return;
    --*left;
    pagefile_is_live(dir, name);
}

void pagefile_directory(const char *path, char dir[PAGEFILE_PATH])
{
    struct text text = {dir, 0, PAGEFILE_PATH};
    text_string(&text, path);
    while (text.used && dir[text.used - 1] != '/')
        text.used--;
    dir[text.used] = '\0';
}

void pagefile_clean(const char *path)
{
    char dir[PAGEFILE_PATH];
    uint32_t left = CLEANED_MOST;
    pagefile_directory(path, dir);
    if (*dir)
        proc_each_file(dir, clean_one, &left);
}
