/* SPDX-License-Identifier: MIT */
/* text_escaped: two bytes are the size of the buffer and the most of the string, then the string.
 */
#include "fuzz.h"

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t room = data[0] ? data[0] : 1, most = data[1];
    char *string = fuzz_string(data + 2, size - 2);
    char whole[1100];
    struct text all = TEXT_ON(whole);
    whole[0] = '\0';
    text_escaped(&all, string, most);

    size_t length = text_length(string), taken = length < most ? length : most;
    CHECK(all.used == text_length(whole) && fuzz_is_printable(whole));
    CHECK(all.used >= taken && all.used <= 4 * taken + 3);
    const char *end = whole + all.used;
    CHECK(length <= most || (all.used >= 3 && text_equal(end - 3, "...")));

    char *line = fuzz_copy(whole, room);
    line[0] = '\0';
    struct text cut = {line, 0, room};
    text_escaped(&cut, string, most);
    CHECK(cut.used == text_length(line) && !memcmp(line, whole, cut.used));
    CHECK(cut.used == (all.used < room ? all.used : room - 1));
    fuzz_free(line);
    fuzz_free(string);
    return 0;
}
