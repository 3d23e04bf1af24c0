/* SPDX-License-Identifier: MIT */
#include "http/parser.h"

#define SIZE_DIGITS 16

/* The words of interest, in small letters. The first of them are also the kinds of requests. */
enum word {
    NONE,
    HEAD,
    CONNECT,
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CODED,
    CLOSE,
    SWITCH,
    H2C,
    WEBSOCKET
};

static const struct {
    char text[19];
    uint8_t length;
} words[] = {
    [NONE] = {"", 0},
    [HEAD] = {"head", 4},
    [CONNECT] = {"connect", 7},
    [CONNECTION] = {"connection", 10},
    [CONTENT_LENGTH] = {"content-length", 14},
    [TRANSFER_ENCODING] = {"transfer-encoding", 17},
    [CODED] = {"chunked", 7},
    [CLOSE] = {"close", 5},
    [SWITCH] = {"upgrade", 7},
    [H2C] = {"h2c", 3},
    [WEBSOCKET] = {"websocket", 9},
};

/* Bytes that may be in a name: TCHAR of RFC 9110, 5.6.2; and in a method: those without the small
 * letters. */
enum { TCHAR = 1, CAPITAL = 2, BOTH = 3 };

static const uint8_t classes[256] = {
    ['!'] = BOTH,         ['#' ... '\''] = BOTH, ['*' ... '+'] = BOTH, ['-' ... '.'] = BOTH,
    ['0' ... '9'] = BOTH, ['A' ... 'Z'] = BOTH,  ['^' ... '`'] = BOTH, ['a' ... 'z'] = TCHAR,
    ['|'] = BOTH,         ['~'] = BOTH,
};

/* The protocol to which an answer's 101 switches, in mark.what. */
enum { STATUS_MASK = 0x3ff, TO_H2C = 0x400, TO_WEBSOCKET = 0x800, TO_ANOTHER = 0x1000 };

static bool is(uint8_t class, char c)
{
    return classes[(unsigned char)c] & class;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_control(char c)
{
    return (unsigned char)c < ' ' && c != '\t';
}

/* The first byte that is less than `least`, which is 0x80 at the most. Eight at a time. */
INLINE const char *find_below(const char *p, const char *end, unsigned char least)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t eight, hit;
    for (size_t n = (size_t)(end - p) / sizeof eight; n; n--, p += sizeof eight) {
        __builtin_memcpy(&eight, p, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        hit = (eight - ones * least) & ~eight & tops; /* right about the first, which is lowest */
        if (hit)
            return p + __builtin_ctzll(hit) / 8;
    }
    while (p < end && (unsigned char)*p >= least)
        p++;
    return p;
}

/* The first control character: the CR of the line, or what must not be there. */
static const char *find_control(const char *p, const char *end)
{
    while ((p = find_below(p, end, ' ')) < end && *p == '\t')
        p++;
    return p;
}

static enum word kind_of(const struct scan *scan, uint8_t number)
{
    return (enum word)(scan->kinds >> number % OUTSTANDING * 2 & 3);
}

/* What comes next may be this word, or is counted. */
static void expect(struct scan *scan, enum word word)
{
    scan->mark.word = (uint8_t)word;
    scan->mark.index = 0;
}

/* So many bytes more, which may be another word's than those before have promised. */
static void match(struct scan *scan, const char *p, const char *end)
{
    uint8_t word = scan->mark.word, index = scan->mark.index;
    for (; word != NONE && p < end; p++) {
        if (word == CONNECTION && index == 3 && small(*p) == 't')
            word = CONTENT_LENGTH;
        if (words[word].text[index++] != small(*p)) /* the NUL behind it is nobody's */
            word = NONE;
    }
    scan->mark.word = word;
    scan->mark.index = index;
}

/* The word that is there, all of it; or NONE. */
static enum word whole(const struct scan *scan)
{
    enum word word = (enum word)scan->mark.word;
    return scan->mark.index == words[word].length ? word : NONE;
}

/* One more digit of `left`. False: too many for anybody to count. */
static bool add_digit(struct scan *scan, unsigned int base, unsigned int digit)
{
    if (scan->left > ((uint64_t)INT64_MAX - digit) / base)
        return false;
    scan->left = scan->left * base + digit;
    return true;
}

/* -1: none. */
static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    return small(c) >= 'a' && small(c) <= 'f' ? small(c) - 'a' + 10 : -1;
}

/* A message is whole. A request has been counted with its head: it is owed an answer from there. */
static enum place finish(struct scan *scan)
{
    if (scan->is_answer)
        scan->mark.count++;
    return START;
}

static enum place begin_body(struct scan *scan)
{
    if (!(scan->mark.flags & CHUNKED))
        return scan->left ? BODY : finish(scan);
    expect(scan, NONE);
    return SIZE;
}

static enum place end_request_head(struct scan *scan)
{
    union mark *mark = &scan->mark;
    if (mark->what == CONNECT && (mark->flags & CHUNKED || scan->left))
        return NOT;
    if ((uint8_t)(mark->count - scan->other.count) >= OUTSTANDING)
        return NOT;
    int shift = mark->count % OUTSTANDING * 2;
    scan->kinds = (scan->kinds & ~(UINT64_C(3) << shift)) | (uint64_t)mark->what << shift;
    mark->count++;
    return begin_body(scan);
}

bool parser_begins_tunnel(const struct scan *scan)
{
    uint16_t status = scan->mark.what & STATUS_MASK;
    return status == 101 || (status / 100 == 2 && kind_of(scan, scan->mark.count) == CONNECT);
}

static enum place end_answer_head(struct scan *scan)
{
    uint16_t status = scan->mark.what;
    if (status == (101 | TO_H2C) || status == 101) /* Jetty 9 does not name it */
        return parser_switches_to_frames(scan);
    if (status == (101 | TO_WEBSOCKET))
        return parser_switches_to_websocket(scan);
    if (parser_begins_tunnel(scan))
        return NOT;
    if (status < 200)
        return START; /* interim: the answer is still owed */
    if (status == 204 || status == 304 || kind_of(scan, scan->mark.count) == HEAD)
        return finish(scan);
    return scan->mark.flags & (SIZED | CHUNKED) ? begin_body(scan) : BODY_TO_END;
}

/*
 * The places, in the order of the enum: each function takes one byte, of the place that it is named
 * for, and returns where the next one is.
 */

/* The first byte behind a message, which is not taken unless it is an empty line's. */
static enum place on_start(struct scan *scan, char c)
{
    union mark *mark = &scan->mark;
    bool all_answered = scan->other.count == mark->count;
    if (parser_begins_tls(scan, c) != START)
        return RECORD_TLS;
    if (parser_begins_records(scan, c))
        return RECORD;
    enum place frames = parser_begins_frames(scan, c);
    if (frames == START)
        frames = parser_begins_websocket(scan);
    if (frames == START)
        frames = parser_begins_session(scan, c);
    if (frames != START)
        return frames;
    if (!scan->is_answer && mark->what == CONNECT && !all_answered)
        return NOT;
    if (!scan->is_answer && c == '\r')
        return START_LF;
    mark->what = 0;
    mark->flags = SPOKE;
    scan->left = 0;
    expect(scan, c == 'H' ? HEAD : c == 'C' ? CONNECT : NONE);
    if (scan->is_answer)
        return all_answered ? NOT : VERSION;
    return is(CAPITAL, c) ? METHOD : NOT;
}

/* What is no letter of a method. */
static enum place on_method_end(struct scan *scan, char c)
{
    scan->mark.what = whole(scan);
    expect(scan, NONE);
    return c == ' ' ? TARGET : NOT;
}

static enum place on_target_end(struct scan *scan, char c)
{
    bool is_empty = !scan->mark.index;
    expect(scan, NONE);
    return c == ' ' && !is_empty ? VERSION : NOT;
}

static enum place on_version(struct scan *scan, char c)
{
    static const char name[] = "HTTP/1.";
    union mark *mark = &scan->mark;
    if (name[mark->index])
        return name[mark->index++] == c ? VERSION : NOT;
    if (c != '0' && c != '1')
        return NOT;
    if (c == '0')
        mark->flags |= OLD;
    expect(scan, NONE);
    return scan->is_answer ? STATUS : REQUEST_END;
}

static enum place on_status(struct scan *scan, char c)
{
    union mark *mark = &scan->mark;
    uint8_t index = mark->index++;
    if (index == 0)
        return c == ' ' ? STATUS : NOT;
    if (index == 4)
        return c == ' ' ? TEXT : c == '\r' ? LINE_LF : NOT;
    mark->what = (uint16_t)(mark->what * 10 + (c - '0'));
    return is_digit(c) && mark->what ? STATUS : NOT;
}

static enum place on_line(struct scan *scan, char c)
{
    expect(scan, small(c) == 'c'   ? CONNECTION
                 : small(c) == 't' ? TRANSFER_ENCODING
                 : small(c) == 'u' ? SWITCH
                                   : NONE);
    return c == '\r' ? HEAD_LF : is(TCHAR, c) ? NAME : NOT;
}

static enum place on_name_end(struct scan *scan, char c)
{
    uint8_t *flags = &scan->mark.flags, before = *flags;
    bool is_framed = before & (SIZED | CHUNKED); /* a trailer's message is */
    if (c != ':')
        return NOT;
    switch (whole(scan)) {
    case CONTENT_LENGTH:
        *flags |= SIZED;
        expect(scan, NONE);
        return is_framed ? NOT : LENGTH;
    case TRANSFER_ENCODING:
        *flags |= CHUNKED;
        expect(scan, CODED);
        return is_framed || before & OLD ? NOT : CODING;
    case SWITCH:
        expect(scan, NONE);
        return scan->is_answer && (scan->mark.what & STATUS_MASK) == 101 ? UPGRADE : TEXT;
    case CONNECTION:
        return scan->is_answer && !(before & TRAILER) ? LIST : TEXT;
    default:
        return TEXT;
    }
}

/* index: 0 before the digits, 1 among them, 2 behind. */
static enum place on_length(struct scan *scan, char c)
{
    uint8_t *index = &scan->mark.index;
    if (is_space(c)) {
        *index = *index ? 2 : 0;
        return LENGTH;
    }
    if (c == '\r')
        return *index ? LINE_LF : NOT;
    if (*index == 2 || !is_digit(c) || !add_digit(scan, 10, (unsigned int)(c - '0')))
        return NOT;
    *index = 1;
    return LENGTH;
}

static enum place on_coding(struct scan *scan, char c)
{
    union mark *mark = &scan->mark;
    uint8_t length = words[CODED].length;
    if (is_space(c)) {
        if (mark->index >= length)
            mark->index = length + 1; /* where no letter fits */
        return mark->index == 0 || mark->index > length ? CODING : NOT;
    }
    if (c == '\r')
        return mark->index >= length ? LINE_LF : NOT;
    match(scan, &c, &c + 1);
    return mark->word == CODED ? CODING : NOT;
}

/* One protocol, and nothing else. */
static enum place on_upgrade(struct scan *scan, char c)
{
    union mark *mark = &scan->mark;
    if (is_space(c) && !mark->index)
        return UPGRADE;
    if (c == '\r') {
        enum word word = whole(scan);
        mark->what |= word == H2C ? TO_H2C : word == WEBSOCKET ? TO_WEBSOCKET : TO_ANOTHER;
        return LINE_LF;
    }
    if (!mark->index)
        expect(scan, small(c) == 'w' ? WEBSOCKET : H2C);
    match(scan, &c, &c + 1);
    if (mark->word == NONE)
        mark->index = UINT8_MAX; /* which is no word's length */
    return is_control(c) ? NOT : UPGRADE;
}

/* LIST, ELEMENT and ELEMENT_END: what is between commas, of which only `close` says something. */
static enum place on_list(struct scan *scan, char c)
{
    union mark *mark = &scan->mark;
    if (c == ',' || c == '\r') {
        if (whole(scan) == CLOSE)
            mark->flags |= CLOSES;
        return c == ',' ? LIST : LINE_LF;
    }
    if (is_control(c))
        return NOT;
    if (is_space(c))
        return mark->at == LIST ? LIST : ELEMENT_END;
    if (mark->at == LIST)
        expect(scan, CLOSE);
    else if (mark->at == ELEMENT_END)
        mark->word = NONE; /* two words */
    match(scan, &c, &c + 1);
    return ELEMENT;
}

static enum place on_head_lf(struct scan *scan, char c)
{
    if (c != '\n')
        return NOT;
    if (scan->mark.flags & TRAILER)
        return finish(scan);
    return scan->is_answer ? end_answer_head(scan) : end_request_head(scan);
}

static enum place on_size(struct scan *scan, char c)
{
    uint8_t *digits = &scan->mark.index;
    int digit = hex_digit(c);
    if (digit >= 0)
        return ++*digits <= SIZE_DIGITS && add_digit(scan, 16, (unsigned int)digit) ? SIZE : NOT;
    if (!*digits)
        return NOT;
    return c == '\r' ? SIZE_LF : c == ';' ? EXTENSION : NOT;
}

static enum place on_size_lf(struct scan *scan, char c)
{
    if (c != '\n')
        return NOT;
    if (scan->left)
        return DATA;
    scan->mark.flags |= TRAILER;
    return LINE;
}

static enum place on_data_lf(struct scan *scan, char c)
{
    expect(scan, NONE);
    return c == '\n' ? SIZE : NOT;
}

/* So many bytes at the most of what is only counted. Returns how many it were. */
static size_t count_off(struct scan *scan, size_t n)
{
    if (n > scan->left)
        n = (size_t)scan->left;
    scan->left -= n;
    if (!scan->left)
        scan->mark.at = (uint8_t)(scan->mark.at == DATA ? DATA_CR : finish(scan));
    return n;
}

static const char *skip(uint8_t class, const char *p, const char *end)
{
    while (p < end && is(class, *p))
        p++;
    return p;
}

/*
 * The message goes on with these bytes. Returns where it pauses, or their end. Only here are more
 * bytes than one looked at together, besides a head that parser_head.c passes.
 */
const char *parser_run(struct scan *scan, const char *p, const char *end)
{
    union mark *mark = &scan->mark;
    while (p < end) {
        enum place at = (enum place)mark->at, next = at;
        switch (at) {
        case START:
            next = on_start(scan, *p);
            p += next == START_LF;
            break;
        case START_LF:
            next = *p++ == '\n' ? START : NOT;
            break;
        case METHOD: {
            const char *method = p;
            p = skip(CAPITAL, p, end);
            match(scan, method, p);
            if (p < end)
                next = on_method_end(scan, *p++);
            break;
        }
        case TARGET: {
            const char *from = p;
            p = find_below(p, end, ' ' + 1);
            mark->index |= p > from;
            if (p < end)
                next = on_target_end(scan, *p++);
            break;
        }
        case VERSION:
            if (!mark->index && end - p >= 8 && same_eight(p, "HTTP/1.1")) {
                p += 8;
                expect(scan, NONE);
                next = scan->is_answer ? STATUS : REQUEST_END;
                break;
            }
            next = on_version(scan, *p++);
            break;
        case REQUEST_END:
            next = *p++ == '\r' ? LINE_LF : NOT;
            break;
        case STATUS:
            next = on_status(scan, *p++);
            break;
        case TEXT:
        case EXTENSION:
            p = find_control(p, end);
            if (p < end)
                next = *p++ != '\r' ? NOT : at == TEXT ? LINE_LF : SIZE_LF;
            break;
        case LINE_LF:
            next = *p++ == '\n' ? LINE : NOT;
            break;
        case LINE:
            if (scan->pauses && *p == '\r' && p != scan->paused)
                return p;
            next = on_line(scan, *p);
            p += next == HEAD_LF;
            break;
        case NAME: {
            const char *name = p;
            p = skip(TCHAR, p, end);
            if (mark->word != NONE)
                match(scan, name, p);
            if (p < end)
                next = on_name_end(scan, *p++);
            break;
        }
        case LENGTH:
            next = on_length(scan, *p++);
            break;
        case CODING:
            next = on_coding(scan, *p++);
            break;
        case UPGRADE:
            next = on_upgrade(scan, *p++);
            break;
        case LIST:
            if (scan->pauses && p != scan->paused)
                return p;
            next = on_list(scan, *p++);
            break;
        case ELEMENT:
            if (mark->word == NONE)
                p = skip(TCHAR, p, end);
            if (p < end)
                next = on_list(scan, *p++);
            break;
        case ELEMENT_END:
            next = on_list(scan, *p++);
            break;
        case HEAD_LF:
            next = on_head_lf(scan, *p++);
            break;
        case SIZE:
            next = on_size(scan, *p++);
            break;
        case SIZE_LF:
            next = on_size_lf(scan, *p++);
            break;
        case DATA_CR:
            next = *p++ == '\r' ? DATA_LF : NOT;
            break;
        case DATA_LF:
            next = on_data_lf(scan, *p++);
            break;
        case BODY:
        case DATA:
            p += count_off(scan, (size_t)(end - p));
            continue;
        case RECORD:
        case RECORD_REST:
            p = parser_run_record(scan, p, end);
            continue;
        case PREFACE:
        case FRAME:
        case FRAME_REST:
            p = parser_run_frames(scan, p, end);
            continue;
        case MESSAGE:
        case MESSAGE_REST:
            p = parser_run_websocket(scan, p, end);
            continue;
        case STARTUP:
        case SESSION:
        case SESSION_REST:
            p = parser_run_session(scan, p, end);
            continue;
        case RECORD_TLS:
        case RECORD_TLS_REST:
            p = parser_run_tls(scan, p, end);
            continue;
        case BODY_TO_END:
        case NOT:
            return end;
        }
        mark->at = (uint8_t)next;
    }
    return end;
}

void parser_skip(struct scan *scan, size_t n)
{
    if (is_counted(scan->mark) && n <= scan->left)
        count_off(scan, n);
    else if (n && parser_is_framed(scan->mark))
        parser_skip_frame(scan, n);
    else if (n && parser_is_websocket(scan->mark))
        parser_skip_message(scan, n);
    else if (n)
        scan->mark.at = NOT;
}
