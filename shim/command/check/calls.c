/* SPDX-License-Identifier: MIT */
/* Which calls are covered: those that libweir.so defines. The library is the list. */
#include "command/check/verdict.h"
#include "base/text.h"

/* A name, and the first object that was found to import it. */
struct call {
    const char *name;
    char *by;    /* NULL: nobody */
    bool is_own; /* the program defines it itself */
};

/* What reaches a connection past every function that there is to stand in front of. */
static const struct {
    const char *prefix, *says;
} blind[] = {
    {"io_uring_", "io_uring (%s in %s) can't be seen: a connection that it serves takes no part "
                  "in a drain."},
    {"io_submit", "%s (in %s) on a connection can't be seen."},
    {"aio_", "%s (in %s) on a connection can't be seen."},
    {"preadv2", "%s (in %s) on a connection can't be seen."},
    {"preadv64v2", "%s (in %s) on a connection can't be seen."},
    {"pwritev2", "%s (in %s) on a connection can't be seen."},
    {"pwritev64v2", "%s (in %s) on a connection can't be seen."},
    {"dprintf", "%s (in %s) to a connection can't be seen."},
    {"vdprintf", "%s (in %s) to a connection can't be seen."},
};

struct calls {
    struct elf_part library;
    struct call *covered; /* sorted by name */
    size_t count;
    struct {
        char *name, *by;
    } blind[COUNT_OF(blind)];
    char *stdio; /* who accepts and imports fdopen */
    bool loads;  /* it imports dlopen */
};

static int compare_calls(const void *a, const void *b)
{
    return strcmp(((const struct call *)a)->name, ((const struct call *)b)->name);
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
    if (elf_map(path, &calls->library) != ELF_OPENED ||
        elf_read(&elf, calls->library.at, calls->library.size) != ELF_NATIVE ||
        !(calls->covered = calloc(elf.symbol_count, sizeof *calls->covered))) {
        check_fail(check, EXIT_FAILED, "%s can't be read, or is no library", SHOWN(path));
        check_calls_end(calls);
        return NULL;
    }
    for (size_t at = 0; (name = elf_defined(&elf, &at));)
        calls->covered[calls->count++].name = name;
    qsort(calls->covered, calls->count, sizeof *calls->covered, compare_calls);
    return calls;
}

/* "__read_chk" is a read. */
static const char *bare(const char *name)
{
    return name + strspn(name, "_");
}

static bool begins_with(const char *name, const char *prefix)
{
    return !strncmp(name, prefix, strlen(prefix));
}

static void add_blind(struct calls *calls, const char *name, const char *by)
{
    for (size_t i = 0; i < COUNT_OF(blind); i++) {
        if (begins_with(bare(name), blind[i].prefix) && !calls->blind[i].name) {
            calls->blind[i].name = strdup(name);
            calls->blind[i].by = strdup(by);
        }
    }
}

void check_calls_add(struct calls *calls, const struct elf *elf, const char *path)
{
    const char *base = check_base(path), *stdio = NULL;
    bool accepts = false;
    struct call wanted;
    for (size_t at = 0; (wanted.name = elf_imported(elf, &at));) {
        struct call *call =
            bsearch(&wanted, calls->covered, calls->count, sizeof *call, compare_calls);
        if (!call)
            add_blind(calls, wanted.name, base);
        else if (!call->by)
            call->by = strdup(base);
        calls->loads |= !strcmp(wanted.name, "dlopen");
        accepts |= begins_with(wanted.name, "accept");
        if (!strcmp(wanted.name, "fdopen"))
            stdio = base;
    }
    /* That others use it, for files, says nothing. */
    if (accepts && stdio && !calls->stdio)
        calls->stdio = strdup(stdio);
}

void check_calls_own(struct calls *calls, const struct elf *program)
{
    struct call wanted;
    for (size_t at = 0; (wanted.name = elf_defined(program, &at));) {
        struct call *call =
            bsearch(&wanted, calls->covered, calls->count, sizeof *call, compare_calls);
        if (call)
            call->is_own = true;
    }
}

/* ---- what is said of them ---- */

static const struct family {
    const char *verb, *prefixes[6];
} families[] = {
    {"accepts", {"accept"}},
    {"reads", {"read", "recv"}},
    {"writes", {"write", "send", "splice"}},
    {"closes", {"close", "fclose", "freopen", "shutdown", "dup"}},
    {"cooperates", {"weir_"}},
};

static bool is_of(const struct family *family, const struct call *call)
{
    for (size_t i = 0; i < COUNT_OF(family->prefixes) && family->prefixes[i]; i++)
        if (begins_with(bare(call->name), family->prefixes[i]))
            return true;
    return false;
}

/* " read recv": the imported ones of a family; NULL: the program's own. Returns whether any. */
static bool list_names(const struct calls *calls, const struct family *family, char into[900])
{
    struct text text = {into, 0, 900};
    *into = '\0';
    for (size_t i = 0; i < calls->count; i++) {
        const struct call *call = &calls->covered[i];
        if (family ? !call->by || !is_of(family, call) : !call->is_own)
            continue;
        text_string(&text, " ");
        text_string(&text, call->name);
        /* Of accept it is worth to know who: the program, or a library. */
        if (family == families) {
            text_string(&text, " (in ");
            text_escaped(&text, call->by, 60);
            text_string(&text, ")");
        }
    }
    return text.used;
}

void check_calls_say(const struct calls *calls, const struct check *check)
{
    char names[900];
    size_t others = 0;
    bool has_syscall = false;
    for (size_t i = 0; i < COUNT_OF(families); i++)
        if (list_names(calls, &families[i], names))
            check_say(check, "It %s by%s: covered.", families[i].verb, names);
    for (size_t i = 0; i < calls->count; i++) {
        bool is_other = calls->covered[i].by;
        for (size_t f = 0; f < COUNT_OF(families); f++)
            is_other = is_other && !is_of(&families[f], &calls->covered[i]);
        others += is_other;
        has_syscall |= is_other && !strcmp(calls->covered[i].name, "syscall");
    }
    if (others)
        check_say(check, "Other calls that it imports (signals, waits, exec), all covered: %zu.",
                  others);
    if (list_names(calls, NULL, names))
        check_say(check,
                  "It has functions of its own in front of the shim's, and only what they pass "
                  "on to libc is seen:%s.",
                  names);
    else if (!list_names(calls, families, names))
        check_say(check, "It imports no accept: it has only the connections that it inherits "
                         "(inetd), or that a library which it loads later accepts.");
    if (calls->loads)
        check_say(check, "Libraries that it loads later (dlopen) are covered in the same way.");
    if (has_syscall)
        check_say(check, "The same calls made by syscall() are covered.");
    for (size_t i = 0; i < COUNT_OF(blind); i++)
        if (calls->blind[i].name && calls->blind[i].by)
            check_say(check, blind[i].says, SHOWN(calls->blind[i].name), SHOWN(calls->blind[i].by));
    if (calls->stdio)
        check_say(check,
                  "What stdio reads from a connection and writes to it (fdopen in %s) can't be "
                  "seen, only what comes of it.",
                  SHOWN(calls->stdio));
    check_say(check,
              "A system call that code makes by itself, not through libc, can't be seen, nor "
              "what is done by io_uring.");
}
