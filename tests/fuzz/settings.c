/* SPDX-License-Identifier: MIT */
/*
 * The environment: settings_read, settings_unknown. A line of the input is an entry: its first byte
 * picks a variable (A is the first), the rest is the value; '=' takes the line as it is.
 */
#include "fuzz.h"

#include "base/settings.h"
#include "base/text.h"

static const char *const names[] = {
    "WEIR_MODE",   "WEIR_SIGNAL",   "WEIR_ACTION",    "WEIR_DOUBLE_SIGNAL", "WEIR_STOP_SIGNALS",
    "WEIR_DELAY",  "WEIR_TIMEOUT",  "WEIR_SETTLE",    "WEIR_FIRST_BYTE",    "WEIR_SPREAD",
    "WEIR_LINGER", "WEIR_NOTICE",   "WEIR_LISTENERS", "WEIR_ON_DRAINED",    "WEIR_CONTROL_SIGNAL",
    "WEIR_LOG",    "WEIR_CHILDREN", "WEIR_LOG_LEVEL", "WEIR_RUN_DIR",
};

static bool is_duration(int64_t ms)
{
    return ms >= 0 && ms <= INT64_C(1000) * 3600 * 24 * 3650;
}

static bool is_signal(int sig)
{
    char name[16];
    return sig >= 0 && sig <= 64 && text_length(settings_signal_name(sig, name)) < sizeof name;
}

static void check(const struct settings *settings)
{
    CHECK(settings->mode.rest < MODES);
    CHECK(settings->mode.count >= 0 && settings->mode.count <= (int)COUNT_OF(settings->mode.item));
    for (int i = 0; i < settings->mode.count; i++) {
        const struct mode_item *item = &settings->mode.item[i];
        CHECK(item->mode < MODES && settings_mode_name(item->mode));
        CHECK(text_length(item->path) < sizeof item->path);
        CHECK(item->family == AF_UNSPEC || item->family == AF_INET || item->family == AF_INET6 ||
              item->family == AF_UNIX);
        CHECK(item->family == AF_UNIX ? item->path[0] != '\0' : item->port != 0);
    }
    CHECK(is_signal(settings->signal) && is_signal(settings->on_drained));
    CHECK(settings->signal != 9 && settings->signal != 19);
    CHECK(settings->action >= ACTION_CLOSE_IDLE && settings->action <= ACTION_DRAIN_ALL);
    CHECK(is_duration(settings->double_signal) && is_duration(settings->timeout));
    CHECK(is_duration(settings->settle) && is_duration(settings->first_byte));
    CHECK(settings->listeners <= LISTENERS_KEEP && settings->log <= LOG_FILE &&
          settings->log_level <= LOG_DEBUG);
    CHECK(!settings->signal || !(settings->stop_signals >> (settings->signal - 1) & 1));
    CHECK(text_length(settings->log_path) < sizeof settings->log_path);
    CHECK(settings->log != LOG_FILE || settings->log_path[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 8 };
    static struct settings settings;
    char *envp[MOST + 1] = {NULL};
    size_t count = 0, known = 0;

    while (size && count < MOST) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t length = end ? (size_t)(end - data) : size;
        if (length) {
            bool as_it_is = *data == '=';
            const char *name = as_it_is ? "" : names[*data % COUNT_OF(names)];
            char entry[1200];
            struct text text = TEXT_ON(entry);
            char *value = fuzz_string(data + 1, length - 1);
            text_string(&text, name);
            text_string(&text, as_it_is ? "" : "=");
            text_string(&text, value);
            fuzz_free(value);
            envp[count++] = fuzz_string(entry, sizeof entry);
            known += !as_it_is;
        }
        data += length + (end != NULL);
        size -= length + (end != NULL);
    }

    struct complaint complaint = {""};
    if (settings_read(&settings, envp, &complaint)) {
        check(&settings);
    } else {
        CHECK(text_length(complaint.text) < sizeof complaint.text);
        CHECK(text_after(complaint.text, "WEIR_") && fuzz_is_printable(complaint.text));
    }
    size_t at = 0, unknown = 0;
    for (const char *entry; (entry = settings_unknown(envp, &at)); unknown++)
        CHECK(text_after(entry, "WEIR_"));
    CHECK(at == count && unknown + known <= count);
    while (count)
        fuzz_free(envp[--count]);
    return 0;
}
