/* SPDX-License-Identifier: MIT */
/* weir check: will the shim work in this program, and is it in this process? */
#include "command/check/verdict.h"
#include "command/find.h"
#include "base/settings.h"
#include "base/text.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>

static const char usage[] =
    "Usage: weir check COMMAND|PID\n"
    "\n"
    "Says whether the shim will work in a program, and what it will not see there;\n"
    "of a process also whether the shim is in it, and if not, why. It starts nothing.\n"
    "What is a number is a PID: ./123 is the file.\n"
    "\n"
    "Exit: 0 it will work, 1 it will not (the last line says why), 2 usage, 4 no such\n"
    "process, 5 not permitted.\n";

/* ---- a process ---- */

struct process {
    int pid;
    char mapped[PATH_MAX];      /* the shim, among its maps; "": it is not there */
    bool is_secure;             /* AT_SECURE */
    bool was_asked;             /* LD_PRELOAD named the shim when it started */
    int seccomp;                /* 0: no; 1: strict; 2: a filter */
    struct complaint complaint; /* of the settings that it was started with; "": none */
};

static bool fail_at(struct check *check, int pid, const char *file)
{
    if (errno == EACCES || errno == EPERM)
        return check_fail(
            check, EXIT_FORBIDDEN,
            "pid %d: you may not look at it (/proc/%d/%s): ask as its user, or as root", pid, pid,
            file);
    if (errno == ENOENT || errno == ESRCH)
        return check_fail(check, EXIT_NO_SHIM, "pid %d: no such process", pid);
    return check_fail(check, EXIT_FAILED, "pid %d: /proc/%d/%s: %s", pid, pid, file,
                      strerror(errno));
}

#define PROC_FILE_MOST (16 << 20)

/* All of /proc/PID/file, and a NUL behind it. NULL: errno says why. */
static char *read_proc(int pid, const char *file, size_t *length)
{
    char path[64], *text = NULL;
    size_t size = 0, used = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    for (;;) {
        if (used + 1 >= size) {
            char *larger = size < PROC_FILE_MOST ? realloc(text, size = size ? 2 * size : 8192)
                                                 : (errno = EFBIG, NULL);
            if (!larger)
                break;
            text = larger;
        }
        ssize_t got = read(fd, text + used, size - used - 1);
        if (got < 0)
            break;
        if (!got) {
            close(fd);
            text[used] = '\0';
            *length = used;
            return text;
        }
        used += (size_t)got;
    }
    int error = errno;
    free(text);
    close(fd);
    errno = error;
    return NULL;
}

/* ld.so(8): whether LD_PRELOAD's value names the shim. */
static bool names_shim(const char *list)
{
    while (*list) {
        size_t length = strcspn(list, ": ");
        const char *found = strstr(list, "libweir.so");
        if (found && (size_t)(found - list) + strlen("libweir.so") == length &&
            (found == list || found[-1] == '/'))
            return true;
        list += length + (list[length] != '\0');
    }
    return false;
}

/* What it was started with. A program that writes its title over it leaves us less to read. */
static bool read_environment(struct process *process, struct check *check)
{
    struct settings settings;
    size_t length, count = 0;
    char *text = read_proc(process->pid, "environ", &length);
    if (!text)
        return fail_at(check, process->pid, "environ");
    char **entries = calloc(length + 1, sizeof *entries);
    for (size_t at = 0; entries && at < length; at += strlen(text + at) + 1) {
        const char *list = text_after(text + at, "LD_PRELOAD=");
        entries[count++] = text + at;
        process->was_asked |= list && names_shim(list);
    }
    if (entries && settings_read(&settings, entries, &process->complaint))
        *process->complaint.text = '\0';
    free(entries);
    free(text);
    return true;
}

/* getauxval(3), AT_SECURE. */
static bool read_auxv(struct process *process, struct check *check)
{
    size_t length;
    unsigned long entry[2];
    char *text = read_proc(process->pid, "auxv", &length);
    if (!text)
        return fail_at(check, process->pid, "auxv");
    for (size_t at = 0; at + sizeof entry <= length; at += sizeof entry) {
        memcpy(entry, text + at, sizeof entry);
        if (entry[0] == AT_SECURE)
            process->is_secure = entry[1];
    }
    free(text);
    return true;
}

static bool read_status(struct process *process, struct check *check)
{
    size_t length;
    char *text = read_proc(process->pid, "status", &length);
    if (!text)
        return fail_at(check, process->pid, "status");
    const char *field = strstr(text, "\nSeccomp:");
    if (field)
        process->seccomp = atoi(field + strlen("\nSeccomp:"));
    free(text);
    return true;
}

/* The path of a line of /proc/PID/maps whose memory holds code. NULL: it has none. */
static char *path_of_code(char *line)
{
    char permissions[5] = "";
    int before = 0;
    if (sscanf(line, "%*x-%*x %4s %*x %*x:%*x %*u %n", permissions, &before) != 1 || !before)
        return NULL;
    return permissions[2] == 'x' && line[before] == '/' ? line + before : NULL;
}

/* What is mapped there: the shim, and the libraries, also those that were loaded later. */
static bool read_maps(struct process *process, const char *program, struct calls *calls,
                      size_t *libraries, struct check *check)
{
    size_t length;
    char *text = read_proc(process->pid, "maps", &length), *rest = text, *line;
    char last[PATH_MAX] = "", path[PATH_MAX + 32];
    if (!text)
        return fail_at(check, process->pid, "maps");
    while ((line = strsep(&rest, "\n"))) {
        char *mapped = path_of_code(line);
        struct elf_part file;
        struct elf elf;
        if (!mapped || !strcmp(mapped, program) || !strcmp(mapped, last) ||
            snprintf(last, sizeof last, "%s", mapped) >= (int)sizeof last)
            continue;
        if (!strncmp(check_base(mapped), "libweir.so", strlen("libweir.so"))) {
            snprintf(process->mapped, sizeof process->mapped, "%s", mapped);
            continue;
        }
        /* proc(5), /proc/PID/root: as the process itself sees its files, in a container too. One
         * that is gone has " (deleted)" behind its name, and is not found. */
        snprintf(path, sizeof path, "/proc/%d/root%s", process->pid, mapped);
        if (elf_map(path, &file) != ELF_OPENED)
            continue;
        if (elf_read(&elf, file.at, file.size) == ELF_NATIVE && !elf.loader) {
            if (elf.is_go)
                check_say(check, "%s is made with Go: what it does can't be seen.",
                          SHOWN(check_base(mapped)));
            check_calls_add(calls, &elf, mapped);
            ++*libraries;
        }
        elf_unmap(&file);
    }
    free(text);
    return true;
}

static bool is_elsewhere(int pid)
{
    char theirs[64] = "", ours[64] = "", path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    return readlink(path, theirs, sizeof theirs - 1) > 0 &&
           readlink("/proc/self/ns/mnt", ours, sizeof ours - 1) > 0 && strcmp(theirs, ours);
}

/* proc(5), maps: what of a file that another was renamed over, or that was removed, is mapped. */
static const char deleted[] = " (deleted)";

static void say_shim(const struct process *process, const struct check *check)
{
    char version[VERSION_TEXT];
    size_t length = strlen(process->mapped), end = strlen(deleted);
    bool is_old = length > end && text_equal(process->mapped + length - end, deleted);
    if (find_version(process->pid, version))
        check_say(check, "The shim is in it, of weir %s: %s.", version, SHOWN(process->mapped));
    else
        check_say(check, "The shim is in it: %s.", SHOWN(process->mapped));
    if (is_old)
        check_say(check, "That file has been replaced or removed since: the process goes on with "
                         "the old one until it is started again.");
}

/* The last word, once its program would do. */
static bool judge(const struct process *process, struct check *check)
{
    static const char secure[] = "in secure-execution mode (AT_SECURE: setuid, file capabilities, "
                                 "or a transition of SELinux or AppArmor)";
    if (is_elsewhere(process->pid))
        check_say(check, "It is in a container (another mount namespace): weir and libweir.so must "
                         "be in there, too.");
    if (process->seccomp)
        check_say(check,
                  "It is under seccomp: if it entered the sandbox itself, and not its service "
                  "manager or container before it began, it is not drained from there on.");
    if (*process->mapped) {
        say_shim(process, check);
        if (*process->complaint.text)
            return check_fail(check, EXIT_FAILED, "the shim stands aside in pid %d: %s",
                              process->pid, process->complaint.text);
        return true;
    }
    if (process->was_asked && process->is_secure)
        return check_fail(check, EXIT_FAILED,
                          "pid %d was started with the shim in LD_PRELOAD, %s, where the loader "
                          "ignores it (ld.so(8))",
                          process->pid, secure);
    if (process->is_secure)
        return check_fail(check, EXIT_FAILED,
                          "pid %d was started %s, where the loader ignores LD_PRELOAD (ld.so(8))",
                          process->pid, secure);
    if (process->was_asked)
        return check_fail(check, EXIT_FAILED,
                          "pid %d was started with the shim in LD_PRELOAD, and it is not in there: "
                          "the loader could not open it, as it has said on stderr",
                          process->pid);
    check_say(check, "The shim is not in it: it was started without.");
    return true;
}

/* The program of a process, open: its file may have been replaced, or be in a container. */
static bool map_program(int pid, char path[PATH_MAX], struct elf_part *file, struct check *check)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/%d", pid);
    if (access(link, F_OK)) {
        /* proc(5), hidepid: a process of another user may not be there for us. */
        errno = kill(pid, 0) && errno != EPERM ? ENOENT : EPERM;
        return fail_at(check, pid, "exe");
    }
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0 && errno == ENOENT)
        return check_fail(check, EXIT_FAILED,
                          "pid %d has no program: it is the kernel's, or ending", pid);
    if (length < 0)
        return fail_at(check, pid, "exe");
    path[length] = '\0';
    switch (elf_map(link, file)) {
    case ELF_OPENED:
        return true;
    case ELF_FORBIDDEN:
        errno = EACCES;
        return fail_at(check, pid, "exe");
    default:
        return check_fail(check, EXIT_FAILED, "pid %d: its program %s can't be read", pid,
                          SHOWN(path));
    }
}

static bool check_process(int pid, struct process *process, struct check *check)
{
    char path[PATH_MAX];
    struct elf_part file;
    struct elf elf;
    size_t libraries = 0;
    *process = (struct process){.pid = pid};
    if (!map_program(pid, path, &file, check))
        return false;
    struct calls *calls = NULL;
    bool works =
        check_image(&file, path, &elf, check) && (calls = check_calls_begin(check)) &&
        read_auxv(process, check) && read_environment(process, check) &&
        read_status(process, check) &&
        (check_calls_add(calls, &elf, path), read_maps(process, path, calls, &libraries, check));
    if (works) {
        check_say(check, "Libraries that are in it and were looked at: %zu.", libraries);
        check_calls_say(calls, check);
        works = judge(process, check);
    }
    check_calls_end(calls);
    elf_unmap(&file);
    return works;
}

/* ---- the subcommand ---- */

/* The pid, or -1: it is no number. */
static int pid_of(const char *argument)
{
    size_t length = strspn(argument, "0123456789");
    if (!length || argument[length])
        return -1;
    unsigned long number = strtoul(argument, NULL, 10);
    return number > INT32_MAX ? INT32_MAX : (int)number; /* proc(5), pid_max: no process either */
}

static int verdict(const struct check *check, bool works, const char *where)
{
    if (works)
        printf("will work%s\n", where);
    else if (check->exit == EXIT_FAILED)
        printf("will not work: %s\n", check->reason);
    else
        fprintf(stderr, "weir: %s\n", check->reason);
    return works ? EXIT_DONE : check->exit;
}

int command_check(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct check check = {.says = true};
    struct process process;
    argv[0] = "weir"; /* getopt(3) begins its messages with it */
    int option = getopt_long(argc, argv, "+h", options, NULL);
    if (option == 'h') {
        fputs(usage, stdout);
        return EXIT_DONE;
    }
    if (option != -1 || optind + 1 != argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    int pid = pid_of(argv[optind]);
    if (pid < 0)
        return verdict(&check, check_command(argv[optind], &check), "");
    bool works = check_process(pid, &process, &check);
    return verdict(&check, works,
                   works && *process.mapped ? ": the shim is in it"
                                            : " when it is started again, by `weir run`");
}
