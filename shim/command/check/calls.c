/* SPDX-License-Identifier: MIT */
#include "command/check/calls.h"

#include "base/text.h"
#include "command/check/libraries.h"
#include "command/say.h"

/* Calls that are named together; the last family has those that belong to no other. */
static const struct {
    const char *verb, *prefixes[6];
} families[] = {
    {"accepts", {"accept"}},
    {"reads", {"read", "recv"}},
    {"writes", {"write", "send", "splice"}},
    {"closes", {"close", "fclose", "freopen", "shutdown", "dup"}},
    {"cooperates", {"weir_"}},
};
enum { ACCEPTS = 0, OTHERS = COUNT_OF(families) };

/* Calls that reach a connection past every function of libc that can be interposed. */
static const char blind_call[] = "%s (in %s) on a connection can't be seen.";
static const struct {
    const char *prefix, *says;
} blind[] = {
    {"io_uring_", "io_uring (%s in %s) can't be seen: a connection that it serves takes no part "
                  "in a drain."},
    {"io_submit", blind_call},
    {"aio_", blind_call},
    {"preadv2", blind_call},
    {"preadv64v2", blind_call},
    {"pwritev2", blind_call},
    {"pwritev64v2", blind_call},
    {"dprintf", blind_call},
    {"vdprintf", blind_call},
};

/* A name, and the first object that was found to import it. */
struct call {
    const char *name;
    const char *by; /* NULL: nobody */
    size_t family;
    bool is_own; /* the program defines it itself */
};

/* The calls of one program: a run of the command looks at no second one. */
static struct call *covered; /* sorted by name */
static size_t count;
static struct call seen[COUNT_OF(blind)];
static const char *stdio; /* who accepts and imports fdopen */
static bool loads;        /* something imports dlopen */

/* "__read_chk" is a read. */
static bool begins_with(const char *name, const char *prefix)
{
    return text_after(name + strspn(name, "_"), prefix);
}

static size_t family_of(const char *name)
{
    for (size_t f = 0; f < OTHERS; f++)
        for (const char *const *prefix = families[f].prefixes; *prefix; prefix++)
            if (begins_with(name, *prefix))
                return f;
    return OTHERS;
}

static int compare_calls(const void *a, const void *b)
{
    return strcmp(((const struct call *)a)->name, ((const struct call *)b)->name);
}

static struct call *find_covered(const char *name)
{
    struct call wanted = {.name = name};
    return bsearch(&wanted, covered, count, sizeof wanted, compare_calls);
}

bool calls_begin(struct check *check)
{
    char path[PATH_MAX];
    struct elf_part file; /* stays mapped: the names are in there */
    struct elf elf;
    const char *name;
    if (!check_our_library(path, check))
        return false;
    if (elf_map(path, &file) || elf_read(&elf, file.at, file.size) != ELF_NATIVE ||
        !(covered = calloc(elf.symbol_count, sizeof *covered)))
        return check_fail(check, "%s can't be read, or is no library", escaped(path));
    for (size_t at = 0; (name = elf_defined(&elf, &at));)
        covered[count++] = (struct call){.name = name, .family = family_of(name)};
    qsort(covered, count, sizeof *covered, compare_calls);
    return true;
}

static void add_blind(const char *name, const char *by)
{
    for (size_t i = 0; i < COUNT_OF(blind); i++)
        if (begins_with(name, blind[i].prefix) && !seen[i].by)
            seen[i] = (struct call){.name = strdup(name), .by = by};
}

void calls_add(const struct elf *elf, const char *path)
{
    const char *base = strdup(base_name(path)), *name;
    bool accepts = false, uses_stdio = false;
    for (size_t at = 0; base && (name = elf_imported(elf, &at));) {
        struct call *call = find_covered(name);
        if (!call)
            add_blind(name, base);
        else if (!call->by)
            call->by = base;
        loads |= text_equal(name, "dlopen");
        accepts |= text_after(name, "accept") != NULL;
        uses_stdio |= text_equal(name, "fdopen");
    }
    /* A library that uses it for files does not count. */
    if (accepts && uses_stdio && !stdio)
        stdio = base;
}

void calls_add_own(const struct elf *program)
{
    const char *name;
    for (size_t at = 0; (name = elf_defined(program, &at));) {
        struct call *call = find_covered(name);
        if (call)
            call->is_own = true;
    }
}

/* Appends a call's name; of accept also who imports it, the program or a library. */
static void append(struct text *names, const struct call *call, bool with_importer)
{
    text_string(names, " ");
    text_string(names, call->name);
    if (with_importer) {
        text_string(names, " (in ");
        text_escaped(names, call->by, 60);
        text_string(names, ")");
    }
}

void calls_say(struct check *check)
{
    char names[OTHERS][900], own_names[900] = "";
    struct text own = TEXT_ON(own_names), imported[OTHERS];
    size_t others = 0;
    bool has_syscall = false;
    for (size_t f = 0; f < OTHERS; f++)
        imported[f] = TEXT_ON(names[f]);
    for (const struct call *call = covered; call < covered + count; call++) {
        if (call->is_own)
            append(&own, call, false);
        if (call->by && call->family < OTHERS)
            append(&imported[call->family], call, call->family == ACCEPTS);
        others += call->by && call->family == OTHERS;
        has_syscall |= call->by && text_equal(call->name, "syscall");
    }
    for (size_t f = 0; f < OTHERS; f++)
        if (imported[f].used)
            check_say(check, "It %s by%s: covered.", families[f].verb, names[f]);
    if (others)
        check_say(check, "Other calls that it imports (signals, waits, exec), all covered: %zu.",
                  others);
    if (own.used)
        check_say(check,
                  "It has functions of its own in front of the shim's, and only what they pass "
                  "on to libc is seen:%s.",
                  own_names);
    check->has_no_accept = !imported[ACCEPTS].used && !own.used && !loads && !has_syscall;
    if (!imported[ACCEPTS].used && !own.used)
        check_say(check,
                  "It imports no accept: it has only the connections that it inherits "
                  "(inetd)%s.",
                  loads ? ", or that a library which it loads later accepts" : "");
    if (loads)
        check_say(check, "Libraries that it loads later (dlopen) are covered in the same way.");
    if (has_syscall)
        check_say(check, "The same calls made by syscall() are covered.");
    for (size_t i = 0; i < COUNT_OF(blind); i++)
        if (seen[i].name)
            check_say(check, blind[i].says, escaped(seen[i].name), escaped(seen[i].by));
    if (stdio)
        check_say(check,
                  "What stdio reads from a connection and writes to it (fdopen in %s) can't be "
                  "seen, only what comes of it.",
                  escaped(stdio));
    check_say(check,
              "A system call that code makes by itself, not through libc, can't be seen, nor "
              "what is done by io_uring.");
}
