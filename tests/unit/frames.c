/* SPDX-License-Identifier: MIT */
/*
 * HTTP/2 as the tracker follows it (parser_frames.c, streams.h) beside a plain parser, which keeps
 * a frame until it is whole: talks of many streams, ordinary ones and some with a frame that does
 * not belong there, in pieces of any length. They come from a seed, and so does a failure.
 */
#include "tracker_steps.h"
#include "dice.h"

#include "http/parser.h"
#include "http/streams.h"

#define ROUNDS 4000
#define STREAMS 200
#define FRAME_MOST 64
#define FRAMES_AT_ONCE 3
#define PREFACE_TEXT "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* ---- the plain parser ---- */

struct side {
    unsigned char bytes[9 + FRAME_MOST * 2];
    size_t n;
    bool has_preface, has_settings, in_block, ends_block;
    uint32_t block;
};

struct plain {
    struct side side[2]; /* the client's, the server's */
    bool open[STREAMS], has_ended[STREAMS][2];
    uint32_t last, limit; /* the server's last stream, once it has said so */
    bool is_not, is_going, has_spoken;
};

static void plain_end(struct plain *plain, uint32_t stream, int side)
{
    plain->has_ended[stream][side] = true;
    if (plain->has_ended[stream][0] && plain->has_ended[stream][1])
        plain->open[stream] = false;
}

static bool plain_head(struct plain *plain, int side, unsigned type, unsigned flags,
                       uint32_t stream, size_t length)
{
    struct side *from = &plain->side[side];
    bool was_opened = stream % 2 == 1 && stream <= plain->last;
    if (!from->has_settings && (type != 4 || flags & 1))
        return false;
    from->has_settings = true;
    if (from->in_block ? type != 9 || stream != from->block : type == 9)
        return false;
    if (type == 1 && side == 0 && stream % 2 == 1 && stream > plain->last) {
        if (!plain->is_going) {
            plain->last = stream;
            plain->open[stream] = true;
        }
        return true;
    }
    return type == 0 || type == 1 ? was_opened || (type == 1 && side == 0 && stream % 2 == 1)
           : type == 2            ? stream && length == 5
           : type == 3            ? was_opened && length == 4
           : type == 4            ? !stream && length % 6 == 0 && (!(flags & 1) || !length)
           : type == 5            ? false
           : type == 6            ? !stream && length == 8
           : type == 7            ? !stream && length >= 8
           : type == 8            ? length == 4
                                  : true;
}

static void plain_frame(struct plain *plain, int side, unsigned type, unsigned flags,
                        uint32_t stream, const unsigned char *payload)
{
    struct side *from = &plain->side[side];
    if (type == 0 && flags & 1)
        plain_end(plain, stream, side);
    if (type == 1)
        from->ends_block = flags & 1;
    if (type == 1 || type == 9) {
        from->in_block = !(flags & 4);
        from->block = stream;
        if (!from->in_block && from->ends_block)
            plain_end(plain, stream, side);
    }
    if (type == 3)
        plain->open[stream] = false;
    if (type == 7 && side == 1) {
        uint32_t last = (payload[0] & 0x7fu) << 24 | (uint32_t)payload[1] << 16 |
                        (uint32_t)payload[2] << 8 | payload[3];
        plain->is_going = plain->is_going || last != 0x7fffffff;
        for (uint32_t i = last; i < STREAMS; i++)
            if (i > last)
                plain->open[i] = false;
    }
}

static void plain_byte(struct plain *plain, int side, unsigned char byte)
{
    struct side *from = &plain->side[side];
    unsigned char *at = from->bytes;
    plain->has_spoken = plain->has_spoken || side == 0;
    if (plain->is_not)
        return;
    at[from->n++] = byte;
    if (side == 0 && !from->has_preface) {
        plain->is_not = memcmp(at, PREFACE_TEXT, from->n) != 0;
        if (from->n == strlen(PREFACE_TEXT)) {
            from->has_preface = true;
            from->n = 0;
        }
        return;
    }
    uint32_t stream = (at[5] & 0x7fu) << 24 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 8 | at[8];
    size_t length = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
    for (size_t i = 5; i < from->n && i < 9; i++)
        if (from->in_block &&
            (i == 5 ? at[i] & 0x7fu : at[i]) != (from->block >> (8 * (8 - i)) & 0xff))
            plain->is_not = true;
    if (from->n == 9 && !plain->is_not)
        plain->is_not = !plain_head(plain, side, at[3], at[4], stream, length);
    if (from->n < 9 || from->n < 9 + length || plain->is_not)
        return;
    plain_frame(plain, side, at[3], at[4], stream, at + 9);
    from->n = 0;
}

static void plain_bytes(struct plain *plain, int side, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        plain_byte(plain, side, (unsigned char)bytes[i]);
}

static unsigned int plain_open(const struct plain *plain)
{
    unsigned int open = 0;
    for (size_t i = 0; i < STREAMS; i++)
        open += plain->open[i];
    return open;
}

static enum tracker_state plain_state(const struct plain *plain)
{
    const struct side *client = &plain->side[0], *server = &plain->side[1];
    if (plain->is_not)
        return HTTP_NOT;
    if (plain_open(plain) || client->n || server->n || client->in_block || server->in_block)
        return HTTP_IN_USE;
    return plain->has_spoken ? HTTP_IDLE : HTTP_NONE;
}

/* ---- what is said ---- */

static size_t put_frame(char *at, unsigned type, unsigned flags, uint32_t stream,
                        const char *payload, size_t length)
{
    const char head[9] = {
        0,           (char)(length >> 8),  (char)length,         (char)type,
        (char)flags, (char)(stream >> 24), (char)(stream >> 16), (char)(stream >> 8),
        (char)stream};
    memcpy(at, head, 9);
    if (length)
        memcpy(at + 9, payload, length);
    return 9 + length;
}

static const char fill[FRAME_MOST] = "\0\0\0\1abcdefghijklmnopqrstuvwxyz";

/* A frame, mostly one that may come now. */
static size_t make(char *at, const struct plain *plain, int side)
{
    const struct side *from = &plain->side[side];
    static const size_t lengths[] = {0, 0, 5, 4, 6, 0, 8, 8, 4, 3};
    uint32_t type = roll(12), flags = roll(2) ? roll(2) | roll(2) << 2 | 4 : roll(256);
    uint32_t next = plain->last ? plain->last + 2 : 1, some = next > 2 ? roll(next / 2) * 2 + 1 : 1;
    if (next >= STREAMS)
        next = some;
    if (roll(3) == 0)
        type = roll(2); /* DATA and HEADERS */
    uint32_t stream = type < 4 && type != 2 ? (type == 1 && side == 0 && roll(4) ? next : some) : 0;
    if (type == 2)
        stream = some;
    if (!from->has_settings && roll(500)) {
        type = 4;
        flags = 0;
        stream = 0;
    }
    if (from->in_block && roll(500)) {
        type = 9;
        stream = from->block;
    } else if (type == 5 || type == 9) {
        type = roll(300) ? 1 : type;
        stream = side == 0 ? next : some;
    }
    if (side == 1 && !plain->last && type < 4 && type != 2 && roll(500)) {
        type = 4;
        stream = 0;
    }
    if (side == 0 && !plain->last && (type == 0 || type == 3)) {
        type = 1;
        stream = next;
    }
    if (type == 7 && roll(3))
        type = 10 + roll(200); /* nobody's */
    if (type == 4)
        flags &= ~1u;
    size_t length = type < COUNT_OF(lengths) ? lengths[type] : roll(FRAME_MOST);
    if (type < 2)
        length = roll(3) ? roll(FRAME_MOST) : 0;
    if (!roll(2000))
        length = roll(FRAME_MOST);
    if (!roll(2000))
        stream = roll(STREAMS);
    char payload[FRAME_MOST];
    memcpy(payload, fill, sizeof payload);
    if (type == 7 && roll(2))
        memcpy(payload, "\x7f\xff\xff\xff", 4);
    else if (type == 7)
        payload[3] = (char)some;
    return put_frame(at, type, flags, stream | (roll(20) ? 0 : 0x80000000u), payload, length);
}

static size_t idle, not_http, in_use;

static void converse(void)
{
    static struct tracker pieces; /* of one connection after the other */
    static struct plain plain;
    memset(&plain, 0, sizeof plain);
    tracker_reset(&pieces);
    size_t turns = 4 + roll(120);
    for (size_t turn = 0; turn < turns; turn++) {
        char bytes[200 + FRAMES_AT_ONCE * (9 + FRAME_MOST)];
        int side = turn == 0 ? roll(8) == 0 : (int)roll(2);
        size_t n = 0;
        if (side == 0 && !plain.side[0].has_preface)
            n = strlen(strcpy(bytes, PREFACE_TEXT));
        n += make(bytes + n, &plain, side);
        size_t heard = 0; /* of several in one call all but the last */
        for (size_t more = roll(4) ? 0 : roll(FRAMES_AT_ONCE); more; more--) {
            plain_bytes(&plain, side, bytes + heard, n - heard);
            heard = n;
            n += make(bytes + n, &plain, side);
        }
        for (size_t at = 0, end; at < n; at = end) {
            end = heard || roll(2) ? n : at + 1 + roll((uint32_t)(n - at));
            (side ? answer : receive)(&pieces, bytes + at, end - at);
            plain_bytes(&plain, side, bytes + at + heard, end - at - heard);
            CHECK(tracker_state(&pieces) == plain_state(&plain), "turn %zu: %s, and not %u", turn,
                  told(&pieces), plain_state(&plain));
            if (!plain.is_not)
                CHECK(pieces.streams.open == plain_open(&plain), "turn %zu: %u open, and not %u",
                      turn, pieces.streams.open, plain_open(&plain));
        }
    }
    idle += plain_state(&plain) == HTTP_IDLE;
    in_use += plain_state(&plain) == HTTP_IN_USE;
    not_http += plain.is_not;
}

static void told_alike(void)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        dice = seed * UINT64_C(0x9e3779b97f4a7c15);
        converse();
    }
    CHECK(idle > ROUNDS / 50 && in_use > ROUNDS / 20 && not_http > ROUNDS / 20,
          "%zu idle, %zu in use, %zu no HTTP", idle, in_use, not_http);
}

/* ---- by hand ---- */

#define FRAME_OF(length, type, flags, stream) "\0\0" length type flags "\0\0\0" stream
#define SETTINGS_OF FRAME_OF("\0", "\4", "\0", "\0")
#define BEGIN PREFACE_TEXT SETTINGS_OF
#define GET_OF(stream) FRAME_OF("\2", "\1", "\5", stream) "ab"
#define DATA_OF(flags, stream) FRAME_OF("\3", "\0", flags, stream) "abc"
#define RST_OF(stream) FRAME_OF("\4", "\3", "\0", stream) "\0\0\0\10"
#define SWITCH_TO(protocol) \
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade:" protocol "\r\n\r\n"
#define ASKED \
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"

static const struct {
    const char *name;
    struct talk_step step[8];
} talks[] = {
    {"a request and its answer",
     {ASK(BEGIN, HTTP_IDLE), SAYS(SETTINGS_OF, HTTP_IDLE), ASK(GET_OF("\1"), HTTP_IN_USE),
      SAYS(FRAME_OF("\1", "\1", "\4", "\1") "x", HTTP_IN_USE),
      SAYS(DATA_OF("\0", "\1"), HTTP_IN_USE), SAYS(DATA_OF("\1", "\1"), HTTP_IDLE),
      ASK(FRAME_OF("\4", "\10", "\0", "\0") "\0\0\0\1", HTTP_IDLE)}},
    {"a server that does not wait for the preface",
     {SAYS(SETTINGS_OF, HTTP_NONE), ASK(BEGIN, HTTP_IDLE), ASK(GET_OF("\1"), HTTP_IN_USE),
      SAYS(GET_OF("\1"), HTTP_IDLE)}},
    {"a server that speaks first, and another protocol",
     {SAYS("\0\0\6\5", HTTP_IN_USE), SAYS("\0\0\0\0\0", HTTP_NOT)}},
    {"a server that has begun, and a client of HTTP/1.1",
     {SAYS(SETTINGS_OF, HTTP_NONE), ASK("GET / ", HTTP_NOT)}},
    {"a payload that was not seen",
     {ASK(BEGIN GET_OF("\1"), HTTP_IN_USE), SAYS(SETTINGS_OF "\0\0\3\0\1\0\0\0\1", HTTP_IN_USE),
      UNSEEN(2, HTTP_IN_USE), UNSEEN(1, HTTP_IDLE), UNSEEN(1, HTTP_NOT)}},
    {"a stream that the client resets as its answer comes",
     {ASK(BEGIN GET_OF("\1"), HTTP_IN_USE), SAYS(SETTINGS_OF, HTTP_IN_USE),
      SAYS(GET_OF("\1"), HTTP_IDLE), ASK(RST_OF("\1"), HTTP_IDLE), ASK(GET_OF("\3"), HTTP_IN_USE),
      ASK(RST_OF("\3"), HTTP_IDLE), SAYS(GET_OF("\3"), HTTP_IDLE)}},
    {"an answer before the request is whole",
     {ASK(BEGIN, HTTP_IDLE), ASK(FRAME_OF("\2", "\1", "\4", "\1") "ab", HTTP_IN_USE),
      SAYS(SETTINGS_OF GET_OF("\1"), HTTP_IN_USE), ASK(DATA_OF("\0", "\1"), HTTP_IN_USE),
      ASK(DATA_OF("\1", "\1"), HTTP_IDLE)}},
    {"an upgrade",
     {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO(" h2c") SETTINGS_OF, HTTP_IN_USE),
      ASK(BEGIN, HTTP_IN_USE), SAYS(GET_OF("\1"), HTTP_IDLE), ASK(GET_OF("\3"), HTTP_IN_USE),
      SAYS(GET_OF("\3"), HTTP_IDLE)}},
    {"an upgrade that is answered before the preface",
     {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("h2c") SETTINGS_OF GET_OF("\1"), HTTP_IDLE),
      ASK(BEGIN, HTTP_IDLE)}},
    {"a request before any SETTINGS",
     {ASK(PREFACE_TEXT, HTTP_IDLE), ASK(GET_OF("\1"), HTTP_NOT)}},
    {"an upgrade whose answer does not name it",
     {ASK(ASKED, HTTP_IN_USE),
      SAYS("HTTP/1.1 101 Switching Protocols\r\n\r\n" SETTINGS_OF, HTTP_IN_USE),
      ASK(BEGIN, HTTP_IN_USE), SAYS(GET_OF("\1"), HTTP_IDLE)}},
    {"another one that is not named, and its server speaks",
     {ASK(ASKED, HTTP_IN_USE), SAYS("HTTP/1.1 101 x\r\n\r\n", HTTP_IN_USE),
      SAYS("* OK IMAP4", HTTP_NOT)}},
    {"another one that is not named, and its client speaks",
     {ASK(ASKED, HTTP_IN_USE), SAYS("HTTP/1.1 101 x\r\n\r\n", HTTP_IN_USE),
      ASK("PRI * HTTP/2.1", HTTP_NOT)}},
    {"an upgrade that is none", {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("xh2c"), HTTP_NOT)}},
    {"an upgrade to one of two", {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("h2c, x"), HTTP_NOT)}},
    {"an upgrade, and no preface", {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("H2C "), HTTP_NOT)}},
    {"an upgrade of the second of two requests",
     {ASK(ASKED ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("h2c"), HTTP_NOT)}},
    {"an upgrade, and HTTP/1.1 all the same",
     {ASK(ASKED, HTTP_IN_USE), SAYS(SWITCH_TO("h2c"), HTTP_IN_USE), ASK("P", HTTP_IN_USE),
      ASK("U", HTTP_NOT)}},
    {"PRI, and not the preface", {ASK("PRI /", HTTP_NOT)}},
    {"another method, and an answer that offers h2c",
     {ASK("PRIX / HTTP/1.1\r\n\r\n", HTTP_IN_USE),
      SAYS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n", HTTP_IDLE)}},
    {"PUT", {ASK("PUT / HTTP/1.1\r\n\r\n", HTTP_IN_USE)}},
    {"another version", {ASK("PRI * HTTP/2.1", HTTP_NOT)}},
    {"the server goes away",
     {ASK(BEGIN GET_OF("\1") GET_OF("\3"), HTTP_IN_USE),
      SAYS(SETTINGS_OF FRAME_OF("\10", "\7", "\0", "\0") "\0\0\0\1\0\0\0\0", HTTP_IN_USE),
      ASK(GET_OF("\5"), HTTP_IN_USE), SAYS(GET_OF("\1"), HTTP_IDLE)}},
};

/* Cut at each byte. */
static void by_hand(void)
{
    for (size_t i = 0; i < COUNT_OF(talks); i++)
        for (size_t cut = 0; cut < 120; cut++) {
            struct tracker http = {0};
            for (size_t k = 0; k < COUNT_OF(talks[i].step) && talks[i].step[k].kind; k++) {
                take_step(&http, &talks[i].step[k], cut);
                CHECK((int)tracker_state(&http) == talks[i].step[k].want, "%s, step %zu: %s",
                      talks[i].name, k + 1, told(&http));
            }
            tracker_reset(&http);
        }
}

/* The answer to our PING, and what is none, cut at each byte. */
static void heard(void)
{
#define PING_OF(flags) FRAME_OF("\10", "\6", flags, "\0")
    static const struct {
        const char *name;
        struct talk_step step;
        bool is_heard;
    } pings[] = {
        {"its answer", ASK(BEGIN PING_OF("\1") PING_OURS, HTTP_IDLE), true},
        {"behind another one", ASK(BEGIN PING_OF("\1") "abcdefgh" PING_OF("\1") PING_OURS, 0),
         true},
        {"to another one", ASK(BEGIN PING_OF("\1") "abcdefgh", HTTP_IDLE), false},
        {"the client's own", ASK(BEGIN PING_OF("\0") PING_OURS, HTTP_IDLE), false},
        {"a request's body",
         ASK(BEGIN FRAME_OF("\2", "\1", "\4", "\1") "ab" FRAME_OF("\10", "\0", "\0", "\1")
                 PING_OURS,
             0),
         false},
    };
    for (size_t i = 0; i < COUNT_OF(pings); i++)
        for (size_t cut = 0; cut < 80; cut++) {
            struct tracker http = {0};
            take_step(&http, &pings[i].step, cut);
            CHECK(tracker_has_heard(&http) == pings[i].is_heard, "%s", pings[i].name);
            tracker_reset(&http);
        }
}

/* Streams of all connections together, until there is no room; and again when that was given back.
 */
static void no_room(void)
{
    static union streams many[1000];
    for (int round = 0; round < 3; round++) {
        uint32_t count = 0, had = 0;
        for (uint32_t i = 0; i < COUNT_OF(many); i++)
            for (uint32_t n = 1; n < 600 && streams_open(&many[i], n, false); n += 2)
                count++;
        CHECK(count > 200000 && (!had || had == count), "%u streams", count);
        had = count;
        for (uint32_t i = 0; i < COUNT_OF(many); i++)
            streams_give_back(&many[i]);
    }
}

/* One thread opens streams, and two end them. */
#define OPENED 40001
static union streams shared;
static _Atomic uint32_t opened;

static void *end_client_halves(void *unused)
{
    for (uint32_t n = 1; n <= OPENED; n += 2) {
        while (atomic_load(&opened) < n)
            ;
        streams_end(&shared, n, n % 3 ? ENDED_BY_CLIENT : ENDED_BY_RESET);
    }
    return unused;
}

static void *end_server_halves(void *unused)
{
    for (uint32_t n = 1; n <= OPENED; n += 2) {
        while (atomic_load(&opened) < n)
            ;
        streams_end(&shared, n, n % 5 ? ENDED_BY_SERVER : ENDED_BY_RESET);
    }
    return unused;
}

static void threads(void)
{
    pthread_t client, server;
    pthread_create(&client, NULL, end_client_halves, NULL);
    pthread_create(&server, NULL, end_server_halves, NULL);
    for (uint32_t n = 1; n <= OPENED; n += 2) {
        CHECK(streams_open(&shared, n, false));
        atomic_store(&opened, n);
    }
    pthread_join(client, NULL);
    pthread_join(server, NULL);
    CHECK(shared.open == 0 && shared.last == OPENED, "%u open", shared.open);
    streams_give_back(&shared);
}

static const struct unit_test tests[] = {
    {"talks by hand are told as they are, however they are cut", by_hand},
    {"the answer to our PING is told from others", heard},
    {"a talk in frames is what the plain parser says, in pieces of any length", told_alike},
    {"there is room for many streams, and again for as many", no_room},
    {"a stream that three threads open and end is counted once", threads},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
