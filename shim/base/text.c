/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <netinet/in.h>
#include <sys/un.h>

static void put(struct text *text, char c)
{
    if (text->used + 1 < text->size)
        text->at[text->used++] = c;
    text->at[text->used] = '\0';
}

void text_string(struct text *text, const char *string)
{
    while (*string)
        put(text, *string++);
}

void text_escaped(struct text *text, const char *string, size_t most)
{
    static const char digits[] = "0123456789abcdef";
    for (; *string && most; string++, most--) {
        unsigned char c = (unsigned char)*string;
        if (c >= ' ' && c < 127) {
            put(text, (char)c);
        } else {
            text_string(text, "\\x");
            put(text, digits[c >> 4]);
            put(text, digits[c & 15]);
        }
    }
    if (*string)
        text_string(text, "...");
}

static void number_in(struct text *text, uint64_t number, unsigned int base)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[number % base];
    } while (number /= base);
    while (n)
        put(text, digits[--n]);
}

void text_number(struct text *text, uint64_t number)
{
    number_in(text, number, 10);
}

void text_add_list(struct text *text, const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(text, *format);
            continue;
        }
        switch (*++format) {
        case 's':
            text_string(text, va_arg(args, const char *));
            break;
        case 'l':
            format++;
            text_number(text, va_arg(args, unsigned long));
            break;
        default:
            text_number(text, va_arg(args, unsigned int));
        }
    }
}

void text_add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_add_list(text, format, args);
    va_end(args);
}

void text_tenths(struct text *text, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    text_number(text, (uint64_t)ms / 1000);
    put(text, '.');
    text_number(text, (uint64_t)ms / 100 % 10);
    put(text, 's');
}

void text_duration(struct text *text, int64_t ms)
{
    if (ms % 1000) {
        text_number(text, (uint64_t)ms);
        text_string(text, "ms");
    } else {
        text_number(text, (uint64_t)ms / 1000);
        put(text, 's');
    }
}

static void port(struct text *text, uint16_t net)
{
    const unsigned char *byte = (const unsigned char *)&net;
    put(text, ':');
    text_number(text, (uint64_t)byte[0] << 8 | byte[1]);
}

static void ipv4(struct text *text, const unsigned char *ip)
{
    for (int i = 0; i < 4; i++) {
        if (i)
            put(text, '.');
        text_number(text, ip[i]);
    }
}

/* RFC 5952: the longest run of at least two zero groups is "::". */
static void ipv6(struct text *text, const unsigned char *ip)
{
    int best = -1, best_length = 1;
    for (int i = 0; i < 8; i++) {
        int n = 0;
        while (i + n < 8 && !ip[2 * (i + n)] && !ip[2 * (i + n) + 1])
            n++;
        if (n > best_length) {
            best = i;
            best_length = n;
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            text_string(text, "::");
            i += best_length - 1;
            continue;
        }
        if (i && i != best + best_length)
            put(text, ':');
        number_in(text, (uint64_t)ip[2 * i] << 8 | ip[2 * i + 1], 16);
    }
}

void text_address(struct text *text, const struct sockaddr *addr, socklen_t len)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    if (len >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)addr;
        ipv4(text, (const unsigned char *)&in->sin_addr);
        port(text, in->sin_port);
    } else if (len >= sizeof(struct sockaddr_in6) && addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)addr;
        const unsigned char *ip = in6->sin6_addr.s6_addr;
        if (text_same_bytes(ip, mapped,
                            sizeof mapped)) { /* a client of IPv4 at a dual-stack listener */
            ipv4(text, ip + 12);
        } else {
            put(text, '[');
            ipv6(text, ip);
            put(text, ']');
        }
        port(text, in6->sin6_port);
    } else if (len >= sizeof(sa_family_t) && addr->sa_family == AF_UNIX) {
        /* unix(7), "BUGS": a path of 108 bytes may come with a NUL that is not of sun_path. */
        const char *path = (const char *)addr + offsetof(struct sockaddr_un, sun_path);
        size_t room = len - offsetof(struct sockaddr_un, sun_path);
        text_string(text, "unix:");
        if (room && !*path)
            put(text, '@'); /* unix(7): abstract */
        for (size_t i = room && !*path ? 1 : 0; i < room && path[i]; i++) {
            char one[2] = {path[i], 0};
            text_escaped(text, one, 1);
        }
    } else {
        text_string(text, "unknown");
    }
}

bool text_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

bool text_same_bytes(const void *a, const void *b, size_t n)
{
    const char *one = a, *other = b;
    while (n && *one == *other)
        one++, other++, n--;
    return !n;
}

const char *text_after(const char *string, const char *prefix)
{
    while (*prefix)
        if (*string++ != *prefix++)
            return NULL;
    return string;
}

size_t text_length(const char *string)
{
    size_t n = 0;
    while (string[n])
        n++;
    return n;
}

uint64_t text_take_number(const char **at, unsigned int base)
{
    uint64_t number = 0;
    for (;; ++*at) {
        unsigned char c = (unsigned char)**at;
        unsigned int digit = c >= '0' && c <= '9'   ? c - '0' + 0u
                             : c >= 'a' && c <= 'f' ? c - 'a' + 10u
                             : c >= 'A' && c <= 'F' ? c - 'A' + 10u
                                                    : base;
        if (digit >= base)
            return number;
        number = number > (UINT64_MAX - digit) / base ? UINT64_MAX : number * base + digit;
    }
}

int text_number_in(const char *text, int most)
{
    const char *end = text;
    uint64_t number = text_take_number(&end, 10);
    return end == text || *end || number > (uint64_t)most ? -1 : (int)number;
}

char *text_variable(char *const *envp, const char *name)
{
    for (; envp && *envp; envp++)
        if (text_after(*envp, name))
            return (char *)text_after(*envp, name);
    return NULL;
}

void text_drop_variables(char **envp, const char *name)
{
    char **to = envp;
    for (; *envp; envp++)
        if (!text_after(*envp, name))
            *to++ = *envp;
    *to = NULL;
}

const char *text_skip_words(const char *at, int count)
{
    for (; count; count--) {
        while (*at == ' ')
            at++;
        while (*at && *at != ' ')
            at++;
        while (*at == ' ')
            at++;
    }
    return at;
}
