/* SPDX-License-Identifier: MIT */
/* Each step of the connection's diagram in fdtable.h, mode by mode, and what the drainer decides.
 */
#include "unit.h"

#include <sys/epoll.h>
#include <time.h>

#include "calls.h"
#include "fake_sock.h"
#include "base/libc.h"
#include "conn/conn_own.h"
#include "promised.h"

#define FLAGS                                                                                  \
    (CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED | CONN_FIN | CONN_DISOWNED | CONN_CUT_SHORT | \
     CONN_SEEN | CONN_UNIX | CONN_PORT | CONN_FORCED | CONN_SHUT | CONN_READ_SINCE_SHUT |      \
     CONN_MET_END | CONN_SPOKE)

/* The next of all sets of these bits; 0 after the last. */
static uint64_t next_set(uint64_t bits, uint64_t all)
{
    return (bits - all) & all;
}

enum { FD = 7, COPY = 1000 };

static struct conn_limits limits = {.settle = 100, .first_byte = 1000};
static int64_t seen_at[FAKES];

/* Cuts it as conn_classify finds it. */
static struct conn_cost cost;

static bool cut(int64_t ms)
{
    cost = (struct conn_cost){.look = conn_classify(FD, &limits, true)};
    return conn_force(FD, &limits, sys_now_ms() + ms, &cost);
}

static void begin(enum mode mode)
{
    enum kind was = table_take(FD);
    table_drop(FD, was);
    fakes[FD] = (struct fake){.fingerprint = 77};
    conn_accepted(FD, mode, 77, false);
    limits.now = 1000000;
    limits.seen_at = seen_at;
    limits.seen_count = FAKES;
    limits.first_look = INT64_MAX;
    limits.pause_most = 0;
}

/* It has asked twice, and been answered once. */
static void asks_twice(void)
{
    static const char asked[] = "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct tracker *http = &table_find(FD)->http;
    tracker_received_here(http, asked, sizeof asked - 1);
    CHECK(tracker_sent_here(http, answer, sizeof answer - 1) == HTTP_IN_USE);
}

static uint64_t now(void)
{
    return both_of(table_find(FD));
}

/* The connection with these flags. */
/* What is forced is counted when it is. */
static void set(uint64_t flags)
{
    uint64_t was_forced = now() & CONN_FORCED, is_forced = flags & CONN_FORCED;
    if (was_forced != is_forced)
        atomic_fetch_add(&table_shard()->forced, is_forced ? 1 : (uint64_t)-1);
    set_both(table_find(FD), (now() & ~FLAGS) | flags);
}

static uint64_t flags(void)
{
    return now() & FLAGS;
}

static uint64_t in_use_counted(void)
{
    struct totals totals;
    table_totals(&totals);
    bool is_forced = table_find(FD) && flags() & CONN_FORCED;
    CHECK(totals.tracked == !is_forced, "%llu tracked", (unsigned long long)totals.tracked);
    return totals.in_use;
}

static void each_mode_makes_its_steps(void)
{
    for (enum mode mode = MODE_MANUAL; mode < MODES; mode++) {
        for (int event = 0; event < CONN_EVENTS; event++) {
            for (int in_use = 0; in_use < 2; in_use++) {
                char step = promised[mode][event];
                uint64_t after = step == '=' ? (unsigned int)in_use : step == '+';
                begin(mode);
                CHECK(!flags(), "not idle from accept");
                set(in_use ? CONN_IN_USE : 0);
                conn_event(FD, (enum conn_event)event);
                CHECK((flags() & CONN_IN_USE) == after, "%s, event %d, in use before: %d",
                      settings_mode_name(mode), event, in_use);
                CHECK(in_use_counted() == after, "%s, event %d: the count",
                      settings_mode_name(mode), event);
            }
        }
    }
}

/* All flags that a record may have, in all modes: an event takes and sets the ones that it should.
 */
static void each_event_leaves_the_other_flags_alone(void)
{
    const uint64_t all = CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED | CONN_SHUT |
                         CONN_READ_SINCE_SHUT | CONN_FIN | CONN_FORCED | CONN_UNIX |
                         CONN_CUT_SHORT | CONN_SEEN;
    for (enum mode mode = MODE_MANUAL; mode < MODES; mode++) {
        for (int event = 0; event < CONN_EVENTS; event++) {
            uint64_t bits = 0;
            begin(mode);
            do {
                const uint64_t of_reply = CONN_ANSWERED | CONN_SEASONED | CONN_CUT_SHORT;
                if (mode < MODE_REPLY && bits & of_reply)
                    continue; /* never so */
                char step = promised[mode][event];
                uint64_t want = bits & ~CONN_SEEN;
                if (step != '=')
                    want = (want & ~CONN_IN_USE) | (step == '+' ? CONN_IN_USE : 0);
                if (mode >= MODE_REPLY && event == CONN_WROTE)
                    want |= CONN_ANSWERED;
                if (mode >= MODE_REPLY && event == CONN_WROTE && bits & CONN_IN_USE &&
                    bits & CONN_ANSWERED)
                    want |= CONN_SEASONED;
                if (event == CONN_READ && bits & CONN_SHUT)
                    want |= CONN_READ_SINCE_SHUT;
                if (event == CONN_WROTE)
                    want &= ~(CONN_READ_SINCE_SHUT | CONN_CUT_SHORT);
                if (mode >= MODE_REPLY && event == CONN_CUT)
                    want |= CONN_CUT_SHORT;
                set(bits);
                uint64_t rest = now() & ~FLAGS;
                conn_event(FD, (enum conn_event)event);
                /* That it was seen is the drainer's note on how long reply has been quiet. */
                uint64_t note = mode >= MODE_REPLY && event != CONN_TIMEOUT ? 0 : CONN_SEEN;
                CHECK((flags() & ~note) == want, "%s, event %d on 0x%llx: 0x%llx, not 0x%llx",
                      settings_mode_name(mode), event, (unsigned long long)bits,
                      (unsigned long long)flags(), (unsigned long long)want);
                CHECK((now() & ~FLAGS) == rest);
                bool in_use = flags() & (CONN_IN_USE | CONN_READ_SINCE_SHUT);
                CHECK(in_use_counted() == (in_use && !(flags() & CONN_FORCED)));
            } while ((bits = next_set(bits, all)));
        }
    }
}

/* What a wrapper leaves out on its short way would have changed nothing that counts. */
static void the_short_way_ends_where_the_long_one_does(void)
{
    const uint64_t counts = CONN_IN_USE | CONN_READ_SINCE_SHUT | CONN_SHUT | CONN_FIN | CONN_FORCED;
    const uint64_t all = FLAGS & ~(CONN_DISOWNED | CONN_PORT);
    for (enum mode mode = MODE_MANUAL; mode < MODES; mode++) {
        uint64_t bits = 0;
        begin(mode);
        do {
            for (int call = 0; call < 4; call++) {
                static const enum conn_event events[] = {CONN_READ, CONN_WROTE, CONN_CUT, CONN_CUT};
                set(bits);
                conn_event(FD, events[call]);
                uint64_t want = flags() & counts;
                set(bits);
                if (call == 0)
                    call_read(FD, 1);
                else
                    call_write(FD, 10, call == 1 ? 10 : call == 2 ? 3 : -1);
                CHECK((flags() & counts) == want, "%s, call %d on 0x%llx: 0x%llx",
                      settings_mode_name(mode), call, (unsigned long long)bits,
                      (unsigned long long)flags());
                bool in_use = flags() & (CONN_IN_USE | CONN_READ_SINCE_SHUT);
                CHECK(in_use_counted() == (in_use && !(flags() & CONN_FORCED)));
            }
        } while ((bits = next_set(bits, all)));
    }
}

static void a_mark_says_what_is_not_tracked(void)
{
    begin(MODE_MANUAL);
    CHECK(conn_mark(FD, true) == 0 && flags() == CONN_IN_USE);
    CHECK(conn_mark(FD, false) == 0 && flags() == 0);
    CHECK(conn_mark(FD + 1, true) == ENOENT && conn_mark(-1, true) == ENOENT);
    table_set(FD + 1, KIND_LISTENER);
    CHECK(conn_mark(FD + 1, true) == ENOENT && conn_disown(FD + 1) == ENOENT);
    table_set(FD + 1, KIND_NONE);
}

static void one_that_was_disowned_is_nobody_s(void)
{
    struct totals before, after;
    begin(MODE_AUTOMATIC);
    conn_event(FD, CONN_READ);
    table_totals(&before);
    CHECK(conn_disown(FD) == 0);
    table_totals(&after);
    CHECK(after.tracked == 0 && after.in_use == 0 && after.disowned == before.disowned + 1);
    CHECK(conn_disown(FD) == EALREADY && conn_mark(FD, true) == ENOENT);
    conn_event(FD, CONN_MARK_IDLE);
    conn_event(FD, CONN_READ);
    CHECK(!cut(0));
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE && !conn_shut(FD));
    CHECK(!fakes[FD].shut_read && !fakes[FD].shut_both);
    table_drop(FD, table_take(FD));
    table_totals(&after);
    CHECK(after.tracked == 0 && after.in_use == 0);
    CHECK(after.closed_by_program == before.closed_by_program);
}

static void a_mode_of_off_is_not_tracked(void)
{
    begin(MODE_MANUAL);
    table_drop(FD, table_take(FD));
    conn_accepted(FD, MODE_OFF, 77, false);
    CHECK(!table_knows(FD));
}

static void a_duplicate_is_the_same_connection(void)
{
    begin(MODE_AUTOMATIC);
    table_alias(FD, COPY);
    fakes[COPY] = (struct fake){.fingerprint = 77};
    conn_event(COPY, CONN_READ);
    CHECK(flags() == CONN_IN_USE && in_use_counted() == 1);
    CHECK(conn_classify(COPY, &limits, true) == CONN_IS_IN_USE);
    conn_mark(COPY, false);
    CHECK(conn_classify(COPY, &limits, true) == CONN_IS_IDLE && conn_shut(COPY));
    CHECK(fakes[COPY].shut_read == 1 && flags() == CONN_SHUT);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_SHUT && in_use_counted() == 0);
    table_drop(FD, table_take(FD));
    CHECK(conn_classify(COPY, &limits, true) == CONN_IS_SHUT && in_use_counted() == 0);
    table_drop(COPY, table_take(COPY));
}

/* ---- the end of file ---- */

static void the_end_of_file_sends_our_fin_where_nothing_is_owed(void)
{
    static const struct {
        uint64_t flags;
        bool fin;
    } ends[] = {
        {0, false}, /* the client left by himself */
        {CONN_SHUT, true},
        {CONN_SHUT | CONN_ANSWERED | CONN_SEASONED, true},
        {CONN_SHUT | CONN_READ_SINCE_SHUT, false},
        {CONN_SHUT | CONN_IN_USE, false},
        {CONN_SHUT | CONN_FIN, false},
    };
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        begin(MODE_REPLY);
        set(ends[i].flags);
        conn_read_end(FD);
        CHECK(fakes[FD].shut_write == ends[i].fin, "case %zu", i);
        CHECK(flags() == (ends[i].flags | (ends[i].fin ? CONN_FIN : 0)), "case %zu", i);
        CHECK(call_is_over(FD) == !!(flags() & CONN_FIN));
        conn_read_end(FD);
        CHECK(fakes[FD].shut_write == ends[i].fin, "case %zu: a second end", i);
    }
    begin(MODE_REPLY); /* the answer has not been taken yet */
    set(CONN_SHUT);
    fakes[FD].queues.unsent = 1;
    conn_read_end(FD);
    CHECK(!fakes[FD].shut_write && flags() == CONN_SHUT);
    begin(MODE_REPLY); /* its framing knows of a second request */
    set(CONN_SHUT);
    asks_twice();
    CHECK(!conn_read_end(FD) && !fakes[FD].shut_write && flags() == CONN_SHUT);
    begin(MODE_REPLY); /* the number is somebody else's */
    set(CONN_SHUT);
    fakes[FD].fingerprint = 78;
    CHECK(!conn_read_end(FD) && !fakes[FD].shut_write && flags() == CONN_SHUT);
    begin(MODE_REPLY); /* a request came in behind the end */
    set(CONN_SHUT);
    fakes[FD].queues.unread = 1;
    CHECK(conn_read_end(FD) && !fakes[FD].shut_write && flags() == CONN_SHUT);
}

/* A connection of TLS, quiet for so long, whose program meets our end. */
static void meets_end_of_tls(uint32_t quiet_ms)
{
    begin(MODE_REPLY);
    set(CONN_SHUT);
    tracker_received_here(&table_find(FD)->http, "\x16\x03\x01", 3);
    fakes[FD].info = (struct sock_info){.received_ms = quiet_ms};
    CHECK(!conn_read_end(FD));
}

static void of_tls_the_program_has_the_last_word(void)
{
    const uint32_t rarely = 400;
    settings_to_fill()->settle = 100;
    meets_end_of_tls(rarely - 1);
    CHECK(fakes[FD].shut_write && flags() == (CONN_SHUT | CONN_FIN));
    meets_end_of_tls(rarely);
    CHECK(!fakes[FD].shut_write && flags() == (CONN_SHUT | CONN_MET_END));
    conn_finish(FD, &limits, false);
    limits.now += limits.settle - 1;
    conn_finish(FD, &limits, false);
    CHECK(!fakes[FD].shut_write);
    limits.now++;
    conn_finish(FD, &limits, false);
    CHECK(fakes[FD].shut_write == 1 && flags() & CONN_FIN);
    meets_end_of_tls(rarely); /* while a request came in behind the end */
    begin(MODE_REPLY);
    set(CONN_SHUT);
    tracker_received_here(&table_find(FD)->http, "\x16\x03\x01", 3);
    fakes[FD].info.received_ms = rarely;
    fakes[FD].queues.unread = 1;
    CHECK(conn_read_end(FD) && !fakes[FD].shut_write && flags() == CONN_SHUT);

    gate_shut(GATE_DRAINS, 0);
    meets_end_of_tls(rarely);
    call_write(FD, 24, 24); /* a close_notify */
    CHECK(flags() & CONN_SPOKE && !fakes[FD].shut_write);
    conn_closes(FD, KIND_CONN);
    meets_end_of_tls(rarely);
    CHECK(!fakes[FD].shut_write && flags() == (CONN_SHUT | CONN_MET_END));
    conn_closes(FD, KIND_CONN); /* without a word: there the FIN goes out again */
    meets_end_of_tls(rarely);
    CHECK(fakes[FD].shut_write && flags() == (CONN_SHUT | CONN_FIN));
    settings_to_fill()->settle = 0;
    gate_shut(GATE_CLOSES_IDLE, 0);
}

static void the_drainer_sends_the_fin_of_one_that_is_left_lying(void)
{
    static const uint64_t not_then[] = {0, CONN_SHUT | CONN_READ_SINCE_SHUT,
                                        CONN_SHUT | CONN_IN_USE, CONN_SHUT | CONN_FIN};
    begin(MODE_REPLY);
    set(CONN_SHUT);
    conn_finish(FD, &limits, true);
    conn_finish(FD, &limits, true);
    CHECK(fakes[FD].shut_write == 1 && flags() == (CONN_SHUT | CONN_FIN));
    for (size_t i = 0; i < COUNT_OF(not_then); i++) {
        begin(MODE_REPLY);
        set(not_then[i]);
        conn_finish(FD, &limits, true);
        CHECK(!fakes[FD].shut_write && flags() == not_then[i], "case %zu", i);
    }
    for (int i = 0; i < 3; i++) {
        begin(MODE_REPLY);
        set(CONN_SHUT);
        fakes[FD].queues.unread = i == 0;
        fakes[FD].queues.unsent = i == 1;
        fakes[FD].fingerprint = i == 2 ? 78 : 77;
        conn_finish(FD, &limits, true);
        CHECK(!fakes[FD].shut_write && flags() == CONN_SHUT, "case %d", i);
    }
}

static void a_forced_one_is_shut_both_ways_once(void)
{
    struct totals before, after;
    begin(MODE_AUTOMATIC);
    conn_event(FD, CONN_READ);
    table_totals(&before);
    CHECK(cut(0));
    CHECK(!cut(0));
    table_count_forced(true);
    CHECK(fakes[FD].shut_both == 1);
    CHECK(flags() == (CONN_IN_USE | CONN_SHUT | CONN_FORCED) && in_use_counted() == 0);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_FORCED);
    table_totals(&after); /* by the cut, and not once more by the close */
    CHECK(after.tracked == 0 && after.forced == before.forced + 1);
    table_drop(FD, table_take(FD));
    table_totals(&after);
    CHECK(after.tracked == 0 && after.forced == before.forced + 1);
    CHECK(after.closed_by_program == before.closed_by_program);
}

static void a_forced_one_of_which_nothing_is_lost_is_closed_idle(void)
{
    struct totals before, after;
    begin(MODE_AUTOMATIC);
    table_totals(&before);
    CHECK(cut(0));
    table_count_forced(false);
    table_drop(FD, table_take(FD));
    table_totals(&after);
    CHECK(after.forced == before.forced && after.closed_idle == before.closed_idle + 1);
}

/* What the program does behind a cut: at that of a socket's shutdown, or when the drainer asks for
 * the times, which it does each time that it is in doubt. */
static struct {
    bool reads, answers, closes; /* what a thread notes when it is asked for the times again */
    bool takes_input, takes_output;
    int asked;
} behind;

static void behind_the_cut(int fd, bool acts)
{
    if (acts && behind.takes_input)
        fakes[fd].queues.unread = 0;
    if (acts && behind.takes_output)
        fakes[fd].queues.unsent = 0;
    if (acts && behind.closes)
        table_take(fd); /* whose end waits for the drainer's claim */
    if (!fakes[fd].shut_both || ++behind.asked != 5)
        return;
    if (behind.reads) {
        conn_event(fd, CONN_READ);
        fakes[fd].info.received_ms += 1000; /* and time goes by */
        fakes[fd].info.sent_ms += 1000;
    }
    if (behind.answers)
        conn_event(fd, CONN_WROTE);
}

static void cuts_while(bool reads, bool answers, bool takes_input)
{
    memset(&behind, 0, sizeof behind);
    behind.reads = reads, behind.answers = answers, behind.takes_input = takes_input;
    fake_hook = behind_the_cut;
    bool tells = (reads || answers) && mode_now(table_find(FD)) != MODE_MANUAL;
    CHECK(cut(tells ? 10000 : 20));
    table_count_forced(true);
    fake_hook = NULL;
}

static bool costs(enum conn_class look, uint32_t unread, uint32_t unsent)
{
    return cost.look == look && cost.queues.unread == unread && cost.queues.unsent == unsent;
}

static const struct sock_info answered_now = {
    .has = true, .has_sent = true, .has_received = true, .is_whole = true, .received_ms = 1};
static const struct sock_info asked_now = {
    .has = true, .has_sent = true, .has_received = true, .is_whole = true, .sent_ms = 200};
static const struct sock_info quiet_long = {.has = true,
                                            .has_sent = true,
                                            .has_received = true,
                                            .is_whole = true,
                                            .received_ms = 5000,
                                            .sent_ms = 5000};

static void a_cut_costs_who_is_in_use(void)
{
    begin(MODE_PROTOCOL);
    fakes[FD].info = quiet_long;
    cuts_while(false, false, false);
    CHECK(costs(CONN_IS_WAITING, 0, 0) || costs(CONN_IS_IDLE, 0, 0));
    begin(MODE_PROTOCOL);
    fakes[FD].info = quiet_long;
    conn_event(FD, CONN_READ);
    set(CONN_IN_USE | CONN_ANSWERED);
    cuts_while(false, false, false);
    CHECK(costs(CONN_IS_IN_USE, 0, 0));
}

static void a_cut_waits_for_the_answer_that_a_thread_has_yet_to_note(void)
{
    begin(MODE_PROTOCOL);
    fakes[FD].info = answered_now;
    set(CONN_IN_USE | CONN_ANSWERED);
    cuts_while(false, true, false);
    CHECK(costs(CONN_IS_IDLE, 0, 0));
    begin(MODE_PROTOCOL); /* it was a part of one */
    fakes[FD].info = answered_now;
    set(CONN_IN_USE | CONN_ANSWERED);
    cuts_while(false, false, false);
    CHECK(costs(CONN_IS_IN_USE, 0, 0));
}

static void a_cut_waits_for_the_request_that_a_thread_has_yet_to_note(void)
{
    for (int was_unread = 0; was_unread < 2; was_unread++) {
        begin(MODE_AUTOMATIC);
        fakes[FD].info = was_unread ? answered_now : asked_now;
        fakes[FD].queues.unread = was_unread ? 5 : 0;
        cuts_while(true, false, true);
        CHECK(costs(CONN_IS_IN_USE, 0, 0), "was unread: %d", was_unread);
    }
    begin(MODE_PROTOCOL); /* it was in use by what was unread, and that has been answered */
    fakes[FD].info = answered_now;
    fakes[FD].queues.unread = 5;
    cuts_while(true, true, true);
    CHECK(costs(CONN_IS_IDLE, 0, 0));
}

static void a_cut_costs_what_is_unread(void)
{
    for (enum mode mode = MODE_MANUAL; mode <= MODE_AUTOMATIC; mode++) {
        begin(mode);
        fakes[FD].queues.unread = 5;
        cuts_while(false, false, false);
        CHECK(cost.queues.unread == 5);
        begin(mode); /* it is gone, and nobody has noted who took it */
        fakes[FD].queues.unread = 5;
        cuts_while(false, false, true);
        CHECK(cost.queues.unread == 5);
    }
    begin(MODE_MANUAL); /* where a read tells of nothing */
    fakes[FD].queues.unread = 5;
    cuts_while(true, false, true);
    CHECK(cost.queues.unread == 5);
    begin(MODE_PROTOCOL); /* idle, and what came behind the cut was reset */
    fakes[FD].info = quiet_long;
    fakes[FD].reset = true;
    cuts_while(false, false, false);
    CHECK(cost.queues.unread == 1);
}

/* An answer whose last byte came so long after the request, so long ago. */
static enum conn_class answered(bool began_before, uint32_t took, uint32_t quiet)
{
    begin(MODE_REPLY);
    limits.pause_most = 1000;
    limits.first_look = 1;
    reply_model_forget(FD);
    if (!began_before)
        reply_model_read(FD, 10, false, true);
    set(CONN_ANSWERED | CONN_SEASONED);
    fakes[FD].info = quiet_long;
    fakes[FD].info.has_received = true;
    fakes[FD].info.sent_ms = quiet;
    fakes[FD].info.received_ms = quiet + took;
    return conn_classify(FD, &limits, true);
}

static void by_mode_reply_an_answer_with_pauses_has_longer(void)
{
    CHECK(reply_model_begin(FAKES, FAKES));
    reply_model_goes_on(FD, 1000);
    CHECK(answered(false, 300, 100) == CONN_IS_IDLE, "what began in the drain is known");
    CHECK(answered(true, 300, 599) == CONN_IS_WAITING);
    CHECK(answered(true, 300, 600) == CONN_IS_IDLE);
    CHECK(answered(true, 0, 599) == CONN_IS_WAITING, "another one has taken so long");
    CHECK(answered(true, 0, 600) == CONN_IS_IDLE);
    CHECK(answered(true, 5000, 999) == CONN_IS_WAITING);
    CHECK(answered(true, 5000, 1000) == CONN_IS_IDLE, "that is the most");
    limits.pause_most = 0;
    fakes[FD].info.sent_ms = 100;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE, "the drain has no time for it");
    CHECK(answered(false, 300, 200) == CONN_IS_IDLE);
    limits.first_look = INT64_MAX;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING, "the others were not looked at yet");
}

static void a_cut_costs_what_is_unsent_without_our_fin(void)
{
    static const struct {
        uint64_t flags;
        uint32_t unsent, costs;
    } cases[] = {{0, 1, 0}, {0, 8, 7}, {CONN_UNIX, 1, 1}, {CONN_SHUT | CONN_FIN, 1, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(MODE_AUTOMATIC);
        set(cases[i].flags);
        fakes[FD].queues.unsent = cases[i].unsent;
        cuts_while(false, false, false);
        CHECK(cost.queues.unsent == cases[i].costs, "case %zu", i);
    }
    begin(MODE_PROTOCOL); /* the peer has acknowledged it with our FIN */
    fakes[FD].info = answered_now;
    fakes[FD].queues.unsent = 7;
    memset(&behind, 0, sizeof behind);
    behind.takes_output = true;
    fake_hook = behind_the_cut;
    CHECK(cut(5) && costs(CONN_IS_IDLE, 0, 0));
    table_count_forced(true);
    fake_hook = NULL;
    begin(MODE_PROTOCOL); /* it has not */
    fakes[FD].info = answered_now;
    fakes[FD].queues.unsent = 7;
    cuts_while(false, false, false);
    CHECK(costs(CONN_IS_IN_USE, 0, 6));
}

static void a_cut_knows_one_that_the_program_is_about_to_close(void)
{
    begin(MODE_PROTOCOL);
    fakes[FD].info = quiet_long;
    fakes[FD].queues.unsent = 1;
    set(CONN_IN_USE | CONN_ANSWERED);
    memset(&behind, 0, sizeof behind);
    behind.closes = true;
    fake_hook = behind_the_cut;
    CHECK(cut(5) && costs(CONN_IS_IN_USE, 0, 0));
    table_count_forced(true);
    fake_hook = NULL;
    table_drop(FD, KIND_CONN);
}

static void by_mode_reply_one_is_in_use_at_a_cut_until_it_has_been_quiet(void)
{
    static const struct {
        uint64_t flags;
        uint32_t ms;
        bool has_received, in_use;
    } cases[] = {
        {CONN_ANSWERED | CONN_SEASONED, 99, true, true},
        {CONN_ANSWERED | CONN_SEASONED, 100, true, false},
        {CONN_ANSWERED, 999, true, true},
        {CONN_ANSWERED, 1000, true, false},
        {CONN_ANSWERED, 999, false, false}, /* greeted, and has said nothing */
        {CONN_ANSWERED | CONN_SEASONED | CONN_SHUT, 99, true, true},
        {CONN_ANSWERED | CONN_SEASONED | CONN_SHUT, 100, true, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(MODE_REPLY);
        set(cases[i].flags);
        fakes[FD].info = quiet_long;
        fakes[FD].info.has_received = cases[i].has_received;
        fakes[FD].info.sent_ms = cases[i].ms;
        cuts_while(false, false, false);
        CHECK((cost.look == CONN_IS_IN_USE) == cases[i].in_use, "case %zu", i);
    }
    begin(MODE_REPLY); /* its framing knows of a second request */
    fakes[FD].info = quiet_long;
    set(CONN_ANSWERED | CONN_SEASONED);
    asks_twice();
    cuts_while(false, false, false);
    CHECK(cost.look == CONN_IS_IN_USE);
    begin(MODE_REPLY); /* whose answers we don't see: of a program that uses stdio */
    fakes[FD].info = quiet_long;
    set(CONN_ANSWERED | CONN_SEASONED);
    tracker_received_here(&table_find(FD)->http, "GET / HTTP/1.1\r\n", 16);
    cuts_while(false, false, false);
    CHECK(cost.look != CONN_IS_IN_USE);
    begin(MODE_REPLY); /* of AF_UNIX no times are known */
    set(CONN_ANSWERED | CONN_UNIX);
    cuts_while(false, false, false);
    CHECK(cost.look != CONN_IS_IN_USE);
}

/* ---- the drainer's look ---- */

static void what_is_idle_in_the_first_three_modes(void)
{
    for (enum mode mode = MODE_MANUAL; mode < MODE_REPLY; mode++) {
        begin(mode);
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_IDLE);
        fakes[FD].queues.unread = 5; /* a request that is about to be read */
        CHECK(conn_classify(FD, &limits, false) ==
              (mode == MODE_MANUAL ? CONN_IS_IDLE : CONN_IS_WAITING));
        conn_event(FD, CONN_MARK_IN_USE);
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_IN_USE);
        set(CONN_SHUT);
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_SHUT);
        set(CONN_SHUT | CONN_READ_SINCE_SHUT);
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_IN_USE);
    }
}

static void what_is_not_the_connection_is_gone(void)
{
    begin(MODE_AUTOMATIC);
    fakes[FD].fingerprint = 78;
    CHECK(conn_classify(FD, &limits, false) == CONN_IS_GONE);
    conn_event(FD, CONN_READ);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE,
          "in use, and the number is somebody else's");
    fakes[FD].fingerprint = 0; /* no socket */
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE);
    CHECK(conn_classify(FD + 1, &limits, true) == CONN_IS_GONE);
    begin(MODE_AUTOMATIC);
    atomic_fetch_xor(&table_find(FD)->record, CONN_GENERATION); /* a parent's */
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE);
    atomic_fetch_xor(&table_find(FD)->record, CONN_GENERATION);
}

static void what_reply_makes_of_the_kernel_s_figures(void)
{
    static const struct {
        const char *what;
        uint64_t flags;
        struct sock_queues queues;
        struct sock_info info;
        enum conn_class look;
    } cases[] = {
        {"silent and new", 0, {0}, {.has = true, .received_ms = 999}, CONN_IS_WAITING},
        {"silent past its first byte's time",
         0,
         {0},
         {.has = true, .received_ms = 1000, .sent_ms = 1000},
         CONN_IS_IDLE},
        {"silent for long, but greeted just now",
         CONN_ANSWERED,
         {0},
         {true, true, false, true, 5000, 999, 0, 0, 0},
         CONN_IS_WAITING},
        {"unread",
         CONN_ANSWERED | CONN_SEASONED,
         {1, 0},
         {true, true, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"unsent",
         CONN_ANSWERED | CONN_SEASONED,
         {0, 1},
         {true, true, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"asked, not answered",
         CONN_IN_USE,
         {0},
         {true, false, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"asked, answered by stdio",
         CONN_IN_USE,
         {0},
         {true, true, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IDLE},
        {"asked, answered by stdio just now",
         CONN_IN_USE,
         {0},
         {true, true, true, true, 5000, 10, 0, 0, 0},
         CONN_IS_WAITING},
        {"asked again after an answer",
         CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"its write was cut short",
         CONN_IN_USE | CONN_CUT_SHORT,
         {0},
         {true, true, true, true, 5000, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"first answer, not long ago",
         CONN_ANSWERED,
         {0},
         {true, true, true, true, 999, 999, 0, 0, 0},
         CONN_IS_WAITING},
        {"first answer, long ago",
         CONN_ANSWERED,
         {0},
         {true, true, true, true, 1000, 1000, 0, 0, 0},
         CONN_IS_IDLE},
        {"seasoned, settling",
         CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 99, 99, 0, 0, 0},
         CONN_IS_WAITING},
        {"seasoned, settled",
         CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 100, 100, 0, 0, 0},
         CONN_IS_IDLE},
        {"seasoned, far away",
         CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 399, 399, 100000, 0, 0},
         CONN_IS_WAITING},
        {"seasoned, four round trips",
         CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 400, 400, 100000, 0, 0},
         CONN_IS_IDLE},
        {"the peer spoke last",
         CONN_ANSWERED | CONN_SEASONED,
         {0},
         {true, true, true, true, 200, 5000, 0, 0, 0},
         CONN_IS_IN_USE},
        {"half-closed",
         CONN_SHUT | CONN_ANSWERED,
         {0},
         {true, true, true, true, 1, 1, 0, 0, 0},
         CONN_IS_SHUT},
        {"half-closed, answer owed",
         CONN_SHUT | CONN_READ_SINCE_SHUT,
         {0},
         {true, true, true, true, 1, 1, 0, 0, 0},
         CONN_IS_IN_USE},
        {"forced",
         CONN_SHUT | CONN_FORCED | CONN_IN_USE,
         {0},
         {true, true, true, true, 1, 1, 0, 0, 0},
         CONN_IS_FORCED},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(MODE_REPLY);
        set(cases[i].flags);
        fakes[FD].queues = cases[i].queues;
        fakes[FD].info = cases[i].info;
        enum conn_class look = conn_classify(FD, &limits, true);
        CHECK(look == cases[i].look, "%s: %d", cases[i].what, (int)look);
        CHECK((flags() & ~CONN_SEEN) == cases[i].flags);
    }
}

/* Its first request may have been dropped, and tried for as long as it waited to be accepted. */
static void what_reply_makes_of_one_that_was_deaf(void)
{
    struct conn_limits once = limits;
    once.seen_at = NULL;
    begin(MODE_REPLY);
    fakes[FD].was_deaf = true;
    fakes[FD].info = (struct sock_info){.has = true, .received_ms = 5000};
    CHECK(conn_classify(FD, &once, true) == CONN_IS_WAITING && !flags(), "a look that can't wait");
    for (uint32_t ms = 5000; ms < 14500; ms += 500, limits.now += 500) {
        fakes[FD].info.received_ms = ms;
        CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING, "after %u ms", ms);
    }
    fakes[FD].info.received_ms = 14500;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
    fakes[FD].info = (struct sock_info){true, true, true, true, 1000, 1000, 0, 0, 0};
    set(CONN_ANSWERED);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE, "it has been heard since");
}

static void a_duplicate_has_been_quiet_for_as_long(void)
{
    begin(MODE_REPLY);
    table_alias(FD, COPY);
    fakes[COPY] = (struct fake){.fingerprint = 77};
    seen_at[COPY] = 0;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING);
    CHECK(conn_classify(COPY, &limits, true) == CONN_IS_WAITING);
    limits.now += 1000;
    CHECK(conn_classify(COPY, &limits, true) == CONN_IS_IDLE);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
    table_drop(COPY, table_take(COPY));
}

/* AF_UNIX has no times: quiet is what the drainer saw twice, with nothing in between. */
static void what_reply_makes_of_unix_connections(void)
{
    struct conn_limits once = limits;
    once.seen_at = NULL;
    begin(MODE_REPLY);
    CHECK(conn_classify(FD, &once, true) == CONN_IS_IDLE && !flags(), "a look that can't wait");
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING && flags() == CONN_SEEN);
    limits.now += 999;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING);
    limits.now += 1;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
    conn_event(FD, CONN_READ);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IN_USE);
    conn_event(FD, CONN_WROTE);
    conn_event(FD, CONN_READ);
    conn_event(FD, CONN_WROTE);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING, "it had just been busy");
    limits.now += 100;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
}

/* Who has sent nothing is given WEIR_FIRST_BYTE, whatever the time for a close notice is. */
static void what_protocol_makes_of_a_silent_one_on_af_unix(void)
{
    static const char asked[] = "GET / HTTP/1.1\r\n\r\n";
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (int64_t notice = 0; notice <= 5000; notice += 5000) {
        begin(MODE_PROTOCOL);
        limits.notice_until = limits.now + notice;
        CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING);
        limits.now += 999;
        CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING);
        limits.now += 1;
        CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
        tracker_received_here(&table_find(FD)->http, asked, sizeof asked - 1);
        tracker_sent_here(&table_find(FD)->http, answer, sizeof answer - 1);
        CHECK((conn_classify(FD, &limits, true) == CONN_IS_IDLE) == !notice, "it can be told");
    }
    limits.notice_until = 0;
}

/* The kernel counts from the handshake, and it may have been long in the queue. */
static void a_silent_one_accepted_in_the_drain_counts_from_its_accept(void)
{
    begin(MODE_REPLY);
    fakes[FD].info = (struct sock_info){.has = true, .received_ms = 5000, .sent_ms = 5000};
    limits.first_look = limits.now - 10;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING, "it has just been accepted");
    limits.now += 999;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_WAITING);
    limits.now++;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE);
    begin(MODE_REPLY);
    fakes[FD].info = (struct sock_info){.has = true, .received_ms = 5000, .sent_ms = 5000};
    limits.first_look = limits.now;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IDLE, "it was there before the drain");
}

/* ---- the half-close ---- */

static void an_idle_one_is_half_closed(void)
{
    for (enum mode mode = MODE_MANUAL; mode < MODE_PROTOCOL; mode++) {
        begin(mode);
        limits.seen_at = NULL;
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_IDLE && conn_shut(FD));
        CHECK(fakes[FD].shut_read == 1 && flags() == CONN_SHUT && in_use_counted() == 0);
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_SHUT);
        call_read(FD, 1); /* a request that had come before */
        CHECK(flags() & CONN_READ_SINCE_SHUT &&
              conn_classify(FD, &limits, false) == CONN_IS_IN_USE);
        conn_read_end(FD);
        CHECK(!fakes[FD].shut_write, "the end of file while an answer is owed");
        call_write(FD, 5, 5);
        CHECK(!(flags() & CONN_READ_SINCE_SHUT));
    }
    limits.seen_at = seen_at;
    limits.seen_count = FAKES;
}

static void one_answered_by_stdio_is_half_closed(void)
{
    begin(MODE_REPLY);
    conn_event(FD, CONN_READ);
    fakes[FD].info = (struct sock_info){true, true, true, true, 5000, 5000, 0, 0, 0};
    CHECK(conn_classify(FD, &limits, false) == CONN_IS_IDLE && conn_shut(FD));
    CHECK(flags() == CONN_SHUT && in_use_counted() == 0);
}

/* Between the look and the half-close it is read from, or marked: never on a connection in use. */
static void one_that_has_come_into_use_since_the_look_is_not(void)
{
    for (enum mode mode = MODE_MANUAL; mode < MODES; mode++) {
        begin(mode);
        limits.seen_at = NULL;
        CHECK(conn_classify(FD, &limits, false) == CONN_IS_IDLE);
        conn_event(FD, mode == MODE_MANUAL ? CONN_MARK_IN_USE : CONN_READ);
        CHECK(!conn_shut(FD), "%s: in use, and half-closed all the same", settings_mode_name(mode));
        CHECK(!fakes[FD].shut_read && flags() == CONN_IN_USE && in_use_counted() == 1);
    }
    limits.seen_at = seen_at;
    limits.seen_count = FAKES;
}

/* ---- what happens while the drainer looks ---- */

static void begin_answered(enum mode mode)
{
    begin(mode);
    limits.seen_at = NULL;
    fakes[FD].info = (struct sock_info){true, true, true, true, 5000, 5000, 0, 0, 0};
    if (mode == MODE_REPLY)
        set(CONN_ANSWERED | CONN_SEASONED);
}

/* What the program does while the kernel is asked. */
static void (*meanwhile)(void);

static void look_hook(int fd, bool acts)
{
    void (*step)(void) = meanwhile;
    if (fd != FD || acts || !step)
        return;
    meanwhile = NULL;
    step();
}

static void meanwhile_reads(void)
{
    call_read(FD, 1);
}

static void meanwhile_marks(void)
{
    conn_mark(FD, true);
}

static void meanwhile_disowns(void)
{
    conn_disown(FD);
}

static void meanwhile_duplicates(void)
{
    table_alias(FD, COPY);
}

static void meanwhile_reads_and_answers(void)
{
    call_read(FD, 1);
    call_write(FD, 1, 1);
}

static void what_happens_during_the_look_is_heeded(void)
{
    static const struct {
        enum mode mode;
        void (*step)(void);
        uint64_t flags;
    } cases[] = {
        {MODE_MANUAL, meanwhile_reads, 0},
        {MODE_MANUAL, meanwhile_marks, CONN_IN_USE},
        {MODE_AUTOMATIC, meanwhile_reads, CONN_IN_USE},
        {MODE_AUTOMATIC, meanwhile_disowns, CONN_DISOWNED},
        {MODE_DEADLINE, meanwhile_reads, CONN_IN_USE},
        {MODE_DEADLINE, meanwhile_duplicates, 0},
        {MODE_REPLY, meanwhile_reads, CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED},
        {MODE_REPLY, meanwhile_marks, CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED},
        /* Idle before and after: what the kernel said of its times is of before. */
        {MODE_REPLY, meanwhile_reads_and_answers, CONN_ANSWERED | CONN_SEASONED},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin_answered(cases[i].mode);
        meanwhile = cases[i].step;
        fake_hook = look_hook;
        CHECK(conn_classify(FD, &limits, true) != CONN_IS_IDLE || !conn_shut(FD));
        fake_hook = NULL;
        CHECK(!meanwhile, "case %zu: nobody looked", i);
        CHECK(flags() == cases[i].flags, "case %zu: 0x%llx", i, (unsigned long long)flags());
        CHECK(!fakes[FD].shut_read, "case %zu", i);
        table_drop(COPY, table_take(COPY));
    }
}

/* ---- what came from another process ---- */

static void what_came_over_a_socket_is_looked_up_when_it_matters(void)
{
    struct totals totals;
    for (int i = 0; i < 3; i++) {
        begin(MODE_REPLY);
        table_drop(FD, table_take(FD));
        table_set(FD, KIND_RECEIVED);
        CHECK(!table_find(FD) && conn_mark(FD, true) == ENOENT);
        CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE);
        fakes[FD].fingerprint = i == 0 ? 77 : 0; /* else no connection */
        CHECK(table_claim(FD));
        conn_received(FD, i < 2 ? MODE_REPLY : MODE_OFF);
        CHECK(table_is_claimed(FD), "the claim went with it");
        table_release();
        table_totals(&totals);
        CHECK(table_kind(FD) == (i ? KIND_NONE : KIND_CONN) && totals.tracked == (i ? 0 : 1));
        if (i == 0)
            CHECK(now() >> CONN_FINGERPRINT_SHIFT == 77 && conn_mark(FD, true) == 0);
    }
    fakes[FD].fingerprint = 77;
    conn_inherited(FD, MODE_REPLY);
    CHECK(table_kind(FD) == KIND_CONN && now() >> CONN_FINGERPRINT_SHIFT == 77);
}

/* ---- fork ---- */

static void use_the_inherited(void)
{
    struct totals totals;
    uint64_t in_use = flags() & CONN_IN_USE;
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_GONE, "a parent's, and not ours yet");
    CHECK(!call_is_over(FD), "a read begins");
    table_totals(&totals);
    CHECK(totals.tracked == 1 && totals.in_use == in_use && !totals.accepted, "its parent's");
    call_read(FD, 1);
    table_totals(&totals);
    CHECK(totals.tracked == 1 && totals.in_use == 1);
    CHECK(conn_classify(FD, &limits, true) == CONN_IS_IN_USE);
    call_write(FD, 1, 1);
    table_totals(&totals);
    CHECK(totals.tracked == 1 && totals.in_use == 0);
    table_drop(FD, table_take(FD));
    table_totals(&totals);
    CHECK(totals.tracked == 0 && totals.in_use == 0 && !totals.closed_by_program);
}

static void a_child_that_reads_an_inherited_connection_makes_it_its_own(void)
{
    for (int in_use = 0; in_use < 2; in_use++) {
        begin(MODE_REPLY);
        set(in_use ? CONN_IN_USE : 0);
        unit_in_child(use_the_inherited, 5);
        CHECK(in_use_counted() == (unsigned int)in_use, "the parent's");
    }
}

static void a_vfork_child_leaves_it_alone(void)
{
    begin(MODE_AUTOMATIC);
    fork_thread.in_vfork_child = 1;
    conn_event(FD, CONN_READ);
    CHECK(conn_mark(FD, true) == ENOENT);
    fork_thread.in_vfork_child = 0;
    CHECK(!flags());
    for (int in_use = 0; in_use < 2; in_use++) {
        uint64_t before = CONN_ANSWERED | CONN_SEASONED | (in_use ? CONN_IN_USE : 0);
        begin(MODE_REPLY);
        set(before);
        fork_thread.in_vfork_child = 1;
        if (in_use)
            conn_wrote(FD, table_find(FD), 1, 1, BYTES("x", 1));
        else
            conn_read(FD, 1, true, BYTES("x", 1));
        fork_thread.in_vfork_child = 0;
        CHECK(flags() == before, "in use: %d", in_use);
    }
}

/* ---- a client that never rests, while the process drains ---- */

static int64_t clock_ms = 1000;

static int clock_of_ours(clockid_t clock, struct timespec *at)
{
    (void)clock;
    *at = (struct timespec){.tv_sec = clock_ms / 1000, .tv_nsec = clock_ms % 1000 * 1000000};
    return 0;
}

static void begin_draining(void)
{
    libc_clock_gettime = clock_of_ours;
    begin(MODE_REPLY);
    reply_model_begin(table.limit, table.limit);
    gate_shut(GATE_DRAINS, 0);
    reply_model_forget(FD);
}

/* A request and its answer. */
static void round_in_drain(size_t n)
{
    struct conn *conn = table_find(FD);
    clock_ms += 5;
    call_read(FD, 100);
    bool held = conn_holds_back(FD, conn, n, BYTES_UNSEEN);
    conn_wrote(FD, conn, n, (ssize_t)n, BYTES_UNSEEN);
    if (held)
        conn_release(FD);
}

/* Until an answer is taken for whole, in all likelihood: none is as long as another. */
static void rounds_until_half_closed(void)
{
    begin_draining();
    for (size_t i = 0; i < 100 && !fakes[FD].shut_read; i++) {
        CHECK(!fakes[FD].corked, "round %zu", i);
        round_in_drain(500 + i);
    }
    CHECK(fakes[FD].shut_read == 1 && !fakes[FD].shut_write && !fakes[FD].shut_both);
    CHECK(flags() & CONN_SHUT && !(flags() & (CONN_FIN | CONN_IN_USE)));
    CHECK(fakes[FD].corked);
}

static void what_may_be_whole_waits_for_the_end_behind_it(void)
{
    rounds_until_half_closed();
    fakes[FD].queues.unsent = 550;
    CHECK(!conn_read_end(FD) && fakes[FD].shut_write == 1 && flags() & CONN_FIN);
    gate_shut(GATE_CLOSES_IDLE, 0);
}

static void it_waits_no_more_where_the_program_writes_on(void)
{
    rounds_until_half_closed();
    conn_wrote(FD, table_find(FD), 10, 10, BYTES_UNSEEN);
    CHECK(!fakes[FD].corked && !fakes[FD].shut_write && !(flags() & CONN_FIN));
    gate_shut(GATE_CLOSES_IDLE, 0);
}

static void nor_where_the_client_has_sent_more(void)
{
    rounds_until_half_closed();
    fakes[FD].queues.unread = 100;
    CHECK(conn_read_end(FD) && !fakes[FD].corked && !fakes[FD].shut_write);
    gate_shut(GATE_CLOSES_IDLE, 0);
}

/* Who watches for the end would take the half-close for a client that has left. */
static void who_watches_for_the_end_is_not_half_closed(void)
{
    begin_draining();
    conn_watched(3, FD, EPOLLIN | EPOLLRDHUP);
    for (size_t i = 0; i < 400; i++) {
        round_in_drain(500 + i);
        CHECK(!fakes[FD].shut_read && !fakes[FD].shut_both && !fakes[FD].corked);
    }
    for (size_t i = 0; i < 9; i++)
        round_in_drain(500);
    CHECK(fakes[FD].shut_both == 1 && flags() & CONN_FIN, "but where it is sure");
    gate_shut(GATE_CLOSES_IDLE, 0);
}

/* It has spoken in so many segments, last so long ago. */
static enum conn_class spoke(uint32_t segments, uint32_t bytes, uint32_t ms, bool has_sent)
{
    begin(MODE_REPLY);
    limits.answer = 3000;
    conn_event(FD, CONN_READ);
    fakes[FD].info = quiet_long;
    fakes[FD].info.has_received = true;
    fakes[FD].info.has_sent = has_sent;
    fakes[FD].info.received_ms = ms;
    fakes[FD].info.sent_ms = 70000;
    fakes[FD].info.received = bytes;
    fakes[FD].info.segments = segments;
    return conn_classify(FD, &limits, true);
}

static void who_is_never_answered_and_speaks_on_is_idle_once_quiet(void)
{
    CHECK(spoke(4, 400, 2999, false) == CONN_IS_WAITING);
    CHECK(spoke(4, 400, 3000, false) == CONN_IS_IDLE && conn_shut(FD));
    CHECK(spoke(3, 300, 60000, false) == CONN_IS_IN_USE, "a request in pieces");
    CHECK(spoke(4, 4096, 60000, false) == CONN_IS_IN_USE, "an upload");
    CHECK(spoke(4, 400, 60000, true) == CONN_IS_IN_USE, "it was answered before");
    conn_wrote(FD, table_find(FD), 5, 5, (struct bytes){0});
    CHECK(spoke(4, 400, 3000, false) == CONN_IS_IN_USE, "here others are answered");
    limits.answer = 0;
}

static const struct unit_test tests[] = {
    {"who is never answered and speaks on is idle once quiet",
     who_is_never_answered_and_speaks_on_is_idle_once_quiet}, /* first: nobody was answered yet */
    {"each mode makes the steps that INTERFACE.md gives it", each_mode_makes_its_steps},
    {"each event leaves the other flags alone", each_event_leaves_the_other_flags_alone},
    {"a wrapper's short way ends where the long one does",
     the_short_way_ends_where_the_long_one_does},
    {"a mark says what is not tracked", a_mark_says_what_is_not_tracked},
    {"a connection that was disowned is nobody's", one_that_was_disowned_is_nobody_s},
    {"a connection of a listener whose mode is off is not tracked", a_mode_of_off_is_not_tracked},
    {"a duplicate is the same connection", a_duplicate_is_the_same_connection},
    {"the end of file sends our FIN where nothing is owed",
     the_end_of_file_sends_our_fin_where_nothing_is_owed},
    {"the drainer sends the FIN where the program does not attend",
     the_drainer_sends_the_fin_of_one_that_is_left_lying},
    {"of TLS the program has the last word, and the FIN comes behind it",
     of_tls_the_program_has_the_last_word},
    {"a forced connection is shut both ways, once", a_forced_one_is_shut_both_ways_once},
    {"a forced connection of which nothing is lost is closed idle",
     a_forced_one_of_which_nothing_is_lost_is_closed_idle},
    {"a cut costs who is in use", a_cut_costs_who_is_in_use},
    {"a cut waits for the answer that a thread has yet to note",
     a_cut_waits_for_the_answer_that_a_thread_has_yet_to_note},
    {"a cut waits for the request that a thread has yet to note",
     a_cut_waits_for_the_request_that_a_thread_has_yet_to_note},
    {"a cut costs what is unread", a_cut_costs_what_is_unread},
    {"a cut costs what is unsent, without our FIN", a_cut_costs_what_is_unsent_without_our_fin},
    {"a cut knows one that the program is about to close",
     a_cut_knows_one_that_the_program_is_about_to_close},
    {"by mode reply an answer with pauses has longer",
     by_mode_reply_an_answer_with_pauses_has_longer},
    {"by mode reply one is in use at a cut until it has been quiet",
     by_mode_reply_one_is_in_use_at_a_cut_until_it_has_been_quiet},
    {"manual, automatic and deadline: what is idle", what_is_idle_in_the_first_three_modes},
    {"what is not the connection any more is gone", what_is_not_the_connection_is_gone},
    {"reply: what the kernel's figures come to", what_reply_makes_of_the_kernel_s_figures},
    {"reply: one that was deaf has time to send again", what_reply_makes_of_one_that_was_deaf},
    {"reply: what is idle on AF_UNIX", what_reply_makes_of_unix_connections},
    {"protocol: a silent one on AF_UNIX has WEIR_FIRST_BYTE",
     what_protocol_makes_of_a_silent_one_on_af_unix},
    {"reply: a duplicate on AF_UNIX has been quiet for as long",
     a_duplicate_has_been_quiet_for_as_long},
    {"a silent one that was accepted in the drain counts from its accept",
     a_silent_one_accepted_in_the_drain_counts_from_its_accept},
    {"an idle connection is half-closed", an_idle_one_is_half_closed},
    {"reply: one that stdio has answered is half-closed", one_answered_by_stdio_is_half_closed},
    {"one that has come into use since the look is not half-closed",
     one_that_has_come_into_use_since_the_look_is_not},
    {"what happens while the drainer looks is heeded", what_happens_during_the_look_is_heeded},
    {"an answer that may be whole waits for the end behind it",
     what_may_be_whole_waits_for_the_end_behind_it},
    {"it waits no more where the program writes on", it_waits_no_more_where_the_program_writes_on},
    {"nor where the client has sent more", nor_where_the_client_has_sent_more},
    {"who watches for the end is not half-closed, but where the answer is whole for sure",
     who_watches_for_the_end_is_not_half_closed},
    {"what came over a socket is looked up when it matters",
     what_came_over_a_socket_is_looked_up_when_it_matters},
    {"a child that reads an inherited connection makes it its own",
     a_child_that_reads_an_inherited_connection_makes_it_its_own},
    {"a vfork child leaves its parent's connections alone", a_vfork_child_leaves_it_alone},
};

static void forget_counts(void)
{
    table_count_in(NULL, 0);
    table_forked();
}

static void nothing(void)
{
}

int main(void)
{
    CHECK(!table_make(FAKES, FAKES));
    fork_make(forget_counts, nothing);
    gate_shut(GATE_CLOSES_IDLE, 0); /* most of it is of a drain */
    return unit_main(tests, COUNT_OF(tests));
}
