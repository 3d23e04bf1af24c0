/* SPDX-License-Identifier: MIT */
/* text_address: the first byte is the size of the buffer, the rest is the sockaddr. */
#include "fuzz.h"

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t most = sizeof(struct sockaddr_storage);
    if (!size)
        return 0;
    size_t room = *data ? *data : 1;
    size_t len = size - 1 < most ? size - 1 : most;
    struct sockaddr *addr = fuzz_copy(data + 1, len);
    char whole[1024];
    struct text all = TEXT_ON(whole);
    text_address(&all, addr, (socklen_t)len);
    CHECK(all.used == text_length(whole) && all.used < sizeof whole - 1);
    CHECK(all.used && fuzz_is_printable(whole));

    char *zeros = fuzz_copy(whole, room); /* longer than any */
    struct text cut = {zeros, 0, room};
    text_address(&cut, addr, (socklen_t)len);
    CHECK(cut.used == text_length(zeros));
    CHECK(cut.used == (all.used < room ? all.used : room - 1));
    CHECK(!memcmp(zeros, whole, cut.used));
    fuzz_free(zeros);
    fuzz_free(addr);
    return 0;
}
