/* SPDX-License-Identifier: MIT */
#include "drain/start.h"

#include "conn/conn.h"
#include "drain/drain.h"
#include "conn/epoch.h"
#include "drain/stage.h"
#include "drain/stop_signals.h"
#include "drain/trigger.h"
#include "drain/worker.h"
#include "conn/handoff.h"
#include "tree/coordinator.h"
#include "base/libc.h"
#include "conn/linger.h"
#include "drain/listener.h"
#include "base/log.h"
#include "tree/sd_notify.h"
#include "base/settings.h"
#include "drain/signals_eintr.h"
#include "drain/signals_mask.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/table.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include "tree/pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/auxv.h>
#include <sys/resource.h>

/* ---- the environment ---- */

#define TREE_NAME "WEIR_TREE="
#define PRELOAD_NAME "LD_PRELOAD="

static bool ends_with_library(const char *item, size_t length)
{
    static const char name[] = "libweir.so";
    if (length < sizeof name - 1)
        return false;
    for (size_t i = 0; i < sizeof name - 1; i++)
        if (item[length - (sizeof name - 1) + i] != name[i])
            return false;
    return length == sizeof name - 1 || item[length - sizeof name] == '/';
}

/*
 * Takes our item out of LD_PRELOAD's value, in place. Returns whether another is left.
 * ld.so(8): items are separated by spaces or colons.
 */
static bool leave_preload(char *value)
{
    char *to = value;
    for (const char *at = value; *at;) {
        size_t length = 0;
        while (at[length] && at[length] != ':' && at[length] != ' ')
            length++;
        if (length && !ends_with_library(at, length)) {
            if (to != value)
                *to++ = ':';
            for (size_t i = 0; i < length; i++)
                *to++ = at[i];
        }
        at += length + (at[length] != '\0');
    }
    *to = '\0';
    return to != value;
}

/*
 * Programs that this one starts are to run without us: the environment is put right in place, so
 * that main's third argument says the same.
 */
static void leave_children(char **envp)
{
    char **to = envp;
    for (char **at = envp; *at; at++) {
        char *value = (char *)text_after(*at, PRELOAD_NAME);
        if (value ? leave_preload(value) : !text_after(*at, "WEIR_"))
            *to++ = *at;
    }
    *to = NULL;
}

/* Writes it over an entry that is there, where it fits. */
static bool overwrite(char *entry, const struct text *with)
{
    if (with->used > text_length(entry))
        return false;
    for (size_t i = 0; i <= with->used; i++)
        entry[i] = with->at[i];
    return true;
}

/*
 * Names the tree in the environment, for the programs that this one starts: those that find it
 * there are not the first of theirs. The entry must bear whatever a program does with its own:
 *
 * - who writes a title over argv and environ takes the block of strings to end where the last of
 *   environ does (libmaa), or those of argv to end where the first of environ begins: so it is
 *   neither the first nor the last, for which the program's only one stands twice;
 * - who copies the block frees what it has not copied as well (zabbix): free takes it;
 * - where there is no environment nothing is added.
 *
 * An earlier program of this process may have been given one: it is in the block, and stays there.
 */
static void name_tree(char **envp)
{
    static BIG(4) char *with_name[4096];
    static char fallback[sizeof TREE_NAME + PAGEFILE_PATH];
    char name[sizeof fallback];
    struct text text = TEXT_ON(name);
    size_t n = 0, count = 0;
    text_string(&text, TREE_NAME);
    text_string(&text, membership_name());
    for (; envp[n]; n++) {
        if (!text_after(envp[n], TREE_NAME)) {
            if (count + 4 > COUNT_OF(with_name))
                return;
            with_name[count++] = envp[n];
        } else if (overwrite(envp[n], &text)) {
            return;
        }
    }
    if (!count)
        return;
    char *entry = libc_allocate(text.used + 1);
    if (!entry)
        entry = fallback;
    for (size_t i = 0; i <= text.used; i++)
        entry[i] = name[i];
    if (count == 1)
        with_name[count++] = with_name[0];
    with_name[count] = with_name[count - 1];
    with_name[count - 1] = entry;
    environ = with_name;
}

/* WEIR_TREE's value, or NULL. */
static char *named_tree(char *const *envp)
{
    for (; *envp; envp++)
        if (text_after(*envp, TREE_NAME))
            return *envp + sizeof TREE_NAME - 1;
    return NULL;
}

/* ---- successors ---- */

#define SUCCESSOR_MARK '?' /* at the end of WEIR_TREE's value */

/* The words of this program's command line, as it was started, hashed (FNV-1a). */
static uint32_t words[64];
static uint32_t words_count;

/*
 * A file's name stands for its path. `python3 -m NAME` is started again as the file that it has
 * found then, NAME/__main__.py.
 */
static uint32_t hash_word(const char *word)
{
    const char *name = word, *before = word, *end;
    for (const char *at = word; *at; at++) {
        if (*at == '/' && at[1]) {
            before = name;
            name = at + 1;
        }
    }
    bool is_module = text_equal(name, "__main__.py");
    for (end = name = is_module ? before : name; *end && *end != '/'; end++)
        ;
    uint32_t hash = 2166136261u;
    for (; name < end; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static bool is_known_word(const char *word)
{
    uint32_t hash = hash_word(word);
    for (uint32_t i = 0; i < words_count; i++)
        if (words[i] == hash)
            return true;
    return false;
}

long start_successors_tree(char *const *argv, char *const *envp)
{
    if (!listener_any() || !argv || !envp)
        return -1;
    for (; *argv; argv++)
        if (!is_known_word(*argv))
            return -1;
    for (long i = 0; envp[i]; i++)
        if (text_after(envp[i], TREE_NAME))
            return i;
    return -1;
}

char *start_mark_tree(const char *entry, char *room)
{
    static const char mark[] = {SUCCESSOR_MARK, '\0'};
    struct text text = {room, 0, START_TREE_ROOM};
    text_string(&text, entry);
    text_string(&text, mark);
    return room;
}

/* Takes the mark off. Returns whether there was one. */
static bool was_marked(char *value)
{
    size_t length = 0;
    while (value && value[length])
        length++;
    if (!length || value[length - 1] != SUCCESSOR_MARK)
        return false;
    value[length - 1] = '\0';
    return true;
}

/* ---- start-up ---- */

/* The first connection that a child has for its own. */
static bool goes_on_draining;

static void first_connection(void)
{
    process_slot_take();
    if (goes_on_draining)
        worker_order(ACTION_DRAIN, &drain_inherited);
    else if (coordinator_tree_drains())
        worker_look();
}

/* A connection that another process has handed on, while the tree drains. */
static void adopts(void)
{
    if (LIKELY(!coordinator_tree_drains()) || coordinator_tree_is_drained())
        return;
    drain_resumes();
    worker_look();
}

/* It must not take a system call (DESIGN.md, invariant 1). */
static void forked(void)
{
    /* First what a signal that comes in the middle of this would leave an order in. */
    worker_forked();
    stop_signals_forked();
    trigger_forked();
    /* The thread that was in the middle of start-up is the parent's; the child begins anew. */
    if (UNLIKELY(atomic_load(&stage) == STAGE_STARTING))
        atomic_store(&stage, STAGE_DORMANT);
    signals_forked();
    table_forked();
    bool drained = drain_forked();
    membership_forked();
    coordinator_forget();
    linger_forked();
    sd_notify_forked();
    log_forked();
    goes_on_draining = drained && !coordinator_tree_drains();
    conn_on_first = first_connection;
}

void start_forks(void)
{
    struct totals totals;
    epoch_lives_on();
    epoch_now();
    bool inherits = listener_any();
    if (!inherits && atomic_load(&table.high)) { /* before that its counts are untouched memory */
        table_totals(&totals);
        inherits = totals.tracked;
    }
    membership_forks(inherits);
}

static void lives_on(void)
{
    int saved = errno;
    membership_lives_on();
    if (process_slot_is_taken() && coordinator_tree_drains() && !sys_is_sandboxed())
        worker_look();
    errno = saved;
}

static struct rlimit limit_on(int what)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    sys4(SYS_prlimit64, 0, what, NULL, &limit);
    return limit;
}

/* Whether what a process asks for is counted though it is not used (proc(5), overcommit_memory). */
static bool memory_is_counted(void)
{
    char mode = '0';
    long fd = sys4(SYS_openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0) {
        sys3(SYS_read, fd, &mode, 1);
        sys1(SYS_close, fd);
    }
    return mode == '2' || limit_on(RLIMIT_DATA).rlim_cur != RLIM_INFINITY;
}

static void say_too_small(uint64_t hard)
{
    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "room for ");
    text_number(&line.text, table.most);
    text_string(&line.text, " descriptors alone, of ");
    text_number(&line.text, hard);
    text_string(&line.text, " that the limit allows: on a higher one nothing is drained");
    log_send(&line);
}

/*
 * The table: for what the program may come to use, and more than its limit says now, which it may
 * raise (as much as fs.nr_open allows as a rule). A service manager's "infinity" is 2^30: more than
 * any program opens.
 */
#define DESCRIPTORS_USUAL (UINT32_C(1) << 20)
#define DESCRIPTORS_MOST (UINT32_C(1) << 22)
#define DESCRIPTORS_SCARCE (UINT32_C(1) << 14) /* where address space is limited */

static bool make_table(void)
{
    struct rlimit files = limit_on(RLIMIT_NOFILE);
    uint32_t hard = files.rlim_max < DESCRIPTORS_MOST ? (uint32_t)files.rlim_max : DESCRIPTORS_MOST;
    uint32_t soft = files.rlim_cur < hard ? (uint32_t)files.rlim_cur : hard;
    uint32_t most = hard > DESCRIPTORS_USUAL ? hard : DESCRIPTORS_USUAL;
    if (limit_on(RLIMIT_AS).rlim_cur != RLIM_INFINITY)
        most = soft > DESCRIPTORS_SCARCE ? soft : DESCRIPTORS_SCARCE;
    if (table_make(most, memory_is_counted() ? soft : most) < 0)
        return false;
    if (table.most < soft)
        say_too_small(soft);
    return true;
}

/* Mode http, whose notes follow the table. */
static void grown(uint32_t limit)
{
    framing_begin(limit, table.most);
}

static void say_ready(void)
{
    struct log_line line;
    char name[16];
    const char *separator = "drain on ";
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "ready: mode ");
    text_string(&line.text, settings_mode_name(settings_now()->mode.rest));
    if (settings_now()->mode.count)
        text_string(&line.text, " and others");
    text_string(&line.text, ", ");
    for (int sig = 1; sig < 65; sig++) {
        if (trigger_is(sig) || settings_now()->stop_signals >> (sig - 1) & 1) {
            text_string(&line.text, separator);
            text_string(&line.text, settings_signal_name(sig, name));
            separator = ",";
        }
    }
    text_string(&line.text, *separator == ',' ? ", timeout " : "timeout ");
    if (settings_now()->timeout)
        text_duration(&line.text, settings_now()->timeout);
    else
        text_string(&line.text, "none");
    log_send(&line);
}

static void stand_aside(const char *why)
{
    log_say(LOG_ERROR, why);
    atomic_store(&stage, STAGE_ASIDE);
}

static const char no_room_for_page[] = "no room for the state page: running without weir";

/*
 * What the environment has said at load, in copies: a program may have written its title over it
 * since (Redis 8, before it listens). tree_value: WEIR_TREE's; NULL: there was none.
 */
static const char *tree_value;
static char preload[4096]; /* "LD_PRELOAD=..."; "": there was none, or it is longer */

static void remember_environment(char *const *envp, bool children_follow)
{
    static char tree[PAGEFILE_PATH];
    struct text text = TEXT_ON(tree);
    const char *value = named_tree(envp);
    if (value) {
        text_string(&text, value);
        tree_value = tree;
    }
    for (; *envp && children_follow; envp++) {
        text = TEXT_ON(preload);
        if (text_after(*envp, PRELOAD_NAME) && text_length(*envp) < sizeof preload)
            text_string(&text, *envp);
    }
}

static void count_loss(bool unread, bool unsent)
{
    process_slot_count_loss(false, unread, unsent);
}

static bool begin_serving(void)
{
    epoch_ask_pid();
    if (!table.limit && !make_table()) {
        stand_aside("no room for the table of descriptors: running without weir");
        return false;
    }
    framing.seed = (const unsigned char *)getauxval(AT_RANDOM);
    if (settings_have_mode(MODE_HTTP)) {
        table.on_grows = grown;
        if (!framing_begin(table.limit, table.most))
            log_say(LOG_ERROR, "no room for what is known of HTTP (RLIMIT_AS?): connections are "
                               "taken as in mode reply");
    }
    table.on_shared = handoff_release;
    linger_on_loss = count_loss;
    conn_on_adopt = adopts;
    if (!coordinator_joins(tree_value, stage_began_tree)) {
        stand_aside(no_room_for_page);
        return false;
    }
    if (*membership_name() == '/')
        pagefile_clean(membership_name());
    return true;
}

static void load(void);

void start_settled(void)
{
    if (UNLIKELY(atomic_load_explicit(&stage, memory_order_acquire) == STAGE_NOT_LOADED))
        load();
}

bool start_serving(void)
{
    epoch_lives_on();
    if (LIKELY(atomic_load_explicit(&stage, memory_order_acquire) == STAGE_SERVING))
        return !epoch_is_borrowed();
    start_settled();
    epoch_now(); /* in a child of a fork that no wrapper saw: STAGE_STARTING is its parent's */
    uint32_t seen = atomic_load_explicit(&stage, memory_order_acquire);
    if (LIKELY(seen == STAGE_SERVING))
        return !epoch_is_borrowed();
    if ((seen != STAGE_DORMANT && seen != STAGE_STARTING) || epoch_is_borrowed())
        return false;

    /* A signal handler of the program's that accepts must not meet its own thread's start-up. */
    uint64_t mask;
    sys_block_signals(&mask);
    seen = STAGE_DORMANT;
    bool made = false;
    if (atomic_compare_exchange_strong(&stage, &seen, STAGE_STARTING)) {
        made = begin_serving();
        if (made)
            atomic_store_explicit(&stage, STAGE_SERVING, memory_order_release);
    } else {
        while (atomic_load(&stage) == STAGE_STARTING)
            sys_futex_wait(&stage, STAGE_STARTING, 1); /* also one of a lower priority gets on */
    }
    sys_unblock_signals(&mask);
    if (made) { /* under the thread's own mask, which is looked at and changed */
        trigger_install(settings_now());
        say_ready();
    }
    return atomic_load(&stage) == STAGE_SERVING;
}

/* sd_listen_fds(3): LISTEN_PID says whom the descriptors are for. */
static bool has_listen_fds(char *const *envp)
{
    char mine[24];
    struct text text = TEXT_ON(mine);
    text_number(&text, (uint64_t)epoch_pid());
    for (; *envp; envp++) {
        const char *pid = text_after(*envp, "LISTEN_PID=");
        if (pid)
            return text_equal(pid, mine);
    }
    return false;
}

/*
 * The connections that were handed over across exec: inetd's on descriptor 0 (and on 1 and 2, the
 * same), systemd's (Accept=yes) as the first of LISTEN_FDS. Any other that is open is a leak of
 * whoever started us, and his.
 */
static void find_inherited_connection(int fd)
{
    int family = sock_family(fd), last = fd == 0 ? 2 : fd;
    enum identity kind;
    uint32_t identity;
    if ((family != AF_INET && family != AF_INET6) || !(identity = sock_connection(fd, &kind)) ||
        !start_serving())
        return;
    if (stage_began_tree)
        conn_inherited(fd, settings_now()->mode.rest);
    else
        handoff_note_sent();
    for (int copy = fd; copy <= last; copy++) {
        if (sock_connection(copy, &kind) != identity)
            continue;
        if (!stage_began_tree)
            table_set(copy, KIND_RECEIVED); /* another's, until it is read from or written to */
        else if (copy != fd)
            table_alias(fd, copy);
    }
}

#define INHERITED_MOST 256

/* Which of the first descriptors are open. Returns how many were asked for. */
static int find_open(struct pollfd polled[INHERITED_MOST])
{
    struct rlimit limit = {INHERITED_MOST, 0};
    struct timespec now = {0, 0};
    /* poll(2): more entries than RLIMIT_NOFILE are refused. */
    sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    int most = limit.rlim_cur < INHERITED_MOST ? (int)limit.rlim_cur : INHERITED_MOST;
    for (int i = 0; i < most; i++)
        polled[i] = (struct pollfd){.fd = i};
    return sys5(SYS_ppoll, polled, most, &now, NULL, 8) < 0 ? 0 : most;
}

static bool inherits_listener(void)
{
    struct pollfd polled[INHERITED_MOST];
    int most = find_open(polled);
    for (int fd = 0; fd < most; fd++)
        if (!(polled[fd].revents & POLLNVAL) && sock_is_listener(fd) == 1)
            return true;
    return false;
}

/* The listeners that were: whatever their number. */
static void find_inherited(void)
{
    struct pollfd polled[INHERITED_MOST];
    int most = find_open(polled);
    if (!most)
        return;
    for (int fd = 0; fd < most; fd++)
        if (!(polled[fd].revents & POLLNVAL) && sock_is_listener(fd) == 1 && start_serving())
            listener_inherited(fd);
    if (!(polled[0].revents & POLLNVAL))
        find_inherited_connection(0);
    if (has_listen_fds(environ) && most > 3 && !(polled[3].revents & POLLNVAL))
        find_inherited_connection(3);
}

const char *start_lost_preload(char *const *envp)
{
    if (!*preload || !table_record(0) || !named_tree(envp))
        return NULL;
    for (; *envp; envp++)
        if (text_after(*envp, PRELOAD_NAME))
            return NULL;
    return preload;
}

static void warn_of_unknown(char **envp)
{
    const char *entry;
    for (size_t at = 0; (entry = settings_unknown(envp, &at));) {
        char name[40];
        struct text text = TEXT_ON(name);
        struct log_line line;
        for (; *entry && *entry != '='; entry++) {
            char one[2] = {*entry, 0};
            text_escaped(&text, one, 1);
        }
        log_begin(&line, LOG_INFO);
        text_string(&line.text, name);
        text_string(&line.text, ": no setting has this name; it is ignored");
        log_send(&line);
    }
}

static void load(void)
{
    struct complaint complaint;
    char **envp = environ;
    uint32_t not_yet = STAGE_NOT_LOADED;
    if (!atomic_compare_exchange_strong(&stage, &not_yet, STAGE_ASIDE))
        return;
    libc_find();
    log_remember();
    epoch_ask_pid();
    epoch_make(forked, trigger_noticed);
    signals_know_wait((const void *)libc_epoll_wait);
    epoch_on_life = lives_on;
    if (!envp)
        return;

    if (!settings_read(settings_to_fill(), envp, &complaint)) {
        struct log_line line;
        log_begin(&line, LOG_ERROR);
        text_string(&line.text, complaint.text);
        text_string(&line.text, ": running without weir");
        log_send(&line);
        /* One line for the whole tree: the programs that this one starts don't even load us. */
        leave_children(envp);
        atomic_store(&stage, STAGE_ASIDE);
        return;
    }
    log_choose(settings_now());
    char *value = named_tree(envp);
    if (was_marked(value) && !membership_is_named_after_us(value) && inherits_listener() &&
        membership_succeeds(value)) {
        for (; *value; value++)
            *value = '\0'; /* what /proc/PID/environ shows as well */
    }
    remember_environment(envp, !settings_now()->leave_children);
    for (char **at = envp; *at; at++)
        if (text_after(*at, "NOTIFY_SOCKET="))
            sd_notify_remember(text_after(*at, "NOTIFY_SOCKET="));
    stage_began_tree = !tree_value || membership_is_named_after_us(tree_value);
    if (stage_began_tree) {
        warn_of_unknown(envp);
        if (!coordinator_joins(tree_value, true)) {
            stand_aside(no_room_for_page);
            return;
        }
    }
    if (settings_now()->leave_children)
        leave_children(envp);
    else if (stage_began_tree)
        name_tree(envp);
    atomic_store(&stage, STAGE_DORMANT);
    if (stage_began_tree) {
        trigger_install(settings_now());
        trigger_resumes();
    }
    find_inherited();
    membership_has_succeeded();
}

/* glibc calls constructors as it calls main (elf/dl-init.c), musl without arguments. */
#ifdef __GLIBC__
__attribute__((constructor)) static void loaded(int argc, char **argv)
{
    for (int i = 0; i < argc && words_count < COUNT_OF(words); i++)
        words[words_count++] = hash_word(argv[i]);
    load();
}
#else
__attribute__((constructor)) static void loaded(void)
{
    load();
}
#endif

__attribute__((destructor)) static void unload(void)
{
    if (!epoch_is_new_child())
        stage_ends();
}
