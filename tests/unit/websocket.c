/* SPDX-License-Identifier: MIT */
/*
 * WebSocket as the tracker follows it (parser_websocket.c): talks by hand, and talks from a seed
 * beside a plain parser, which keeps a frame until it is whole. In pieces of any length.
 */
#include "tracker_steps.h"
#include "dice.h"

#define ROUNDS 6000
#define PAYLOAD_MOST 300
#define HEAD_MOST 14

#define ASKED                                                                      \
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    "Sec-WebSocket-Version: 13\r\n\r\n"
#define SWITCH_TO(protocol) \
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " protocol "\r\n\r\n"

/* ---- the plain parser ---- */

enum found { PARTIAL, WHOLE, WRONG };

struct plain {
    unsigned char bytes[2][HEAD_MOST + 65536];
    size_t n[2];
    bool in_message[2], said_close[2], is_not;
    unsigned int owed;
};

/* What these first bytes of a frame are. */
static enum found judge(const struct plain *plain, int side)
{
    const unsigned char *at = plain->bytes[side];
    size_t n = plain->n[side], head = 2, length;
    unsigned int opcode = at[0] & 15;
    if (opcode > 10 || (opcode > 2 && opcode < 8))
        return WRONG;
    if (opcode >= 8 ? (at[0] & 0xf0) != 0x80 : (opcode == 0) != plain->in_message[side])
        return WRONG;
    if (n < 2)
        return PARTIAL;
    length = at[1] & 127;
    if (at[1] >> 7 != (side == 0) || (opcode >= 8 && length > 125))
        return WRONG;
    size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (more == 8 && n > 2 && at[2] >= 128)
        return WRONG;
    head += more + (side == 0 ? 4 : 0);
    if (n < head)
        return PARTIAL;
    if (more)
        length = 0;
    for (size_t i = 0; i < more; i++)
        length = length << 8 | at[2 + i];
    return n - head == length ? WHOLE : PARTIAL;
}

static void plain_byte(struct plain *plain, int side, unsigned char byte)
{
    if (plain->is_not)
        return;
    plain->bytes[side][plain->n[side]++] = byte;
    enum found found = judge(plain, side);
    plain->is_not = found == WRONG;
    if (found != WHOLE)
        return;
    unsigned int first = plain->bytes[side][0];
    plain->n[side] = 0;
    if ((first & 15) == 8)
        plain->said_close[side] = true;
    if ((first & 15) >= 8)
        return;
    plain->in_message[side] = first < 128;
    if (first >= 128)
        plain->owed = side ? 0 : plain->owed + 1;
}

/* '!' no WebSocket, '+' within a message, '?' between two, and the client awaits one, '-' it does
 * not. */
static char said(const struct tracker *http)
{
    enum tracker_state state = tracker_state(http);
    bool awaits = tracker_is_unfinished(http);
    return state == HTTP_NOT ? '!' : state == HTTP_IN_USE ? '+' : awaits ? '?' : '-';
}

static char plain_said(const struct plain *plain)
{
    bool begun = plain->n[0] || plain->n[1] || plain->in_message[0] || plain->in_message[1];
    bool awaits = plain->owed || plain->said_close[0] != plain->said_close[1];
    return plain->is_not ? '!' : begun ? '+' : awaits ? '?' : '-';
}

/* ---- what is said ---- */

/* Most frames are well where they stand. Returns the length. */
static size_t make(char *at, const struct plain *plain, int side)
{
    static const unsigned char opcodes[] = {1, 2, 1, 2, 9, 10, 8};
    unsigned int opcode = opcodes[roll(plain->owed > 200 ? 2 : COUNT_OF(opcodes))], fin = roll(3);
    size_t length = roll(4) ? roll(126) : roll(3) ? roll(PAYLOAD_MOST) : 0, n = 0;
    if (opcode == 8 && roll(4))
        opcode = 9;
    if (opcode < 8 && plain->in_message[side])
        opcode = 0;
    if (!roll(300))
        opcode = roll(16);
    if (opcode >= 8) {
        fin = 1;
        length = length > 125 && roll(200) ? 125 : length;
    }
    at[n++] = (char)((fin ? 0x80 : 0) | opcode | (opcode < 8 && !roll(5) ? 0x40 : 0));
    unsigned int mask = !side ^ !roll(400) ? 0x80 : 0;
    bool in_eight = length > 125 && !roll(4);
    at[n++] = (char)(mask | (in_eight ? 127 : length > 125 ? 126 : length));
    for (int shift = in_eight ? 56 : length > 125 ? 8 : -8; shift >= 0; shift -= 8)
        at[n++] = (char)((uint64_t)length >> shift);
    if (in_eight && !roll(30))
        at[2] = (char)0x80;
    for (size_t i = 0; i < length + (mask ? 4 : 0); i++)
        at[n++] = (char)roll(256);
    return n;
}

static size_t idle, awaited, in_use, not_websocket;

static void converse(void)
{
    static struct plain plain;
    struct tracker http = {0};
    memset(&plain, 0, sizeof plain);
    receive(&http, ASKED, strlen(ASKED));
    answer(&http, SWITCH_TO("websocket"), strlen(SWITCH_TO("websocket")));
    for (size_t turn = 0, turns = roll(100); turn < turns; turn++) {
        char bytes[HEAD_MOST + PAYLOAD_MOST];
        int side = plain.n[0] || plain.n[1] ? plain.n[1] != 0 : (int)roll(2);
        size_t n = make(bytes, &plain, side);
        for (size_t at = 0, end; at < n; at = end) {
            end = at + 1 + (roll(2) ? roll((uint32_t)(n - at)) : n - at - 1);
            (side ? answer : receive)(&http, bytes + at, end - at);
            for (size_t i = at; i < end; i++)
                plain_byte(&plain, side, (unsigned char)bytes[i]);
            CHECK(said(&http) == plain_said(&plain), "turn %zu: %c, and not %c", turn, said(&http),
                  plain_said(&plain));
        }
    }
    idle += plain_said(&plain) == '-';
    awaited += plain_said(&plain) == '?';
    in_use += plain_said(&plain) == '+';
    not_websocket += plain.is_not;
}

static void told_alike(void)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        dice = seed * UINT64_C(0x9e3779b97f4a7c15);
        converse();
    }
    CHECK(idle > ROUNDS / 20 && awaited > ROUNDS / 20 && in_use > ROUNDS / 20 &&
              not_websocket > ROUNDS / 20,
          "%zu idle, %zu awaited, %zu in use, %zu no WebSocket", idle, awaited, in_use,
          not_websocket);
}

/* ---- by hand ---- */

#define MASK "\1\2\3\4"
#define HELLO_ASKED "\x81\x85" MASK "HELLO"
#define HELLO "\x81\5hello"
#define CLOSE_ASKED "\x88\x82" MASK "ab"
#define CLOSE "\x88\2\3\xe8"

static const struct {
    const char *name;
    struct talk_step step[8];
} talks[] = {
#define BEGIN ASK(ASKED, '+'), SAYS(SWITCH_TO("websocket"), '-')
    {"a message and its answer", {BEGIN, ASK(HELLO_ASKED, '?'), SAYS(HELLO, '-')}},
    {"capitals, and what comes behind the head at once",
     {ASK(ASKED, '+'), SAYS(SWITCH_TO("WebSocket") HELLO HELLO, '-')}},
    {"what the server says unasked is no answer to what comes then",
     {BEGIN, SAYS(HELLO, '-'), ASK(HELLO_ASKED, '?')}},
    {"two messages, and one answer to both",
     {BEGIN, ASK(HELLO_ASKED HELLO_ASKED, '?'), SAYS(HELLO, '-')}},
    {"PING and PONG ask nothing, and answer nothing",
     {BEGIN, ASK("\x89\x80" MASK, '-'), SAYS("\x8a\0", '-'), ASK("\x8a\x81" MASK "a", '-'),
      ASK(HELLO_ASKED, '?'), SAYS("\x8a\0\x89\0", '?')}},
    {"a message in parts, and a PING between them",
     {BEGIN, ASK("\1\x81" MASK "a", '+'), ASK("\x89\x80" MASK, '+'), ASK("\x80\x81" MASK "a", '?'),
      SAYS("\x41\1a", '+'), SAYS("\x80\0", '-')}},
    {"the client's Close, and the server's", {BEGIN, ASK(CLOSE_ASKED, '?'), SAYS(CLOSE, '-')}},
    {"the server's Close, and the client's", {BEGIN, SAYS(CLOSE, '?'), ASK(CLOSE_ASKED, '-')}},
    {"a long payload that nobody has seen",
     {BEGIN, ASK(HELLO_ASKED, '?'), SAYS("\x82\x7f\0\0\0\1\0\0\0\0", '+'), UNSEEN(0x7fffffff, '+'),
      UNSEEN(0x80000001, '-')}},
    {"a head that nobody has seen", {BEGIN, UNSEEN(1, '!')}},
    {"no mask", {BEGIN, ASK(HELLO, '!')}},
    {"a server's mask", {BEGIN, SAYS(HELLO_ASKED, '!')}},
    {"an opcode of nobody's", {BEGIN, SAYS("\x83", '!')}},
    {"a control frame in parts", {BEGIN, SAYS("\x09", '!')}},
    {"a control frame that is too long", {BEGIN, SAYS("\x89\x7e", '!')}},
    {"a length that is none", {BEGIN, SAYS("\x82\x7f\x80", '!')}},
    {"a part of no message", {BEGIN, SAYS("\x80", '!')}},
    {"a message in a message", {BEGIN, SAYS("\1\0\1", '!')}},
    {"a switch that was not asked for", {SAYS(SWITCH_TO("websocket"), '!')}},
    {"a switch of the second of two requests",
     {ASK(ASKED ASKED, '+'), SAYS(SWITCH_TO("websocket"), '!')}},
    {"a switch to something like it", {ASK(ASKED, '+'), SAYS(SWITCH_TO("websockets"), '!')}},
};

/* Cut at each byte of each step. */
static void by_hand(void)
{
    for (size_t i = 0; i < COUNT_OF(talks); i++)
        for (size_t cut = 0; cut < 120; cut++) {
            struct tracker http = {0};
            for (size_t k = 0; k < COUNT_OF(talks[i].step) && talks[i].step[k].kind; k++) {
                take_step(&http, &talks[i].step[k], cut);
                CHECK(said(&http) == talks[i].step[k].want, "%s, step %zu: %c", talks[i].name,
                      k + 1, said(&http));
            }
        }
}

/* As many as the count of what is owed has, and more. */
static void many_unanswered(void)
{
    struct tracker http = {0};
    receive(&http, ASKED, strlen(ASKED));
    answer(&http, SWITCH_TO("websocket"), strlen(SWITCH_TO("websocket")));
    for (int i = 0; i < 1000; i++) {
        receive(&http, HELLO_ASKED, strlen(HELLO_ASKED));
        CHECK(said(&http) == '?', "message %d: %c", i, said(&http));
    }
    answer(&http, HELLO, strlen(HELLO));
    CHECK(said(&http) == '-');
}

static const struct unit_test tests[] = {
    {"talks by hand are told as they are, however they are cut", by_hand},
    {"a talk is what the plain parser says, in pieces of any length", told_alike},
    {"of messages that are not answered there may be any number", many_unanswered},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
