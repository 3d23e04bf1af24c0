/* SPDX-License-Identifier: MIT */
/* check_fuzz ROUNDS SEED FILE...: reads ELF files that it has spoilt, as `weir check` reads them.
 */
#define WEIR_COMMAND
#include "command/check/elf.c"

#include <sanitizer/asan_interface.h>

static uint64_t state;

/* splitmix64: the same numbers for the same seed, on every machine. */
static uint64_t next(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* All that there is to read. Returns how many names. */
static size_t read_all(const unsigned char *at, size_t size)
{
    struct elf elf;
    size_t names = 0, length = 0, i;
    const char *name;
    enum elf_kind kind = elf_read(&elf, at, size);
    length += strlen(elf_machine_name(elf.machine));
    if (kind != ELF_NATIVE)
        return 0;
    const char *said[] = {elf.loader, elf.name, elf.rpath, elf.runpath};
    for (i = 0; i < COUNT_OF(said); i++)
        length += said[i] ? strlen(said[i]) : 0;
    for (i = 0; (name = elf_needed(&elf, &i)); names++)
        length += strlen(name);
    for (i = 0; (name = elf_imported(&elf, &i)); names++)
        length += strlen(name);
    for (i = 0; (name = elf_defined(&elf, &i)); names++)
        length += strlen(name);
    return length ? names : 0;
}

/* Where the tables are that say where others are: the head of the file, and the dynamic section. */
static size_t somewhere(const struct elf *elf, size_t size)
{
    uint64_t choice = next() % 4;
    if (choice == 0)
        return next() % size;
    if (choice == 1 && elf->dynamic.size)
        return (size_t)(elf->dynamic.at - elf->file.at) + next() % elf->dynamic.size;
    return next() % (size < 1024 ? size : 1024);
}

static void spoil(const struct elf *elf, unsigned char *copy, size_t size)
{
    static const uint64_t odd[] = {0,          1,         0x7fffffff,    0xffffffff,
                                   UINT64_MAX, INT64_MAX, UINT64_MAX - 7};
    for (uint64_t n = next() % 8; n; n--) {
        size_t at = somewhere(elf, size);
        uint64_t value = next() % 2   ? odd[next() % COUNT_OF(odd)]
                         : next() % 2 ? next() % size
                                      : next();
        size_t width = (size_t)1 << next() % 4;
        if (at + width <= size)
            memcpy(copy + at, &value, width);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    size_t rounds = strtoul(argv[1], NULL, 10), whole = 0, names = 0;
    state = strtoul(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++) {
        struct elf_part file;
        struct elf elf;
        if (elf_map(argv[i], &file) || elf_read(&elf, file.at, file.size) != ELF_NATIVE ||
            !read_all(file.at, file.size)) {
            fprintf(stderr, "%s: is no good to begin with\n", argv[i]);
            return 1;
        }
        unsigned char *room = malloc(file.size);
        for (size_t round = 0; room && round < rounds; round++) {
            size_t size = next() % 4 ? file.size : next() % (file.size + 1);
            /* The copy ends where the room ends, and before it there is nothing to be read. */
            size_t before = file.size - size;
            unsigned char *copy = room + before;
            memcpy(copy, file.at, size);
            if (size)
                spoil(&elf, copy, size);
            ASAN_POISON_MEMORY_REGION(room, before);
            size_t found = read_all(copy, size);
            ASAN_UNPOISON_MEMORY_REGION(room, before);
            whole += found > 0;
            names += found;
        }
        free(room);
        elf_unmap(&file);
    }
    printf("%zu of %zu were read to their end, %zu names\n", whole, rounds * (size_t)(argc - 3),
           names);
    return 0;
}
