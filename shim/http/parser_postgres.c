/* SPDX-License-Identifier: MIT */
/*
 * parser_postgres.c - PostgreSQL's protocol 3 (its manual, chapter "Frontend/Backend Protocol"):
 * the client's startup message, and then messages of a type, a length and a payload in both
 * directions.
 *
 * The startup message asks, and so do Query, Sync and FunctionCall: each is answered by one
 * ReadyForQuery, whose payload says whether the session is in a transaction. Parse, Bind and what
 * else waits for a Sync has begun a request.
 *
 *   not to be followed (any more) from             because
 *   ----------------------------------------------
 * ------------------------------------------------- a first message that asks for TLS or GSSAPI,
 * what follows may be encrypted; a cancellation has cancels, or is of another version no answer a
 * type that no client sends; a length that     it is something else can't be ReadyForQuery that
 * nobody has asked for CopyBothResponse                               replication: it never ends
 */
#include "http/parser.h"

enum { STARTUP_LEAST = 8, STARTUP_MOST = 10000, MAJOR_VERSION = 3 };
enum { REQUESTS = 4 }; /* with which the version begins that asks for TLS: 1234.5679 */
enum { LENGTH_LENGTH = 4, HEAD_LENGTH = 1 + LENGTH_LENGTH };
#define LENGTH_MOST 0x3fffffffu

enum place parser_begins_session(struct scan *scan, char c)
{
    bool is_first = !(scan->mark.flags & SPOKE);
    bool begins = is_first && (scan->is_answer ? parser_is_session(scan->other)
                                               : c == '\0' && !scan->other.all);
    if (!begins)
        return START;
    scan->mark.flags = SPOKE;
    scan->mark.what = 0;
    scan->mark.word = 0;
    scan->mark.index = 0;
    scan->left = 0;
    return scan->is_answer ? SESSION : STARTUP;
}

/* One request more, unless as many are owed as can be counted. */
static enum place asks(struct scan *scan)
{
    union mark *mark = &scan->mark;
    if ((uint8_t)(mark->count - scan->other.count) == UINT8_MAX)
        return NOT;
    mark->flags &= (uint8_t)~CONTINUES;
    mark->count++;
    return SESSION;
}

static enum place client_said(struct scan *scan)
{
    switch (scan->mark.what) {
    case 'Q': /* Query */
    case 'S': /* Sync */
    case 'F': /* FunctionCall */
        return asks(scan);
    case 'P': /* Parse */
    case 'B': /* Bind */
    case 'E': /* Execute */
    case 'D': /* Describe */
    case 'C': /* Close */
    case 'H': /* Flush */
        scan->mark.flags |= CONTINUES;
        return SESSION;
    case 'X': /* Terminate */
        scan->mark.flags |= GOES_AWAY;
        return SESSION;
    case 'd': /* CopyData */
    case 'c': /* CopyDone */
    case 'f': /* CopyFail */
    case 'p': /* a password */
        return SESSION;
    }
    return NOT;
}

static enum place server_said(struct scan *scan)
{
    if (scan->mark.what == 'W') /* CopyBothResponse */
        return NOT;
    if (scan->mark.what != 'Z') /* ReadyForQuery */
        return SESSION;
    if (scan->other.count == scan->mark.count)
        return NOT;
    scan->mark.count++;
    return SESSION;
}

/* The message is whole. */
static enum place ends(struct scan *scan)
{
    scan->mark.index = 0;
    return scan->is_answer ? server_said(scan) : client_said(scan);
}

/* The next byte of the startup message's length and version. */
static enum place on_startup(struct scan *scan, uint8_t byte)
{
    static const uint8_t version[] = {0, MAJOR_VERSION};
    uint8_t index = scan->mark.index++;
    if (index < LENGTH_LENGTH)
        scan->left = scan->left << 8 | byte;
    if (index == LENGTH_LENGTH - 1)
        return scan->left >= STARTUP_LEAST && scan->left <= STARTUP_MOST ? STARTUP : NOT;
    if (index >= LENGTH_LENGTH && index < LENGTH_LENGTH + sizeof version &&
        byte != version[index - LENGTH_LENGTH]) {
        scan->mark.what = index == LENGTH_LENGTH && byte == REQUESTS ? TLS_HANDSHAKE : 0;
        return NOT;
    }
    if (index < STARTUP_LEAST - 1)
        return STARTUP;
    scan->left -= STARTUP_LEAST;
    scan->mark.what = 'Q'; /* it is answered as one */
    return scan->left ? SESSION_REST : ends(scan);
}

/* The next byte of a head. */
static enum place on_head(struct scan *scan, uint8_t byte)
{
    uint8_t index = scan->mark.index++;
    if (index == 0) {
        scan->mark.what = byte;
        scan->left = 0;
        return SESSION;
    }
    scan->left = scan->left << 8 | byte;
    if (index < HEAD_LENGTH - 1)
        return SESSION;
    if (scan->left < LENGTH_LENGTH || scan->left > LENGTH_MOST)
        return NOT;
    scan->left -= LENGTH_LENGTH;
    return scan->left ? SESSION_REST : ends(scan);
}

const char *parser_run_session(struct scan *scan, const char *p, const char *end)
{
    union mark *mark = &scan->mark;
    while (p < end && mark->at == STARTUP)
        mark->at = (uint8_t)on_startup(scan, (uint8_t)*p++);
    while (p < end && mark->at == SESSION)
        mark->at = (uint8_t)on_head(scan, (uint8_t)*p++);
    if (p == end || mark->at != SESSION_REST)
        return p;
    if (mark->what == 'Z')
        mark->word = (uint8_t)*p;
    size_t n = (size_t)(end - p) < scan->left ? (size_t)(end - p) : (size_t)scan->left;
    scan->left -= n;
    if (!scan->left)
        mark->at = (uint8_t)ends(scan);
    return p + n;
}
