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

/* What reaches a connection past every function that there is to stand in front of. */
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
    char *name;
    char *by; /* NULL: nobody */
    size_t family;
    bool is_own; /* the program defines it itself */
};

struct calls {
    struct elf_part library;
    struct call *covered; /* sorted by name */
    size_t count;
    struct call blind[COUNT_OF(blind)];
    char *stdio; /* who accepts and imports fdopen */
    bool loads;  /* it imports dlopen */
};

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

static struct call *find_covered(const struct calls *calls, const char *name)
{
    struct call wanted = {.name = (char *)name};
    return bsearch(&wanted, calls->covered, calls->count, sizeof wanted, compare_calls);
}

void check_calls_end(struct calls *calls)
{
    if (!calls)
        return;
    for (size_t i = 0; i < calls->count; i++)
        free(calls->covered[i].by);
    for (size_t i = 0; i < COUNT_OF(blind); i++) {
        free(calls->blind[i].name);
        free(calls->blind[i].by);
    }
    free(calls->stdio);
    free(calls->covered);
    elf_unmap(&calls->library);
    free(calls);
}

struct calls *check_calls_begin(struct check *check)
{
    char path[PATH_MAX];
    struct elf elf;
    struct calls *calls = calloc(1, sizeof *calls);
    const char *name;
    if (!calls || !check_our_library(path, check)) {
        free(calls);
        return NULL;
    }
    if (elf_map(path, &calls->library) ||
        elf_read(&elf, calls->library.at, calls->library.size) != ELF_NATIVE ||
        !(calls->covered = calloc(elf.symbol_count, sizeof *calls->covered))) {
        check_fail(check, "%s can't be read, or is no library", escaped(path));
        check_calls_end(calls);
        return NULL;
    }
    for (size_t at = 0; (name = elf_defined(&elf, &at));)
        calls->covered[calls->count++] =
            (struct call){.name = (char *)name, .family = family_of(name)};
    qsort(calls->covered, calls->count, sizeof *calls->covered, compare_calls);
    return calls;
}

static void add_blind(struct calls *calls, const char *name, const char *by)
{
    for (size_t i = 0; i < COUNT_OF(blind); i++)
        if (begins_with(name, blind[i].prefix) && !calls->blind[i].name)
            calls->blind[i] = (struct call){.name = strdup(name), .by = strdup(by)};
}

void check_calls_add(struct calls *calls, const struct elf *elf, const char *path)
{
    const char *base = base_name(path), *name;
    bool accepts = false, uses_stdio = false;
    for (size_t at = 0; (name = elf_imported(elf, &at));) {
        struct call *call = find_covered(calls, name);
        if (!call)
            add_blind(calls, name, base);
        else if (!call->by)
            call->by = strdup(base);
        calls->loads |= text_equal(name, "dlopen");
        accepts |= text_after(name, "accept") != NULL;
        uses_stdio |= text_equal(name, "fdopen");
    }
    /* That others use it, for files, says nothing. */
    if (accepts && uses_stdio && !calls->stdio)
        calls->stdio = strdup(base);
}

void check_calls_own(struct calls *calls, const struct elf *program)
{
    const char *name;
    for (size_t at = 0; (name = elf_defined(program, &at));) {
        struct call *call = find_covered(calls, name);
        if (call)
            call->is_own = true;
    }
}

/* ---- what is printed of them ---- */

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

void check_calls_say(const struct calls *calls, const struct check *check)
{
    char names[OTHERS][900], own_names[900] = "";
    struct text own = TEXT_ON(own_names), imported[OTHERS];
    size_t others = 0;
    bool has_syscall = false;
    for (size_t f = 0; f < OTHERS; f++)
        imported[f] = TEXT_ON(names[f]);
    for (const struct call *call = calls->covered; call < calls->covered + calls->count; call++) {
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
    else if (!imported[ACCEPTS].used)
        check_say(check, "It imports no accept: it has only the connections that it inherits "
                         "(inetd), or that a library which it loads later accepts.");
    if (calls->loads)
        check_say(check, "Libraries that it loads later (dlopen) are covered in the same way.");
    if (has_syscall)
        check_say(check, "The same calls made by syscall() are covered.");
    for (size_t i = 0; i < COUNT_OF(blind); i++)
        if (calls->blind[i].name && calls->blind[i].by)
            check_say(check, blind[i].says, escaped(calls->blind[i].name),
                      escaped(calls->blind[i].by));
    if (calls->stdio)
        check_say(check,
                  "What stdio reads from a connection and writes to it (fdopen in %s) can't be "
                  "seen, only what comes of it.",
                  escaped(calls->stdio));
    check_say(check,
              "A system call that code makes by itself, not through libc, can't be seen, nor "
              "what is done by io_uring.");
}
