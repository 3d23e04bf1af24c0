/* SPDX-License-Identifier: MIT */
/*
 * Table and connections under a crowd of threads, against a simple model.
 *
 *   crowd [SEED [STEPS [ROUNDS]]]      the same seed makes the same steps, not the same races
 *
 * Owners have descriptors of their own (numbers that lie between each other's), do to them at
 * random what a program does, and know from a model that they alone write what must have come of
 * it. Sharers read, write and close the same few connections at once. In the first rounds the gate
 * is open. In the others a drainer walks over all of them, claims, half-closes and forces. Between
 * rounds everybody stands still and the figures must be exact; and at all times:
 *
 *   - what the drainer has claimed is not closed until it has released it, and the other way round:
 *     guard[] is a plain variable that each writes in its state, which is what ThreadSanitizer sees
 *   - nobody but its owner takes a connection out of use, and one in use is not half-closed
 *   - no figure is below zero
 *
 * There is no lock around table and model: it would order what has to be in order without it.
 */
#include "unit.h"

#include "calls.h"
#include "fake_sock.h"
#include "promised.h"

#include <time.h>

enum {
    OWNERS = 3,
    EACH = 60,
    SHARERS = 2,
    SHARED = 2,
    FINGERPRINT = 5,
    OPEN_ROUNDS = 2,
    CLOSING_ROUNDS = 4
};
enum { NOTHING = -1, BOUND = -2, LISTENER = -3, RECEIVED = -4 }; /* or which connection */

struct model {
    int descriptors; /* 0: free */
    enum mode mode;
    bool in_use, owed, disowned;
    bool was_shut; /* when its owner looked last */
};

struct owner {
    uint64_t random;
    int fd[EACH];
    int holds[EACH];
    struct model conns[EACH + 1];
    uint64_t accepted, closed, disowned;
};

static struct owner owners[OWNERS];
static struct {
    int fd;
    bool disowned;
    uint64_t accepted, closed, was_disowned;
} shared[SHARED];
static uint64_t first_seed, steps = 50000, rounds = 8;
static pthread_barrier_t still;
static atomic_int busy;  /* owners and sharers that still make steps in this round */
static int guard[FAKES]; /* 1: the drainer has it; -1: its owner is closing it */
static _Atomic uint64_t claims, shuts, forces, waits;
static uint64_t dice_of_sharer[SHARERS];
static __thread bool is_drainer;
static __thread uint64_t dice;

static bool one_in(unsigned int n)
{
    return unit_random(&dice) % n == 0;
}

/* Says what table and model have under i. */
static const char *whose(const struct owner *owner, int i)
{
    const struct model *model = owner->holds[i] < 0 ? NULL : &owner->conns[owner->holds[i]];
    struct conn *conn = table_find(owner->fd[i]);
    SAY("fd %d holds %d kind 0x%x record 0x%llx", owner->fd[i], owner->holds[i],
        atomic_load(&table.kind[owner->fd[i]]), conn ? (unsigned long long)both_of(conn) : 0);
    if (model)
        SAY("; model: %d descriptors, %s,%s%s%s%s", model->descriptors,
            settings_mode_name(model->mode), model->in_use ? " in use" : " idle",
            model->owed ? " owed" : "", model->disowned ? " disowned" : "",
            model->was_shut ? " shut" : "");
    SAY("\n");
    return "";
}

#define CHECK_OWN(condition) \
    CHECK(condition, "seed %llu %s", (unsigned long long)first_seed, whose(owner, i))

/* ---- an owner ---- */

static struct model *new_model(struct owner *owner, int i, enum mode mode)
{
    int n = 0;
    while (owner->conns[n].descriptors)
        n++;
    owner->conns[n] = (struct model){.descriptors = 1, .mode = mode};
    owner->holds[i] = n;
    owner->accepted++;
    return &owner->conns[n];
}

/* One descriptor of the connection less. */
static void model_less(struct owner *owner, int i)
{
    struct model *model = owner->holds[i] < 0 ? NULL : &owner->conns[owner->holds[i]];
    owner->holds[i] = NOTHING;
    if (model && --model->descriptors == 0 && !model->disowned)
        owner->closed++;
}

/* What the drainer may have made of a received descriptor. */
static void look_again(struct owner *owner, int i)
{
    enum kind kind = table_kind(owner->fd[i]);
    if (owner->holds[i] == RECEIVED && kind != KIND_RECEIVED) {
        CHECK_OWN(kind == KIND_CONN || kind == KIND_ALIAS);
        new_model(owner, i, MODE_REPLY);
    }
}

/* Table and model say the same of what the owner holds under i. */
static void agree(struct owner *owner, int i)
{
    int fd = owner->fd[i], holds = owner->holds[i];
    look_again(owner, i);
    enum kind kind = table_kind(fd);
    if (owner->holds[i] < 0) {
        CHECK_OWN(kind == (holds == BOUND      ? KIND_BOUND
                           : holds == LISTENER ? KIND_LISTENER
                           : holds == RECEIVED ? KIND_RECEIVED
                                               : KIND_NONE) ||
                  (holds == RECEIVED && (kind == KIND_CONN || kind == KIND_ALIAS)));
        return;
    }
    struct model *model = &owner->conns[owner->holds[i]];
    CHECK_OWN(kind == KIND_CONN || kind == KIND_ALIAS);
    uint64_t record = both_of(table_find(fd));
    CHECK_OWN(record >> CONN_FINGERPRINT_SHIFT == FINGERPRINT);
    CHECK_OWN((record & CONN_MODE) >> CONN_MODE_SHIFT == model->mode);
    CHECK_OWN((record & CONN_REFS) / CONN_REF == (unsigned int)model->descriptors);
    CHECK_OWN(model->disowned || !!(record & CONN_IN_USE) == model->in_use);
    /* The drainer has taken SHUT back, for it came too late; but not behind the half-close itself.
     */
    if (!(record & (CONN_SHUT | CONN_FIN | CONN_FORCED)))
        model->owed = model->was_shut = false;
    CHECK_OWN(!!(record & CONN_READ_SINCE_SHUT) == model->owed);
    CHECK_OWN(!!(record & CONN_DISOWNED) == model->disowned);
    CHECK_OWN(!model->was_shut || record & CONN_SHUT);
    /* Nobody half-closes what is in use; by force it may be, or because that came too late. */
    CHECK_OWN(model->was_shut || !model->in_use || !(record & CONN_SHUT) || record & CONN_FORCED);
    model->was_shut = record & CONN_SHUT;
}

static void event(struct owner *owner, int i)
{
    int fd = owner->fd[i];
    struct model *model = &owner->conns[owner->holds[i]];
    enum conn_event event = (enum conn_event)(unit_random(&dice) % CONN_EVENTS);
    bool was_shut = atomic_load(&table_find(fd)->record) & CONN_SHUT;
    bool short_way = one_in(2);
    if (event == CONN_READ && short_way)
        call_read(fd, 1);
    else if ((event == CONN_WROTE || event == CONN_CUT) && short_way)
        call_write(fd, 10, event == CONN_WROTE ? 10 : one_in(2) ? 3 : -1);
    else if (event == CONN_MARK_IDLE || event == CONN_MARK_IN_USE)
        CHECK_OWN(conn_mark(fd, event == CONN_MARK_IN_USE) == (model->disowned ? ENOENT : 0));
    else
        conn_event(fd, event);
    if (model->disowned)
        return;
    uint64_t record = both_of(table_find(fd));
    char step = promised[model->mode][event];
    if (step != '=')
        model->in_use = step == '+';
    if (event == CONN_READ && record & CONN_READ_SINCE_SHUT)
        model->owed = true;
    if (event == CONN_READ && was_shut && record & CONN_SHUT)
        CHECK_OWN(record & CONN_READ_SINCE_SHUT);
    if (event == CONN_WROTE)
        model->owed = false;
    /* Half-closed between the two looks: before it came into use, or it was not taken into use. */
    model->was_shut = record & CONN_SHUT;
}

static void end_of_file(struct owner *owner, int i)
{
    int fd = owner->fd[i];
    uint64_t before = both_of(table_find(fd));
    CHECK_OWN(!conn_read_end(fd));
    uint64_t after = both_of(table_find(fd));
    bool owes = before & (CONN_IN_USE | CONN_DISOWNED) ||
                (before & CONN_READ_SINCE_SHUT && before & CONN_SHUT);
    CHECK_OWN(!(before & CONN_SHUT) || owes || after & CONN_FIN);
    CHECK_OWN(!owes || (before & CONN_FIN) == (after & CONN_FIN));
}

static void pause_a_while(void)
{
    if (one_in(8))
        sched_yield();
}

static enum kind take(struct owner *owner, int i)
{
    int fd = owner->fd[i];
    if (table_is_claimed(fd))
        atomic_fetch_add_explicit(&waits, 1, memory_order_relaxed);
    enum kind was = table_take(fd);
    CHECK_OWN(guard[fd] == 0);
    guard[fd] = -1;
    pause_a_while();
    return was;
}

static void close_it(struct owner *owner, int i)
{
    int fd = owner->fd[i];
    enum kind was = take(owner, i);
    if (owner->holds[i] == RECEIVED && was != KIND_RECEIVED)
        new_model(owner, i, MODE_REPLY);
    model_less(owner, i);
    table_drop(fd, was);
    guard[fd] = 0;
}

static void failed_dup2(struct owner *owner, int i)
{
    int fd = owner->fd[i];
    enum kind was = take(owner, i);
    if (owner->holds[i] == RECEIVED && was != KIND_RECEIVED)
        new_model(owner, i, MODE_REPLY);
    guard[fd] = 0;
    table_restore(fd, was);
}

static void accept_it(struct owner *owner, int i)
{
    enum mode mode = (enum mode)(MODE_MANUAL + unit_random(&dice) % (MODE_PROTOCOL - MODE_MANUAL));
    model_less(owner, i); /* where it was closed unseen */
    conn_accepted(owner->fd[i], mode, FINGERPRINT, false);
    new_model(owner, i, mode);
}

static void duplicate(struct owner *owner, int from)
{
    int i = (int)(unit_random(&dice) % EACH);
    look_again(owner, i);
    if (i == from || owner->holds[i] == RECEIVED || owner->holds[from] < 0)
        return;
    int connection = owner->holds[from];
    owner->conns[connection].descriptors++;
    model_less(owner, i); /* where it was closed unseen */
    table_alias(owner->fd[from], owner->fd[i]);
    owner->holds[i] = connection;
    agree(owner, i);
}

static void becomes(struct owner *owner, int i)
{
    static const int holds[] = {BOUND, LISTENER, RECEIVED};
    static const enum kind kinds[] = {KIND_BOUND, KIND_LISTENER, KIND_RECEIVED};
    uint64_t which = unit_random(&dice) % COUNT_OF(kinds);
    model_less(owner, i);
    owner->holds[i] = holds[which];
    table_set(owner->fd[i], kinds[which]);
}

static void disown(struct owner *owner, int i)
{
    struct model *model = &owner->conns[owner->holds[i]];
    CHECK_OWN(conn_disown(owner->fd[i]) == (model->disowned ? EALREADY : 0));
    if (both_of(table_find(owner->fd[i])) & CONN_FORCED)
        owner->closed += !model->disowned; /* it was counted when it was cut */
    else
        owner->disowned += !model->disowned;
    model->disowned = true;
}

static void step(struct owner *owner)
{
    int i = (int)(unit_random(&dice) % EACH);
    uint64_t what = unit_random(&dice) % 100;
    agree(owner, i);
    if (owner->holds[i] == NOTHING) {
        if (what < 70)
            accept_it(owner, i);
        else if (what < 80)
            becomes(owner, i);
        else
            duplicate(owner, (int)(unit_random(&dice) % EACH));
    } else if (owner->holds[i] < 0) {
        if (what < 40)
            close_it(owner, i);
        else if (what < 50)
            failed_dup2(owner, i);
    } else if (what < 70) {
        event(owner, i);
    } else if (what < 75) {
        end_of_file(owner, i);
    } else if (what < 85) {
        close_it(owner, i);
    } else if (what < 90) {
        failed_dup2(owner, i);
    } else if (what < 96) {
        duplicate(owner, i);
    } else if (what < 97) {
        accept_it(owner, i);
    } else if (what < 98) {
        becomes(owner, i);
    } else {
        disown(owner, i);
    }
    agree(owner, i);
}

/* So little of a processor is left to the drainer at times that one round of the others' steps goes
 * by in a few of its own: in the last round they go on until it has seen something. */
static bool round_goes_on(uint64_t round, uint64_t steps_made, uint64_t steps_wanted)
{
    uint64_t made = steps * (rounds - OPEN_ROUNDS);
    bool is_enough = claims > made / 50 && shuts > made / 1000 && forces && waits;
    return steps_made < steps_wanted || (round + 1 == rounds && !is_enough);
}

static void *own(void *argument)
{
    struct owner *owner = argument;
    dice = owner->random;
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t n = 0; round_goes_on(round, n, steps); n++)
            step(owner);
        atomic_fetch_sub(&busy, 1);
        pthread_barrier_wait(&still);
        pthread_barrier_wait(&still);
    }
    return NULL;
}

/* The first sharer also closes them under the others' hands, and accepts the next. */
static void end_shared(void)
{
    int n = (int)(unit_random(&dice) % SHARED);
    if (!shared[n].disowned && one_in(4)) {
        CHECK(!conn_disown(shared[n].fd));
        shared[n].disowned = true;
        if (both_of(table_find(shared[n].fd)) & CONN_FORCED)
            shared[n].closed++;
        else
            shared[n].was_disowned++;
        return;
    }
    table_drop(shared[n].fd, table_take(shared[n].fd));
    shared[n].closed += !shared[n].disowned;
    conn_accepted(shared[n].fd, MODE_REPLY, FINGERPRINT, false);
    shared[n].disowned = false;
    shared[n].accepted++;
}

/* Reads and writes on connections that others read and write on too. */
static void *share(void *argument)
{
    bool is_first = argument == &dice_of_sharer[0];
    dice = *(uint64_t *)argument;
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t n = 0; round_goes_on(round, n, 4 * steps); n++) {
            int fd = shared[unit_random(&dice) % SHARED].fd;
            if (is_first && one_in(16))
                end_shared();
            else if (gate_drains()) /* past the tracker, which two threads may confuse */
                conn_event(fd, one_in(2) ? CONN_READ : CONN_WROTE);
            else if (one_in(2))
                call_read(fd, 1);
            else
                call_write(fd, 10, 10);
        }
        atomic_fetch_sub(&busy, 1);
        pthread_barrier_wait(&still);
        pthread_barrier_wait(&still);
    }
    return NULL;
}

/* ---- the drainer ---- */

static void hook(int fd, bool acts)
{
    if (is_drainer) {
        CHECK(guard[fd] == 1, "fd %d: touched without a claim", fd);
        if (one_in(16))
            sched_yield(); /* long enough for a step of its owner's */
    }
    (void)acts;
}

static void no_figure_is_below_zero(void)
{
    const uint64_t most = OWNERS * (EACH + 1) + SHARED + OWNERS + SHARERS;
    struct totals totals;
    table_totals(&totals);
    CHECK(totals.tracked <= most && totals.in_use <= most, "seed %llu: tracked %lld, in use %lld",
          (unsigned long long)first_seed, (long long)totals.tracked, (long long)totals.in_use);
}

static void visit(int fd)
{
    static int64_t seen_at[FAKES];
    struct conn_limits limits = {
        .now = 1, .seen_at = one_in(2) ? seen_at : NULL, .seen_count = FAKES};
    if (table_kind(fd) == KIND_RECEIVED)
        conn_received(fd, MODE_REPLY);
    enum conn_class look = conn_classify(fd, &limits, one_in(2));
    struct conn *conn = table_find(fd); /* NULL: its end waits for us */
    CHECK(look != CONN_IS_GONE || !conn || atomic_load(&conn->record) & CONN_DISOWNED,
          "fd %d is gone", fd);
    if (gate_drains() && look != CONN_IS_GONE)
        conn_counts(fd, look == CONN_IS_IN_USE);
    if (look == CONN_IS_IDLE && one_in(8))
        shuts += conn_shut(fd);
    else if (look == CONN_IS_SHUT)
        conn_finish(fd, &limits, true);
    if (one_in(200)) {
        struct conn_cost cost = {.look = look};
        if (conn_force(fd, &limits, 0, &cost))
            table_count_forced(one_in(2));
        forces++;
    }
}

static void *drain(void *argument)
{
    is_drainer = true;
    dice = (uint64_t)(uintptr_t)argument;
    for (uint64_t round = 0; round < rounds; round++) {
        while (atomic_load(&busy)) {
            uint32_t high = gate_is_open() ? 0 : atomic_load(&table.high);
            no_figure_is_below_zero();
            for (int fd = 0; fd < (int)high; fd++) {
                if (fd % 8 == 0)
                    no_figure_is_below_zero();
                if (!table_claim(fd))
                    continue;
                claims++;
                CHECK(guard[fd] == 0, "seed %llu: fd %d was claimed while it is closed",
                      (unsigned long long)first_seed, fd);
                guard[fd] = 1;
                visit(fd);
                CHECK(table_is_claimed(fd), "fd %d: who released it?", fd);
                guard[fd] = 0;
                table_release();
            }
        }
        pthread_barrier_wait(&still);
        pthread_barrier_wait(&still);
    }
    return NULL;
}

/* ---- while all stand still ---- */

/* What has been cut, and is not closed yet, has ended already, as it is counted. */
static void end_cut(struct totals *want)
{
    for (uint32_t n = 0; n < table.high; n++) {
        uint64_t record = both_of(table_conn(n));
        if (!(record & CONN_FORCED) || record & CONN_DISOWNED)
            continue;
        want->tracked--;
        want->closed_by_program++;
        want->in_use -= (record & (CONN_IN_USE | CONN_READ_SINCE_SHUT)) != 0;
    }
}

static void check_figures(void)
{
    struct totals want = {0}, got;
    for (struct owner *owner = owners; owner < owners + OWNERS; owner++) {
        for (int i = 0; i < EACH; i++)
            agree(owner, i);
        want.accepted += owner->accepted;
        want.closed_by_program += owner->closed;
        want.disowned += owner->disowned;
        for (size_t i = 0; i < COUNT_OF(owner->conns); i++) {
            const struct model *model = &owner->conns[i];
            want.tracked += model->descriptors && !model->disowned;
            want.in_use += model->descriptors && !model->disowned && (model->in_use || model->owed);
        }
    }
    for (int i = 0; i < SHARED; i++) {
        uint64_t record = both_of(table_find(shared[i].fd));
        CHECK(!!(record & CONN_DISOWNED) == shared[i].disowned);
        want.tracked += !shared[i].disowned;
        want.in_use += !shared[i].disowned && record & (CONN_IN_USE | CONN_READ_SINCE_SHUT);
        want.accepted += shared[i].accepted;
        want.closed_by_program += shared[i].closed;
        want.disowned += shared[i].was_disowned;
    }
    end_cut(&want);
    table_totals(&got);
    got.closed_by_program += got.closed_idle + got.forced; /* whoever was first to end it */
    got.closed_idle = got.forced = 0;
    CHECK(
        !memcmp(&want, &got, sizeof want),
        "seed %llu: tracked %lld of %lld, in use %lld of %lld, accepted %lld of %lld, closed %lld "
        "of %lld, disowned %lld of %lld",
        (unsigned long long)first_seed, (long long)got.tracked, (long long)want.tracked,
        (long long)got.in_use, (long long)want.in_use, (long long)got.accepted,
        (long long)want.accepted, (long long)got.closed_by_program,
        (long long)want.closed_by_program, (long long)got.disowned, (long long)want.disowned);

    uint64_t records = 0;
    for (uint32_t number = 0; number < table.limit; number++) {
        uint64_t record = atomic_load(&table_conn(number)->record);
        records += record && !(record & (CONN_DISOWNED | CONN_FORCED));
        CHECK(record & CONN_SHUT || !(record & CONN_READ_SINCE_SHUT));
        CHECK(!table_is_claimed((int)number), "fd %u stayed claimed", number);
    }
    CHECK(records == want.tracked, "%llu records", (unsigned long long)records);
}

/* In a drain: what the page has is what is marked so, and that is there. */
static void check_counted(void)
{
    struct totals page = {0};
    uint64_t counted = 0;
    page_add(&page, table.shards, table.shard_mask + 1);
    for (uint32_t number = 0; number < table.limit; number++) {
        struct conn *conn = table_conn(number);
        uint64_t record = atomic_load(&conn->record);
        counted += atomic_load(&conn->counts);
        CHECK(!atomic_load(&conn->counts) || (record && !(record & (CONN_DISOWNED | CONN_FORCED))),
              "seed %llu: number %u counts, of record %llx", (unsigned long long)first_seed, number,
              (unsigned long long)record);
    }
    CHECK(page.in_use == (gate_drains() ? counted : 0), "seed %llu: %lld, not %lld",
          (unsigned long long)first_seed, (long long)page.in_use, (long long)counted);
}

static void stand_still(void)
{
    for (uint64_t round = 0; round < rounds; round++) {
        pthread_barrier_wait(&still);
        check_figures();
        check_counted();
        if (round + 1 == OPEN_ROUNDS)
            gate_shut(GATE_CLOSES_IDLE, 0);
        if (round + 1 == CLOSING_ROUNDS) {
            gate_shut(GATE_DRAINS, 0);
            table_begins_to_count();
        }
        atomic_store(&busy, OWNERS + SHARERS);
        pthread_barrier_wait(&still);
    }
}

static void forget_counts(void)
{
    table_count_in(NULL, 0);
}

int main(int argc, char **argv)
{
    pthread_t threads[OWNERS + SHARERS + 1];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)now.tv_nsec | 1;
    steps = argc > 2 ? strtoull(argv[2], NULL, 0) : steps;
    rounds = argc > 3 ? strtoull(argv[3], NULL, 0) : rounds;
    dice = first_seed ? first_seed : 1;
    unit_now = "a crowd of threads leaves the table as the model has it";
    alarm(argc > 2 ? 0 : 250);
    gate_make();
    SAY("seed %llu, %llu steps, %llu rounds\n", (unsigned long long)first_seed,
        (unsigned long long)steps, (unsigned long long)rounds);

    CHECK(!table_make(FAKES, FAKES));
    fork_make(forget_counts, forget_counts);
    fake_hook = hook;
    for (int fd = 0; fd < FAKES; fd++)
        fakes[fd].fingerprint = FINGERPRINT;

    int fd = 20;
    for (int n = 0; n < SHARED; n++) {
        shared[n].fd = fd++;
        shared[n].accepted = 1;
        conn_accepted(shared[n].fd, MODE_REPLY, FINGERPRINT, false);
    }
    for (int n = 0; n < OWNERS * EACH; n++) {
        owners[n % OWNERS].fd[n / OWNERS] = fd++;
        owners[n % OWNERS].holds[n / OWNERS] = NOTHING;
    }

    int count = 0;
    pthread_barrier_init(&still, NULL, COUNT_OF(threads) + 1);
    atomic_store(&busy, OWNERS + SHARERS);
    for (int n = 0; n < OWNERS; n++) {
        owners[n].random = unit_random(&dice) | 1;
        pthread_create(&threads[count++], NULL, own, &owners[n]);
    }
    for (int n = 0; n < SHARERS; n++) {
        dice_of_sharer[n] = unit_random(&dice) | 1;
        pthread_create(&threads[count++], NULL, share, &dice_of_sharer[n]);
    }
    pthread_create(&threads[count++], NULL, drain, (void *)(uintptr_t)(unit_random(&dice) | 1));
    stand_still();
    while (count)
        pthread_join(threads[--count], NULL);
    SAY("ok - %s: %llu steps, %llu claims, %llu half-closes, %llu closes met a claim\n", unit_now,
        (unsigned long long)(steps * rounds * (OWNERS + 4 * SHARERS)), (unsigned long long)claims,
        (unsigned long long)shuts, (unsigned long long)waits);
    return 0;
}
