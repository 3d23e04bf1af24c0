/* SPDX-License-Identifier: MIT */
/* Whether a program's file can have the shim preloaded: what the kernel and ld.so(8) make of it. */
#include "command/check/program.h"

#include "base/glibc.h"
#include "base/text.h"
#include "command/check/calls.h"
#include "command/check/libraries.h"
#include "command/say.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

/* ---- which file ---- */

static bool is_executable(const char *path)
{
    struct stat found;
    if (glibc_stat(path, &found))
        return false;
    errno = EACCES;
    return S_ISREG(found.st_mode) && !faccessat(AT_FDCWD, path, X_OK, AT_EACCESS);
}

bool check_find(const char *command, char path[PATH_MAX], struct check *check)
{
    bool is_forbidden = false;
    if (!*command)
        return check_fail(check, "the command's name is empty");
    if (strchr(command, '/')) {
        if (snprintf(path, PATH_MAX, "%s", command) < PATH_MAX && is_executable(path))
            return true;
        return check_fail(check, "%s: %s", escaped(command),
                          errno == EACCES ? "is no file that you may execute" : strerror(errno));
    }
    /* exec(3): where there is no PATH, confstr(3) says what it is. */
    const char *list = getenv("PATH");
    for (list = list ? list : "/bin:/usr/bin"; list; list = *list ? list + 1 : NULL) {
        size_t length = strcspn(list, ":");
        if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, list, length ? "/" : "", command) <
                PATH_MAX &&
            is_executable(path))
            return true;
        is_forbidden |= errno == EACCES;
        list += length;
    }
    return check_fail(check, "%s: %s", escaped(command),
                      is_forbidden ? "is in PATH, but you may not execute it"
                                   : "no such command in PATH");
}

/* ---- a program's file ---- */

/* For which libc: by its loader, or else by the name under which it needs libc. NULL: neither. */
static const char *libc_of(const struct elf *elf)
{
    const char *loader = base_name(elf->loader), *name;
    if (text_after(loader, "ld-linux"))
        return "glibc";
    if (text_after(loader, "ld-musl"))
        return "musl";
    for (size_t at = 0; (name = elf_needed(elf, &at));)
        if (!strcmp(name, "libc.so.6"))
            return "glibc";
    return NULL;
}

/* weir and libweir.so are built together. */
#ifdef __GLIBC__
static const char our_libc[] = "glibc";
#else
static const char our_libc[] = "musl";
#endif

static bool is_loader(const struct elf *elf)
{
    return elf->type == ET_DYN && !elf->loader && elf->name && !strncmp(elf->name, "ld-", 3);
}

static bool check_kind(const struct elf *elf, enum elf_kind kind, const char *path,
                       struct check *check)
{
    char other[24], ours[24];
    if (kind == ELF_NONE)
        return check_fail(check, "%s is neither an ELF file nor a script", escaped(path));
    if (elf->type == ET_REL || elf->type == ET_CORE)
        return check_fail(check, "%s is an ELF file, but no program", escaped(path));
    if (kind == ELF_BROKEN)
        return check_fail(check,
                          "%s is a broken ELF file: it is cut short, or points out of itself",
                          escaped(path));
    if (kind == ELF_FOREIGN)
        return check_fail(check, "%s is for %s (%u-bit), and the shim for %s (%u-bit)",
                          escaped(path), elf_machine_name(elf->machine, other), elf->bits,
                          elf_machine_name(elf_native_machine, ours), 8 * (int)sizeof(void *));
    return true;
}

bool check_image(const struct elf_part *file, const char *path, struct elf *elf,
                 struct check *check)
{
    char machine[24];
    if (!check_kind(elf, elf_read(elf, file->at, file->size), path, check))
        return false;
    if (elf->is_go)
        return check_fail(
            check,
            "%s is a Go program%s: it makes its system calls itself, not through libc, "
            "where the shim stands",
            escaped(path), elf->loader ? "" : ", statically linked");
    if (is_loader(elf)) {
        check_say(check, "%s is the loader: what it is told to start is not looked at.",
                  escaped(path));
        return true;
    }
    if (!elf->loader && elf->type == ET_DYN && !elf->is_pie)
        return check_fail(check, "%s is a shared library, and no program", escaped(path));
    if (!elf->loader)
        return check_fail(check,
                          "%s is statically linked: there is no loader that could preload the shim",
                          escaped(path));
    const char *libc = libc_of(elf);
    if (!libc || strcmp(libc, our_libc))
        return check_fail(check, "%s is for %s (its loader is %s), and the shim for %s",
                          escaped(path), libc ? libc : "an unknown libc", escaped(elf->loader),
                          our_libc);
    check_say(check, "%s is dynamic, for %s and %s, as the shim is.", escaped(path),
              elf_machine_name(elf->machine, machine), libc);
    return true;
}

/* ---- secure-execution mode ---- */

/* capabilities(7): whether the file gives its program any. */
static bool has_capabilities(const char *path)
{
    struct vfs_ns_cap_data data = {0};
    if (getxattr(path, "security.capability", &data, sizeof data) < (ssize_t)XATTR_CAPS_SZ_1)
        return false;
    /* The second half of version 1 is not there, and 0. */
    return le32toh(data.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE || data.data[0].permitted ||
           data.data[1].permitted;
}

/*
 * Whether the kernel will tell the loader to distrust the environment (getauxval(3), AT_SECURE).
 * Linux security/commoncap.c, cap_bprm_creds_from_file: where the effective ids are not the real
 * ones, or a user who is not root gains capabilities. ld.so(8) then ignores what LD_PRELOAD names
 * by a path.
 */
static bool check_secure(const char *path, struct check *check)
{
    static const char mode[] = "the loader is then in secure-execution mode (ld.so(8)) and ignores "
                               "LD_PRELOAD";
    struct stat file;
    struct statvfs mount;
    bool is_honoured = !statvfs(path, &mount) && !(mount.f_flag & ST_NOSUID) &&
                       !prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    if (glibc_stat(path, &file) || !is_honoured)
        return true;
    bool is_setuid = file.st_mode & S_ISUID;
    bool is_setgid = (file.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
    bool is_given = has_capabilities(path);
    uid_t uid = is_setuid ? file.st_uid : geteuid();
    gid_t gid = is_setgid ? file.st_gid : getegid();
    if (uid != getuid())
        return check_fail(check, "%s is setuid (user %u): %s", escaped(path), uid, mode);
    if (gid != getgid())
        return check_fail(check, "%s is setgid (group %u): %s", escaped(path), gid, mode);
    if (is_given && getuid())
        return check_fail(check, "%s has file capabilities: %s", escaped(path), mode);
    if (is_setuid || is_setgid || is_given)
        check_say(check, "%s %s: for user %u that changes nothing; for others %s.", escaped(path),
                  is_setuid   ? "is setuid"
                  : is_setgid ? "is setgid"
                              : "has file capabilities",
                  getuid(), mode);
    return true;
}

/*
 * GCC's AddressSanitizer ends the program where another library is loaded before its own, unless
 * ASAN_OPTIONS has verify_asan_link_order=0.
 */
static bool check_sanitizer(const struct elf *elf, const char *path, struct check *check)
{
    const char *name, *options = getenv("ASAN_OPTIONS");
    for (size_t at = 0; (name = elf_needed(elf, &at));)
        if (!strncmp(name, "libasan.so", 10) &&
            !(options && strstr(options, "verify_asan_link_order=0")))
            return check_fail(check,
                              "%s is built with AddressSanitizer, which suffers no other library "
                              "before it: set ASAN_OPTIONS=verify_asan_link_order=0",
                              escaped(path));
    return true;
}

/* ---- scripts ---- */

/* The next word of a "#!" line, from *at on, and *at behind it. False: there is none. */
static bool next_word(const char **at, char word[PATH_MAX])
{
    *at += strspn(*at, " \t");
    size_t length = strcspn(*at, " \t");
    snprintf(word, PATH_MAX, "%.*s", (int)length, *at);
    *at += length;
    return length;
}

/*
 * env(1) looks for the program in PATH and passes our environment on, unless it is told to empty
 * it. at: its arguments. The program goes to name; false with "": it is not known.
 */
static bool follow_env(const char *at, const char *path, char name[PATH_MAX], struct check *check)
{
    while (next_word(&at, name)) {
        if (!strcmp(name, "-i") || !strcmp(name, "-") || !strcmp(name, "--ignore-environment"))
            return check_fail(check,
                              "%s is started by env with an empty environment: LD_PRELOAD is lost",
                              escaped(path));
        if (!strncmp(name, "-S", 2) && name[2])
            memmove(name, name + 2, strlen(name + 2) + 1);
        if (*name != '-' && !strchr(name, '='))
            return true;
        if (!strcmp(name, "-u"))
            next_word(&at, name);
    }
    *name = '\0';
    return true;
}

/* Without control characters: it may be a shell's. */
static bool is_text(const char *at, size_t length)
{
    for (; length; at++, length--)
        if (((unsigned char)*at < ' ' && !strchr("\t\n\f\r\33", *at)) || !*at || *at == 127)
            return false;
    return true;
}

/*
 * Whether it is a script, whose interpreter goes to name (execve(2), "Interpreter scripts";
 * exec(3): a file that the kernel doesn't take is /bin/sh's). Sets *fails where the shim can't
 * reach it.
 */
static bool is_script(const struct elf_part *file, const char *path, char name[PATH_MAX],
                      struct check *check, bool *fails)
{
    char line[257];
    size_t length = file->size < sizeof line - 1 ? file->size : sizeof line - 1;
    const char *at = line;
    memcpy(line, length ? (const char *)file->at : "", length);
    line[length] = '\0';
    line[strcspn(line, "\n")] = '\0';
    *fails = false;
    if (length >= 4 && !memcmp(line, ELFMAG, SELFMAG))
        return false;
    if (strncmp(line, "#!", 2)) {
        if (!is_text(file->size ? (const char *)file->at : "", length))
            return false;
        snprintf(name, PATH_MAX, "/bin/sh");
    } else {
        at += 2;
        if (!next_word(&at, name))
            snprintf(name, PATH_MAX, "/bin/sh");
        else if (!strcmp(base_name(name), "env"))
            *fails = !follow_env(at, path, name, check);
    }
    if (!*fails)
        check_say(check,
                  "%s is a script: its interpreter is looked at, and what it starts runs "
                  "under the shim as well.",
                  escaped(path));
    return true;
}

/* ---- a command ---- */

#define SCRIPTS_MOST 6 /* Linux fs/exec.c follows five, and env(1) begins anew */

static void add_library(void *with, const struct elf *library, const char *path)
{
    check_calls_add(with, library, path);
}

/* Only `weir check` wants to know. Of the loader there is nothing to say. */
static bool look_at_calls(const struct elf *elf, const char *path, struct check *check)
{
    struct calls *calls = check->says && elf->loader ? check_calls_begin(check) : NULL;
    if (!calls)
        return !check->exit;
    check_calls_add(calls, elf, path);
    check_calls_own(calls, elf);
    size_t libraries = check_libraries(elf, path, check, add_library, calls);
    check_say(check, "Libraries that it needs and that were looked at: %zu.", libraries);
    check_calls_say(calls, check);
    check_calls_end(calls);
    return true;
}

bool check_command(const char *path, struct check *check)
{
    char name[PATH_MAX], found[PATH_MAX];
    struct elf_part file;
    struct elf elf;
    snprintf(name, sizeof name, "%s", path);
    for (int i = 0; i < SCRIPTS_MOST; i++) {
        bool fails;
        if (!check_find(name, found, check))
            return false;
        int error = elf_map(found, &file);
        if (error) {
            bool is_forbidden = error == EACCES || error == EPERM;
            check_fail(check, "%s %s", escaped(found),
                       is_forbidden ? "may not be read by you: nothing is known of it"
                                    : "can't be opened");
            check->exit = exit_code(error);
            return false;
        }
        if (!is_script(&file, found, name, check, &fails)) {
            bool works = check_image(&file, found, &elf, check) && check_secure(found, check) &&
                         check_sanitizer(&elf, found, check) && look_at_calls(&elf, found, check);
            elf_unmap(&file);
            return works;
        }
        elf_unmap(&file);
        if (fails)
            return false;
        if (!*name)
            return true;
    }
    return check_fail(check, "%s: a script for a script for a script, without end", escaped(path));
}
