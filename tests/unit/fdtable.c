/* SPDX-License-Identifier: MIT */
/* Each step of the descriptor's diagram in fdtable.h, made by hand and in one thread, or in two. */
#define _GNU_SOURCE
#include "unit.h"

#include "conn/fork_detect.h"
#include "base/sys.h"
#include "conn/fdtable.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#define FRESH (generation_now() | CONN_REF | UINT64_C(0x1234abcd) << CONN_FINGERPRINT_SHIFT)
#define LIMIT 2048

static void forked(void)
{
    table_count_in(NULL, 0);
}

static uint64_t record(int fd)
{
    struct conn *conn = table_find(fd);
    return conn ? atomic_load(&conn->record) : 0;
}

static unsigned int refs(int fd)
{
    return (unsigned int)((record(fd) & CONN_REFS) / CONN_REF);
}

/* close(2), as interpose/descriptor.c has it. */
static enum kind close_it(int fd)
{
    enum kind was = table_take(fd);
    table_drop(fd, was);
    return was;
}

/* What has been counted since the last call of it. */
static struct totals news(void)
{
    static struct totals before;
    struct totals now, new;
    table_totals(&now);
    new = (struct totals){now.tracked - before.tracked,
                          now.in_use - before.in_use,
                          now.accepted - before.accepted,
                          now.closed_by_program - before.closed_by_program,
                          now.disowned - before.disowned,
                          now.closed_idle - before.closed_idle,
                          now.forced - before.forced,
                          0,
                          0,
                          0};
    before = now;
    return new;
}

/* What a test does not name has not changed. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define CHECK_NEWS(...)                                                                  \
    do {                                                                                 \
        struct totals want_ = {__VA_ARGS__}, got_ = news();                              \
        CHECK(!memcmp(&want_, &got_, sizeof want_),                                      \
              "tracked %+lld in_use %+lld accepted %+lld closed %+lld disowned %+lld",   \
              (long long)got_.tracked, (long long)got_.in_use, (long long)got_.accepted, \
              (long long)got_.closed_by_program, (long long)got_.disowned);              \
    } while (0)

static void accept_makes_a_connection(void)
{
    CHECK(!table_knows(7) && table_kind(7) == KIND_NONE && !table_find(7));
    table_add(7, FRESH, false);
    CHECK(table_knows(7) && table_kind(7) == KIND_CONN);
    CHECK(record(7) == FRESH);
    CHECK(atomic_load(&table.high) == 8);
    CHECK_NEWS(.tracked = 1, .accepted = 1);
}

static void close_ends_it(void)
{
    CHECK(close_it(7) == KIND_CONN);
    CHECK(!table_knows(7) && !table_find(7));
    CHECK(!atomic_load(&table_conn(7)->record), "its record is still there");
    CHECK_NEWS(.tracked = -1, .closed_by_program = 1);
    CHECK(close_it(7) == KIND_NONE, "closed twice");
    CHECK_NEWS(0);
}

static void a_failed_dup2_restores_it(void)
{
    table_add(7, FRESH, false);
    enum kind was = table_take(7);
    CHECK(was == KIND_CONN && !table_knows(7));
    table_restore(7, was);
    CHECK(table_kind(7) == KIND_CONN && record(7) == FRESH);
    CHECK_NEWS(.tracked = 1, .accepted = 1);
    table_restore(8, KIND_NONE);
    CHECK(!table_knows(8));
    close_it(7);
    CHECK_NEWS(.tracked = -1, .closed_by_program = 1);
}

/* Its number is out of the table already, so that a walk finds nothing. */
static void a_close_under_way_is_not_counted_yet(void)
{
    table_add(7, FRESH, false);
    CHECK(table_has_counted());
    enum kind was = table_take(7);
    CHECK(!table_knows(7) && !table_has_counted());
    table_drop(7, was);
    CHECK(table_has_counted());
    CHECK_NEWS(.accepted = 1, .closed_by_program = 1);
}

static void one_in_use_is_uncounted_as_such(void)
{
    table_add(7, FRESH, false);
    atomic_fetch_or(&table_find(7)->state, STATE_IN_USE); /* conn.c's step */
    CHECK_NEWS(.tracked = 1, .in_use = 1, .accepted = 1);
    close_it(7);
    CHECK_NEWS(.tracked = -1, .in_use = -1, .closed_by_program = 1);
}

/* A step is counted right after it is made: another thread's, which undoes it, may count first. */
static void no_figure_is_below_zero(void)
{
    struct totals totals;
    atomic_fetch_add(&table_shard()->closed_by_program, 1);
    table_totals(&totals);
    CHECK(totals.in_use == 0 && totals.tracked == 0, "%llu in use, %llu tracked",
          (unsigned long long)totals.in_use, (unsigned long long)totals.tracked);
    atomic_fetch_sub(&table_shard()->closed_by_program, 1);
    table_add(7, FRESH, false);
    atomic_fetch_or(&table_find(7)->state, STATE_IN_USE);
    atomic_fetch_add(&table_shard()->closed_by_program, 1);
    table_totals(&totals);
    CHECK(totals.in_use == 0 && totals.tracked == 0);
    atomic_fetch_sub(&table_shard()->closed_by_program, 1);
    close_it(7);
    news();
}

static void a_connection_goes_with_its_last_descriptor(void)
{
    table_add(7, FRESH, false);
    table_alias(7, 20);
    table_alias(20, 21); /* a duplicate of a duplicate */
    CHECK(table_kind(20) == KIND_ALIAS && table_kind(21) == KIND_ALIAS);
    CHECK(table_find(20) == table_find(7) && table_find(21) == table_find(7));
    CHECK(refs(7) == 3, "%u", refs(7));
    CHECK_NEWS(.tracked = 1, .accepted = 1);
    close_it(7);
    CHECK(!table_knows(7) && refs(20) == 2);
    close_it(21);
    CHECK(refs(20) == 1);
    CHECK_NEWS(0);
    close_it(20);
    CHECK(!atomic_load(&table_conn(7)->record));
    CHECK_NEWS(.tracked = -1, .closed_by_program = 1);
}

static void a_number_that_a_duplicate_still_needs_gets_another_record(void)
{
    table_add(7, FRESH, false);
    table_alias(7, 20);
    close_it(7);
    uint64_t other = FRESH ^ UINT64_C(1) << CONN_FINGERPRINT_SHIFT;
    table_add(7, other, false);
    CHECK(table_knows(7) && record(7) == other && record(20) == FRESH);
    CHECK_NEWS(.tracked = 2, .accepted = 2);
    close_it(20);
    CHECK(record(7) == other);
    table_alias(7, 20);
    CHECK(record(20) == other + CONN_REF);
    close_it(7);
    close_it(20);
    CHECK_NEWS(.tracked = -2, .closed_by_program = 2);
}

static void what_was_closed_unseen_is_stale(void)
{
    table_add(7, FRESH, false);
    table_alias(7, 20);
    news();
    table_add(20, FRESH, false); /* the duplicate's number is a new connection's */
    CHECK(table_kind(20) == KIND_CONN && refs(7) == 1 && refs(20) == 1);
    CHECK_NEWS(.tracked = 1, .accepted = 1);
    table_add(7, FRESH, false);
    CHECK(table_kind(7) == KIND_CONN && refs(7) == 1);
    CHECK_NEWS(.accepted = 1, .closed_by_program = 1); /* one gone, and one new */
    table_alias(7, 20); /* dup gave a number that we took for a connection */
    CHECK(table_find(20) == table_find(7) && refs(7) == 2);
    CHECK_NEWS(.tracked = -1, .closed_by_program = 1);
    table_add(30, FRESH, false);
    table_set(30, KIND_LISTENER);
    CHECK(table_kind(30) == KIND_LISTENER && !table_find(30));
    CHECK_NEWS(.accepted = 1, .closed_by_program = 1);
    table_set(20, KIND_BOUND);
    CHECK(table_kind(20) == KIND_BOUND && refs(7) == 1);
    table_add(30, FRESH, false);
    CHECK(table_kind(30) == KIND_CONN);
    table_set(20, KIND_NONE);
    close_it(30);
    close_it(7);
    CHECK_NEWS(.tracked = -1, .accepted = 1, .closed_by_program = 2);
}

static void a_listener_is_no_connection(void)
{
    table_set(9, KIND_BOUND);
    CHECK(table_kind(9) == KIND_BOUND && !table_find(9) && !table_claim(9));
    table_set(9, KIND_LISTENER);
    CHECK(table_kind(9) == KIND_LISTENER && table_claim(9), "it is swapped under a claim");
    table_release();
    table_alias(9, 40);
    CHECK(!table_knows(40), "a duplicate of a listener is listener.c's");
    CHECK(close_it(9) == KIND_LISTENER && !table_knows(9));
    CHECK_NEWS(0);
}

static void what_lies_beyond_the_table_is_left_alone(void)
{
    table_add(LIMIT, FRESH, false);
    table_add(-1, FRESH, false);
    table_set(LIMIT, KIND_LISTENER);
    table_set(-1, KIND_LISTENER);
    table_add(7, FRESH, false);
    table_alias(7, LIMIT);
    table_alias(7, -1);
    CHECK(refs(7) == 1);
    CHECK(!table_knows(LIMIT) && !table_knows(-1) && table_kind(LIMIT) == KIND_NONE);
    CHECK(table_take(LIMIT) == KIND_NONE && table_take(-1) == KIND_NONE);
    table_add(LIMIT - 1, FRESH, false);
    CHECK(table_kind(LIMIT - 1) == KIND_CONN && atomic_load(&table.high) == LIMIT);
    close_it(LIMIT - 1);
    close_it(7);
    CHECK_NEWS(.accepted = 2, .closed_by_program = 2);
}

/* A program that duplicates one connection 400 times: it is tracked until the last has gone. */
static void more_duplicates_than_can_be_counted(void)
{
    table_add(7, FRESH, false);
    for (int fd = 100; fd < 500; fd++)
        table_alias(7, fd);
    news();
    CHECK(refs(7) == 127, "%u", refs(7));
    close_it(7);
    for (int fd = 100; fd < 499; fd++)
        close_it(fd);
    CHECK(record(499), "the connection is forgotten while a descriptor of it is left");
    CHECK_NEWS(0);
    close_it(499);
    CHECK_NEWS(.tracked = -1, .closed_by_program = 1);
    table_add(7, FRESH, false); /* the number is not the worse for it */
    CHECK(refs(7) == 1);
    close_it(7);
    news();
}

/* Every record of the spare block taken: what is accepted then is not tracked, and nothing breaks.
 */
static void no_record_left(void)
{
    static int spare[1024], count;
    for (count = 0; count < 1024; count++) {
        table_add(7, FRESH, false);
        table_alias(7, 600 + count);
        close_it(7);
        spare[count] = 600 + count;
        if (!table_knows(spare[count]))
            break;
    }
    CHECK(count >= 512, "%d", count);
    table_add(7, FRESH, false);
    CHECK(!table_knows(7));
    news();
    for (int i = 0; i < count; i++)
        close_it(spare[i]);
    struct totals totals;
    table_totals(&totals);
    CHECK(totals.tracked == 0 && totals.in_use == 0, "%llu", (unsigned long long)totals.tracked);
    table_add(7, FRESH, false);
    CHECK(table_kind(7) == KIND_CONN);
    close_it(7);
    news();
}

static void a_claim_is_taken_once_and_released(void)
{
    table_add(7, FRESH, false);
    table_alias(7, 20);
    CHECK(table_claim(7) && table_is_claimed(7));
    CHECK(table_kind(7) == KIND_CONN && record(7) == FRESH + CONN_REF, "the program sees a claim");
    table_release();
    CHECK(!table_is_claimed(7) && table_kind(7) == KIND_CONN);
    CHECK(table_claim(20) && table_kind(20) == KIND_ALIAS);
    table_release();
    CHECK(!table_claim(8) && !table_is_claimed(8), "nothing is there");
    table_claim_all(16, 8);
    CHECK(table_is_claimed(16) && table_is_claimed(20) && table_is_claimed(23));
    CHECK(!table_is_claimed(15) && !table_is_claimed(24) && !table_is_claimed(-1));
    table_release();
    CHECK(!table_is_claimed(20));
    close_it(7);
    CHECK(!table_claim(7), "it is closed");
    close_it(20);
    CHECK_NEWS(.accepted = 1, .closed_by_program = 1);
}

static atomic_int closed;
static void (*end)(void);

static void *end_it(void *unused)
{
    end();
    atomic_store(&closed, 1);
    return unused;
}

static void by_close(void)
{
    close_it(7);
}

static void by_listen(void)
{
    table_set(7, KIND_LISTENER);
}

static void by_accept(void)
{
    table_add(7, FRESH, false);
}

static void by_dup(void)
{
    table_alias(8, 7);
}

/* Whatever gives the number another meaning waits for the claim, and goes on when it is over. */
static void the_end_waits_for_the_claim(void)
{
    void (*const ends[])(void) = {by_close, by_listen, by_accept, by_dup};
    table_add(8, FRESH, false);
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        pthread_t thread;
        table_add(7, FRESH, false);
        CHECK(table_claim(7));
        end = ends[i];
        atomic_store(&closed, 0);
        CHECK(!pthread_create(&thread, NULL, end_it, NULL));
        for (int state = 0; state < 20; state++) {
            usleep(1000);
            CHECK(!atomic_load(&closed), "end %zu went ahead of the claim", i);
        }
        CHECK(table_is_claimed(7));
        table_release();
        pthread_join(thread, NULL);
        CHECK(atomic_load(&closed));
        table_set(7, KIND_NONE);
    }
    table_set(8, KIND_NONE);
    news();
}

static void in_the_child_of_a_claim(void)
{
    close_it(7);
    CHECK(!table_knows(7));
}

static void drain_in_the_child(void)
{
    CHECK(table_claim(20));
    table_release();
    CHECK(table_claim(7), "the child's drain can't have what its parent had claimed");
    table_release();
    CHECK(!table_is_claimed(7));
    close_it(7);
}

static void close_in_a_draining_child(void)
{
    CHECK(table_claim(20));
    table_release();
    close_it(7); /* not yet walked over */
    CHECK(!table_knows(7));
}

static void a_forked_claim_is_void(void)
{
    table_add(7, FRESH, false);
    table_add(20, FRESH, false);
    CHECK(table_claim(7));
    unit_in_child(in_the_child_of_a_claim, 5);
    unit_in_child(close_in_a_draining_child, 5);
    unit_in_child(drain_in_the_child, 5);
    CHECK(table_is_claimed(7), "the parent's own claim stands");
    table_release();
    close_it(7);
    close_it(20);
    news();
}

static void inherit(void)
{
    uint64_t inherited = record(7);
    CHECK((inherited & CONN_GENERATION) != generation_now(),
          "the child has its parent's generation");
    news();
    close_it(7);
    CHECK(!table_knows(7));
    CHECK_NEWS(0);
    table_add(7, FRESH, false);
    CHECK_NEWS(.tracked = 1, .accepted = 1);
}

static void a_child_counts_its_own_alone(void)
{
    table_add(7, FRESH, false);
    table_add(8, FRESH, false);
    unit_in_child(inherit, 5);
    struct totals totals;
    table_totals(&totals);
    CHECK(totals.tracked == 2);
    close_it(7);
    close_it(8);
    news();
}

/* 255 generations, then they begin anew, and 0 is never one. (What fork does to the page, by hand.)
 */
static void forks_of_forks(void)
{
    uint64_t generation = 0;
    for (int i = 0; i < 600; i++) {
        atomic_store(&fork_page.mine, 0);
        CHECK(!(atomic_load(&fork_page.mine) != 0));
        CHECK(generation_now() && generation_now() != generation &&
                  (atomic_load(&fork_page.mine) != 0),
              "fork %d", i);
        CHECK(!(generation_now() & ~CONN_GENERATION));
        generation = generation_now();
    }
}

static void every_fork_is_another_generation(void)
{
    unit_in_child(forks_of_forks, 5);
}

/* In ms. */
static long now_of(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

struct wait {
    long took, lasted; /* of a processor; in all */
};

/* On one processor with who has claimed, and before it: a thread of a higher priority closes. */
static void *closes_first(void *context)
{
    struct wait *wait = context;
    long began = now_of(CLOCK_MONOTONIC);
    close_it(7);
    wait->lasted = now_of(CLOCK_MONOTONIC) - began;
    wait->took = now_of(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void a_claim_is_waited_for_asleep(void)
{
    cpu_set_t before, one;
    pthread_attr_t attr;
    pthread_t thread;
    struct wait wait = {-1, 0};
    struct sched_param priority = {.sched_priority = 1};
    CHECK(!sched_getaffinity(0, sizeof before, &before));
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(!sched_setaffinity(0, sizeof one, &one));
    pthread_attr_init(&attr);
    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
    pthread_attr_setschedparam(&attr, &priority);
    table_add(7, FRESH, false);
    CHECK(table_claim(7));
    int made = pthread_create(&thread, &attr, closes_first, &wait);
    CHECK(made == 0 || made == EPERM, "%d", made);
    usleep(100000);
    table_release();
    if (made == 0) {
        pthread_join(thread, NULL);
        CHECK(wait.took >= 0 && wait.took * 2 < wait.lasted, "%ld of %ld ms of processor time",
              wait.took, wait.lasted);
    } else {
        close_it(7);
    }
    CHECK(!sched_setaffinity(0, sizeof before, &before));
    news();
}

/* table_make does not give the old one back: the process is about to end. */
static void little_room(void)
{
    unsigned long pages = 0;
    FILE *statm = unit_open("/proc/self/statm");
    CHECK(statm && fscanf(statm, "%lu", &pages) == 1);
    rlim_t room = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (64 << 20);
    struct rlimit most = {room, room};
    CHECK(!setrlimit(RLIMIT_AS, &most));
    CHECK(!table_make(1 << 26, 1 << 26), "a smaller one has room");
    CHECK(table.limit == table.most);
    CHECK(table.limit >= 512 && table.limit < 1 << 23 && table.limit % 512 == 0, "%u", table.limit);
    table_add((int)table.limit - 1, FRESH, false);
    CHECK(table_kind((int)table.limit - 1) == KIND_CONN);
    most.rlim_cur = 1 << 20;
    CHECK(!setrlimit(RLIMIT_AS, &most));
    CHECK(table_make(1 << 26, 1 << 26) < 0, "there was no room for any");
}

static void where_there_is_little_room_it_is_smaller(void)
{
    unit_in_child(little_room, 5);
    CHECK(table.limit == LIMIT);
}

static const struct unit_test tests[] = {
    {"accept makes a connection", accept_makes_a_connection},
    {"close ends it", close_ends_it},
    {"a dup2 that failed restores what it was", a_failed_dup2_restores_it},
    {"a close that is under way is not counted yet", a_close_under_way_is_not_counted_yet},
    {"a connection in use is uncounted as such", one_in_use_is_uncounted_as_such},
    {"no figure is below zero between two threads' steps", no_figure_is_below_zero},
    {"a connection goes with its last descriptor", a_connection_goes_with_its_last_descriptor},
    {"a number whose record serves a duplicate gets another record",
     a_number_that_a_duplicate_still_needs_gets_another_record},
    {"what was closed unseen is stale", what_was_closed_unseen_is_stale},
    {"a listener is no connection", a_listener_is_no_connection},
    {"what lies beyond the table is left alone", what_lies_beyond_the_table_is_left_alone},
    {"a connection with more duplicates than can be counted is not forgotten",
     more_duplicates_than_can_be_counted},
    {"with no record left, what is accepted is not tracked", no_record_left},
    {"a claim is taken and released", a_claim_is_taken_once_and_released},
    {"close, listen, accept and dup wait for a claim", the_end_waits_for_the_claim},
    {"a claim that was inherited through fork is void", a_forked_claim_is_void},
    {"a child counts its own connections alone", a_child_counts_its_own_alone},
    {"every fork is another generation", every_fork_is_another_generation},
    {"who waits for a claim lets those of a lower priority run", a_claim_is_waited_for_asleep},
    {"where there is little room the table is smaller", where_there_is_little_room_it_is_smaller},
};

static void nothing(void)
{
}

int main(void)
{
    CHECK(!table.limit && !table_knows(0));
    CHECK(!table_make(LIMIT - 100, LIMIT - 100));
    CHECK(table.limit == LIMIT, "%u", table.limit);
    fork_make(forked, nothing);
    gate_shut(GATE_CLOSES_IDLE, 0); /* there are claims in a drain alone */
    return unit_main(tests, COUNT_OF(tests));
}
