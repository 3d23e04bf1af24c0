/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>

typedef bool parse_fn(const char *value, void *into);

/* ---- durations ---- */

static bool parse_duration(const char *value, void *into)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

    const char *at = value;
    uint64_t number = text_take_number(&at, 10);
    if (at == value)
        return false;
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (text_equal(at, units[i].unit) && number <= (uint64_t)(DURATION_MOST / units[i].ms)) {
            *(int64_t *)into = (int64_t)number * units[i].ms;
            return true;
        }
    }
    return false;
}

/* ---- signals ---- */

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ABRT", SIGABRT},
    {"USR1", SIGUSR1},     {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
    {"TERM", SIGTERM},     {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},   {"XCPU", SIGXCPU},
    {"XFSZ", SIGXFSZ},     {"PROF", SIGPROF}, {"IO", SIGIO},     {"VTALRM", SIGVTALRM},
    {"WINCH", SIGWINCH},   {"PWR", SIGPWR},   {"SYS", SIGSYS},   {"TRAP", SIGTRAP},
    {"KILL", SIGKILL},     {"STOP", SIGSTOP}, {"ILL", SIGILL},   {"BUS", SIGBUS},
    {"FPE", SIGFPE},       {"SEGV", SIGSEGV},
#ifdef SIGSTKFLT
    {"STKFLT", SIGSTKFLT},
#endif
};

/* The signal's number, or 0. */
static int signal_number(const char *name)
{
    int number = text_number_in(name, 64);
    if (number < 0) {
        const char *offset, *bare = text_after(name, "SIG");
        name = bare ? bare : name;
        if ((offset = text_after(name, "RTMIN"))) {
            int n = *offset == '+' ? text_number_in(offset + 1, 64) : *offset ? -1 : 0;
            number = n < 0 ? 0 : SIGRTMIN + n;
        } else if ((offset = text_after(name, "RTMAX"))) {
            int n = *offset == '-' ? text_number_in(offset + 1, 64) : *offset ? -1 : 0;
            number = n < 0 ? 0 : SIGRTMAX - n;
        } else {
            for (size_t i = 0; i < COUNT_OF(signals); i++)
                if (text_equal(name, signals[i].name))
                    number = signals[i].number;
        }
        if (number > SIGRTMAX || (number > 31 && number < SIGRTMIN))
            number = 0;
    }
    /* signal(7): 32 up to SIGRTMIN are the C library's own. */
    return number < 1 || (number > 31 && number < SIGRTMIN) ? 0 : number;
}

/* Can't be caught, or says that the program itself went wrong. */
static bool can_be_caught(int sig)
{
    return sig != SIGKILL && sig != SIGSTOP && sig != SIGSEGV && sig != SIGBUS && sig != SIGFPE &&
           sig != SIGILL;
}

static bool parse_signal(const char *value, void *into)
{
    int sig = text_equal(value, "none") ? 0 : signal_number(value);
    *(int *)into = sig;
    return (sig && can_be_caught(sig)) || text_equal(value, "none");
}

static bool parse_any_signal(const char *value, void *into)
{
    *(int *)into = text_equal(value, "none") ? 0 : signal_number(value);
    return *(int *)into || text_equal(value, "none");
}

static bool parse_signals(const char *value, void *into)
{
    uint64_t *set = into;
    *set = 0;
    while (*value) {
        char name[16];
        size_t n = 0;
        while (value[n] && value[n] != ',') {
            if (n + 1 == sizeof name)
                return false;
            name[n] = value[n];
            n++;
        }
        name[n] = '\0';
        int sig = signal_number(name);
        if (!sig || !can_be_caught(sig) || (value[n] == ',' && !value[n + 1]))
            return false;
        *set |= UINT64_C(1) << (sig - 1);
        value += n + (value[n] == ',');
    }
    return true;
}

const char *settings_signal_name(int sig, char name[16])
{
    struct text text = {name, 0, 16};
    name[0] = '\0';
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        if (signals[i].number == sig) {
            text_string(&text, signals[i].name);
            return name;
        }
    }
    if (sig >= SIGRTMIN) {
        text_string(&text, "RTMIN+");
        sig -= SIGRTMIN;
    }
    text_number(&text, (uint64_t)sig);
    return name;
}

void settings_say_signal(struct text *text, int sig)
{
    char name[16];
    settings_signal_name(sig, name);
    text_add(text, "%s%s", *name >= '0' && *name <= '9' ? "signal " : "SIG", name);
}

/* ---- words ---- */

struct word {
    const char *word;
    int value;
};

static bool find_word(const struct word *words, size_t count, const char *value, int *into)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(value, words[i].word)) {
            *into = words[i].value;
            return true;
        }
    }
    return false;
}

#define PARSE_WORD(name, type, ...)                            \
    static bool name(const char *value, void *into)            \
    {                                                          \
        static const struct word words[] = {__VA_ARGS__};      \
        int found;                                             \
        if (!find_word(words, COUNT_OF(words), value, &found)) \
            return false;                                      \
        *(type *)into = (type)found;                           \
        return true;                                           \
    }

PARSE_WORD(parse_action, enum action, {"close-idle", ACTION_CLOSE_IDLE}, {"drain", ACTION_DRAIN},
           {"drain-all", ACTION_DRAIN_ALL})
PARSE_WORD(parse_listeners, enum listeners, {"auto", LISTENERS_AUTO}, {"close", LISTENERS_CLOSE},
           {"keep", LISTENERS_KEEP}, {"store", LISTENERS_STORE})
PARSE_WORD(parse_children, bool, {"follow", false}, {"leave", true})
PARSE_WORD(parse_level, enum log_level, {"error", LOG_ERROR}, {"info", LOG_INFO},
           {"debug", LOG_DEBUG})

static bool parse_log(const char *value, void *into)
{
    static const struct word words[] = {
        {"auto", LOG_AUTO}, {"stderr", LOG_STDERR}, {"syslog", LOG_SYSLOG}, {"none", LOG_NONE}};
    struct settings *settings = into;
    int found;
    if (find_word(words, COUNT_OF(words), value, &found)) {
        settings->log = (enum log_to)found;
        return true;
    }
    /* A bare word is more likely a typing error than a file of the working directory. */
    bool has_slash = false;
    for (const char *at = value; *at; at++)
        has_slash = has_slash || *at == '/';
    if (!has_slash || text_length(value) >= sizeof settings->log_path)
        return false;
    settings->log = LOG_FILE;
    struct text path = TEXT_ON(settings->log_path);
    text_string(&path, value);
    return true;
}

static bool parse_run_dir(const char *value, void *into)
{
    struct text path = {into, 0, sizeof(((struct settings *)0)->run_dir)};
    *path.at = '\0';
    text_string(&path, value);
    return !*value || (*value == '/' && path.used == text_length(value));
}

/* ---- modes ---- */

static const char *const mode_names[MODES] = {
    [MODE_OFF] = "off",           [MODE_MANUAL] = "manual", [MODE_AUTOMATIC] = "automatic",
    [MODE_DEADLINE] = "deadline", [MODE_REPLY] = "reply",   [MODE_PROTOCOL] = "protocol",
};

const char *settings_mode_name(enum mode mode)
{
    return mode_names[mode];
}

static bool parse_mode_name(const char *value, enum mode *mode)
{
    for (int i = 0; i < MODES; i++) {
        if (text_equal(value, mode_names[i])) {
            *mode = (enum mode)i;
            return true;
        }
    }
    *mode = MODE_PROTOCOL;
    return text_equal(value, "http"); /* its older name */
}

/* ipv6(7): a socket of AF_INET6 that is bound to ::ffff:1.2.3.4 listens on IPv4, as Java's do. */
static int without_mapping(unsigned char ip[16])
{
    static const unsigned char prefix[12] = {[10] = 0xff, [11] = 0xff};
    if (!text_same_bytes(ip, prefix, sizeof prefix))
        return AF_INET6;
    for (int i = 0; i < 16; i++)
        ip[i] = i < 4 ? ip[12 + i] : 0;
    return AF_INET;
}

/* "unix:/path", ":80", "1.2.3.4:80" or "[::1]:80". */
static bool parse_address(char *address, struct mode_item *item)
{
    const char *path = text_after(address, "unix:");
    if (path) {
        struct text copy = TEXT_ON(item->path);
        item->family = AF_UNIX;
        text_string(&copy, path);
        return *path && text_length(path) < sizeof item->path;
    }

    char *colon = NULL;
    for (char *at = address; *at; at++)
        if (*at == ':')
            colon = at;
    if (!colon)
        return false;
    int port = text_number_in(colon + 1, 65535);
    if (port < 1)
        return false;
    item->port = htons((uint16_t)port);
    *colon = '\0';
    if (colon == address) {
        item->family = AF_UNSPEC;
        return true;
    }
    if (*address == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        bool is_ip = inet_pton(AF_INET6, address + 1, item->ip) == 1;
        item->family = without_mapping(item->ip);
        return is_ip;
    }
    item->family = AF_INET;
    return inet_pton(AF_INET, address, item->ip) == 1;
}

static bool parse_modes(const char *value, void *into)
{
    struct mode_list *list = into;
    list->rest = MODE_PROTOCOL;
    list->count = 0;
    bool has_rest = false;
    for (;;) {
        char item[160];
        size_t n = 0;
        char *equals = NULL;
        for (; value[n] && value[n] != ','; n++) {
            if (n + 1 == sizeof item)
                return false;
            item[n] = value[n];
            if (value[n] == '=')
                equals = item + n;
        }
        item[n] = '\0';
        if (!equals) {
            if (has_rest || !parse_mode_name(item, &list->rest))
                return false;
            has_rest = true;
        } else {
            if (list->count == COUNT_OF(list->item))
                return false;
            struct mode_item *entry = &list->item[list->count++];
            *entry = (struct mode_item){0};
            *equals = '\0';
            if (!parse_mode_name(equals + 1, &entry->mode) || !parse_address(item, entry))
                return false;
        }
        if (!value[n])
            return true;
        value += n + 1;
    }
}

/* unix(7), "BUGS": getsockname may give a path of 108 bytes and its NUL, one more than sun_path. */
static bool unix_matches(const char *path, const struct sockaddr *addr, socklen_t len)
{
    const char *bound = (const char *)addr + offsetof(struct sockaddr_un, sun_path);
    size_t room = len - offsetof(struct sockaddr_un, sun_path);
    size_t length = text_length(path);
    if (*path == '@')
        return room == length && !*bound && text_same_bytes(path + 1, bound + 1, length - 1);
    return room >= length && text_same_bytes(path, bound, length) &&
           (room == length || !bound[length]);
}

/* Returns the family of a TCP address, or 0; fills in the rest. */
static int read_address(const struct sockaddr *addr, socklen_t len, uint16_t *port,
                        unsigned char ip[16])
{
    const struct sockaddr_in *in = (const void *)addr;
    const struct sockaddr_in6 *in6 = (const void *)addr;
    bool is_in = addr->sa_family == AF_INET && len >= sizeof *in;
    if (!is_in && (addr->sa_family != AF_INET6 || len < sizeof *in6))
        return 0;
    *port = is_in ? in->sin_port : in6->sin6_port;
    const unsigned char *from = is_in ? (const void *)&in->sin_addr : in6->sin6_addr.s6_addr;
    for (int i = 0; i < 16; i++)
        ip[i] = i < 4 || !is_in ? from[i] : 0;
    return is_in ? AF_INET : without_mapping(ip);
}

enum mode settings_mode(const struct mode_list *list, const struct sockaddr *addr, socklen_t len)
{
    unsigned char ip[16];
    uint16_t port;
    int family = read_address(addr, len, &port, ip);
    for (int i = 0; i < list->count; i++) {
        const struct mode_item *item = &list->item[i];
        bool match = false;
        if (family)
            match = item->port == port &&
                    (item->family == AF_UNSPEC ||
                     (item->family == family && text_same_bytes(item->ip, ip, sizeof ip)));
        else if (addr->sa_family == AF_UNIX && item->family == AF_UNIX)
            match = unix_matches(item->path, addr, len);
        if (match)
            return item->mode;
    }
    return list->rest;
}

/* ---- the table ---- */

struct setting {
    const char *name;
    const char *standard; /* the default, as a user would write it; NULL: another one's affair */
    parse_fn *parse;
    size_t into;
    const char *accepted; /* after "is not", says what is */
    const char *help;
};

#define DURATION "a duration (250ms, 30s, 5m, 0)"
#define SIGNAL "a signal (USR2, SIGUSR2, 12, RTMIN+3, none)"
#define IN(field) offsetof(struct settings, field)

static const struct setting table[] = {
    {"WEIR_MODE", "protocol", parse_modes, IN(mode),
     "a mode (manual, automatic, deadline, reply, protocol, off), or a list of them "
     "(reply,:9090=off,127.0.0.1:80=deadline,[::1]:80=protocol,unix:/run/x.sock=manual)",
     "how a connection becomes idle: manual, automatic, deadline, reply, protocol or off; per "
     "listener: "
     "reply,:9090=off,unix:/run/x.sock=manual"},
    {"WEIR_SIGNAL", "USR2", parse_signal, IN(signal), SIGNAL " that can be caught",
     "the signal that triggers WEIR_ACTION, or none"},
    {"WEIR_ACTION", "drain", parse_action, IN(action), "an action (close-idle, drain, drain-all)",
     "what a plain signal does: close-idle, drain or drain-all"},
    {"WEIR_DOUBLE_SIGNAL", "0", parse_duration, IN(double_signal), DURATION,
     "a second trigger within this time of the first asks for drain-all; 0: never"},
    {"WEIR_STOP_SIGNALS", "", parse_signals, IN(stop_signals),
     "a list of signals that can be caught (TERM,INT)",
     "signals that drain first and are then delivered to the program: TERM,INT. By default none"},
    {"WEIR_DELAY", "0", parse_duration, IN(delay), DURATION,
     "how long a drain goes on accepting and serving before it stops accepting; shorter than "
     "WEIR_TIMEOUT"},
    {"WEIR_TIMEOUT", "25s", parse_duration, IN(timeout), DURATION,
     "from the trigger, the delay included, to the force-close of what is left; 0: wait for ever"},
    {"WEIR_SETTLE", "100ms", parse_duration, IN(settle), DURATION,
     "reply: how long an answered connection must be quiet before it is idle"},
    {"WEIR_FIRST_BYTE", "1s", parse_duration, IN(first_byte), DURATION,
     "reply, protocol: how long a drain leaves a connection alone that has not sent its first "
     "byte"},
    {"WEIR_SPREAD", "0", parse_duration, IN(spread), DURATION,
     "close idle connections evenly over this time instead of at once"},
    {"WEIR_LINGER", "2s", parse_duration, IN(linger), DURATION,
     "how long a closed connection is kept until the peer has taken the last byte; 0: none"},
    {"WEIR_NOTICE", NULL, parse_duration, IN(notice), DURATION,
     "protocol: how long a drain leaves an idle connection open, to answer its next request with a "
     "close notice; 0: closed at once. By default 5s, or half of WEIR_TIMEOUT where that is less"},
    {"WEIR_LISTENERS", "auto", parse_listeners, IN(listeners), "one of auto, close, keep, store",
     "at a drain: close them, keep them open and unaccepted, auto: keep those inherited across "
     "exec, or store: keep them, and hand them to the service manager for the next start"},
    {"WEIR_ON_DRAINED", "none", parse_any_signal, IN(on_drained), SIGNAL,
     "a signal that the first process of what was drained then gets (where no stop signal is "
     "delivered to it), or none"},
    {"WEIR_CONTROL_SIGNAL", "RTMAX-3", parse_signal, IN(control_signal),
     SIGNAL " that can be caught",
     "the signal with which the weir command wakes a tree's processes"},
    {"WEIR_CHILDREN", "follow", parse_children, IN(leave_children), "one of follow, leave",
     "leave: programs that this one starts run without the shim"},
    {"WEIR_LOG", "auto", parse_log, 0,
     "one of auto, stderr, syslog, none, or a file's path (with a slash, 255 characters at most)",
     "auto (stderr while it is still the file of the start and not /dev/null, else syslog), "
     "stderr, syslog, none, or a file to append to"},
    {"WEIR_LOG_LEVEL", "info", parse_level, IN(log_level), "one of error, info, debug",
     "how much is said there: error, info or debug"},
    {"WEIR_RUN_DIR", "", parse_run_dir, IN(run_dir),
     "a directory's absolute path (200 characters at most)",
     "where the state page lives; by default the first that can be written of /run/weir, "
     "$XDG_RUNTIME_DIR/weir and /dev/shm/weir-UID"},
};

bool settings_describe(size_t i, struct setting_text *text)
{
    if (i >= COUNT_OF(table))
        return false;
    *text = (struct setting_text){table[i].name, table[i].standard ? table[i].standard : "",
                                  table[i].help, table[i].accepted};
    return true;
}

void settings_option(const char *name, char option[SETTINGS_OPTION])
{
    const char *from = text_after(name, "WEIR_");
    size_t i = 0;
    for (; from[i] && i + 1 < SETTINGS_OPTION; i++)
        option[i] = from[i] == '_'                     ? '-'
                    : from[i] >= 'A' && from[i] <= 'Z' ? (char)(from[i] - 'A' + 'a')
                                                       : from[i];
    option[i] = '\0';
}

/* Ours, but not a setting: the process that a tree began with (start.c). */
#define TREE_NAME "WEIR_TREE="

static const struct setting *find_setting(const char *entry, const char **value)
{
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        const char *after = text_after(entry, table[i].name);
        if (after && *after == '=') {
            *value = after + 1;
            return &table[i];
        }
    }
    return NULL;
}

static void complain(struct complaint *complaint, const char *name, const char *value,
                     const char *accepted)
{
    struct text text = TEXT_ON(complaint->text);
    text_add(&text, "%s: \"", name);
    text_escaped(&text, value, 40);
    text_add(&text, "\" is not %s", accepted);
}

static bool delay_fits(const struct settings *settings, struct complaint *complaint)
{
    char value[24];
    struct text text = TEXT_ON(value);
    if (!settings->timeout || settings->delay < settings->timeout)
        return true;
    text_duration(&text, settings->delay);
    complain(complaint, "WEIR_DELAY", value, "shorter than WEIR_TIMEOUT, which it is a part of");
    return false;
}

#define NOTICE_MOST 5000

static int64_t notice_within(int64_t timeout)
{
    return timeout && timeout / 2 < NOTICE_MOST ? timeout / 2 : NOTICE_MOST;
}

/* One signal can't mean two things. */
static bool are_distinct(const struct settings *settings, struct complaint *complaint)
{
    char name[16];
    int trigger = settings->signal, control = settings->control_signal;
    if (trigger && settings->stop_signals >> (trigger - 1) & 1) {
        complain(complaint, "WEIR_STOP_SIGNALS", settings_signal_name(trigger, name),
                 "free: it is WEIR_SIGNAL (set that to another signal, or to none)");
        return false;
    }
    if (control && (control == trigger || settings->stop_signals >> (control - 1) & 1)) {
        complain(complaint, "WEIR_CONTROL_SIGNAL", settings_signal_name(control, name),
                 control == trigger ? "free: it is WEIR_SIGNAL"
                                    : "free: it is one of WEIR_STOP_SIGNALS");
        return false;
    }
    return true;
}

bool settings_read(struct settings *settings, char *const envp[], struct complaint *complaint)
{
    /* The list's entries past its end are never looked at: they stay untouched memory. */
    _Static_assert(offsetof(struct settings, mode) > offsetof(struct settings, run_dir), "last");
    for (size_t i = 0; i < offsetof(struct settings, mode.item); i++)
        ((char *)settings)[i] = 0;
    settings->notice = -1;
    for (size_t i = 0; i < COUNT_OF(table); i++)
        if (table[i].standard)
            table[i].parse(table[i].standard, (char *)settings + table[i].into);

    for (; envp && *envp; envp++) {
        const char *value;
        const struct setting *setting = find_setting(*envp, &value);
        if (setting && !setting->parse(value, (char *)settings + setting->into)) {
            complain(complaint, setting->name, value, setting->accepted);
            return false;
        }
    }
    if (settings->notice < 0)
        settings->notice = notice_within(settings->timeout);
    return are_distinct(settings, complaint) && delay_fits(settings, complaint);
}

const char *settings_unknown(char *const envp[], size_t *at)
{
    while (envp && envp[*at]) {
        const char *entry = envp[(*at)++], *value;
        if (text_after(entry, "WEIR_") && !text_after(entry, TREE_NAME) &&
            !text_after(entry, HANDED_NAME) && !find_setting(entry, &value))
            return entry;
    }
    return NULL;
}

static BIG(2) struct settings current;

const struct settings *settings_now(void)
{
    return &current;
}

bool settings_have_mode(enum mode mode)
{
    bool found = current.mode.rest == mode;
    for (int i = 0; i < current.mode.count; i++)
        found = found || current.mode.item[i].mode == mode;
    return found;
}

struct settings *settings_to_fill(void)
{
    return &current;
}
