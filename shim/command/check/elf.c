/* SPDX-License-Identifier: MIT */
#include "command/check/elf.h"

#include "base/libc_versions.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Of 64 bits and little-endian. */
#if defined(__x86_64__)
#define NATIVE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define NATIVE_MACHINE EM_AARCH64
#else
#error "weir is made for x86-64 and aarch64"
#endif

#ifndef EM_LOONGARCH /* elf.h of glibc before 2.35, of musl before 1.2.4 */
#define EM_LOONGARCH 258
#endif

/* More of them than any program has, so that tables which point at each other take no hours. */
#define NOTES_MOST 1024
#define DYNAMIC_MOST 4096
#define STRING_MOST 8192
#define FILE_MOST (INT64_C(1) << 32) /* no program is larger */

/* ---- parts ---- */

/* The bytes from offset to offset + size. False: the file has not so many. */
static bool part_of(struct elf_part from, uint64_t offset, uint64_t size, struct elf_part *part)
{
    if (offset > from.size || size > from.size - offset)
        return false;
    *part = (struct elf_part){from.at ? from.at + offset : NULL, size};
    return true;
}

/* The index-th of a table of entries; copied, since a file need not keep to any alignment. */
static bool entry_of(struct elf_part table, uint64_t index, void *into, size_t size)
{
    if (index >= table.size / size)
        return false;
    memcpy(into, table.at + index * size, size);
    return true;
}

/* NULL: it does not end, or not soon: what is longer is no name, and no path. */
static const char *string_in(struct elf_part strings, uint64_t offset)
{
    uint64_t most = offset < strings.size ? strings.size - offset : 0;
    if (!most || !memchr(strings.at + offset, '\0', most < STRING_MOST ? most : STRING_MOST))
        return NULL;
    return (const char *)strings.at + offset;
}

/* ---- segments and sections ---- */

/* From where an address is in the file to the end of its segment's bytes there. */
static bool at_address(const struct elf *elf, uint64_t address, struct elf_part *part)
{
    ElfW(Phdr) segment;
    for (size_t i = 0; entry_of(elf->segments, i, &segment, sizeof segment); i++) {
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
            address - segment.p_vaddr < segment.p_filesz) {
            uint64_t into = address - segment.p_vaddr;
            return part_of(elf->file, segment.p_offset, segment.p_filesz, part) &&
                   part_of(*part, into, segment.p_filesz - into, part);
        }
    }
    return false;
}

/* Whether the Go linker's note (cmd/link: its name "Go", type 4) is among these. */
static bool has_go_note(struct elf_part notes, uint64_t alignment, int *left)
{
    uint64_t mask = alignment == 8 ? 7 : 3, at = 0;
    struct elf_part part;
    for (; *left > 0; --*left) {
        ElfW(Nhdr) note;
        if (!part_of(notes, at, sizeof note, &part))
            return false;
        memcpy(&note, part.at, sizeof note);
        if (!part_of(notes, at + sizeof note, note.n_namesz, &part))
            return false;
        if (note.n_type == 4 && note.n_namesz == 4 && !memcmp(part.at, "Go\0", 4))
            return true;
        at = (at + sizeof note + note.n_namesz + mask) & ~mask;
        at = (at + note.n_descsz + mask) & ~mask;
    }
    return false;
}

/* The section that `go version` reads. */
static bool has_go_section(const struct elf *elf, const ElfW(Ehdr) * header)
{
    struct elf_part sections, names;
    ElfW(Shdr) section;
    if (header->e_shentsize != sizeof section ||
        !part_of(elf->file, header->e_shoff, (uint64_t)header->e_shnum * sizeof section,
                 &sections) ||
        !entry_of(sections, header->e_shstrndx, &section, sizeof section) ||
        !part_of(elf->file, section.sh_offset, section.sh_size, &names))
        return false;
    for (size_t i = 0; entry_of(sections, i, &section, sizeof section); i++) {
        static const char wanted[] = ".go.buildinfo";
        struct elf_part name;
        if (part_of(names, section.sh_name, sizeof wanted, &name) &&
            !memcmp(name.at, wanted, sizeof wanted))
            return true;
    }
    return false;
}

/* ---- the dynamic section ---- */

/* How many symbols DT_GNU_HASH knows: the end of the last chain. Those that are only imported are
 * before its first. */
static size_t count_hashed(struct elf_part hash)
{
    uint32_t header[4], index, last = 0, value;
    struct elf_part buckets, chains;
    if (!entry_of(hash, 0, header, sizeof header))
        return 0;
    uint64_t bloom = (uint64_t)header[2] * sizeof(ElfW(Addr)), size = (uint64_t)header[0] * 4;
    if (!part_of(hash, sizeof header + bloom, size, &buckets))
        return 0;
    chains = (struct elf_part){buckets.at + size, hash.size - sizeof header - bloom - size};
    for (size_t i = 0; entry_of(buckets, i, &index, sizeof index); i++)
        last = index > last ? index : last;
    if (last < header[1])
        return 0;
    while (entry_of(chains, last - header[1], &value, sizeof value) && !(value & 1))
        last++;
    return (size_t)last + 1;
}

static bool read_dynamic(struct elf *elf)
{
    uint64_t value[DT_RUNPATH + 1] = {0}, gnu_hash = 0; /* an address or a size; 0: is not there */
    struct elf_part hash;
    ElfW(Dyn) entry;
    for (size_t i = 0; entry_of(elf->dynamic, i, &entry, sizeof entry) && entry.d_tag; i++) {
        if (entry.d_tag > 0 && (size_t)entry.d_tag < COUNT_OF(value))
            value[entry.d_tag] = entry.d_un.d_val;
        else if (entry.d_tag == DT_GNU_HASH)
            gnu_hash = entry.d_un.d_val;
        else if (entry.d_tag == DT_FLAGS_1)
            elf->is_pie = entry.d_un.d_val & DF_1_PIE;
    }

    const struct {
        struct elf_part *part;
        uint64_t address, size;
    } tables[] = {{&elf->strings, value[DT_STRTAB], value[DT_STRSZ]},
                  {&elf->relocations[0], value[DT_RELA], value[DT_RELASZ]},
                  {&elf->relocations[1], value[DT_JMPREL], value[DT_PLTRELSZ]}};
    for (size_t i = 0; i < COUNT_OF(tables); i++)
        if (tables[i].size && (!at_address(elf, tables[i].address, tables[i].part) ||
                               !part_of(*tables[i].part, 0, tables[i].size, tables[i].part)))
            return false;
    if (value[DT_SYMTAB] && !at_address(elf, value[DT_SYMTAB], &elf->symbols))
        return false;

    uint32_t old_hash[2]; /* how many buckets; how many chains, which is how many symbols */
    if (gnu_hash && at_address(elf, gnu_hash, &hash))
        elf->symbol_count = count_hashed(hash);
    else if (value[DT_HASH] && at_address(elf, value[DT_HASH], &hash) &&
             entry_of(hash, 0, old_hash, sizeof old_hash))
        elf->symbol_count = old_hash[1];

    elf->name = value[DT_SONAME] ? string_in(elf->strings, value[DT_SONAME]) : NULL;
    elf->rpath = value[DT_RPATH] ? string_in(elf->strings, value[DT_RPATH]) : NULL;
    elf->runpath = value[DT_RUNPATH] ? string_in(elf->strings, value[DT_RUNPATH]) : NULL;
    return true;
}

/* ---- the file ---- */

static bool read_segments(struct elf *elf)
{
    ElfW(Phdr) segment;
    int notes = NOTES_MOST;
    bool has_loads = false;
    for (size_t i = 0; entry_of(elf->segments, i, &segment, sizeof segment); i++) {
        struct elf_part part;
        if (segment.p_type != PT_LOAD && segment.p_type != PT_INTERP &&
            segment.p_type != PT_DYNAMIC && segment.p_type != PT_NOTE)
            continue;
        if (!part_of(elf->file, segment.p_offset, segment.p_filesz, &part))
            return false;
        has_loads |= segment.p_type == PT_LOAD;
        if (segment.p_type == PT_INTERP && !(elf->loader = string_in(part, 0)))
            return false;
        if (segment.p_type == PT_DYNAMIC &&
            !part_of(part, 0, DYNAMIC_MOST * sizeof(ElfW(Dyn)), &elf->dynamic))
            elf->dynamic = part;
        if (segment.p_type == PT_NOTE && has_go_note(part, segment.p_align, &notes))
            elf->is_go = true;
    }
    return has_loads && (!elf->dynamic.size || read_dynamic(elf));
}

enum elf_kind elf_read(struct elf *elf, const void *at, size_t size)
{
    ElfW(Ehdr) header;
    *elf = (struct elf){.file = {at, size}};
    if (size < SELFMAG || memcmp(at, ELFMAG, SELFMAG))
        return ELF_NONE;
    /* The fields up to e_machine are the same for both word sizes. */
    if (size < offsetof(ElfW(Ehdr), e_version))
        return ELF_BROKEN;
    memset(&header, 0, sizeof header);
    memcpy(&header, at, size < sizeof header ? size : sizeof header);
    bool is_native_order = header.e_ident[EI_DATA] == ELFDATA2LSB;
    elf->bits = header.e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32;
    elf->machine = is_native_order ? header.e_machine : __builtin_bswap16(header.e_machine);
    elf->type = is_native_order ? header.e_type : __builtin_bswap16(header.e_type);
    if (!is_native_order || elf->bits != 64 || elf->machine != NATIVE_MACHINE)
        return ELF_FOREIGN;
    if (size < sizeof header || header.e_phentsize != sizeof(ElfW(Phdr)) ||
        !part_of(elf->file, header.e_phoff, (uint64_t)header.e_phnum * sizeof(ElfW(Phdr)),
                 &elf->segments) ||
        !read_segments(elf))
        return ELF_BROKEN;
    elf->is_go = elf->is_go || has_go_section(elf, &header);
    return ELF_NATIVE;
}

const char *elf_needed(const struct elf *elf, size_t *at)
{
    ElfW(Dyn) entry;
    while (entry_of(elf->dynamic, *at, &entry, sizeof entry) && entry.d_tag) {
        ++*at;
        const char *name =
            entry.d_tag == DT_NEEDED ? string_in(elf->strings, entry.d_un.d_val) : NULL;
        if (name)
            return name;
    }
    return NULL;
}

/*
 * By the relocations, not by the symbol table: nothing says how long that is where nothing is
 * defined, and what no relocation asks for is not called. What a library defines and calls itself
 * is among them: the shim's comes before it.
 */
const char *elf_imported(const struct elf *elf, size_t *at)
{
    ElfW(Rela) relocation;
    ElfW(Sym) symbol;
    size_t first = elf->relocations[0].size / sizeof relocation;
    for (;;) {
        size_t i = *at;
        if (!(i < first ? entry_of(elf->relocations[0], i, &relocation, sizeof relocation)
                        : entry_of(elf->relocations[1], i - first, &relocation, sizeof relocation)))
            return NULL;
        ++*at;
        uint32_t index = (uint32_t)(relocation.r_info >> 32); /* elf(5): ELF64_R_SYM */
        const char *name;
        if (index && entry_of(elf->symbols, index, &symbol, sizeof symbol) &&
            (name = string_in(elf->strings, symbol.st_name)) && *name)
            return name;
    }
}

const char *elf_defined(const struct elf *elf, size_t *at)
{
    ElfW(Sym) symbol;
    while (*at < elf->symbol_count && entry_of(elf->symbols, *at, &symbol, sizeof symbol)) {
        ++*at;
        const char *name;
        if (symbol.st_shndx != SHN_UNDEF && symbol.st_info >> 4 != STB_LOCAL &&
            (name = string_in(elf->strings, symbol.st_name)) && *name)
            return name;
    }
    return NULL;
}

const unsigned int elf_native_machine = NATIVE_MACHINE;

const char *elf_machine_name(unsigned int machine)
{
    static char text[24];
    static const struct {
        unsigned int machine;
        const char *name;
    } names[] = {
        {EM_X86_64, "x86-64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i386"},
        {EM_ARM, "arm"},       {EM_RISCV, "riscv"},     {EM_PPC64, "ppc64"},
        {EM_S390, "s390"},     {EM_MIPS, "mips"},       {EM_LOONGARCH, "loongarch"},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (names[i].machine == machine)
            return names[i].name;
    snprintf(text, sizeof text, "machine %u", machine);
    return text;
}

int elf_map(const char *path, struct elf_part *file)
{
    struct stat stat;
    char again[32];
    *file = (struct elf_part){NULL, 0};
    /* open(2): O_PATH first, since to open a FIFO waits and to open a device may do something. */
    int seen = open(path, O_PATH | O_CLOEXEC);
    if (seen < 0)
        return errno;
    if (glibc_fstat(seen, &stat) || !S_ISREG(stat.st_mode) || stat.st_size > FILE_MOST) {
        close(seen);
        return ENOEXEC;
    }
    snprintf(again, sizeof again, "/proc/self/fd/%d", seen);
    int fd = open(again, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != EACCES && errno != EPERM) /* no /proc: it is a file, as we know */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? errno : 0;
    close(seen);
    if (!error && stat.st_size) {
        void *at = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            error = errno;
        else
            *file = (struct elf_part){at, (size_t)stat.st_size};
    }
    if (fd >= 0)
        close(fd);
    return error;
}

void elf_unmap(struct elf_part *file)
{
    if (file->size)
        munmap((void *)file->at, file->size);
    *file = (struct elf_part){NULL, 0};
}
