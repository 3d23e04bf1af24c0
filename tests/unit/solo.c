/* SPDX-License-Identifier: MIT */
/*
 * One thread alone, and the end of that: whenever a second one comes, each finds what the other has
 * left, and the figures are exact. What was hinted to one of a connection ends with the
 * connection's next step.
 */
#include "unit.h"

#include "calls.h"
#include "fake_sock.h"
#include "base/libc.h"

#include <time.h>

enum { ROUNDS = 1500, TURNS = 400, FIRST = 10, SECOND = 11 };

static pthread_barrier_t begin, end;
static uint64_t dice = 7;
static unsigned int delay; /* turns of the second that are none */

static void open_fd(int fd)
{
    fakes[fd].identity = 5;
    conn_accepted(fd, MODE_REPLY, 5, IDENTITY_PEER);
}

static void close_fd(int fd)
{
    table_drop(fd, table_take(fd));
}

static struct totals figures(void)
{
    struct totals totals;
    table_totals(&totals);
    return totals;
}

static void serve(int fd, int turns)
{
    open_fd(fd);
    for (int i = 0; i < turns; i++) {
        call_read(fd, 1);
        call_write(fd, 1, 1);
    }
    call_read(fd, 1);
}

static void *second(void *nothing)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&begin);
        for (unsigned int n = 0; n < delay; n++)
            spin_pause();
        serve(SECOND, TURNS);
        pthread_barrier_wait(&end);
    }
    return nothing;
}

static void a_second_thread_comes_at_any_moment(void)
{
    pthread_t thread;
    int alone = 0;
    pthread_barrier_init(&begin, NULL, 2);
    pthread_barrier_init(&end, NULL, 2);
    pthread_create(&thread, NULL, second, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        table_solo_again();
        open_fd(FIRST + 2);
        alone += atomic_load(&solo.owner) == epoch_thread.word;
        delay = unit_random(&dice) % 200;
        pthread_barrier_wait(&begin);
        serve(FIRST, TURNS);
        pthread_barrier_wait(&end);
        struct totals totals = figures();
        CHECK(totals.tracked == 3 && totals.in_use == 2, "round %d: %llu, %llu in use", i,
              (unsigned long long)totals.tracked, (unsigned long long)totals.in_use);
        CHECK(totals.accepted == 3 * (uint64_t)(i + 1));
        CHECK(atomic_load(&solo.owner) == SOLO_ENDED && !atomic_load(&solo.inside));
        close_fd(FIRST);
        close_fd(SECOND);
        close_fd(FIRST + 2);
        CHECK(figures().closed_by_program == 3 * (uint64_t)(i + 1));
    }
    CHECK(alone == ROUNDS, "%d of %d rounds began alone", alone, ROUNDS);
    pthread_join(thread, NULL);
}

static _Atomic bool is_out;

static void *comes(void *nothing)
{
    CHECK(!solo_enter());
    CHECK(atomic_load(&is_out), "who came did not wait for the owner");
    return nothing;
}

static void who_comes_waits_until_the_owner_is_outside(void)
{
    pthread_t thread;
    struct timespec moment = {0, 3000000};
    table_solo_again();
    CHECK(solo_enter());
    pthread_create(&thread, NULL, comes, NULL);
    nanosleep(&moment, NULL);
    atomic_store(&is_out, true);
    solo_leave();
    pthread_join(thread, NULL);
    CHECK(!solo_enter());
}

/* A connection that is hinted to rest, whose next read makes it one in use. */
static void begin_at_rest(enum mode mode)
{
    table_solo_again();
    close_fd(FIRST);
    conn_accepted(FIRST, mode, 5, IDENTITY_PEER);
    for (int i = 0; i < 3; i++) {
        call_read(FIRST, 1);
        if (mode == MODE_REPLY && i < 2)
            call_write(FIRST, 1, 1);
        else if (mode == MODE_REPLY)
            CHECK(conn_answers(FIRST));
        else
            CHECK(conn_answers(FIRST) && conn_rests(FIRST));
    }
    CHECK(table_hint(FIRST) == HINT_REST && figures().in_use == 0);
}

/* A connection of which a read is hinted to change nothing. */
static void begin_busy(enum mode mode)
{
    begin_at_rest(mode);
    CHECK(conn_begins(FIRST));
    CHECK(table_hint(FIRST) == HINT_BUSY && figures().in_use == 1);
}

static void write_on(void)
{
    call_write(FIRST, 1, 1);
}

static void cut_on(void)
{
    call_write(FIRST, 2, 1);
}

static void mark_idle(void)
{
    CHECK(conn_mark(FIRST, false) == 0);
}

static void mark_idle_at_once(void)
{
    CHECK(conn_rests(FIRST));
}

static void mark_in_use(void)
{
    CHECK(conn_mark(FIRST, true) == 0);
}

static void disown(void)
{
    CHECK(conn_disown(FIRST) == 0);
    CHECK(figures().tracked == 0 && figures().in_use == 0);
}

static void read_by_its_record(void)
{
    call_read(FIRST, 1);
}

static void peek(void)
{
    conn_peeked(FIRST, conn_enters(FIRST));
}

static void time_out(void)
{
    conn_event(FIRST, CONN_TIMEOUT);
}

static void duplicate(void)
{
    table_alias(FIRST, SECOND);
}

static void close_it(void)
{
    close_fd(FIRST);
}

static void accept_it_again(void)
{
    conn_accepted(FIRST, MODE_REPLY, 6, IDENTITY_PEER);
}

static void come_from_elsewhere(void)
{
    solo_end();
}

static void a_hint_ends_with_the_next_step(void)
{
    static const struct {
        enum mode mode;
        void (*step)(void);
    } steps[] = {
        {MODE_REPLY, write_on},
        {MODE_REPLY, cut_on},
        {MODE_AUTOMATIC, mark_idle},
        {MODE_DEADLINE, time_out},
        {MODE_DEADLINE, mark_idle_at_once},
        {MODE_AUTOMATIC, mark_idle_at_once},
        {MODE_REPLY, duplicate},
        {MODE_REPLY, accept_it_again},
        {MODE_REPLY, close_it},
        {MODE_REPLY, disown},
        {MODE_REPLY, come_from_elsewhere},
    };
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        begin_busy(steps[i].mode);
        steps[i].step();
        CHECK(table_hint(FIRST) != HINT_BUSY, "step %zu", i);
        CHECK(!conn_answers(FIRST) && !conn_rests(FIRST), "step %zu", i);
        close_fd(SECOND);
    }
}

static void so_does_one_that_it_rests(void)
{
    static const struct {
        enum mode mode;
        void (*step)(void);
        unsigned int in_use;
    } steps[] = {
        {MODE_REPLY, read_by_its_record, 1},
        {MODE_AUTOMATIC, read_by_its_record, 1},
        {MODE_REPLY, peek, 1},
        {MODE_REPLY, cut_on, 1},
        {MODE_AUTOMATIC, mark_in_use, 1},
        {MODE_DEADLINE, mark_idle, 0},
        {MODE_DEADLINE, time_out, 0},
        {MODE_REPLY, duplicate, 0},
        {MODE_REPLY, accept_it_again, 0},
        {MODE_REPLY, close_it, 0},
        {MODE_REPLY, disown, 0},
        {MODE_REPLY, come_from_elsewhere, 0},
    };
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        begin_at_rest(steps[i].mode);
        steps[i].step();
        CHECK(table_hint(FIRST) != HINT_REST, "step %zu", i);
        CHECK(!conn_begins(FIRST), "step %zu", i);
        CHECK(figures().in_use == steps[i].in_use, "step %zu", i);
        close_fd(SECOND);
    }
}

/* By the number that accept gave, the record could be another one's. */
static void of_a_number_that_is_not_its_own_nothing_is_hinted(void)
{
    begin_at_rest(MODE_REPLY);
    table_alias(FIRST, SECOND);
    close_fd(FIRST);
    for (int i = 0; i < 3; i++) {
        call_read(SECOND, 1);
        CHECK(table_hint(SECOND) == HINT_ASK && figures().in_use == 1);
        call_read(SECOND, 1);
        CHECK(table_hint(SECOND) == HINT_ASK && figures().in_use == 1);
        call_write(SECOND, 1, 1);
        CHECK(table_hint(SECOND) == HINT_ASK && figures().in_use == 0);
    }
    close_fd(SECOND);
    CHECK(figures().tracked == 0);
}

static void who_is_of_no_interest_is_found_out_when_it_is(void)
{
    close_fd(FIRST);
    table_ignores(FIRST);
    CHECK(table_hint(FIRST) == HINT_NONE);
    open_fd(FIRST);
    CHECK(table_hint(FIRST) == HINT_ASK);
    table_ignores(FIRST); /* by somebody who has looked before it was opened */
    CHECK(table_hint(FIRST) == HINT_ASK);
    CHECK(table_hint(-1) == HINT_NONE && table_hint(1 << 30) == HINT_NONE);
}

static void a_read_timeout_forbids_hints(void)
{
    atomic_store(&table.busy, HINT_ASK);
    table_solo_again();
    close_fd(FIRST);
    serve(FIRST, 5);
    CHECK(figures().in_use == 1);
    call_read(FIRST, 1);
    CHECK(table_hint(FIRST) == HINT_ASK);
    atomic_store(&table.busy, HINT_BUSY);
}

/* In a child hints are gone, and what was its parent's is found out at the first call. */
static void a_child_asks(void)
{
    begin_busy(MODE_REPLY);
    pid_t child = fork();
    if (!child) {
        bool asks = table_hint(FIRST) == HINT_ASK;
        call_read(FIRST, 1);
        _exit(asks && figures().in_use == 1 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "0x%x", status);
    CHECK(table_hint(FIRST) == HINT_BUSY);
    CHECK(conn_answers(FIRST));
    child = fork();
    if (!child)
        _exit(table_hint(FIRST) == HINT_ASK && !conn_begins(FIRST) ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "0x%x", status);
    CHECK(conn_begins(FIRST));
}

static void forked(void)
{
    table_count_in(NULL, 0, false);
    table_forked();
}

static void noticed(void)
{
}

/* More threads than there are lines of counters that one has for itself. */
enum { CROWD = 12, FIRST_OF_CROWD = 20, CROWD_TURNS = 200000 };

static pthread_barrier_t crowd;

static void *serves_one(void *number)
{
    int fd = FIRST_OF_CROWD + (int)(uintptr_t)number;
    pthread_barrier_wait(&crowd);
    serve(fd, CROWD_TURNS);
    pthread_barrier_wait(&crowd);
    return NULL;
}

static void many_threads_are_counted_exactly(void)
{
    pthread_t threads[CROWD];
    struct totals before = figures();
    pthread_barrier_init(&crowd, NULL, CROWD + 1);
    for (uintptr_t i = 0; i < CROWD; i++)
        CHECK(!pthread_create(&threads[i], NULL, serves_one, (void *)i));
    pthread_barrier_wait(&crowd);
    pthread_barrier_wait(&crowd);
    struct totals after = figures();
    CHECK(after.tracked == before.tracked + CROWD && after.in_use == before.in_use + CROWD,
          "%d in use", (int)(after.in_use - before.in_use));
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        close_fd(FIRST_OF_CROWD + i);
    }
    after = figures();
    CHECK(after.tracked == before.tracked && after.in_use == before.in_use);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"a second thread comes at any moment, and nothing is counted wrong",
         a_second_thread_comes_at_any_moment},
        {"who comes waits until the owner is outside", who_comes_waits_until_the_owner_is_outside},
        {"a hint ends with the next step", a_hint_ends_with_the_next_step},
        {"so does one that it rests", so_does_one_that_it_rests},
        {"of a number that is not its own nothing is hinted",
         of_a_number_that_is_not_its_own_nothing_is_hinted},
        {"what is of no interest is found out when it is one",
         who_is_of_no_interest_is_found_out_when_it_is},
        {"a read timeout forbids hints", a_read_timeout_forbids_hints},
        {"a child asks", a_child_asks},
        {"many threads are counted exactly", many_threads_are_counted_exactly},
    };
    libc_find();
    epoch_make(forked, noticed);
    CHECK(table_make(FAKES, FAKES) == 0);
    return unit_main(tests, COUNT_OF(tests));
}
