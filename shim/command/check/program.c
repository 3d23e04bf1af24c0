/* SPDX-License-Identifier: MIT */
/* Whether a program's file can have the shim preloaded: what the kernel and ld.so(8) make of it. */
#include "command/check/program.h"

#include "base/libc_versions.h"
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
    const char *list = getenv("PATH"), *why = NULL;
    if (!*command)
        return check_fail(check, "the command's name is empty");
    if (strchr(command, '/')) {
        if (snprintf(path, PATH_MAX, "%s", command) < PATH_MAX && is_executable(path))
            return true;
        why = errno == EACCES ? "is no file that you may execute" : strerror(errno);
        list = NULL;
    } else if (!list) {
        list = "/bin:/usr/bin"; /* exec(3): confstr(3) says what PATH is where there is none */
    }
    for (; list; list = *list ? list + 1 : NULL) {
        int length = (int)strcspn(list, ":");
        if (snprintf(path, PATH_MAX, "%.*s%s%s", length, list, length ? "/" : "", command) <
                PATH_MAX &&
            is_executable(path))
            return true;
        if (errno == EACCES)
            why = "is in PATH, but you may not execute it";
        list += length;
    }
    return check_fail(check, "%s: %s", escaped(command), why ? why : "no such command in PATH");
}

/* ---- a program's file ---- */

static bool needs(const struct elf *elf, const char *library)
{
    const char *name;
    for (size_t at = 0; (name = elf_needed(elf, &at));)
        if (text_after(name, library))
            return true;
    return false;
}

/* For which libc: by its loader, or else by the name under which it needs libc. */
static const char *libc_of(const struct elf *elf)
{
    const char *loader = base_name(elf->loader);
    return text_after(loader, "ld-linux")  ? "glibc"
           : text_after(loader, "ld-musl") ? "musl"
           : needs(elf, "libc.so.6")       ? "glibc"
                                           : "an unknown libc";
}

/* weir and libweir.so are built together. */
#ifdef __GLIBC__
static const char our_libc[] = "glibc";
#else
static const char our_libc[] = "musl";
#endif

static bool is_loader(const struct elf *elf)
{
    return elf->type == ET_DYN && !elf->loader && elf->name && text_after(elf->name, "ld-");
}

/* Returns why the shim can't work in a file of this kind. NULL: it may. */
static const char *is_useless(const struct elf *elf, enum elf_kind kind)
{
    return kind == ELF_NONE                              ? "is neither an ELF file nor a script"
           : elf->type == ET_REL || elf->type == ET_CORE ? "is an ELF file, but no program"
           : kind == ELF_BROKEN ? "is a broken ELF file: it is cut short, or points out of itself"
           : kind == ELF_FOREIGN || elf->is_go || elf->loader || is_loader(elf) ? NULL
           : elf->type == ET_DYN && !elf->is_pie
               ? "is a shared library, and no program"
               : "is statically linked: there is no loader that could preload the shim";
}

bool check_image(const struct elf_part *file, const char *path, struct elf *elf,
                 struct check *check)
{
    enum elf_kind kind = elf_read(elf, file->at, file->size);
    const char *useless = is_useless(elf, kind);
    if (useless)
        return check_fail(check, "%s %s", escaped(path), useless);
    if (kind == ELF_FOREIGN)
        return check_fail(check, "%s is for %s (%u-bit), and the shim for %s (64-bit)",
                          escaped(path), elf_machine_name(elf->machine), elf->bits,
                          elf_machine_name(elf_native_machine));
    if (elf->is_go)
        return check_fail(check,
                          "%s is a Go program%s: it makes its system calls itself, not through "
                          "libc, where the shim stands",
                          escaped(path), elf->loader ? "" : ", statically linked");
    if (is_loader(elf)) {
        check_say(check, "%s is the loader: what it is told to start is not looked at.",
                  escaped(path));
        return true;
    }
    const char *libc = libc_of(elf);
    if (!text_equal(libc, our_libc))
        return check_fail(check, "%s is for %s (its loader is %s), and the shim for %s",
                          escaped(path), libc, escaped(elf->loader), our_libc);
    check_say(check, "%s is dynamic, for %s and %s, as the shim is.", escaped(path),
              elf_machine_name(elf->machine), libc);
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
    static const char mode[] =
        "the loader is then in secure-execution mode (ld.so(8)) and ignores LD_PRELOAD";
    struct stat file;
    struct statvfs mount;
    bool is_honoured = !statvfs(path, &mount) && !(mount.f_flag & ST_NOSUID) &&
                       !prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    if (glibc_stat(path, &file) || !is_honoured)
        return true;
    bool is_setuid = file.st_mode & S_ISUID;
    bool is_setgid = (file.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
    bool is_given = has_capabilities(path);
    const char *what = is_setuid   ? "is setuid"
                       : is_setgid ? "is setgid"
                       : is_given  ? "has file capabilities"
                                   : NULL;
    uid_t uid = is_setuid ? file.st_uid : geteuid();
    gid_t gid = is_setgid ? file.st_gid : getegid();
    if (uid != getuid())
        return check_fail(check, "%s is setuid (user %u): %s", escaped(path), uid, mode);
    if (gid != getgid())
        return check_fail(check, "%s is setgid (group %u): %s", escaped(path), gid, mode);
    if (is_given && getuid())
        return check_fail(check, "%s has file capabilities: %s", escaped(path), mode);
    if (what)
        check_say(check, "%s %s: for user %u that changes nothing; for others %s.", escaped(path),
                  what, getuid(), mode);
    return true;
}

/*
 * GCC's AddressSanitizer ends the program where another library is loaded before its own, unless
 * ASAN_OPTIONS has verify_asan_link_order=0.
 */
static bool check_sanitizer(const struct elf *elf, const char *path, struct check *check)
{
    static const char option[] = "verify_asan_link_order=0";
    const char *options = getenv("ASAN_OPTIONS");
    return !needs(elf, "libasan.so") || (options && strstr(options, option)) ||
           check_fail(check,
                      "%s is built with AddressSanitizer, which suffers no other library before "
                      "it: set ASAN_OPTIONS=%s",
                      escaped(path), option);
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
        if (text_equal(name, "-i") || text_equal(name, "-") ||
            text_equal(name, "--ignore-environment"))
            return check_fail(check,
                              "%s is started by env with an empty environment: LD_PRELOAD is lost",
                              escaped(path));
        if (text_after(name, "-S") && name[2])
            memmove(name, name + 2, strlen(name + 2) + 1);
        if (*name != '-' && !strchr(name, '='))
            return true;
        if (text_equal(name, "-u"))
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
    char line[257] = "";
    size_t length = file->size < sizeof line - 1 ? file->size : sizeof line - 1;
    if (length)
        memcpy(line, file->at, length);
    bool has_interpreter = text_after(line, "#!");
    *fails = false;
    if (text_after(line, ELFMAG) || (!has_interpreter && !is_text(line, length)))
        return false;
    line[strcspn(line, "\n")] = '\0';
    const char *at = line + 2;
    if (!has_interpreter || !next_word(&at, name))
        snprintf(name, PATH_MAX, "/bin/sh");
    else if (text_equal(base_name(name), "env"))
        *fails = !follow_env(at, path, name, check);
    if (!*fails)
        check_say(check,
                  "%s is a script: its interpreter is looked at, and what it starts runs under the "
                  "shim as well.",
                  escaped(path));
    return true;
}

/* ---- a command ---- */

#define SCRIPTS_MOST 6 /* Linux fs/exec.c follows five, and env(1) begins anew */

/* Only `weir check` wants to know. Of the loader there is nothing to say. */
static bool look_at_calls(const struct elf *elf, const char *path, struct check *check)
{
    if (!check->says || !elf->loader || !calls_begin(check))
        return !check->exit;
    calls_add(elf, path);
    calls_add_own(elf);
    size_t libraries = check_libraries(elf, path, check, calls_add);
    check_say(check, "Libraries that it needs and that were looked at: %zu.", libraries);
    calls_say(check);
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
            check->exit = exit_code(error);
            return check_fail(check, "%s %s", escaped(found),
                              check->exit == EXIT_FORBIDDEN
                                  ? "may not be read by you: nothing is known of it"
                                  : "can't be opened");
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
