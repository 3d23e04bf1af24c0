/* SPDX-License-Identifier: MIT */
/* text.c: what a line is put together from, and where it is cut. */
#include "unit.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#define CHECK_TEXT(want, ...)                                                                   \
    do {                                                                                        \
        char line_[400] = "";                                                                   \
        struct text text = TEXT_ON(line_);                                                      \
        __VA_ARGS__;                                                                            \
        CHECK(!strcmp(line_, want) && text.used == strlen(want), "\"%s\" where \"%s\" was due", \
              line_, want);                                                                     \
    } while (0)

static void numbers(void)
{
    CHECK_TEXT("0", text_number(&text, 0));
    CHECK_TEXT("10", text_number(&text, 10));
    CHECK_TEXT("18446744073709551615", text_number(&text, UINT64_MAX));
    CHECK_TEXT("0.0s", text_tenths(&text, 0));
    CHECK_TEXT("0.0s", text_tenths(&text, 99));
    CHECK_TEXT("0.1s", text_tenths(&text, 199));
    CHECK_TEXT("25.0s", text_tenths(&text, 25000));
    CHECK_TEXT("0.0s", text_tenths(&text, -5));
    CHECK_TEXT("9223372036854775.8s", text_tenths(&text, INT64_MAX));
    CHECK_TEXT("250ms", text_duration(&text, 250));
    CHECK_TEXT("1500ms", text_duration(&text, 1500));
    CHECK_TEXT("25s", text_duration(&text, 25000));
    CHECK_TEXT("0s", text_duration(&text, 0));
}

static void formats(void)
{
    CHECK_TEXT("", text_add(&text, "%s", ""));
    CHECK_TEXT("a 1, b 4294967295, c 18446744073709551615: d",
               text_add(&text, "%s %d, b %u, c %lu: d", "a", 1, UINT32_MAX, UINT64_MAX));
}

static void escapes(void)
{
    static const struct {
        const char *string;
        size_t most;
        const char *want;
    } cases[] = {
        {"", 10, ""},
        {"plain text ~", 40, "plain text ~"},
        {"\n\r\t\033[31m\x7f", 40, "\\x0a\\x0d\\x09\\x1b[31m\\x7f"},
        {"\x80\xff\xc2\x9b", 40, "\\x80\\xff\\xc2\\x9b"},
        {"abc", 3, "abc"},
        {"abcd", 3, "abc..."},
        {"abcd", 0, "..."},
        {"\n\n", 1, "\\x0a..."},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_TEXT(cases[i].want, text_escaped(&text, cases[i].string, cases[i].most));
}

/* In a block that ends where the buffer does, so that the sanitizer sees a byte behind it. */
static void cuts(void)
{
    for (size_t size = 1; size < 24; size++) {
        char room[64], want[64] = "";
        memset(room, '#', sizeof room);
        struct text text = {room, 0, size};
        text_string(&text, "weir[");
        text_number(&text, 41);
        text_string(&text, "] ");
        text_escaped(&text, "\a", 9);
        strncpy(want, "weir[41] \\x07", size - 1);
        CHECK(!strcmp(room, want) && text.used == strlen(want), "size %zu: \"%s\"", size, room);
        CHECK(room[size] == '#', "size %zu: written behind its end", size);
    }
}

static void check_ip(const char *ip, uint16_t port, const char *want)
{
    struct sockaddr_storage addr;
    struct sockaddr_in *in = (void *)&addr;
    struct sockaddr_in6 *in6 = (void *)&addr;
    memset(&addr, 0, sizeof addr);
    socklen_t len = sizeof *in;
    if (inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    } else {
        CHECK(inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1, "%s", ip);
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        len = sizeof *in6;
    }
    CHECK_TEXT(want, text_address(&text, (struct sockaddr *)&addr, len));
    CHECK_TEXT(want, text_address(&text, (struct sockaddr *)&addr, sizeof addr));
    CHECK_TEXT("unknown", text_address(&text, (struct sockaddr *)&addr, len - 1));
}

static void ip_addresses(void)
{
    check_ip("203.0.113.7", 5123, "203.0.113.7:5123");
    check_ip("0.0.0.0", 0, "0.0.0.0:0");
    check_ip("255.255.255.255", 65535, "255.255.255.255:65535");
    check_ip("::", 80, "[::]:80");
    check_ip("::1", 80, "[::1]:80");
    check_ip("1::", 80, "[1::]:80");
    check_ip("::ffff:203.0.113.7", 80, "203.0.113.7:80");
}

/* RFC 5952, as inet_ntop(3) writes it: every pattern of zero groups. */
static void ip6_addresses(void)
{
    for (int zeros = 0; zeros < 256; zeros++) {
        unsigned char ip[16];
        char bare[INET6_ADDRSTRLEN], want[INET6_ADDRSTRLEN + 8];
        for (int i = 0; i < 8; i++) {
            ip[2 * i] = zeros >> i & 1 ? 0 : 0x20 >> i % 3 * 2;
            ip[2 * i + 1] = zeros >> i & 1 ? 0 : (unsigned char)i;
        }
        inet_ntop(AF_INET6, ip, bare, sizeof bare);
        if (strchr(bare, '.'))
            continue; /* ::1.2.3.4, which RFC 4291 gave up */
        struct text line = TEXT_ON(want);
        text_string(&line, "[");
        text_string(&line, bare);
        text_string(&line, "]:9");
        check_ip(bare, 9, want);
    }
}

static void check_unix(const char *path, size_t length, const char *want)
{
    struct sockaddr_storage addr;
    memset(&addr, 0xee, sizeof addr); /* what the kernel did not write is not zero */
    addr.ss_family = AF_UNIX;
    memcpy((char *)&addr + offsetof(struct sockaddr_un, sun_path), path, length);
    CHECK_TEXT(want, text_address(&text, (struct sockaddr *)&addr,
                                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)));
}

static void unix_addresses(void)
{
    char path[110] = "/", want[120] = "unix:";
    check_unix("", 0, "unix:");
    check_unix("/run/x.sock", 12, "unix:/run/x.sock");
    check_unix("/run/x.sock", 11, "unix:/run/x.sock");
    check_unix("/run/x\0sock", 11, "unix:/run/x");
    check_unix("\0hidden", 7, "unix:@hidden");
    check_unix("\0", 1, "unix:@");
    check_unix("/\033[2J\n", 7, "unix:/\\x1b[2J\\x0a");
    memset(path + 1, 'p', 107);
    memcpy(want + 5, path, 109);
    check_unix(path, 108, want);
    check_unix(path, 109, want); /* unix(7), "BUGS": getsockname gives one byte more */
}

static void strange_addresses(void)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    CHECK_TEXT("unknown", text_address(&text, (struct sockaddr *)&addr, 0));
    CHECK_TEXT("unknown", text_address(&text, (struct sockaddr *)&addr, 2));
    addr.ss_family = AF_UNIX;
    CHECK_TEXT("unknown", text_address(&text, (struct sockaddr *)&addr, 1));
    addr.ss_family = AF_PACKET;
    CHECK_TEXT("unknown", text_address(&text, (struct sockaddr *)&addr, sizeof addr));
}

static void comparisons(void)
{
    CHECK(text_equal("", "") && text_equal("ab", "ab"));
    CHECK(!text_equal("a", "ab") && !text_equal("ab", "a") && !text_equal("ab", "aB"));
    CHECK(!strcmp(text_after("RTMIN+3", "RTMIN"), "+3") && !strcmp(text_after("ab", "ab"), ""));
    CHECK(!text_after("RTM", "RTMIN") && !text_after("", "a") && text_after("a", ""));
    CHECK(text_length("") == 0 && text_length("abc") == 3);
}

static void check_number(const char *string, unsigned int base, uint64_t want, const char *rest)
{
    uint64_t number = text_take_number(&string, base);
    CHECK(number == want && !strcmp(string, rest), "%lu, and \"%s\" is left", number, string);
}

static void numbers_read(void)
{
    check_number("4711 x", 10, 4711, " x");
    check_number("", 10, 0, "");
    check_number("-1", 10, 0, "-1");
    check_number("12ab", 10, 12, "ab");
    check_number("1f90:0", 16, 0x1f90, ":0");
    check_number("0100007F", 16, 0x0100007F, "");
    check_number("0228", 8, 022, "8");
    check_number("18446744073709551615", 10, UINT64_MAX, "");
    check_number("18446744073709551616]", 10, UINT64_MAX, "]");
    check_number("99999999999999999999999", 10, UINT64_MAX, "");
    CHECK(!strcmp(text_skip_words("  a  bc d", 1), "bc d"));
    CHECK(!strcmp(text_skip_words("  a  bc d", 2), "d"));
    CHECK(!strcmp(text_skip_words("  a  bc d", 4), ""));
}

static const struct unit_test tests[] = {
    {"numbers, tenths and durations", numbers},
    {"what is not printable ASCII is escaped, and what is too long ends with dots", escapes},
    {"a format has strings, and numbers up to the largest", formats},
    {"what does not fit is cut, and ends with a NUL", cuts},
    {"addresses of IPv4 and IPv6", ip_addresses},
    {"addresses of IPv6 are short as RFC 5952 has it", ip6_addresses},
    {"addresses of AF_UNIX", unix_addresses},
    {"an address of another kind, or cut, is unknown", strange_addresses},
    {"comparisons", comparisons},
    {"numbers are read to their end, and words passed over", numbers_read},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
