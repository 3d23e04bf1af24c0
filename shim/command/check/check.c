/* SPDX-License-Identifier: MIT */
/* weir check: will the shim work in this program, and is it in this process? */

#include "base/settings.h"
#include "base/libc_versions.h"
#include "base/text.h"
#include "command/check/calls.h"
#include "command/check/libraries.h"
#include "command/check/program.h"
#include "command/find.h"
#include "command/proc/process.h"
#include "command/say.h"

#include <elf.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>

static const char usage[] =
    "Usage: weir check COMMAND|PID\n"
    "\n"
    "Says whether the shim will work in a program, and what it will not see there;\n"
    "of a process also whether the shim is in it, and if not, why. It starts nothing.\n"
    "What is a number is a PID: ./123 is the file.\n"
    "\n"
    "Exit: 0 it will work, 1 it will not (the last line says why), 2 usage, 4 no such\n"
    "process, 5 not permitted.\n"
    "\n"
    "Examples:\n"
    "  weir check nginx\n"
    "  weir check 4711\n";

/* ---- a process ---- */

struct process {
    int32_t pid;
    char mapped[PATH_MAX + 16]; /* the shim, among its maps; "": it is not there */
    bool is_old;                /* that file has been replaced or removed */
    bool is_secure;             /* AT_SECURE */
    bool was_asked;             /* LD_PRELOAD named the shim when it started */
    struct complaint complaint; /* of the settings that it was started with; "": none */
};

static bool fail_at(struct check *check, int32_t pid, const char *file, int error)
{
    check->exit = error == ENOENT || error == ESRCH ? EXIT_NO_SHIM : exit_code(error);
    if (check->exit == EXIT_NO_SHIM)
        return check_fail(check, "pid %d: no such process", pid);
    if (check->exit == EXIT_FAILED)
        return check_fail(check, "pid %d: /proc/%d/%s: %s", pid, pid, file, strerror(error));
    return check_fail(check,
                      "pid %d: you may not look at it (/proc/%d/%s): ask as its user, or as root",
                      pid, pid, file);
}

static bool open_lines(struct proc_lines *lines, int32_t pid, const char *file, struct check *check)
{
    int error = proc_open_lines(lines, pid, file);
    return !error || fail_at(check, pid, file, error);
}

/* Reads the start environment. A program that writes its title over it leaves less to read. */
static bool read_environment(struct process *process, struct check *check)
{
    char *settings_of[128], *entry, *item;
    struct settings settings;
    struct proc_lines lines;
    size_t count = 0;
    if (!open_lines(&lines, process->pid, "environ", check))
        return false;
    lines.end = '\0';
    while ((entry = proc_next_line(&lines))) {
        char *list = (char *)text_after(entry, "LD_PRELOAD=");
        while (list && (item = strsep(&list, ": "))) /* ld.so(8) */
            process->was_asked |= text_equal(base_name(item), "libweir.so");
        if (text_after(entry, "WEIR_") && count + 1 < COUNT_OF(settings_of))
            settings_of[count++] = strdup(entry);
    }
    settings_of[count] = NULL;
    proc_close_lines(&lines);
    if (settings_read(&settings, settings_of, &process->complaint))
        *process->complaint.text = '\0';
    while (count)
        free(settings_of[--count]);
    return true;
}

/* getauxval(3), AT_SECURE. */
static bool read_auxv(struct process *process, struct check *check)
{
    struct proc_lines file;
    unsigned long entry[2];
    if (!open_lines(&file, process->pid, "auxv", check))
        return false;
    while (read(file.fd, entry, sizeof entry) == sizeof entry)
        process->is_secure |= entry[0] == AT_SECURE && entry[1];
    proc_close_lines(&file);
    return true;
}

/* Adds the calls of a library that is mapped. Returns whether it is one that can be read. */
static bool add_library(int32_t pid, const char *mapped, struct check *check)
{
    char path[PATH_MAX + 32];
    struct elf_part file;
    struct elf elf;
    /* proc(5), /proc/PID/root: as the process itself sees its files, in a container too. */
    snprintf(path, sizeof path, "/proc/%d/root%s", pid, mapped);
    if (elf_map(path, &file))
        return false;
    bool is_library = elf_read(&elf, file.at, file.size) == ELF_NATIVE && !elf.loader;
    if (is_library && elf.is_go)
        check_say(check, "%s is made with Go: what it does can't be seen.",
                  escaped(base_name(mapped)));
    if (is_library)
        calls_add(&elf, mapped);
    elf_unmap(&file);
    return is_library;
}

/* Reads the mappings: the shim, and the libraries, also those that were loaded later. */
static bool read_maps(struct process *process, const char *program, struct check *check)
{
    struct proc_lines maps;
    struct proc_mapping mapping;
    uint32_t budget = UINT32_MAX;
    size_t libraries = 0;
    char last[PATH_MAX] = "";
    if (!open_lines(&maps, process->pid, "maps", check))
        return false;
    while (proc_next_mapping(&maps, &budget, &mapping)) {
        if (!mapping.is_code || *mapping.path != '/' || text_equal(mapping.path, program) ||
            text_equal(mapping.path, last))
            continue;
        snprintf(last, sizeof last, "%s", mapping.path);
        if (text_after(base_name(last), "libweir.so")) {
            process->is_old = mapping.is_deleted;
            snprintf(process->mapped, sizeof process->mapped, "%s%s", last,
                     mapping.is_deleted ? " (deleted)" : "");
        } else if (!mapping.is_deleted) {
            libraries += add_library(process->pid, last, check);
        }
    }
    proc_close_lines(&maps);
    check_say(check, "Libraries that are in it and were looked at: %zu.", libraries);
    return true;
}

static void say_shim(const struct process *process, const struct check *check)
{
    const char *version = find_version(process->pid);
    check_say(check, "The shim is in it%s%s: %s.", version ? ", of weir " : "",
              version ? version : "", escaped(process->mapped));
    if (process->is_old)
        check_say(check, "That file has been replaced or removed since: the process goes on with "
                         "the old one until it is started again.");
}

/* Whether the process would find the shim where this command does. */
static bool sees_our_library(int32_t pid)
{
    char own[PATH_MAX], theirs[PATH_MAX + 32];
    struct check quiet = {0};
    struct stat here, there;
    if (!check_our_library(own, &quiet) || glibc_stat(own, &here))
        return false;
    snprintf(theirs, sizeof theirs, "/proc/%d/root%s", pid, own);
    return !glibc_stat(theirs, &there) && here.st_ino == there.st_ino &&
           here.st_dev == there.st_dev;
}

/* Completes the verdict, for a process whose program would do. */
static bool conclude(const struct process *process, struct check *check)
{
    static const char secure[] = "in secure-execution mode (AT_SECURE: setuid, file capabilities, "
                                 "or a transition of SELinux or AppArmor)";
    int32_t pid = process->pid;
    uint32_t mounts = proc_namespace(pid, "ns/mnt");
    uint64_t seccomp;
    if (mounts && mounts != proc_namespace(0, "ns/mnt") && !sees_our_library(pid))
        check_say(check,
                  "It has files of its own (a container, another mount namespace), and this "
                  "libweir.so is not among them: weir and libweir.so must be in there, too.");
    if (proc_status(pid, "Seccomp:\t", 0, 10, &seccomp) && seccomp)
        check_say(check,
                  "It is under seccomp: if it entered the sandbox itself, and not its service "
                  "manager or container before it began, it is not drained from there on.");
    if (*process->mapped) {
        say_shim(process, check);
        return !*process->complaint.text || check_fail(check, "the shim stands aside in pid %d: %s",
                                                       pid, process->complaint.text);
    }
    if (process->is_secure)
        return check_fail(check, "pid %d was started %s%s, where the loader ignores %s (ld.so(8))",
                          pid, process->was_asked ? "with the shim in LD_PRELOAD, " : "", secure,
                          process->was_asked ? "it" : "LD_PRELOAD");
    if (process->was_asked)
        return check_fail(check,
                          "pid %d was started with the shim in LD_PRELOAD, and it is not in there: "
                          "the loader could not open it, as it has said on stderr",
                          pid);
    check_say(check, "The shim is not in it: it was started without.");
    return true;
}

/* The program of a process, open: its file may have been replaced, or be in a container. */
static bool map_program(int32_t pid, char path[PATH_MAX], struct elf_part *file,
                        struct check *check)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    /* proc(5), hidepid: a process of another user may not be there for us. */
    if (!proc_is_shown(pid))
        return fail_at(check, pid, "exe", !kill(pid, 0) || errno == EPERM ? EPERM : ESRCH);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0 && errno == ENOENT)
        return check_fail(check, "pid %d has no program: it is the kernel's, or ending", pid);
    if (length < 0)
        return fail_at(check, pid, "exe", errno);
    path[length] = '\0';
    int error = elf_map(link, file);
    if (error == EACCES || error == EPERM)
        return fail_at(check, pid, "exe", error);
    return !error || check_fail(check, "pid %d: its program %s can't be read", pid, escaped(path));
}

static bool check_process(struct process *process, struct check *check)
{
    char path[PATH_MAX];
    struct elf_part file;
    struct elf elf;
    if (!map_program(process->pid, path, &file, check))
        return false;
    bool works = check_image(&file, path, &elf, check) && calls_begin(check) &&
                 read_auxv(process, check) && read_environment(process, check);
    if (works) {
        calls_add(&elf, path);
        works = read_maps(process, path, check);
    }
    if (works) {
        calls_say(check);
        works = conclude(process, check);
    }
    elf_unmap(&file);
    return works;
}

/* ---- the subcommand ---- */

static int verdict(const struct check *check, bool works, const char *where)
{
    if (works && check->has_no_accept && *where != ':')
        printf("nothing to drain: it accepts no connections; what it starts may\n");
    else if (works)
        printf("will work%s\n", where);
    else if (check->exit == EXIT_FAILED)
        printf("will not work: %s\n", check->reason);
    else
        say("%s", check->reason);
    return works ? EXIT_DONE : check->exit;
}

static void print_help(const char *name)
{
    (void)name;
    fputs(usage, stdout);
}

int command_check(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct check check = {.says = true};
    next_option(argc, argv, options, print_help);
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    const char *argument = argv[optind];
    if (!*argument || argument[strspn(argument, "0123456789")])
        return verdict(&check, check_command(argument, &check), "");
    int32_t pid = text_number_in(argument, INT32_MAX); /* proc(5), pid_max: none is larger */
    struct process process = {.pid = pid > 0 ? pid : INT32_MAX};
    bool works = check_process(&process, &check);
    return verdict(&check, works,
                   *process.mapped ? ": the shim is in it"
                                   : " when it is started again, by `weir run`");
}
