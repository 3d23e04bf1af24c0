/* SPDX-License-Identifier: MIT */
#include "base/libc_next.h"

#include "base/text.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern ElfW(Dyn) _DYNAMIC[] HIDDEN; /* our own: ld(1) */

/* The version is not the default one: the highest bit of an entry of DT_VERSYM. */
#define VERSION_HIDDEN 0x8000

struct search {
    const char *name;
    void *found;
    bool is_behind;
};

struct object {
    ElfW(Addr) base;
    const uint32_t *hash; /* DT_GNU_HASH */
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint16_t *versions;
};

/* The loader makes addresses of most objects' offsets, but not of all (the vDSO's). */
static const void *at(const struct object *object, ElfW(Addr) value)
{
    return (const void *)(value < object->base ? value + object->base : value);
}

static void read_dynamic(struct object *object, const ElfW(Dyn) * entry)
{
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *pointer = at(object, entry->d_un.d_ptr);
        if (entry->d_tag == DT_GNU_HASH)
            object->hash = pointer;
        else if (entry->d_tag == DT_SYMTAB)
            object->symbols = pointer;
        else if (entry->d_tag == DT_STRTAB)
            object->strings = pointer;
        else if (entry->d_tag == DT_VERSYM)
            object->versions = pointer;
    }
}

/* Dan Bernstein's, as DT_GNU_HASH has it. */
static uint32_t hash_of(const char *name)
{
    uint32_t hash = 5381;
    while (*name)
        hash = hash * 33 + (unsigned char)*name++;
    return hash;
}

static void *symbol_in(const struct object *object, const char *name)
{
    uint32_t buckets = object->hash[0], first = object->hash[1], words = object->hash[2];
    const uint32_t *bucket = object->hash + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    uint32_t hash = hash_of(name), i = buckets ? bucket[hash % buckets] : 0;
    if (i < first)
        return NULL;
    for (;; i++) {
        const ElfW(Sym) *symbol = &object->symbols[i];
        uint32_t here = chain[i - first];
        if ((here | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF &&
            ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
            !(object->versions && object->versions[i] & VERSION_HIDDEN) &&
            text_equal(object->strings + symbol->st_name, name))
            return (void *)(object->base + symbol->st_value);
        if (here & 1) /* the last of its bucket */
            return NULL;
    }
}

/* vdso(7): the loader lists it, and does not look into it for anybody. */
static bool is_vdso(const struct dl_phdr_info *info)
{
    ElfW(Addr) page = (ElfW(Addr))info->dlpi_phdr & ~(ElfW(Addr))4095;
    return page == getauxval(AT_SYSINFO_EHDR);
}

static int look(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    struct search *search = context;
    struct object object = {.base = info->dlpi_addr};
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    if (!search->is_behind) {
        search->is_behind = dynamic == _DYNAMIC;
        return 0;
    }
    if (!dynamic || is_vdso(info))
        return 0;
    read_dynamic(&object, dynamic);
    if (object.hash && object.symbols && object.strings)
        search->found = symbol_in(&object, search->name);
    return search->found != NULL;
}

void *libc_next_symbol(const char *name)
{
    struct search search = {name, NULL, false};
    dl_iterate_phdr(look, &search);
    return search.found;
}

struct holder {
    const void *address;
    struct libc_next_object object;
};

static int hold(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    struct holder *holder = context;
    struct libc_next_object object = {UINTPTR_MAX, 0};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD)
            continue;
        object.from = from < object.from ? from : object.from;
        object.to = from + segment->p_memsz > object.to ? from + segment->p_memsz : object.to;
    }
    if (object.from > object.to || !libc_next_object_has(&object, holder->address))
        return 0;
    holder->object = object;
    return 1;
}

struct libc_next_object libc_next_object_of(const void *address)
{
    struct holder holder = {address, {0, 0}};
    dl_iterate_phdr(hold, &holder);
    return holder.object;
}
