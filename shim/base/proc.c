/* SPDX-License-Identifier: MIT */
#include "base/proc.h"

#include "base/sock.h"
#include "base/sys.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* "/proc/PID/name" ("self" for 0). */
static const char *path_of(char path[64], int32_t pid, const char *name)
{
    struct text text = {path, 0, 64};
    text_string(&text, "/proc/");
    if (pid > 0)
        text_number(&text, (uint64_t)pid);
    else
        text_string(&text, "self");
    text_string(&text, "/");
    text_string(&text, name);
    return path;
}

static long open_proc(int32_t pid, const char *name)
{
    char path[64];
    path_of(path, pid, name);
    return sys_move_up(sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

/* ---- line by line ---- */

int proc_open_lines(struct proc_lines *lines, int32_t pid, const char *name)
{
    lines->fd = (int)open_proc(pid, name);
    lines->end = '\n';
    lines->from = lines->filled = 0;
    return lines->fd < 0 ? -lines->fd : 0;
}

void proc_close_lines(const struct proc_lines *lines)
{
    sys1(SYS_close, lines->fd);
}

char *proc_next_line(struct proc_lines *lines)
{
    for (;;) {
        for (size_t i = lines->from; i < lines->filled; i++) {
            if (lines->buffer[i] == lines->end) {
                char *line = lines->buffer + lines->from;
                lines->buffer[i] = '\0';
                lines->from = i + 1;
                return line;
            }
        }
        size_t rest = lines->filled - lines->from;
        if (rest == sizeof lines->buffer)
            rest = 0; /* longer than the buffer */
        for (size_t i = 0; i < rest; i++)
            lines->buffer[i] = lines->buffer[lines->from + i];
        long got = sys3(SYS_read, lines->fd, lines->buffer + rest, sizeof lines->buffer - rest);
        if (got <= 0)
            return NULL;
        lines->from = 0;
        lines->filled = rest + (size_t)got;
    }
}

enum sight { UNSEEN, ENDED, SEEN }; /* UNSEEN: /proc does not show the process */

/* Reads a process's start time. */
static enum sight read_start_time(int32_t pid, uint64_t *start)
{
    char stat[1024];
    long fd = open_proc(pid, "stat");
    if (fd < 0)
        return UNSEEN;
    long got = sys3(SYS_read, fd, stat, sizeof stat - 1);
    sys1(SYS_close, fd);
    if (got <= 0)
        return got == -ESRCH ? ENDED : UNSEEN;
    stat[got] = '\0';
    /* The second field is the name in parentheses, which may hold anything. */
    const char *at = stat, *name_end = NULL;
    for (; *at; at++)
        if (*at == ')')
            name_end = at;
    if (!name_end)
        return UNSEEN;
    at = text_skip_words(name_end, 1);
    if (*at == 'Z' || *at == 'X')
        return ENDED; /* a zombie */
    at = text_skip_words(at, 22 - 3);
    *start = text_take_number(&at, 10);
    return SEEN;
}

uint64_t proc_start_time(int32_t pid)
{
    uint64_t start = 0;
    return read_start_time(pid, &start) == SEEN ? start : 0;
}

static bool exists(int32_t pid)
{
    return pid > 0 && sys2(SYS_kill, pid, 0) != -ESRCH; /* EPERM: it is another user's */
}

int proc_is_alive(int32_t pid, uint64_t since)
{
    uint64_t start = 0;
    if (!exists(pid))
        return 0;
    switch (read_start_time(pid, &start)) {
    case SEEN:
        return start * TICK_MS <= since + TICK_MS;
    case ENDED:
        return 0;
    case UNSEEN:
        /* A chroot, or a /proc that hides others' processes (proc(5), hidepid); or it has ended
         * since. */
        return exists(pid) ? -1 : 0;
    }
    return -1;
}

bool proc_slot_lives(const struct page_slot *line)
{
    int32_t pid = atomic_load(&line->pid);
    return pid > 0 && !(atomic_load(&line->flags) & SLOT_EXECS) &&
           proc_is_alive(pid, atomic_load(&line->since)) != 0;
}

bool proc_status(int32_t pid, const char *label, int index, unsigned base, uint64_t *number)
{
    struct proc_lines lines;
    const char *line, *value = NULL;
    if (proc_open_lines(&lines, pid, "status"))
        return false;
    while (!value && (line = proc_next_line(&lines)))
        value = text_after(line, label);
    for (bool more = value; more; more = index-- && *value++ == '\t')
        *number = text_take_number(&value, base);
    proc_close_lines(&lines);
    return value;
}

int64_t proc_user(int32_t pid)
{
    uint64_t effective; /* "Uid:" is real, effective, saved, file system */
    return proc_status(pid, "Uid:\t", 1, 10, &effective) ? (int64_t)effective : -1;
}

/* getdents64(2) */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

long proc_each_file(const char *path, proc_visit_fn *visit, void *context)
{
    char buffer[2048] __attribute__((aligned(8)));
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    long n, dir = sys_move_up(sys4(SYS_openat, AT_FDCWD, path, flags, 0));
    if (dir < 0)
        return dir;
    while ((n = sys3(SYS_getdents64, dir, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length)
            visit((int)dir, ((struct entry *)(buffer + at))->name, context);
    sys1(SYS_close, dir);
    return 0;
}

long proc_link(int dir, const char *name, char target[64])
{
    long length = sys4(SYS_readlinkat, dir, name, target, 63);
    target[length > 0 ? length : 0] = '\0';
    return length;
}

uint64_t proc_socket_of(const char *target)
{
    const char *inode = text_after(target, "socket:[");
    return inode ? text_take_number(&inode, 10) : 0;
}

uint64_t proc_socket(int dir, const char *name)
{
    char target[64];
    proc_link(dir, name, target);
    return proc_socket_of(target);
}

struct each_process {
    void (*visit)(int32_t pid, void *context);
    void *context;
};

static void visit_name(int dir, const char *name, void *context)
{
    const struct each_process *each = context;
    (void)dir;
    uint64_t pid = text_take_number(&name, 10);
    if (!*name && pid && pid <= INT32_MAX)
        each->visit((int32_t)pid, each->context);
}

void proc_each_process(void (*visit)(int32_t pid, void *context), void *context)
{
    struct each_process each = {visit, context};
    proc_each_file("/proc", visit_name, &each);
}

struct each_child {
    int32_t pid;
    void (*visit)(int32_t child);
};

/* "PID PID ", of one thread. */
static void each_of_thread(int dir, const char *name, void *context)
{
    const struct each_child *each = context;
    char file[48];
    struct text text = TEXT_ON(file);
    struct proc_lines children;
    (void)dir;
    text_add(&text, "task/%s/children", name);
    if (*name == '.' || proc_open_lines(&children, each->pid, file))
        return;
    children.end = ' ';
    for (const char *child; (child = proc_next_line(&children));)
        each->visit((int32_t)text_take_number(&child, 10));
    proc_close_lines(&children);
}

void proc_each_child(int32_t pid, void (*visit)(int32_t child))
{
    char path[64];
    struct each_child each = {pid, visit};
    proc_each_file(path_of(path, pid, "task"), each_of_thread, &each);
}

int proc_catches(int32_t pid, int sig)
{
    uint64_t caught;
    if (sig < 1 || sig > 64)
        return 0;
    return proc_status(pid, "SigCgt:\t", 0, 16, &caught) ? (int)(caught >> (sig - 1) & 1) : -1;
}

bool proc_is_shown(int32_t pid)
{
    long fd = open_proc(pid, "stat");
    if (fd >= 0)
        sys1(SYS_close, fd);
    return fd >= 0;
}

bool proc_is_filtered(void)
{
    uint64_t mode;
    return !proc_status(0, "Seccomp:\t", 0, 10, &mode) || mode;
}

bool proc_knows_syn_cookies(void)
{
    struct proc_lines lines;
    const char *figures = NULL;
    if (proc_open_lines(&lines, 0, "net/netstat"))
        return false;
    for (const char *line; (line = proc_next_line(&lines)) && !figures;) {
        const char *values = text_after(line, "TcpExt: ");
        if (values && *values >= '0' && *values <= '9')
            figures = values; /* the first is SyncookiesSent (net/ipv4/proc.c, snmp4_net_list) */
    }
    bool any = figures && *figures != '0';
    proc_close_lines(&lines);
    return any;
}

int32_t proc_parent(int32_t pid)
{
    uint64_t parent;
    return proc_status(pid, "PPid:\t", 0, 10, &parent) && parent <= INT32_MAX ? (int32_t)parent : 0;
}

bool proc_descends(int32_t pid)
{
    int32_t me = (int32_t)sys0(SYS_getpid);
    for (int i = 0; i < PROC_GENERATIONS_MOST && (pid = proc_parent(pid)); i++)
        if (pid == me)
            return true;
    return false;
}

bool proc_is_child(int32_t pid)
{
    siginfo_t info; /* waitid(2): WNOWAIT leaves one that has ended to the program */
    return sys5(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
}

uint32_t proc_namespace(int32_t pid, const char *file)
{
    char path[64];
    struct stat status;
    long failed = sys4(SYS_newfstatat, AT_FDCWD, path_of(path, pid, file), &status, 0);
    return failed < 0 ? 0 : (uint32_t)status.st_ino;
}

/* ---- mappings ---- */

/* Takes away what the kernel puts behind the path of a file that was removed (proc(5), maps). */
static bool take_deleted(char *path)
{
    static const char deleted[] = " (deleted)";
    size_t length = text_length(path), n = sizeof deleted - 1;
    bool is_deleted = length > n && text_equal(path + length - n, deleted);
    if (is_deleted)
        path[length - n] = '\0';
    return is_deleted;
}

/* A line is "address-address perms offset major:minor inode path". */
bool proc_next_mapping(struct proc_lines *maps, uint32_t *budget, struct proc_mapping *mapping)
{
    char *line = *budget ? proc_next_line(maps) : NULL;
    const char *at = line;
    if (!line)
        return false;
    --*budget;
    mapping->from = text_take_number(&at, 16);
    at += *at == '-';
    mapping->to = text_take_number(&at, 16);
    at = text_skip_words(line, 1);
    bool is_whole = *at && at[1] && at[2] && at[3];
    mapping->is_code = is_whole && at[2] == 'x';
    mapping->is_shared = is_whole && at[3] == 's';
    at = text_skip_words(at, 2);
    uint64_t major = text_take_number(&at, 16);
    at += *at == ':';
    mapping->file.device = major << 32 | text_take_number(&at, 16);
    at += *at == ' ';
    mapping->file.inode = text_take_number(&at, 10);
    while (*at == ' ')
        at++;
    mapping->path = line + (at - line);
    mapping->is_deleted = take_deleted(mapping->path);
    return true;
}

bool proc_mapped_file(const void *address, struct proc_file *file)
{
    struct proc_lines maps;
    struct proc_mapping mapping;
    uint32_t budget = UINT32_MAX;
    bool found = false;
    if (proc_open_lines(&maps, 0, "maps"))
        return false;
    while (!found && proc_next_mapping(&maps, &budget, &mapping))
        found = mapping.from <= (uintptr_t)address && (uintptr_t)address < mapping.to;
    proc_close_lines(&maps);
    if (found)
        *file = mapping.file;
    return found && file->inode;
}

/* By a mapping that is never read, so that a file that is cut off does no harm. */
bool proc_opened_file(int fd, struct proc_file *file)
{
    long at = sys6(SYS_mmap, NULL, PAGE_MAX, PROT_NONE, MAP_PRIVATE, fd, 0);
    if (at < 0 && at > -4096)
        return false;
    bool known = proc_mapped_file((void *)at, file);
    sys2(SYS_munmap, at, PAGE_MAX);
    return known;
}

static bool has_text(const char *in, const char *text)
{
    for (; *in; in++)
        if (text_after(in, text))
            return true;
    return !*text;
}

#define MAPPINGS_MOST 4096 /* of one process, among which the shim is looked for */

int proc_maps(int32_t pid, const struct proc_file *file, const char *name, uint32_t *budget)
{
    struct proc_lines maps;
    struct proc_mapping mapping;
    int found = 0, error = proc_open_lines(&maps, pid, "maps");
    if (error)
        return error == ENOENT && !exists(pid) ? 0 : -1;
    while (!found && proc_next_mapping(&maps, budget, &mapping))
        found = mapping.is_shared && mapping.file.inode && mapping.file.inode == file->inode &&
                mapping.file.device == file->device && has_text(mapping.path, name);
    proc_close_lines(&maps);
    return found;
}

bool proc_has_shim(int32_t pid)
{
    static struct proc_file shim;
    struct proc_lines maps;
    struct proc_mapping mapping;
    uint32_t budget = MAPPINGS_MOST;
    bool has = false;
    if ((!shim.inode && !proc_mapped_file((const void *)(uintptr_t)proc_has_shim, &shim)) ||
        proc_open_lines(&maps, pid, "maps"))
        return true; /* as far as is known */
    while (!has && proc_next_mapping(&maps, &budget, &mapping))
        has = mapping.file.inode == shim.inode && mapping.file.device == shim.device;
    proc_close_lines(&maps);
    return has;
}

/* ---- connections that are handed on ---- */

/* "0100007F:1F90": as the kernel prints a socket's address (net/ipv4/tcp_ipv4.c). */
static socklen_t address_at(const char *at, struct sockaddr_storage *into, uint16_t *port)
{
    uint32_t words[4] = {0};
    size_t digits = 0;
    while ((at[digits] >= '0' && at[digits] <= '9') || (at[digits] >= 'A' && at[digits] <= 'F'))
        digits++;
    size_t count = digits / 8;
    if ((count != 1 && count != 4) || at[digits] != ':')
        return 0;
    for (size_t i = 0; i < count; i++) {
        char word[9];
        for (size_t c = 0; c < 8; c++)
            word[c] = at[i * 8 + c];
        word[8] = '\0';
        const char *number = word;
        words[i] = (uint32_t)text_take_number(&number, 16);
    }
    const char *number = at + digits + 1;
    *port = htons((uint16_t)text_take_number(&number, 16));
    *into = (struct sockaddr_storage){0};
    if (count == 1) {
        struct sockaddr_in *in = (void *)into;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = *port};
        in->sin_addr.s_addr = words[0];
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (void *)into;
    *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = *port};
    for (size_t i = 0; i < 4; i++)
        in6->sin6_addr.s6_addr32[i] = words[i];
    return sizeof *in6;
}

/* Whether the peer has not sent its FIN yet, or the FIN has not been read. at: "st tx:rx". */
static bool can_send(const char *at)
{
    enum { ESTABLISHED = 1, CLOSE_WAIT = 8 }; /* net/tcp_states.h */
    uint64_t state = text_take_number(&at, 16);
    at += *at == ' ';
    text_take_number(&at, 16);
    at += *at == ':';
    return state == ESTABLISHED || (state == CLOSE_WAIT && text_take_number(&at, 16));
}

/* A line "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...": the
 * fingerprint of a socket that some process holds (one that none does has no inode), or 0. */
static uint32_t fingerprint_at(const char *line)
{
    struct sockaddr_storage own, peer;
    uint16_t port, peers_port;
    const char *at = text_skip_words(line, 1);
    if (!address_at(at, &own, &port))
        return 0;
    at = text_skip_words(at, 1);
    socklen_t len = address_at(at, &peer, &peers_port);
    at = text_skip_words(at, 1);
    if (!len || !can_send(at))
        return 0;
    at = text_skip_words(at, 9 - 3);
    return text_take_number(&at, 10)
               ? sock_hash_port(sock_hash((struct sockaddr *)&peer, len), port)
               : 0;
}

/* Marks the entries of which there is a socket. Returns how many are left; -1: not known. */
static int mark_open(int32_t pid, const char *name, const uint64_t *gaps, uint32_t count,
                     bool *open)
{
    struct proc_lines lines;
    const char *line;
    int left = 0;
    if (proc_open_lines(&lines, pid, name))
        return -1;
    for (uint32_t i = 0; i < count; i++)
        left += gaps[i] && !open[i];
    while (left && (line = proc_next_line(&lines))) {
        uint32_t fingerprint = fingerprint_at(line);
        for (uint32_t i = 0; fingerprint && i < count; i++) {
            if ((uint32_t)(gaps[i] >> 32) == fingerprint && !open[i]) {
                open[i] = true;
                left--;
            }
        }
    }
    proc_close_lines(&lines);
    return left;
}

uint32_t proc_open_handoffs(const _Atomic uint64_t *gaps, uint32_t count, int32_t pid, int64_t now,
                            bool *open)
{
    uint64_t wanted[PAGE_HANDOFFS];
    uint32_t sockets = 0, all = 0;
    count = count < PAGE_HANDOFFS ? count : PAGE_HANDOFFS;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry = atomic_load(&gaps[i]);
        bool counts = entry && !(entry & HANDOFF_ADOPTED), is_unix = counts && entry & HANDOFF_UNIX;
        open[i] = is_unix && handoff_is_new(entry, now);
        wanted[i] = counts && !is_unix ? entry : 0;
        sockets += wanted[i] != 0;
    }
    int left = sockets ? mark_open(pid, "net/tcp", wanted, count, open) : 0;
    if (left > 0)
        mark_open(pid, "net/tcp6", wanted, count, open);
    for (uint32_t i = 0; i < count; i++) {
        open[i] = open[i] || (left < 0 && wanted[i]);
        all += open[i];
    }
    return all;
}

/* ---- sums ---- */

void proc_totals(const struct page *tree, int32_t me, struct totals *totals)
{
    *totals = (struct totals){0};
    for (uint32_t i = 0; i <= PAGE_SLOTS; i++) {
        int32_t pid = i < PAGE_SLOTS ? atomic_load(&tree->slot[i].pid) : -1;
        bool lives = i == PAGE_SLOTS || pid == me || (pid && proc_slot_lives(&tree->slot[i]));
        if (pid)
            page_add_slot(totals, tree, i, lives);
    }
    if (atomic_load(&tree->handoffs_used)) {
        /* Handed from one process to another: the first has counted a close, which was none. */
        bool open[PAGE_HANDOFFS];
        uint32_t waiting = proc_open_handoffs(tree->handoff, PAGE_HANDOFFS, 0, sys_now_ms(), open);
        totals->tracked += waiting;
        totals->in_use += waiting;
        totals->closed_by_program -= waiting;
    }
    page_add_gone(totals, &tree->gone);
    page_settle_tree(totals);
}

void proc_finish_asked(struct totals *totals, const uint64_t *handoff, const struct page *now,
                       int32_t me)
{
    bool open[PAGE_HANDOFFS];
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        struct totals one;
        int32_t pid = atomic_load(&now->slot[i].pid);
        if (pid <= 0 || pid == me || proc_slot_lives(&now->slot[i]))
            continue;
        page_slot_totals(&one, now, i);
        totals->tracked -= one.tracked;
        totals->closed_by_program += one.tracked;
    }
    if (handoff)
        proc_open_handoffs(now->handoff, PAGE_HANDOFFS, 0, sys_now_ms(), open);
    for (uint32_t i = 0; i < PAGE_HANDOFFS && handoff; i++) {
        bool waits = handoff[i] && !(handoff[i] & HANDOFF_ADOPTED);
        /* One that is not there any more has been taken since. */
        if (waits && (open[i] || atomic_load(&now->handoff[i]) != handoff[i])) {
            totals->tracked++;
            totals->closed_by_program--;
        }
    }
    page_settle_tree(totals);
}
