/* SPDX-License-Identifier: MIT */
#include "log.h"

#include "sock.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>

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
    text_string(&line->text, "weir[");
    text_number(&line->text, (uint64_t)sys0(SYS_getpid));
    text_string(&line->text, "] ");
    text_escaped(&line->text, program, sizeof program);
    text_string(&line->text, ": ");
}

static void write_all(int fd, const char *at, size_t n)
{
    while (n) {
        long done = sys3(SYS_write, fd, at, n);
        if (done == -EINTR)
            continue;
        if (done <= 0)
            return;
        at += done;
        n -= (size_t)done;
    }
}

/* Over a duplicate: what it is can't change between the look and the write. */
static bool write_stderr(const char *at, size_t n, bool to_null)
{
    if (!chosen.has_stderr)
        return false;
    long fd = sys3(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return false;
    struct stat status;
    bool same = file_status((int)fd, &status) == 0 && status.st_dev == chosen.stderr_dev &&
                status.st_ino == chosen.stderr_ino && (to_null || !is_null_device(&status));
    if (same)
        write_all((int)fd, at, n);
    sys1(SYS_close, fd);
    return same;
}

static void write_anywhere(enum log_level level, const char *at, size_t n);

static void write_file(enum log_level level, const char *at, size_t n)
{
    long fd = sys4(SYS_openat, AT_FDCWD, chosen.path,
                   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0) {
        /* A chroot, or a mistake: the lines go where they would have gone. */
        struct log_line line;
        chosen.to = LOG_AUTO;
        log_begin(&line, LOG_ERROR);
        text_string(&line.text, "WEIR_LOG: \"");
        text_escaped(&line.text, chosen.path, 255);
        text_string(&line.text, "\" can't be opened (error ");
        text_number(&line.text, (uint64_t)-fd);
        text_string(&line.text, "): as WEIR_LOG=auto from now on");
        log_send(&line);
        write_anywhere(level, at, n);
        return;
    }
    write_all((int)fd, at, n);
    sys1(SYS_close, fd);
}

/* syslog(3)'s datagram: "<facility daemon, level>tag: text". */
static void write_syslog(enum log_level level, const char *at)
{
    static const char *const priority[] = {
        [LOG_ERROR] = "<27>", [LOG_INFO] = "<30>", [LOG_DEBUG] = "<31>"};
    static const struct sockaddr_un journal = {AF_UNIX, "/dev/log"};
    char buffer[sizeof(((struct log_line *)0)->buffer) + 8];
    struct text text = TEXT_ON(buffer);

    text_string(&text, priority[level]);
    text_string(&text, at);
    if (text.used && buffer[text.used - 1] == '\n')
        text.used--;
    long fd = sys3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    sys6(SYS_sendto, fd, buffer, text.used, MSG_NOSIGNAL, &journal, sizeof journal);
    sys1(SYS_close, fd);
}

static void write_anywhere(enum log_level level, const char *at, size_t n)
{
    if (!write_stderr(at, n, false))
        write_syslog(level, at);
}

void log_send(struct log_line *line)
{
    if (line->level > chosen.level || chosen.to == LOG_NONE)
        return;
    /* A line that was cut still ends. */
    if (line->text.used + 1 >= line->text.size)
        line->text.used = line->text.size - 2;
    text_string(&line->text, "\n");

    const char *at = line->buffer;
    size_t n = line->text.used;
    switch (chosen.to) {
    case LOG_FILE:
        write_file(line->level, at, n);
        break;
    case LOG_SYSLOG:
        write_syslog(line->level, at);
        break;
    case LOG_STDERR:
        write_stderr(at, n, true);
        break;
    default:
        write_anywhere(line->level, at, n);
    }
}

void log_say(enum log_level level, const char *string)
{
    struct log_line line;
    log_begin(&line, level);
    text_string(&line.text, string);
    log_send(&line);
}
