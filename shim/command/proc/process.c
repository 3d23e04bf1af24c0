/* SPDX-License-Identifier: MIT */
#include "command/proc/process.h"

#include "base/glibc.h"
#include "command/say.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>

static FILE *open_proc(int32_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return fopen(path, "re");
}

/* ---- mappings ---- */

int maps_open(struct maps *maps, int32_t pid)
{
    int64_t uid = process_uid(pid);
    *maps = (struct maps){.file = open_proc(pid, "maps"), .budget = budget_of((uint32_t)uid)};
    return maps->file ? 0 : errno;
}

bool maps_next(struct maps *maps, struct mapping *mapping)
{
    static const char deleted[] = " (deleted)";
    ssize_t length;
    while (maps->budget->lines && (length = getline(&maps->line, &maps->room, maps->file)) > 0) {
        /* proc(5): "address-address perms offset major:minor inode      path" */
        char permissions[8];
        uint64_t major, minor;
        maps->budget->lines--;
        int path = 0;
        if (maps->line[length - 1] == '\n')
            maps->line[--length] = '\0';
        if (sscanf(maps->line, "%39s %7s %*s %" SCNx64 ":%" SCNx64 " %" SCNu64 " %n",
                   mapping->range, permissions, &major, &minor, &mapping->file.inode, &path) < 5 ||
            !mapping->file.inode || !path || maps->line[path] != '/')
            continue;
        mapping->file.device = major << 32 | minor;
        mapping->path = maps->line + path;
        mapping->is_shared = permissions[3] == 's';
        size_t end = strlen(mapping->path), n = sizeof deleted - 1;
        if (end > n && text_equal(mapping->path + end - n, deleted))
            mapping->path[end - n] = '\0';
        return true;
    }
    return false;
}

void maps_close(struct maps *maps)
{
    if (maps->file)
        fclose(maps->file);
    free(maps->line);
    *maps = (struct maps){0};
}

const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- status ---- */

bool process_status(int32_t pid, const char *name, char *into, size_t size)
{
    FILE *file = open_proc(pid, "status");
    char line[512];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *value = text_after(line, name);
        if (!value || *value++ != ':')
            continue;
        value += strspn(value, "\t ");
        line[strcspn(line, "\n")] = '\0';
        found = (size_t)snprintf(into, size, "%s", value) < size;
    }
    if (file)
        fclose(file);
    return found;
}

bool process_catches(int32_t pid, int sig)
{
    char caught[32];
    return sig >= 1 && sig <= 64 && sig != SIGKILL && sig != SIGSTOP &&
           process_status(pid, "SigCgt", caught, sizeof caught) &&
           (strtoull(caught, NULL, 16) >> (sig - 1) & 1);
}

uint64_t process_namespace(int32_t pid, const char *which)
{
    char path[64];
    struct stat stat_of;
    if (pid)
        snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, which);
    else
        snprintf(path, sizeof path, "/proc/self/ns/%s", which);
    return glibc_stat(path, &stat_of) ? 0 : stat_of.st_ino;
}

int32_t process_inner_pid(int32_t pid)
{
    char numbers[256];
    if (!process_status(pid, "NSpid", numbers, sizeof numbers))
        return 0;
    const char *last = strrchr(numbers, '\t');
    return pid_argument(last ? last + 1 : numbers);
}

int32_t process_parent(int32_t pid)
{
    char number[32];
    return process_status(pid, "PPid", number, sizeof number) ? pid_argument(number) : 0;
}

int64_t process_uid(int32_t pid)
{
    char numbers[128];
    unsigned int real, effective;
    /* "Uid:" is real, effective, saved, file system. */
    if (!process_status(pid, "Uid", numbers, sizeof numbers) ||
        sscanf(numbers, "%u %u", &real, &effective) != 2)
        return -1;
    return effective;
}

/* ---- all of them ---- */

void process_each(void (*each)(int32_t pid, void *context), void *context)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int32_t pid = pid_argument(entry->d_name);
        if (pid > 0)
            each(pid, context);
    }
    if (dir)
        closedir(dir);
}

struct sought {
    uint64_t namespace;
    int32_t inner, outer;
};

static void seek(int32_t pid, void *context)
{
    struct sought *sought = context;
    if (!sought->outer && process_inner_pid(pid) == sought->inner &&
        process_namespace(pid, "pid") == sought->namespace)
        sought->outer = pid;
}

int32_t process_outer_pid(uint64_t namespace, int32_t inner)
{
    struct sought sought = {.namespace = namespace, .inner = inner};
    process_each(seek, &sought);
    return sought.outer;
}

bool process_variable(int32_t pid, const char *name, char *into, size_t size)
{
    FILE *file = open_proc(pid, "environ");
    char *entry = NULL;
    size_t room = 0;
    bool found = false;
    while (file && !found && getdelim(&entry, &room, '\0', file) > 0) {
        const char *value = text_after(entry, name);
        if (value && *value++ == '=')
            found = (size_t)snprintf(into, size, "%s", value) < size;
    }
    free(entry);
    if (file)
        fclose(file);
    return found;
}
