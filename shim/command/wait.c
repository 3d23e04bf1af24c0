/* SPDX-License-Identifier: MIT */
#include "command/wait.h"

#include "command/proc/budget.h"
#include "base/sys.h"
#include "command/say.h"
#include "base/text.h"
#include "command/view.h"

#include <inttypes.h>

#define POLL_MS 50
#define LINE_MS 1000
/* close-idle: nothing tells that a process has done it. One that has closes what it closes at once.
 */
#define STILL_MS 1000

/* ---- progress ---- */

/* On a terminal one line that is written over, elsewhere a line a second. */
struct progress {
    bool is_terminal, is_drawn;
    int64_t drawn_at;
};

static void clear(struct progress *progress)
{
    if (progress->is_drawn)
        printf("\r\033[K");
    progress->is_drawn = false;
    fflush(stdout);
}

static void draw(struct progress *progress, const struct view *view)
{
    int64_t now = sys_now_ms();
    char time[64] = "";
    struct text text = TEXT_ON(time);
    if (now - progress->drawn_at < (progress->is_terminal ? 100 : LINE_MS))
        return;
    progress->drawn_at = now;
    if (view->has_drain) {
        text_string(&text, ", ");
        text_tenths(&text, view->elapsed);
        if (view->left >= 0) {
            text_string(&text, ", ");
            text_tenths(&text, view->left);
            text_string(&text, " left");
        }
    }
    printf("%s%s, pid %" PRId32 ": %s: %" PRIu64 " in use, %" PRIu64 " idle%s%s",
           progress->is_terminal ? "\r\033[K" : "", view->program, view->pid, view->phase_name,
           view->totals.in_use, view->idle, time, progress->is_terminal ? "" : "\n");
    progress->is_drawn = progress->is_terminal;
    fflush(stdout);
}

/* ---- the end ---- */

static bool is_over(const struct tree *tree)
{
    bool over = tree->page.phase == PHASE_DRAINED, parts_are = true;
    for (const struct tree *part = tree->joined; part; part = part->next)
        parts_are = parts_are && part->page.phase == PHASE_DRAINED;
    return over && (parts_are || tree->page.timed_out); /* nobody waits for them any more */
}

static bool any_lives(struct tree *tree)
{
    bool lives = tree_lives(tree);
    for (struct tree *part = tree->joined; part && !lives; part = part->next)
        lives = tree_lives(part);
    return lives;
}

/* Names the processes without which the drain has ended. Returns whether there are any. */
static bool say_undone(const struct view *view)
{
    bool any = false;
    for (size_t i = 0; i < view->processes && view->timed_out; i++) {
        const struct view_process *process = &view->process[i];
        if (process->is_drained)
            continue;
        say("pid %" PRId32 " has not drained: it has %" PRIu64 " connections, and may still accept",
            process->pid, process->tracked);
        any = true;
    }
    return any;
}

static int say_drained(const struct view *view)
{
    char time[32];
    struct text text = TEXT_ON(time);
    text_tenths(&text, view->elapsed);
    bool undone = say_undone(view);
    printf("%s, pid %" PRId32 ": %sdrained in %s: %" PRIu64 " forced, %" PRIu64 " of them in use\n",
           view->program, view->pid, undone ? "not wholly " : "", time, view->totals.forced,
           view->forced_in_use);
    return view->forced_in_use ? EXIT_FORCED : undone ? EXIT_FAILED : EXIT_DONE;
}

static int say_died(const struct view *view)
{
    say("%s, pid %" PRId32 ": it died in the middle of the drain: its own log may say why",
        view->program, view->pid);
    return EXIT_FAILED;
}

/* ---- waiting ---- */

struct still {
    uint64_t idle;
    int64_t since;
};

/* Whether as much is closed as a close-idle closes. */
static bool is_still(struct still *still, const struct view *view)
{
    uint64_t idle = view->idle;
    if (idle != still->idle || !still->since)
        *still = (struct still){idle, sys_now_ms()};
    return !idle || sys_now_ms() - still->since >= STILL_MS;
}

int wait_for(struct tree *tree, enum action action)
{
    struct progress progress = {.is_terminal = isatty(STDOUT_FILENO)};
    struct still still = {0};
    int code = -1;
    stop_when_interrupted(true);
    while (code < 0) {
        struct view view;
        budget_renew();
        bool lives = any_lives(tree), is_there = tree_copy(tree);
        /* Of the last copy nobody may be left but those that they have made since. */
        if (!lives && !(lives = any_lives(tree)))
            is_there = tree_copy(tree) && is_there; /* what they wrote before they ended */
        view_take(&view, tree, false);
        bool done = action == ACTION_CLOSE_IDLE ? is_still(&still, &view) : is_over(tree);
        if (done || !is_there || !lives || interrupted)
            clear(&progress);
        if (!is_there) {
            say("pid %" PRId32 ": its state page was cut off: somebody has tampered with it",
                view.pid);
            code = EXIT_FAILED;
        } else if (action == ACTION_CLOSE_IDLE && (done || !lives)) {
            printf("%s, pid %" PRId32 ": %" PRIu64 " idle, %" PRIu64 " in use\n", view.program,
                   view.pid, view.idle, view.totals.in_use);
            code = EXIT_DONE;
        } else if (done) {
            code = say_drained(&view);
        } else if (!lives) {
            code = say_died(&view);
        } else if (interrupted) {
            say("no longer waiting: the drain goes on (weir status %" PRId32 ")", view.pid);
            code = 128 + interrupted;
        } else {
            draw(&progress, &view);
            sleep_ms(POLL_MS);
        }
        view_free(&view);
    }
    stop_when_interrupted(false);
    return code;
}
