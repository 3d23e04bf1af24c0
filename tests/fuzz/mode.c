/* SPDX-License-Identifier: MIT */
/* WEIR_MODE and the addresses that it is asked for: up to a NUL the value, then the sockaddr. */
#include "fuzz.h"

#include "base/settings.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct settings settings;
    const uint8_t *nul = memchr(data, '\0', size);
    size_t length = nul ? (size_t)(nul - data) : size, rest = nul ? size - length - 1 : 0;

    char entry[1200], *value = fuzz_string(data, length);
    struct text text = TEXT_ON(entry);
    text_string(&text, "WEIR_MODE=");
    text_string(&text, value);
    fuzz_free(value);
    char *envp[] = {entry, NULL};
    struct complaint complaint;
    if (!settings_read(&settings, envp, &complaint))
        return 0;

    /* The kernel's addresses fit in a sockaddr_storage, and have a family. */
    size_t most = sizeof(struct sockaddr_storage);
    socklen_t len = (socklen_t)(rest < most ? rest : most);
    if (len < sizeof(sa_family_t))
        return 0;
    struct sockaddr *addr = fuzz_copy(nul + 1, len);
    enum mode mode = settings_mode(&settings.mode, addr, len);
    bool found = mode == settings.mode.rest;
    for (int i = 0; i < settings.mode.count; i++)
        found = found || mode == settings.mode.item[i].mode;
    CHECK(found);
    fuzz_free(addr);
    return 0;
}
