/* pg_read: prints what stands in a tree's state page, without the command weir.
 * SPDX-License-Identifier: MIT
 *
 *   pg_read FILE|DIRECTORY      of a directory: its only page
 *   pg_read --name PID          the name that the page of a tree has which begins with this process
 *   pg_read --forge FILE PID    writes a copy of a page to stdout, as if it were of that tree
 *
 * A line a fact: "tracked 3", the sums as the command makes them (what a dead process held is
 * closed); "gaps N", connections that wait; "listener ADDRESS pid P state S"; for each line that is
 * taken "process PID lives L tracked T in_use U accepted A closed C phase P flags F".
 */
#define WEIR_COMMAND
/* What weir(1) shares with the library, in one program: tests/programs is built file by file. */
#include "../../shim/base/state_page.c"
#include "../../shim/base/sock.c"
#include "../../shim/base/sys.c"
#include "../../shim/base/text.c"

#include "../../shim/base/proc.c"
#include "../../shim/command/say.c"
#include "../../shim/command/proc/process.c"
#include "../../shim/command/proc/memory.c"

#include <dirent.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int refuse(const char *what)
{
    perror(what);
    return 1;
}

/* The path of the only page in a directory. */
static bool find_page(const char *dir, char *path, size_t room)
{
    DIR *at = opendir(dir);
    struct dirent *entry;
    int found = 0;
    while (at && (entry = readdir(at))) {
        if (*entry->d_name == '.')
            continue;
        snprintf(path, room, "%s/%s", dir, entry->d_name);
        found++;
    }
    if (at)
        closedir(at);
    if (found != 1)
        fprintf(stderr, "pg_read: %s: %d files\n", dir, found);
    return found == 1;
}

static struct page *map_page(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) < 0 || (size_t)status.st_size < sizeof(struct page))
        return NULL;
    void *at = mmap(NULL, sizeof(struct page), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED || !page_is_sound(at, (size_t)status.st_size))
        return NULL;
    return at;
}

static void print_line(const struct page *page, uint32_t index, struct totals *sum)
{
    const struct page_slot *line = &page->slot[index];
    struct totals one = {0};
    int32_t pid = index < PAGE_SLOTS ? line->pid : 0;
    bool is_lost = index < PAGE_SLOTS && !proc_slot_lives(line);
    page_add_slot(&one, page, index, !is_lost);
    page_settle(&one);
    struct in_use in_use;
    if (pid && !is_lost && memory_in_use(pid, line->table, line->generation, false, &in_use))
        one.in_use = in_use.count;
    if (pid)
        printf("process %" PRId32 " lives %d tracked %" PRIu64 " in_use %" PRIu64
               " accepted %" PRIu64 " closed %" PRId64 " phase %u flags %u\n",
               pid, !is_lost, one.tracked, one.in_use, one.accepted, (int64_t)one.closed_by_program,
               line->phase, line->flags);
    page_add_totals(sum, &one);
}

static void print_page(const struct page *page)
{
    static const char *const phases[PHASES] = {"serving", "delaying", "draining", "drained"};
    const struct page_sums *gone = &page->gone;
    struct totals sum = {.accepted = gone->accepted,
                         .closed_by_program = gone->closed_by_program,
                         .closed_idle = gone->closed_idle,
                         .forced = gone->forced,
                         .disowned = gone->disowned};
    unsigned gaps, lines = 0;
    printf("pid %" PRId32 "\nstart %" PRIu64 "\nprogram %.40s\nhead %" PRId32 "\nphase %s\n",
           page->pid, page->start, page->program, page->head,
           page->phase < PHASES ? phases[page->phase] : "?");
    printf("tree %" PRId32 " %" PRIu64 "\n", page->tree_pid, page->tree_start);
    for (uint32_t i = 0; i <= PAGE_SLOTS; i++) {
        lines += i < PAGE_SLOTS && page->slot[i].pid;
        print_line(page, i, &sum);
    }
    bool open[PAGE_HANDOFFS];
    gaps = proc_open_handoffs(page->handoff, PAGE_HANDOFFS, 0, sys_now_ms(), open);
    for (int i = 0; i < PAGE_LISTENERS; i++)
        if (page->listener[i].pid)
            printf("listener %.116s pid %" PRId32 " state %u\n", page->listener[i].address,
                   page->listener[i].pid, page->listener[i].state);
    printf("lines %u\nunlisted %u\ngaps %u\n", lines, page->unlisted, gaps);
    printf("tracked %" PRIu64 "\nin_use %" PRIu64 "\naccepted %" PRIu64 "\nclosed %" PRIu64
           "\nclosed_idle %" PRIu64 "\nforced %" PRIu64 "\ndisowned %" PRIu64 "\n",
           sum.tracked, sum.in_use, sum.accepted, sum.closed_by_program, sum.closed_idle,
           sum.forced, sum.disowned);
}

static int print_name(int32_t pid)
{
    char name[48];
    struct text text = TEXT_ON(name);
    page_name(&text, pid, proc_start_time(pid), proc_namespace(0, "ns/pid"));
    puts(name);
    return 0;
}

static int forge(const char *path, int32_t pid)
{
    struct page *page = map_page(path);
    if (!page)
        return refuse(path);
    struct page copy = *page;
    copy.pid = pid;
    copy.start = proc_start_time(pid);
    return fwrite(&copy, sizeof copy, 1, stdout) == 1 ? 0 : refuse("pg_read");
}

int main(int argc, char **argv)
{
    struct stat status;
    char path[4096];
    if (argc == 3 && !strcmp(argv[1], "--name"))
        return print_name(atoi(argv[2]));
    if (argc == 4 && !strcmp(argv[1], "--forge"))
        return forge(argv[2], atoi(argv[3]));
    if (argc != 2) {
        fprintf(stderr, "usage: pg_read FILE|DIRECTORY | --name PID | --forge FILE PID\n");
        return 2;
    }
    if (stat(argv[1], &status) < 0)
        return refuse(argv[1]);
    snprintf(path, sizeof path, "%s", argv[1]);
    if (S_ISDIR(status.st_mode) && !find_page(argv[1], path, sizeof path))
        return 1;
    struct page *page = map_page(path);
    if (!page) {
        fprintf(stderr, "pg_read: %s: no sound page\n", path);
        return 1;
    }
    print_page(page);
}
