/* SPDX-License-Identifier: MIT */
/* PostgreSQL as the tracker follows it (parser_postgres.c): talks by hand, cut anywhere. */
#include "tracker_steps.h"

#define STARTUP_TEXT "\0\0\0\x17\0\3\0\0user\0postgres\0\0"
#define AUTHENTICATED "R\0\0\0\10\0\0\0\0S\0\0\0\12a\0bcd\0"
#define READY(status) "Z\0\0\0\5" status
#define QUERY "Q\0\0\0\15SELECT 1\0"
#define PARSE "P\0\0\0\10\0a\0\0"
#define BIND "B\0\0\0\14\0\0\0\0\0\0\0\0"
#define EXECUTE "E\0\0\0\11\0\0\0\0\0"
#define SYNC "S\0\0\0\4"
#define ROW "D\0\0\0\13\0\1\0\0\0\0\0"

/* '!' it is something else, '+' in use, '?' idle in a transaction, '_' idle, with nothing asked
 * yet, '-' idle. */
static char said(const struct tracker *http)
{
    enum tracker_state state = tracker_state(http);
    return state == HTTP_NOT              ? '!'
           : state == HTTP_IN_USE         ? '+'
           : tracker_is_unfinished(http)  ? '?'
           : tracker_has_only_begun(http) ? '_'
           : tracker_takes_goodbye(http)  ? '-'
                                          : '.';
}

static const struct {
    const char *name;
    struct talk_step step[10];
} talks[] = {
#define BEGIN ASK(STARTUP_TEXT, '+'), SAYS(AUTHENTICATED, '+'), SAYS(READY("I"), '_')
    {"a statement and its answer",
     {BEGIN, ASK(QUERY, '+'), SAYS(ROW ROW, '+'), SAYS(READY("I"), '-')}},
    {"a password",
     {ASK(STARTUP_TEXT, '+'), SAYS("R\0\0\0\10\0\0\0\3", '+'), ASK("p\0\0\0\6a\0", '+'),
      SAYS(AUTHENTICATED READY("I"), '_')}},
    {"a transaction",
     {BEGIN, ASK(QUERY, '+'), SAYS(READY("T"), '?'), ASK(QUERY, '+'), SAYS(READY("E"), '?'),
      ASK(QUERY, '+'), SAYS(READY("I"), '-')}},
    {"what waits for a Sync",
     {BEGIN, ASK(PARSE BIND, '+'), ASK(EXECUTE, '+'), ASK(SYNC, '+'),
      SAYS("1\0\0\0\4"
           "2\0\0\0\4" ROW,
           '+'),
      SAYS(READY("I"), '-')}},
    {"two requests at once, and their answers",
     {BEGIN, ASK(PARSE BIND SYNC QUERY, '+'), SAYS(READY("I"), '+'), SAYS(READY("I"), '-')}},
    {"COPY",
     {BEGIN, ASK(QUERY, '+'), SAYS("G\0\0\0\7\0\0\0", '+'), ASK("d\0\0\0\5a", '+'),
      ASK("c\0\0\0\4", '+'), SAYS(READY("I"), '-')}},
    {"what nobody has asked for",
     {BEGIN, ASK(QUERY, '+'), SAYS(READY("I"), '-'), SAYS("A\0\0\0\12\0\0\0\0\0\0", '-'),
      SAYS("N\0\0\0\5\0", '-')}},
    {"Terminate", {BEGIN, ASK(QUERY, '+'), SAYS(READY("I"), '-'), ASK("X\0\0\0\4", '.')}},
    {"ReadyForQuery that nobody has asked for", {BEGIN, SAYS(READY("I"), '!')}},
    {"replication", {BEGIN, ASK(QUERY, '+'), SAYS("W\0\0\0\7\0\0\0", '!')}},
    {"a request for TLS", {ASK("\0\0\0\10\4", '!')}},
    {"a cancellation", {ASK("\0\0\0\20\4", '!')}},
    {"another version", {ASK("\0\0\0\20\0\2", '!')}},
    {"a length that is too much", {ASK("\0\0\x40\0", '!')}},
    {"a length that is too little", {ASK("\0\0\0\7", '!')}},
    {"no message of a client's", {BEGIN, ASK("Z\0\0\0\4", '!')}},
    {"a message that is too short", {BEGIN, ASK("Q\0\0\0\3", '!')}},
    {"a message that is too long", {BEGIN, ASK("Q\x40\0\0\0", '!')}},
};

/* Cut at each byte of each step. */
static void by_hand(void)
{
    for (size_t i = 0; i < COUNT_OF(talks); i++)
        for (size_t cut = 0; cut < 60; cut++) {
            struct tracker http = {0};
            for (size_t k = 0; k < COUNT_OF(talks[i].step) && talks[i].step[k].kind; k++) {
                take_step(&http, &talks[i].step[k], cut);
                CHECK(said(&http) == talks[i].step[k].want, "%s, step %zu: %c", talks[i].name,
                      k + 1, said(&http));
            }
        }
}

static void tls_is_told(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        bool is_tls;
    } first[] = {
        {"\x16\x03\x01\2\0", 5, true}, {"\0\0\0\10\4\xd2\x16\x2f", 8, true},
        {STARTUP_TEXT, 20, false},     {"\0\0\0\20\0\2", 6, false},
        {"\x17\x03", 2, false},
    };
    for (size_t i = 0; i < COUNT_OF(first); i++)
        for (size_t cut = 1; cut <= first[i].n; cut++) {
            struct tracker http = {0};
            receive(&http, first[i].bytes, cut);
            if (cut < first[i].n)
                receive(&http, first[i].bytes + cut, first[i].n - cut);
            CHECK(tracker_is_tls(&http) == first[i].is_tls, "case %zu, cut %zu", i, cut);
            tracker_reset(&http);
            CHECK(!tracker_is_tls(&http));
        }
    struct tracker http = {0};
    receive(&http, "GET / HTTP/1.1\r\n\r\n", 18);
    answer(&http, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38);
    receive(&http, "\x16\x03\x01\2\0", 5);
    CHECK(tracker_state(&http) == HTTP_NOT && !tracker_is_tls(&http));
}

/* As many as the count of what is owed has; one more is not followed. */
static void many_at_once(void)
{
    struct tracker http = {0};
    receive(&http, STARTUP_TEXT, sizeof STARTUP_TEXT - 1);
    answer(&http, READY("I"), sizeof READY("I") - 1);
    for (int i = 0; i < 255; i++) {
        receive(&http, SYNC, sizeof SYNC - 1);
        CHECK(said(&http) == '+', "request %d: %c", i, said(&http));
    }
    struct tracker more = http;
    receive(&more, SYNC, sizeof SYNC - 1);
    CHECK(said(&more) == '!');
    for (int i = 0; i < 255; i++) {
        CHECK(said(&http) == '+', "answer %d: %c", i, said(&http));
        answer(&http, READY("I"), sizeof READY("I") - 1);
    }
    CHECK(tracker_state(&http) == HTTP_IDLE);
}

static const struct unit_test tests[] = {
    {"talks by hand are told as they are, however they are cut", by_hand},
    {"TLS is told by its first record, or by what asks for it", tls_is_told},
    {"of requests there may be 255 that are not answered", many_at_once},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
