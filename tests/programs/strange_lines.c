/* SPDX-License-Identifier: MIT */
/*
 * strange_lines DIR: a process that has as many mappings as it may, and a state page (state_page.h)
 * each of whose lines names it, so that whoever believes them looks at it again and again.
 */
#define WEIR_COMMAND /* no rules of the shim (common.h) */
#include "base/state_page.h"
#include "../../shim/base/state_page.c"
#include "../../shim/base/text.c"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAPPINGS 60000

static uint64_t start_time(void)
{
    char stat[1024] = "";
    FILE *file = fopen("/proc/self/stat", "r");
    uint64_t start = 0;
    if (!fgets(stat, sizeof stat, file))
        exit(1);
    /* proc(5): the 20th field behind the name. */
    char *at = strrchr(stat, ')') + 2;
    for (int i = 0; i < 19; i++)
        at = strchr(at, ' ') + 1;
    start = strtoull(at, NULL, 10);
    fclose(file);
    return start;
}

static void ignore(int sig)
{
    (void)sig;
}

int main(int argc, char **argv)
{
    char name[64], path[512];
    struct text text = {name, 0, sizeof name};
    struct stat namespace;
    int32_t me = getpid();
    if (argc != 2 || stat("/proc/self/ns/pid", &namespace))
        return 2;
    page_name(&text, me, start_time(), (uint32_t) namespace.st_ino);
    snprintf(path, sizeof path, "%s/%s", argv[1], name);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct page)))
        return 1;
    struct page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return 1;
    *page = (struct page){.layout = PAGE_LAYOUT,
                          .size = sizeof *page,
                          .program = "strange",
                          .pid = me,
                          .start = start_time(),
                          .pid_namespace = (uint32_t) namespace.st_ino,
                          .tree_pid = me,
                          .tree_start = start_time()};
    page->settings.control_signal = SIGRTMAX - 3;
    page->slots_used = PAGE_SLOTS;
    for (int i = 0; i < PAGE_SLOTS; i++) {
        page->slot[i].pid = me;
        page->slot[i].since = UINT64_MAX / 2 + (uint64_t)i;
    }
    memcpy(page->magic, PAGE_MAGIC, sizeof page->magic);
    signal(SIGRTMAX - 3, ignore);
    for (int i = 0; i < MAPPINGS; i++)
        mmap(NULL, 4096, i % 2 ? PROT_NONE : PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
