/* SPDX-License-Identifier: MIT */
/* reply_model.c: which answers are taken for whole, and which clients are said to wait for theirs.
 */
#include "unit.h"

#include <time.h>

#include "base/libc.h"
#include "conn/reply_model.h"

#define NUMBER 7
#define LIMIT 16

static int64_t clock_ms = 1000;

static int clock_of_ours(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = clock_ms / 1000, .tv_nsec = clock_ms % 1000 * 1000000};
    return 0;
}

static void begin(void)
{
    libc_clock_gettime = clock_of_ours;
    reply_model_begin(LIMIT, LIMIT);
    reply_model_forget(NUMBER);
}

static enum reply_model_sign writes(size_t bytes)
{
    reply_model_looked_ahead(NUMBER, false);
    return reply_model_wrote(NUMBER, bytes);
}

/* A request and its answer, which take so long. */
static enum reply_model_sign round_of(size_t asks, size_t bytes, int64_t ms)
{
    clock_ms += ms;
    reply_model_read(NUMBER, asks, false, true);
    return writes(bytes);
}

/* The rounds until it is in step, of 10,000 at the most. */
static int rounds_until_in_step(int64_t ms)
{
    int rounds = 0;
    while (!reply_model_is_in_step(NUMBER) && rounds < 10000) {
        round_of(100, 500, ms);
        rounds++;
    }
    return rounds;
}

static void equal_answers_are_whole(void)
{
    begin();
    int rounds = 1;
    while (round_of(100, 500, 1) != REPLY_SURE)
        CHECK(rounds++ < 20);
    CHECK(rounds >= 8);
    CHECK(round_of(100, 499, 1) != REPLY_SURE);
    CHECK(writes(1) == REPLY_SURE);
    reply_model_read(NUMBER, 100, false, true);
    CHECK(reply_model_expects(NUMBER, 500) == REPLY_SURE &&
          reply_model_expects(NUMBER, 499) == REPLY_NONE);
}

static void an_answer_to_another_request_is_not(void)
{
    begin();
    for (int i = 0; i < 20; i++)
        round_of(100, 500, 1);
    reply_model_read(NUMBER, 100, true, true);
    reply_model_looked_ahead(NUMBER, true); /* what there is more may be of it */
    CHECK(reply_model_wrote(NUMBER, 500) == REPLY_NONE);
    CHECK(round_of(300, 500, 1) != REPLY_SURE);
}

static void a_client_waits_after_many_answers_and_a_while(void)
{
    begin();
    CHECK(rounds_until_in_step(100) == 32);
    begin();
    CHECK(rounds_until_in_step(0) == 10000);
    begin();
    int rounds = rounds_until_in_step(1);
    CHECK(rounds >= 200 && rounds < 210, "%d", rounds);
    CHECK(!reply_model_is_in_step(NUMBER + 1));
}

/* For many more answers, and for a while. */
static void is_out_of_step(void)
{
    CHECK(!reply_model_is_in_step(NUMBER));
    int rounds = rounds_until_in_step(10);
    CHECK(rounds == 63 || rounds == 64, "%d", rounds);
}

static void who_has_sent_before_the_answer_does_not_wait(void)
{
    begin();
    rounds_until_in_step(10);
    reply_model_read(NUMBER, 100, false, true);
    reply_model_looked_ahead(NUMBER, true);
    reply_model_wrote(NUMBER, 500);
    is_out_of_step();
    reply_model_looked_ahead(NUMBER, true);
    int rounds = rounds_until_in_step(1);
    CHECK(rounds >= 200 && rounds < 210, "%d", rounds);
}

static void more_of_a_request_that_did_not_fit_is_not_ahead(void)
{
    begin();
    for (int i = 0; i < 100; i++) {
        reply_model_read(NUMBER, 100, true, true);
        reply_model_looked_ahead(NUMBER, true);
        reply_model_read(NUMBER, 100, true, false);
        round_of(50, 500, 10);
    }
    CHECK(reply_model_is_in_step(NUMBER));
}

/* OpenSSL asks for a record's head, and then for as many bytes as that has said. */
static void a_read_that_took_all_there_was_ends_a_request_however_much_it_asked_for(void)
{
    begin();
    int rounds = 0;
    enum reply_model_sign sign = REPLY_NONE;
    while (sign != REPLY_SURE || !reply_model_is_in_step(NUMBER)) {
        CHECK(rounds++ < 10000);
        clock_ms++;
        reply_model_read(NUMBER, 5, true, true);
        reply_model_read(NUMBER, 23, true, false);
        sign = writes(29);
    }
}

static void nor_who_has_sent_between_two_writes_of_it(void)
{
    begin();
    rounds_until_in_step(10);
    reply_model_read(NUMBER, 100, false, true);
    writes(250);
    reply_model_looked_ahead(NUMBER, true);
    reply_model_wrote(NUMBER, 250);
    is_out_of_step();
}

static void nor_whose_second_request_was_read_before_it(void)
{
    begin();
    rounds_until_in_step(10);
    reply_model_read(NUMBER, 100, false, true);
    reply_model_read(NUMBER, 100, false, false);
    writes(500);
    is_out_of_step();
}

static void nor_whose_two_requests_were_read_at_once(void)
{
    begin();
    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 19; k++) {
            round_of(100, 500, 10);
            CHECK(!reply_model_is_in_step(NUMBER), "round %d of %d", k, i);
        }
        round_of(200, 1000, 10);
    }
    for (int first = 0; first < 20; first++) { /* in which the drain begins */
        begin();
        for (int i = first; i < 100; i++) {
            i % 20 ? round_of(100, 500, 10) : round_of(200, 1000, 10);
            CHECK(!reply_model_is_in_step(NUMBER), "round %d from %d on", i, first);
        }
    }
    begin(); /* one of twice the length, with an answer of its own, is one */
    for (int i = 0; i < 40; i++)
        i % 10 ? round_of(100, 500, 10) : round_of(200, 900, 10);
    CHECK(reply_model_is_in_step(NUMBER));
    begin(); /* and nothing tells where requests are not alike */
    for (int i = 0; i < 40; i++)
        i % 3 ? round_of(100, 500, 10) : round_of(200, 1000, 10);
    CHECK(reply_model_is_in_step(NUMBER));
}

static void a_request_in_two_pieces_is_no_second_one(void)
{
    begin();
    for (int i = 0; i < 100; i++) {
        clock_ms += 10;
        reply_model_read(NUMBER, 60, false, true);
        reply_model_read(NUMBER, 40, false, false);
        writes(500);
    }
    CHECK(reply_model_is_in_step(NUMBER));
    begin();
    reply_model_read(NUMBER, 40, false, false); /* of the first the drain has met the end */
    CHECK(rounds_until_in_step(20) == 32);
}

static void an_answer_in_many_writes_is_one(void)
{
    begin();
    clock_ms += 10;
    reply_model_read(NUMBER, 100, false, true);
    for (int i = 0; i < 100; i++, clock_ms += 10)
        writes(10);
    CHECK(!reply_model_is_in_step(NUMBER));
}

/* So many rounds of a request that is kept and one that is answered, each with answers as long as
 * the last of its kind; says what the last was taken for. */
static enum reply_model_sign rounds_in_turn(int rounds, int64_t ms)
{
    enum reply_model_sign sign = REPLY_NONE;
    for (int i = 0; i < rounds; i++) {
        round_of(1000, 8, ms);
        sign = round_of(12, 1030, ms);
    }
    return sign;
}

static void answers_of_two_kinds_in_turn_are_whole_after_a_second(void)
{
    begin();
    CHECK(rounds_in_turn(49, 10) == REPLY_NONE); /* of 980 ms */
    CHECK(rounds_in_turn(2, 10) == REPLY_SURE);
    reply_model_read(NUMBER, 12, false, true);
    CHECK(reply_model_expects(NUMBER, 1030) == REPLY_SURE);
    CHECK(reply_model_expects(NUMBER, 8) == REPLY_LIKELY); /* in as many writes as ever */
    writes(1000);
    CHECK(reply_model_expects(NUMBER, 30) == REPLY_SURE &&
          reply_model_expects(NUMBER, 1) == REPLY_NONE);
    reply_model_looked_ahead(NUMBER, true);
    CHECK(reply_model_expects(NUMBER, 30) == REPLY_NONE);
}

/* Of which the first answer is the same each time. */
static void uploads_are_no_kinds(void)
{
    begin();
    for (int i = 0; i < 100; i++) {
        CHECK(round_of(150, 25, 10) == REPLY_NONE, "round %d", i);
        CHECK(round_of(200000, 40, 10) == REPLY_NONE, "round %d", i);
    }
}

static void where_pieces_are_far_apart_nothing_is_likely(void)
{
    begin();
    rounds_in_turn(51, 10);
    reply_model_read(NUMBER, 12, false, true);
    writes(500);
    clock_ms += 30;
    writes(530);
    round_of(50, 350, 10);
    CHECK(writes(350) == REPLY_NONE); /* in as many writes as ever */
}

/* Many others come between two of it. */
static void a_kind_that_is_usual_is_not_forgotten(void)
{
    begin();
    for (size_t other = 0; other < 20; other++)
        round_of(100 + other, 8, 10);
    for (int i = 0; i < 30; i++) {
        for (size_t other = 0; other < 5; other++)
            round_of(1000 + other + 5 * (size_t)i, 8 + other, 10);
        round_of(12, 1030, 10);
    }
    reply_model_read(NUMBER, 12, false, true);
    CHECK(reply_model_expects(NUMBER, 1030) == REPLY_SURE);
    reply_model_read(NUMBER, 12, false, false);
    begin();
    for (int i = 0; i < 600; i++)
        round_of(12, i % 5 ? 1030 : 1031, 2); /* of two kinds by its answers */
    reply_model_read(NUMBER, 12, false, true);
    CHECK(reply_model_expects(NUMBER, 1030) == REPLY_SURE);
    CHECK(reply_model_expects(NUMBER, 1031) == REPLY_SURE);
}

/* An answer goes on where others have ended. */
static void where_an_answer_has_gone_on_none_ends(void)
{
    begin();
    for (int i = 0; i < 100; i++) {
        round_of(12, 1030, 10);
        if (i % 7)
            continue;
        round_of(12, 1030, 10);
        writes(500);
    }
    CHECK(round_of(12, 1030, 10) != REPLY_SURE);
    for (int i = 0; i < 8; i++)
        round_of(i % 2 ? 12 : 13, 1030, 10);
    CHECK(round_of(12, 1030, 10) != REPLY_SURE);
    for (int i = 0; i < 8; i++)
        round_of(i % 2 ? 12 : 13, 1030, 10);
    CHECK(round_of(12, 1030, 10) == REPLY_SURE);
}

static void a_new_connection_has_waited_for_nothing(void)
{
    begin();
    rounds_until_in_step(10);
    CHECK(reply_model_is_in_step(NUMBER) && reply_model_waits_for_answers(NUMBER));
    reply_model_forget(NUMBER);
    CHECK(!reply_model_is_in_step(NUMBER) && !reply_model_waits_for_answers(NUMBER));
}

/* Some milliseconds before the clock's 32 bits are over. */
static void the_clock_may_turn_over(void)
{
    clock_ms = (INT64_C(1) << 32) - 100;
    begin();
    int rounds = rounds_until_in_step(1);
    CHECK(rounds >= 200 && rounds < 210, "%d", rounds);
    clock_ms = (INT64_C(1) << 32) - 100;
    begin();
    reply_model_read(NUMBER, 100, false, true);
    reply_model_looked_ahead(NUMBER, true);
    reply_model_wrote(NUMBER, 500);
    is_out_of_step();
}

static void a_pause_in_one_answer_tells_of_the_others(void)
{
    begin();
    round_of(100, 500, 1);
    CHECK(reply_model_pause_ms(NUMBER, 50) == 0);
    clock_ms += 300;
    reply_model_goes_on(NUMBER, 1000);
    writes(500);
    CHECK(reply_model_pause_ms(NUMBER, 50) == 300);
    clock_ms += 2000;
    reply_model_goes_on(NUMBER, 1000);
    writes(500);
    CHECK(reply_model_pause_ms(NUMBER, 50) == 300, "nobody waits for so long");
    CHECK(reply_model_pause_ms(NUMBER + 1, 0) == 300);
    CHECK(reply_model_pause_ms(NUMBER + 1, 400) == 400, "it began before");
    CHECK(reply_model_pause_ms(NUMBER, 400) == 300);
}

static const struct unit_test tests[] = {
    {"an answer as long as the last ones, to a request as long, is whole", equal_answers_are_whole},
    {"one to another request is not", an_answer_to_another_request_is_not},
    {"a client waits that has done so for many answers and a while",
     a_client_waits_after_many_answers_and_a_while},
    {"one that has sent before the answer does not", who_has_sent_before_the_answer_does_not_wait},
    {"nor one that has sent between two writes of it", nor_who_has_sent_between_two_writes_of_it},
    {"nor one whose second request was read before the first was answered",
     nor_whose_second_request_was_read_before_it},
    {"nor one whose two requests were read and answered at once",
     nor_whose_two_requests_were_read_at_once},
    {"more of a request that did not fit into the program's buffer is not the next one",
     more_of_a_request_that_did_not_fit_is_not_ahead},
    {"a read that took all there was ends a request, however much it asked for",
     a_read_that_took_all_there_was_ends_a_request_however_much_it_asked_for},
    {"a request in two pieces is one", a_request_in_two_pieces_is_no_second_one},
    {"an answer in many writes is one", an_answer_in_many_writes_is_one},
    {"answers of two kinds in turn are whole as the last of their kind, after a second",
     answers_of_two_kinds_in_turn_are_whole_after_a_second},
    {"an upload is not ended by what begins it", uploads_are_no_kinds},
    {"where pieces are far apart the number of writes says nothing",
     where_pieces_are_far_apart_nothing_is_likely},
    {"a kind that is usual is not forgotten", a_kind_that_is_usual_is_not_forgotten},
    {"where an answer has gone on none ends", where_an_answer_has_gone_on_none_ends},
    {"a new connection has waited for nothing", a_new_connection_has_waited_for_nothing},
    {"a pause in one answer tells of the others", a_pause_in_one_answer_tells_of_the_others},
    {"the clock may turn over", the_clock_may_turn_over},
};

int main(void)
{
    return unit_main(tests, COUNT_OF(tests));
}
