/* SPDX-License-Identifier: MIT */
/* settings.c: each variable's good and bad values, and which listener an item of WEIR_MODE is for.
 */
#include "unit.h"

#include "base/settings.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static struct settings settings;
static struct complaint complaint;

static bool reads(const char *name, const char *value)
{
    static char entry[2000];
    struct text text = TEXT_ON(entry);
    char *envp[] = {entry, NULL};
    text_string(&text, name);
    text_string(&text, "=");
    text_string(&text, value);
    memset(&complaint, 0, sizeof complaint);
    return settings_read(&settings, envp, &complaint);
}

static void standards(void)
{
    char *const nothing[] = {NULL};
    CHECK(settings_read(&settings, nothing, &complaint));
    CHECK(settings.mode.rest == MODE_PROTOCOL && settings.mode.count == 0);
    CHECK(settings.signal == SIGUSR2 && settings.action == ACTION_DRAIN);
    CHECK(settings.timeout == 25000 && settings.settle == 100 && settings.first_byte == 1000);
    CHECK(settings.double_signal == 0 && settings.stop_signals == 0 && settings.on_drained == 0);
    CHECK(settings.listeners == LISTENERS_AUTO && !settings.leave_children);
    CHECK(settings.log == LOG_AUTO && settings.log_level == LOG_INFO);
    CHECK(settings_read(&settings, NULL, &complaint), "no environment at all");
}

static void durations(void)
{
    static const struct {
        const char *value;
        int64_t ms; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"00", 0},
        {"0h", 0},
        {"7", 7000},
        {"007", 7000},
        {"1ms", 1},
        {"250ms", 250},
        {"30s", 30000},
        {"5m", 300000},
        {"1h", 3600000},
        {"315360000", INT64_C(315360000000)}, /* ten years, the most */
        {"315360001", -1},
        {"315360000000ms", INT64_C(315360000000)},
        {"315360000001ms", -1},
        {"5256000m", INT64_C(315360000000)},
        {"5256001m", -1},
        {"87600h", INT64_C(315360000000)},
        {"87601h", -1},
        {"9223372036854775807", -1},
        {"9223372036854775808ms", -1},
        {"18446744073709551616ms", -1}, /* 2^64, and 2^64 + 5 */
        {"18446744073709551621ms", -1},
        {"5124095576030431h", -1}, /* times an hour of milliseconds: 2^64 */
        {"99999999999999999999999999999999999999", -1},
        {"", -1},
        {"s", -1},
        {"-1", -1},
        {"+1", -1},
        {" 1", -1},
        {"1 ", -1},
        {"1 s", -1},
        {"1.5s", -1},
        {"1S", -1},
        {"1MS", -1},
        {"1sec", -1},
        {"1m30s", -1},
        {"1d", -1},
        {"0x10", -1},
        {"1e3", -1},
        {"none", -1},
        {"\xd9\xa3s", -1}, /* a digit, though not of ASCII */
    };
    static const char *const names[] = {"WEIR_TIMEOUT", "WEIR_SETTLE", "WEIR_FIRST_BYTE",
                                        "WEIR_DOUBLE_SIGNAL"};
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            bool good = reads(names[n], cases[i].value);
            int64_t got[] = {settings.timeout, settings.settle, settings.first_byte,
                             settings.double_signal};
            CHECK(good == (cases[i].ms >= 0), "%s=%s", names[n], cases[i].value);
            CHECK(!good || got[n] == cases[i].ms, "%s=%s: %lld", names[n], cases[i].value,
                  (long long)got[n]);
        }
    }
}

static void signal_names(void)
{
    const struct {
        const char *value;
        int trigger, any; /* -1: refused */
    } cases[] = {
        {"none", 0, 0},
        {"USR2", SIGUSR2, SIGUSR2},
        {"SIGUSR2", SIGUSR2, SIGUSR2},
        {"12", 12, 12},
        {"012", 12, 12},
        {"HUP", SIGHUP, SIGHUP},
        {"WINCH", SIGWINCH, SIGWINCH},
        {"KILL", -1, SIGKILL},
        {"9", -1, SIGKILL},
        {"STOP", -1, SIGSTOP},
        {"SEGV", -1, SIGSEGV},
        {"RTMIN", SIGRTMIN, SIGRTMIN},
        {"RTMIN+0", SIGRTMIN, SIGRTMIN},
        {"SIGRTMIN+3", SIGRTMIN + 3, SIGRTMIN + 3},
        {"RTMIN+30", SIGRTMAX, SIGRTMAX},
        {"RTMIN+31", -1, -1},
        {"RTMAX", SIGRTMAX, SIGRTMAX},
        {"RTMAX-30", SIGRTMIN, SIGRTMIN},
        {"RTMAX-31", -1, -1},
        {"64", 64, 64},
        {"65", -1, -1},
        {"31", 31, 31},
        {"32", -1, -1}, /* the C library's own */
        {"33", -1, -1},
        {"34", 34, 34},
        {"0", -1, -1},
        {"-1", -1, -1},
        {"4294967308", -1, -1}, /* 2^32 + 12 */
        {"", -1, -1},
        {"SIG", -1, -1},
        {"SIGSIGUSR2", -1, -1},
        {"SIG12", -1, -1},
        {"usr2", -1, -1},
        {"USR2 ", -1, -1},
        {"RTMIN+", -1, -1},
        {"RTMIN-1", -1, -1},
        {"RTMIN3", -1, -1},
        {"RTMIN+x", -1, -1},
        {"RTMAX+1", -1, -1},
        {"NONE", -1, -1},
        {"USR2,TERM", -1, -1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool good = reads("WEIR_SIGNAL", cases[i].value);
        CHECK(good == (cases[i].trigger >= 0), "WEIR_SIGNAL=%s", cases[i].value);
        CHECK(!good || settings.signal == cases[i].trigger, "%d", settings.signal);
        good = reads("WEIR_ON_DRAINED", cases[i].value);
        CHECK(good == (cases[i].any >= 0), "WEIR_ON_DRAINED=%s", cases[i].value);
        CHECK(!good || settings.on_drained == cases[i].any, "%d", settings.on_drained);
    }
}

/* What the shim calls a signal is what it takes for one. */
static void signal_names_and_back(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        char name[16];
        if (sig > 31 && sig < SIGRTMIN)
            continue;
        CHECK(settings_signal_name(sig, name) == name && strlen(name) < sizeof name);
        CHECK(reads("WEIR_ON_DRAINED", name) && settings.on_drained == sig, "%d: %s", sig, name);
    }
}

#define BIT(sig) (UINT64_C(1) << ((sig)-1))

static void stop_signals(void)
{
    const struct {
        const char *value;
        uint64_t set; /* 1 << 63 is RTMAX; ~0: refused */
    } cases[] = {
        {"", 0},
        {"TERM", BIT(SIGTERM)},
        {"TERM,INT", BIT(SIGTERM) | BIT(SIGINT)},
        {"SIGTERM,2,15", BIT(SIGTERM) | BIT(SIGINT)},
        {"SIGRTMIN+12,64,1", BIT(SIGRTMIN + 12) | BIT(64) | BIT(1)},
        {"TERM,", ~UINT64_C(0)},
        {",TERM", ~UINT64_C(0)},
        {",", ~UINT64_C(0)},
        {"TERM,,INT", ~UINT64_C(0)},
        {"TERM, INT", ~UINT64_C(0)},
        {"TERM;INT", ~UINT64_C(0)},
        {"TERM,KILL", ~UINT64_C(0)},
        {"TERM,none", ~UINT64_C(0)},
        {"none", ~UINT64_C(0)},
        {"TERM,65", ~UINT64_C(0)},
        {"0000000000000015", ~UINT64_C(0)}, /* longer than any name */
        {"TERM,SIGRTMIN+00000000000000000001", ~UINT64_C(0)},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool good = reads("WEIR_STOP_SIGNALS", cases[i].value);
        CHECK(good == (cases[i].set != ~UINT64_C(0)), "WEIR_STOP_SIGNALS=%s", cases[i].value);
        CHECK(!good || settings.stop_signals == cases[i].set, "WEIR_STOP_SIGNALS=%s: %llx",
              cases[i].value, (unsigned long long)settings.stop_signals);
    }
    CHECK(!reads("WEIR_STOP_SIGNALS", "TERM,USR2") && strstr(complaint.text, "WEIR_SIGNAL"));
    char *const other[] = {"WEIR_STOP_SIGNALS=TERM,USR2", "WEIR_SIGNAL=none", NULL};
    CHECK(settings_read(&settings, other, &complaint) && settings.signal == 0);
    char *const same[] = {"WEIR_SIGNAL=RTMAX", "WEIR_STOP_SIGNALS=64", NULL};
    CHECK(!settings_read(&settings, same, &complaint));
}

static void words(void)
{
    CHECK(reads("WEIR_ACTION", "close-idle") && settings.action == ACTION_CLOSE_IDLE);
    CHECK(reads("WEIR_ACTION", "drain-all") && settings.action == ACTION_DRAIN_ALL);
    CHECK(reads("WEIR_LISTENERS", "keep") && settings.listeners == LISTENERS_KEEP);
    CHECK(reads("WEIR_CHILDREN", "leave") && settings.leave_children);
    CHECK(reads("WEIR_LOG_LEVEL", "debug") && settings.log_level == LOG_DEBUG);
    static const char *const bad[] = {"", "drain ", "Keep", "leaves", "debu", "0", "none"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK(!reads("WEIR_ACTION", bad[i]) && !reads("WEIR_LISTENERS", bad[i]) &&
                  !reads("WEIR_CHILDREN", bad[i]) && !reads("WEIR_LOG_LEVEL", bad[i]),
              "\"%s\"", bad[i]);
}

static void log_places(void)
{
    char path[300];
    CHECK(reads("WEIR_LOG", "stderr") && settings.log == LOG_STDERR);
    CHECK(reads("WEIR_LOG", "/var/log/x") && settings.log == LOG_FILE);
    CHECK(!strcmp(settings.log_path, "/var/log/x"));
    CHECK(reads("WEIR_LOG", "./none") && settings.log == LOG_FILE);
    CHECK(!reads("WEIR_LOG", "sterr") && !reads("WEIR_LOG", ""));
    memset(path, '/', sizeof path);
    path[256] = '\0';
    CHECK(!reads("WEIR_LOG", path), "there is no room for its end");
    path[255] = '\0';
    CHECK(reads("WEIR_LOG", path) && !strcmp(settings.log_path, path));
}

static void mode_lists(void)
{
    static const char *const good[] = {
        "manual",
        "reply,:1=off",
        ":65535=off",
        ":1=off,reply",
        "off,1.2.3.4:80=manual",
        "off,[2001:db8::1]:443=manual",
        "off,[::ffff:1.2.3.4]:80=manual",
        "off,unix:x=manual",
        "off,unix:@=manual",
        "off,unix:/a=b=manual",
    };
    static const char *const bad[] = {
        "",
        "http,",
        ",reply",
        "reply,",
        "reply,reply",
        "reply,,:1=off",
        "Reply",
        "reply ",
        ":0=off",
        ":65536=off",
        ":4294967297=off",
        ":-1=off",
        ":=off",
        "=off",
        "80=off",
        ":80=",
        ":80=Off",
        "1.2.3:80=off",
        "1.2.3.4.5:80=off",
        "256.2.3.4:80=off",
        "1.2.3.4=off",
        "01.2.3.04x:80=off",
        "::1:80=off",
        "[::1]=off",
        "[::1]80=off",
        "[::1:80=off",
        "::1]:80=off",
        "[]:80=off",
        "[::g]:80=off",
        "[1.2.3.4]:80=off",
        "[::1%lo]:80=off",
        "host:80=off",
        "unix:=off",
        "unix=off",
        "UNIX:/x=off",
        ":80",
    };
    for (size_t i = 0; i < COUNT_OF(good); i++)
        CHECK(reads("WEIR_MODE", good[i]), "%s: %s", good[i], complaint.text);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK(!reads("WEIR_MODE", bad[i]), "%s", bad[i]);

    char list[1000];
    for (int count = 32; count <= 33; count++) {
        struct text text = TEXT_ON(list);
        for (int i = 0; i < count; i++)
            text_string(&text, i ? ",:80=off" : ":80=off");
        CHECK(reads("WEIR_MODE", list) == (count == 32), "%d items", count);
    }
    for (int length = 107; length <= 109; length++) {
        struct text text = TEXT_ON(list);
        text_string(&text, "unix:");
        for (int i = 0; i < length; i++)
            text_string(&text, "/");
        text_string(&text, "=off");
        CHECK(reads("WEIR_MODE", list) == (length <= 108), "a path of %d bytes", length);
    }
}

/* The mode that `list` gives the listener at ip and port. */
static enum mode mode_of_ip(const char *list, const char *ip, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    CHECK(reads("WEIR_MODE", list), "%s: %s", list, complaint.text);
    if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
        return settings_mode(&settings.mode, (struct sockaddr *)&in, sizeof in);
    CHECK(inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1);
    return settings_mode(&settings.mode, (struct sockaddr *)&in6, sizeof in6);
}

static void listeners_by_ip(void)
{
    static const char list[] =
        "manual,:80=off,1.2.3.4:81=deadline,[::1]:81=automatic,0.0.0.0:82=off,:81=reply";
    CHECK(mode_of_ip(list, "1.2.3.4", 80) == MODE_OFF);
    CHECK(mode_of_ip(list, "::1", 80) == MODE_OFF);
    CHECK(mode_of_ip(list, "1.2.3.4", 81) == MODE_DEADLINE);
    CHECK(mode_of_ip(list, "1.2.3.5", 81) == MODE_REPLY, "the first that fits");
    CHECK(mode_of_ip(list, "::1", 81) == MODE_AUTOMATIC);
    CHECK(mode_of_ip(list, "::2", 81) == MODE_REPLY);
    CHECK(mode_of_ip(list, "0.0.0.0", 82) == MODE_OFF);
    CHECK(mode_of_ip(list, "1.2.3.4", 82) == MODE_MANUAL);
    CHECK(mode_of_ip(list, "::", 82) == MODE_MANUAL);
    CHECK(mode_of_ip(list, "::ffff:1.2.3.4", 81) == MODE_DEADLINE, "as it listens on IPv4");
    CHECK(mode_of_ip(list, "::ffff:1.2.3.5", 81) == MODE_REPLY);
    CHECK(mode_of_ip("off,[::ffff:1.2.3.4]:80=reply", "1.2.3.4", 80) == MODE_REPLY);
    CHECK(mode_of_ip("off,[::ffff:1.2.3.4]:80=reply", "::ffff:1.2.3.4", 80) == MODE_REPLY);
    CHECK(mode_of_ip(list, "1.2.3.4", 0x5000) == MODE_MANUAL, "80 in the other byte order");
}

static enum mode mode_of_path(const char *path, size_t length)
{
    struct sockaddr_storage addr;
    memset(&addr, 0xee, sizeof addr);
    addr.ss_family = AF_UNIX;
    memcpy((char *)&addr + offsetof(struct sockaddr_un, sun_path), path, length);
    return settings_mode(&settings.mode, (struct sockaddr *)&addr,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

static void listeners_by_path(void)
{
    char list[200], path[110] = "/";
    CHECK(reads("WEIR_MODE", "reply,unix:/run/x=manual,unix:@name=off,unix:/a=b=deadline"));
    CHECK(mode_of_path("/run/x", 6) == MODE_MANUAL, "no NUL");
    CHECK(mode_of_path("/run/x", 7) == MODE_MANUAL);
    CHECK(mode_of_path("/run/x\0rest", 11) == MODE_MANUAL);
    CHECK(mode_of_path("/run/xy", 8) == MODE_REPLY && mode_of_path("/run/", 6) == MODE_REPLY);
    CHECK(mode_of_path("\0name", 5) == MODE_OFF);
    CHECK(mode_of_path("\0name\0", 6) == MODE_REPLY, "in an abstract name a NUL is a letter");
    CHECK(mode_of_path("\0nam", 4) == MODE_REPLY && mode_of_path("@name", 6) == MODE_REPLY);
    CHECK(mode_of_path("/a=b", 5) == MODE_DEADLINE);
    CHECK(mode_of_path("", 0) == MODE_REPLY, "not bound");

    memset(path + 1, 'p', 107);
    struct text text = TEXT_ON(list);
    text_string(&text, "unix:");
    text_string(&text, path);
    text_string(&text, "=off");
    CHECK(reads("WEIR_MODE", list));
    CHECK(mode_of_path(path, 108) == MODE_OFF && mode_of_path(path, 109) == MODE_OFF);
    CHECK(mode_of_path(path, 107) == MODE_PROTOCOL);
}

static void complaints(void)
{
    CHECK(!reads("WEIR_TIMEOUT", "3x"));
    CHECK(!strcmp(complaint.text, "WEIR_TIMEOUT: \"3x\" is not a duration (250ms, 30s, 5m, 0)"),
          "%s", complaint.text);
    CHECK(!reads("WEIR_TIMEOUT", "3\n\033[31m\xff"));
    CHECK(strstr(complaint.text, "\"3\\x0a\\x1b[31m\\xff\" is not"), "%s", complaint.text);

    /* The longest: every byte is escaped, and what is accepted is still said. */
    static const char *const names[] = {"WEIR_MODE", "WEIR_SIGNAL", "WEIR_STOP_SIGNALS", "WEIR_LOG",
                                        "WEIR_RUN_DIR"};
    char value[1500];
    memset(value, 1, sizeof value);
    value[sizeof value - 1] = '\0';
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CHECK(!reads(names[i], value));
        size_t length = strlen(complaint.text);
        CHECK(length < sizeof complaint.text - 1, "%s: cut", names[i]);
        CHECK(strstr(complaint.text, "...\" is not "), "%s", complaint.text);
    }
}

static void unknown_names(void)
{
    char *const envp[] = {"WEIR_TIMEOUT=3s", "WEIR_TIME=3s", "PATH=/",   "WEIR_", "WEIRD=1",
                          "WEIR_LOGS=x",     "WEIR_TREE=7",  "WEIR_LOG", NULL};
    size_t at = 0;
    CHECK(settings_read(&settings, envp, &complaint) && settings.timeout == 3000);
    static const char *const want[] = {"WEIR_TIME=3s", "WEIR_", "WEIR_LOGS=x", "WEIR_LOG"};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        const char *entry = settings_unknown(envp, &at);
        CHECK(entry && !strcmp(entry, want[i]), "%s", entry ? entry : "none");
    }
    CHECK(!settings_unknown(envp, &at) && !settings_unknown(envp, &at));
    at = 0;
    CHECK(!settings_unknown(NULL, &at));
}

static const struct unit_test tests[] = {
    {"without a variable there are the defaults", standards},
    {"durations, and what would overflow", durations},
    {"signals by name and number", signal_names},
    {"a signal's name is read back", signal_names_and_back},
    {"lists of stop signals", stop_signals},
    {"words", words},
    {"where the log goes", log_places},
    {"lists of modes", mode_lists},
    {"a listener's mode by its address", listeners_by_ip},
    {"a listener's mode by its path", listeners_by_path},
    {"what is wrong with a value is one line", complaints},
    {"names that nobody knows", unknown_names},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
