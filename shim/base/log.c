/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/sock.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8 /* linux/fs.h; musl has no name for it */
#endif

static struct {
    enum log_to to;
    enum log_level level;
    char path[sizeof(((struct settings *)0)->log_path)];
    bool has_stderr;
    dev_t stderr_dev;
    ino_t stderr_ino;
} chosen = {.level = LOG_INFO};

static long file_status(int fd, struct stat *status)
{
    return sys2(SYS_fstat, fd, status);
}

static bool is_null_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == 0x103; /* 1,3: null(4) */
}

/* A copy: libc's points into argv, which PostgreSQL and others write their titles over. */
static char program[40] = "?";

static void remember_program(void)
{
    struct text text = TEXT_ON(program);
    if (program_invocation_short_name)
        text_string(&text, program_invocation_short_name);
}

const char *log_program(void)
{
    return program;
}

/* inetd gives a program its client as 0, 1 and 2: that is nobody's log. */
static bool is_client(int fd)
{
    int family = sock_family(fd);
    return family == AF_INET || family == AF_INET6;
}

void log_remember(void)
{
    struct stat status, input;
    remember_program();
    chosen.has_stderr = file_status(STDERR_FILENO, &status) == 0 && !is_client(STDERR_FILENO);
    if (chosen.has_stderr && S_ISSOCK(status.st_mode) && file_status(STDIN_FILENO, &input) == 0 &&
        input.st_ino == status.st_ino && input.st_dev == status.st_dev)
        chosen.has_stderr = false;
    chosen.stderr_dev = status.st_dev;
    chosen.stderr_ino = status.st_ino;
}

void log_choose(const struct settings *settings)
{
    chosen.to = settings->log;
    chosen.level = settings->log_level;
    struct text path = TEXT_ON(chosen.path);
    text_string(&path, settings->log_path);
}

void log_begin(struct log_line *line, enum log_level level)
{
    line->level = level;
    line->text = TEXT_ON(line->buffer);
    text_add(&line->text, "weir[%d] ", (int)sys0(SYS_getpid));
    text_escaped(&line->text, program, sizeof program);
    text_string(&line->text, ": ");
}

static void end_line(struct log_line *line)
{
    /* A line that was cut still ends. */
    if (line->text.used + 1 >= line->text.size)
        line->text.used = line->text.size - 2;
    text_string(&line->text, "\n");
}

static LATE struct log_line kept[LOG_KEPT_MOST]; /* log_keep */
static uint32_t kept_count;

/* ---- writing ---- */

/*
 * No line waits for its reader, and none raises a signal. The open file is not ours alone, so
 * O_NONBLOCK is never set on it: each kind of file has a call that does not block by itself.
 */

/* splice(2) with SPLICE_F_NONBLOCK out of a pipe of ours: whole pages only, so it is not the first
 * choice. */
static long splice_line(int fd, const char *at, size_t n)
{
    int own[2];
    long done = sys_pipe(own);
    if (done < 0)
        return done;
    done = sys3(SYS_write, own[1], at, n);
    if (done == (long)n)
        done = sys6(SYS_splice, own[0], NULL, fd, NULL, n, SPLICE_F_NONBLOCK);
    sys1(SYS_close, own[0]);
    sys1(SYS_close, own[1]);
    return done;
}

/* A pipe or FIFO. Linux 6.4 knows RWF_NOWAIT on a pipe (fs/pipe.c, FMODE_NOWAIT), none so far on a
 * FIFO that was opened by its name. */
static long write_pipe(int fd, const char *at, size_t n)
{
    const struct iovec line = {(void *)at, n};
    long done = sys6(SYS_pwritev2, fd, &line, 1, -1, -1, RWF_NOWAIT);
    bool unknown = done == -EOPNOTSUPP || done == -ENOSYS || done == -EINVAL;
    return unknown ? splice_line(fd, at, n) : done;
}

static bool has_room(int fd)
{
    const struct timespec at_once = {0, 0};
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    return sys5(SYS_ppoll, &polled, 1, &at_once, NULL, 8) == 1 && polled.revents & POLLOUT;
}

/* As much as any terminal has room for that poll(2) calls writable. */
#define TERMINAL_PIECE 16

/*
 * A terminal, which may be stopped (^S) or have nobody who reads it: an open file of our own does
 * not block. A process that may not open it (privileges have been dropped) writes as long as
 * there is room.
 */
static long write_terminal(int fd, const char *at, size_t n)
{
    char path[32];
    struct text text = TEXT_ON(path);
    text_add(&text, "/proc/self/fd/%d", fd);
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    long own = sys_move_up(sys4(SYS_openat, AT_FDCWD, path, flags, 0)), done = 0, one = 1;
    if (own >= 0) {
        done = sys3(SYS_write, own, at, n);
        sys1(SYS_close, own);
        return done;
    }
    while (one > 0 && done < (long)n && has_room(fd)) {
        size_t left = n - (size_t)done;
        one = sys3(SYS_write, fd, at + done, left < TERMINAL_PIECE ? left : TERMINAL_PIECE);
        done += one > 0 ? one : 0;
    }
    return done;
}

static bool is_terminal(int fd)
{
    struct termios modes;
    return sys3(SYS_ioctl, fd, TCGETS, &modes) == 0;
}

/* Writes what can be written at once. */
static long write_now(int fd, const struct stat *status, const char *at, size_t n)
{
    struct sys_quiet quiet;
    long done;
    sys_quiet_begin(&quiet);
    if (S_ISSOCK(status->st_mode))
        done = sys6(SYS_sendto, fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    else if (S_ISFIFO(status->st_mode))
        done = write_pipe(fd, at, n);
    else if (S_ISCHR(status->st_mode) && is_terminal(fd))
        done = write_terminal(fd, at, n);
    else
        done = sys3(SYS_write, fd, at, n);
    return sys_quiet_end(&quiet, done);
}

static _Atomic uint32_t lost; /* lines that could not be written since one could */
static _Atomic bool is_cut;   /* the last that was written has no end */

/* Returns whether all of the line has been written. */
static bool write_line(int fd, const struct stat *status, const char *at, size_t n)
{
    if (atomic_load(&is_cut) && write_now(fd, status, "\n", 1) != 1)
        return false;
    long done = write_now(fd, status, at, n);
    atomic_store(&is_cut, done > 0 && done < (long)n);
    return done == (long)n;
}

enum outcome { WRITTEN, LOST, ELSEWHERE };

/* Over a duplicate: what it is can't change between the look and the write. */
static enum outcome write_stderr(const char *at, size_t n, bool to_null)
{
    if (!chosen.has_stderr)
        return ELSEWHERE;
    long fd = sys_duplicate(STDERR_FILENO);
    if (fd < 0)
        return fd == -EMFILE ? LOST : ELSEWHERE;
    struct stat status;
    enum outcome outcome = ELSEWHERE;
    if (file_status((int)fd, &status) == 0 && status.st_dev == chosen.stderr_dev &&
        status.st_ino == chosen.stderr_ino && (to_null || !is_null_device(&status)))
        outcome = write_line((int)fd, &status, at, n) ? WRITTEN : LOST;
    sys1(SYS_close, fd);
    return outcome;
}

/* syslog(3)'s datagram: "<facility daemon, level>tag: text". */
static enum outcome write_syslog(enum log_level level, const char *at)
{
    static const char *const priority[] = {
        [LOG_ERROR] = "<27>", [LOG_INFO] = "<30>", [LOG_DEBUG] = "<31>"};
    static const struct sockaddr_un journal = {AF_UNIX, "/dev/log"};
    char buffer[sizeof(((struct log_line *)0)->buffer) + 8];
    struct text text = TEXT_ON(buffer);

    text_add(&text, "%s%s", priority[level], at);
    if (text.used && buffer[text.used - 1] == '\n')
        text.used--;
    const int type = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    long fd = sys_move_up(sys3(SYS_socket, AF_UNIX, type, 0));
    if (fd < 0)
        return LOST;
    long done = sys6(SYS_sendto, fd, buffer, text.used, MSG_NOSIGNAL, &journal, sizeof journal);
    sys1(SYS_close, fd);
    return done == (long)text.used ? WRITTEN : LOST;
}

static enum outcome write_anywhere(enum log_level level, const char *at, size_t n)
{
    enum outcome outcome = write_stderr(at, n, false);
    return outcome == ELSEWHERE ? write_syslog(level, at) : outcome;
}

/* Once: from there on the lines go where they would have gone. */
static void complain(enum log_level level, int error)
{
    static _Atomic bool said;
    struct log_line line;
    if (atomic_exchange(&said, true))
        return;
    log_begin(&line, level);
    text_string(&line.text, "WEIR_LOG: \"");
    text_escaped(&line.text, chosen.path, 255);
    text_add(&line.text, "\" can't be opened (error %d): as WEIR_LOG=auto from now on", error);
    end_line(&line);
    write_anywhere(level, line.buffer, line.text.used);
}

/* Nobody reads the FIFO at the moment (fifo(7)); somebody holds a lease; no descriptor is left. */
static bool passes(long error)
{
    struct stat status;
    if (error == -ENXIO)
        return sys4(SYS_newfstatat, AT_FDCWD, chosen.path, &status, 0) == 0 &&
               S_ISFIFO(status.st_mode);
    return error == -EAGAIN || error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
           error == -EINTR || error == -ENOSPC;
}

static long open_file(void)
{
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    return sys_move_up(sys4(SYS_openat, AT_FDCWD, chosen.path, flags, 0640));
}

static bool write_opened(int fd, const char *at, size_t n)
{
    struct stat status;
    return file_status(fd, &status) == 0 && write_line(fd, &status, at, n);
}

/* ---- lines that another process writes ---- */

static struct page_log *shared;
static bool takes; /* this process is the one that does */

void log_share(struct page_log *page_log)
{
    shared = page_log;
}

void log_forked(void)
{
    takes = false;
    kept_count = 0;
    atomic_store(&lost, 0);
}

/* A line that its writer has not ended yet is the writer's. */
static bool hold_line(struct page_log_line *line, uint32_t from)
{
    return atomic_compare_exchange_strong(&line->state, &from, PAGE_LOG_CHANGES);
}

static bool has_taker(void)
{
    int32_t taker = atomic_load(&shared->taker);
    return taker > 0 && taker != (int32_t)sys0(SYS_getpid) && sys2(SYS_kill, taker, 0) != -ESRCH;
}

/* Returns whether somebody writes it, or counts it. */
static bool hand_over(const char *at, size_t n)
{
    if (!shared || !has_taker())
        return false;
    for (uint32_t i = 0; i < PAGE_LOG_LINES; i++) {
        struct page_log_line *line = &shared->line[i];
        if (!hold_line(line, PAGE_LOG_FREE))
            continue;
        struct text text = TEXT_ON(line->text);
        text_escaped(&text, at, n - 1);
        atomic_store(&line->number, atomic_fetch_add(&shared->last, 1));
        atomic_store(&line->state, PAGE_LOG_FULL);
        /* It may have ended in this moment, and not have seen it. */
        if (has_taker() || !hold_line(line, PAGE_LOG_FULL))
            return true;
        atomic_store(&line->state, PAGE_LOG_FREE);
        return false;
    }
    atomic_fetch_add(&shared->lost, 1);
    return true;
}

static bool say_lost(uint32_t count, const char *whose);

/* The first of those that are there. */
static struct page_log_line *next_line(void)
{
    struct page_log_line *next = NULL;
    for (uint32_t i = 0; i < PAGE_LOG_LINES; i++) {
        struct page_log_line *line = &shared->line[i];
        if (atomic_load(&line->state) == PAGE_LOG_FULL &&
            (!next || (int32_t)(atomic_load(&line->number) - atomic_load(&next->number)) < 0))
            next = line;
    }
    return next;
}

/* What a worker that was broken into writes is a line, and not without end (state_page.h). */
#define TAKEN_AT_ONCE (4 * PAGE_LOG_LINES)
#define TAKEN_MOST 20000

static void take_lines(int fd)
{
    static uint32_t taken;
    struct page_log_line *from;
    for (int i = 0; i < TAKEN_AT_ONCE && (from = next_line()); i++) {
        struct log_line line = {.level = LOG_INFO, .text = TEXT_ON(line.buffer)};
        if (!hold_line(from, PAGE_LOG_FULL))
            continue;
        if (!text_after(from->text, "weir["))
            text_string(&line.text, "weir: ");
        text_escaped(&line.text, from->text, sizeof from->text);
        atomic_store(&from->state, PAGE_LOG_FREE);
        end_line(&line);
        if (taken++ >= TAKEN_MOST || !write_opened(fd, line.buffer, line.text.used))
            atomic_fetch_add(&lost, 1);
    }
}

void log_take(void)
{
    int32_t me = (int32_t)sys0(SYS_getpid), none = 0;
    if (!shared || chosen.to != LOG_FILE)
        return;
    uint32_t missing = takes ? atomic_exchange(&shared->lost, 0) : 0;
    if (takes && !missing && !next_line())
        return;
    long fd = open_file();
    if (fd < 0) {
        if (!passes(fd))
            log_take_ends();
        return;
    }
    if (!takes && !has_taker()) {
        none = atomic_load(&shared->taker);
        takes = atomic_compare_exchange_strong(&shared->taker, &none, me);
    }
    if (takes)
        take_lines((int)fd);
    sys1(SYS_close, fd);
    if (missing)
        say_lost(missing, " of the tree's processes");
}

void log_take_ends(void)
{
    int32_t me = (int32_t)sys0(SYS_getpid);
    if (!takes)
        return;
    takes = false;
    atomic_compare_exchange_strong(&shared->taker, &me, 0);
    long fd = open_file(); /* what has come meanwhile */
    if (fd < 0)
        return;
    take_lines((int)fd);
    sys1(SYS_close, fd);
}

static enum outcome write_file(enum log_level level, const char *at, size_t n)
{
    long fd = open_file();
    if (fd < 0 && passes(fd))
        return LOST;
    if (fd < 0) {
        if (hand_over(at, n))
            return WRITTEN;
        complain(level, (int)-fd);
        return ELSEWHERE;
    }
    bool all = write_opened((int)fd, at, n);
    sys1(SYS_close, fd);
    return all ? WRITTEN : LOST;
}

static enum outcome deliver(enum log_level level, const char *at, size_t n)
{
    enum outcome outcome = ELSEWHERE;
    if (chosen.to == LOG_SYSLOG)
        return write_syslog(level, at);
    if (chosen.to == LOG_STDERR)
        return write_stderr(at, n, true);
    if (chosen.to == LOG_FILE)
        outcome = write_file(level, at, n);
    return outcome == ELSEWHERE ? write_anywhere(level, at, n) : outcome;
}

/* Says how many lines are missing before the next one. */
static bool say_lost(uint32_t count, const char *whose)
{
    struct log_line line;
    log_begin(&line, LOG_ERROR);
    text_add(
        &line.text,
        "%u line%s%s before this one %s lost: the log could not be written without waiting for "
        "its reader",
        count, count == 1 ? "" : "s", whose, count == 1 ? "is" : "are");
    end_line(&line);
    return deliver(LOG_ERROR, line.buffer, line.text.used) == WRITTEN;
}

void log_send(struct log_line *line)
{
    if (line->level > chosen.level || chosen.to == LOG_NONE)
        return;
    end_line(line);
    uint32_t before = atomic_exchange(&lost, 0);
    if (before && !say_lost(before, ""))
        atomic_fetch_add(&lost, before);
    if (deliver(line->level, line->buffer, line->text.used) == LOST)
        atomic_fetch_add(&lost, 1);
}

/* ---- lines that are made while a connection is claimed ---- */

void log_keep(const struct log_line *line)
{
    if (line->level > chosen.level || chosen.to == LOG_NONE)
        return;
    if (kept_count == LOG_KEPT_MOST) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    struct log_line *to = &kept[kept_count++];
    to->level = line->level;
    to->text = TEXT_ON(to->buffer);
    text_string(&to->text, line->buffer);
}

void log_send_kept(void)
{
    for (uint32_t i = 0; i < kept_count; i++)
        log_send(&kept[i]);
    kept_count = 0;
}

void log_say(enum log_level level, const char *format, ...)
{
    struct log_line line;
    va_list args;
    log_begin(&line, level);
    va_start(args, format);
    text_add_list(&line.text, format, args);
    va_end(args);
    log_send(&line);
}
