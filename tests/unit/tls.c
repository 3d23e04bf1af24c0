/* SPDX-License-Identifier: MIT */
/* TLS as the tracker follows it until its first answer (parser_tls.c): talks by hand, cut anywhere.
 */
#include "tracker_steps.h"

enum { CCS = 20, ALERT, HELLO, SEALED };

/* A record of so many bytes. '+' is in use, '?' in doubt, '.' owes nothing, '!' followed no more.
 */
struct record {
    char kind; /* > the client's, < the server's; 0: no more */
    uint8_t type;
    uint16_t length;
    char want;
};

static char said(const struct tracker *http)
{
    enum tracker_state state = tracker_state(http);
    return state == HTTP_NOT           ? '!'
           : state == HTTP_IN_USE      ? '+'
           : tracker_is_in_doubt(http) ? '?'
           : state == HTTP_NONE        ? '.'
                                       : '-';
}

/* clang-format off */
#define HELLOS {'>', HELLO, 512, '+'}, {'<', HELLO, 122, '.'}, {'<', CCS, 1, '.'}, {'<', SEALED, 1200, '.'}
#define FINISHED {'>', CCS, 1, '.'}, {'>', SEALED, 69, '+'}
#define TICKETS {'<', SEALED, 282, '.'}, {'<', SEALED, 282, '.'}
#define OF_1_2 {'>', HELLO, 512, '+'}, {'<', HELLO, 1200, '.'}, {'>', HELLO, 37, '+'}, {'>', CCS, 1, '+'}, \
    {'>', HELLO, 40, '+'}, {'<', HELLO, 202, '.'}, {'<', CCS, 1, '.'}, {'<', HELLO, 40, '.'}
/* clang-format on */

static const struct {
    const char *name;
    bool offers_h2;
    struct record record[16];
} talks[] = {
    {"Apache and curl",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'<', SEALED, 45, '.'},
      {'>', SEALED, 81, '+'},
      {'>', SEALED, 63, '+'},
      {'<', SEALED, 26, '+'},
      {'<', SEALED, 94, '.'},
      {'>', SEALED, 26, '.'},
      {'>', SEALED, 40, '!'}}},
    {"a preface alone",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 75, '+'},
      {'<', SEALED, 26, '?'},
      {'<', SEALED, 73, '.'}}},
    {"the preface's acknowledgement, before an answer",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 75, '+'},
      {'<', SEALED, 26, '?'},
      {'>', SEALED, 26, '+'},
      {'<', SEALED, 73, '.'}}},
    {"SETTINGS behind the request",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 75, '+'},
      {'<', SEALED, 68, '?'},
      {'<', SEALED, 26, '?'},
      {'<', SEALED, 65, '.'},
      {'>', SEALED, 41, '!'}}},
    {"a long request",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 400, '+'},
      {'<', SEALED, 47, '+'},
      {'<', SEALED, 43, '+'},
      {'<', SEALED, 100, '.'}}},
    {"an answer with what comes before it",
     true,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 75, '+'},
      {'<', SEALED, 163, '.'},
      {'>', SEALED, 26, '.'}}},
    {"nginx of TLS 1.2",
     true,
     {OF_1_2,
      {'<', SEALED, 64, '.'},
      {'>', SEALED, 88, '+'},
      {'<', SEALED, 33, '?'},
      {'<', SEALED, 89, '.'},
      {'>', SEALED, 48, '!'}}},
    {"redis",
     false,
     {HELLOS,
      FINISHED,
      TICKETS,
      {'>', SEALED, 31, '+'},
      {'<', SEALED, 24, '.'},
      {'>', SEALED, 31, '!'}}},
    {"no record of TLS", false, {HELLOS, {'>', 19, 5, '!'}}},
};

/* Its bytes; the client's first words say by ALPN what it offers. */
static size_t make(char *bytes, const struct record *record, bool offers_h2)
{
    static const char h2[] = "\0\x10\0\5\0\3\2h2";
    const char head[] = {(char)record->type, 3, 3, (char)(record->length >> 8),
                         (char)record->length};
    memset(bytes, 'x', sizeof head + record->length);
    memcpy(bytes, head, sizeof head);
    if (offers_h2 && record->type == HELLO && record->length == 512)
        memcpy(bytes + 300, h2, sizeof h2 - 1);
    return sizeof head + record->length;
}

static void take(struct tracker *http, const struct record *record, const char *bytes, size_t n)
{
    if (n)
        (record->kind == '>' ? receive : answer)(http, bytes, n);
}

static void by_hand(void)
{
    static const size_t cuts[] = {0, 1, 2, 3, 4, 5, 6, 25, 306, 307, 308, 309, 310};
    static char bytes[2048];
    for (size_t i = 0; i < COUNT_OF(talks); i++)
        for (size_t c = 0; c < COUNT_OF(cuts); c++) {
            struct tracker http = {0};
            for (size_t k = 0; k < COUNT_OF(talks[i].record) && talks[i].record[k].kind; k++) {
                const struct record *record = &talks[i].record[k];
                size_t n = make(bytes, record, talks[i].offers_h2);
                size_t cut = cuts[c] < n ? cuts[c] : 0;
                take(&http, record, bytes, cut);
                take(&http, record, bytes + cut, n - cut);
                CHECK(said(&http) == record->want, "%s, record %zu, cut %zu: %c", talks[i].name,
                      k + 1, cuts[c], said(&http));
            }
            CHECK(tracker_is_tls(&http) || said(&http) == '!');
        }
}

/* The end of the handshake and a request in one read: the tickets come behind both. */
static void tickets_behind_a_request(void)
{
    static const struct record begins[] = {HELLOS, {'>', CCS, 1, '.'}};
    static const struct record end = {'>', SEALED, 69, '+'}, ask = {'>', SEALED, 101, '+'};
    static const struct record rest[] = {{'<', SEALED, 282, '?'},
                                         {'<', SEALED, 282, '?'},
                                         {'<', SEALED, 127, '.'},
                                         {'>', SEALED, 101, '!'}};
    static char bytes[2048];
    struct tracker http = {0};
    for (size_t k = 0; k < COUNT_OF(begins); k++)
        take(&http, &begins[k], bytes, make(bytes, &begins[k], false));
    size_t n = make(bytes, &end, false);
    receive(&http, bytes, n + make(bytes + n, &ask, false));
    CHECK(said(&http) == '+');
    for (size_t k = 0; k < COUNT_OF(rest); k++) {
        take(&http, &rest[k], bytes, make(bytes, &rest[k], false));
        CHECK(said(&http) == rest[k].want, "record %zu: %c", k + 1, said(&http));
    }
}

static const struct unit_test tests[] = {
    {"what a server says of itself is no answer", by_hand},
    {"tickets that come behind a request are none", tickets_behind_a_request},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
