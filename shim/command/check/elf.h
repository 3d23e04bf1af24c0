/* SPDX-License-Identifier: MIT */
/*
 * elf.h - what an ELF file says of itself: elf(5), read without a tool.
 *
 * The file is anybody's: nothing in it is followed before it has been looked at, and no loop is
 * longer than the file. Beyond its first bytes only a file of the machine that weir is built for is
 * read. What a struct elf points to is the file's own bytes, and ends with them; a string of it may
 * hold any byte but NUL: escape it.
 */
#ifndef WEIR_ELF_H
#define WEIR_ELF_H

#include "base/common.h"

enum elf_kind {
    ELF_NONE,    /* is no ELF file */
    ELF_BROKEN,  /* is cut short, or points out of itself */
    ELF_FOREIGN, /* is for another machine, word size or byte order */
    ELF_NATIVE,
};

/* Some bytes of the file. */
struct elf_part {
    const unsigned char *at;
    size_t size;
};

struct elf {
    struct elf_part file;
    unsigned int machine, bits, type; /* e_machine; 32 or 64; e_type */

    /* ELF_NATIVE only; NULL, false or empty where the file has none. */
    const char *loader;          /* PT_INTERP */
    const char *name;            /* DT_SONAME */
    const char *rpath, *runpath; /* where its libraries are looked for */
    bool is_pie;                 /* says that it is a program, although it is ET_DYN */
    bool is_go;                  /* the Go linker's note, or its section */
    struct elf_part segments, dynamic, strings, symbols, relocations[2];
    size_t symbol_count; /* of those that its hash table knows */
};

/* Reads size bytes at `at` into *elf, which points into them. */
enum elf_kind elf_read(struct elf *elf, const void *at, size_t size);

/*
 * The next name that it needs (DT_NEEDED), has looked up (by a relocation; may come more than
 * once), or defines for others, from *at on, which begins as 0. NULL: no more.
 */
const char *elf_needed(const struct elf *elf, size_t *at);
const char *elf_imported(const struct elf *elf, size_t *at);
const char *elf_defined(const struct elf *elf, size_t *at);

/* "x86-64"; "machine 8" where hardly anybody has one, valid until the next call. */
const char *elf_machine_name(unsigned int machine);

/* The machine that weir is built for. */
extern const unsigned int elf_native_machine;

/*
 * Maps a regular file, which must be unmapped later and is not kept open. Returns 0, or an errno:
 * EACCES or EPERM where it may not be read.
 */
int elf_map(const char *path, struct elf_part *file);
void elf_unmap(struct elf_part *file);

#endif
