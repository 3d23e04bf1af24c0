/* SPDX-License-Identifier: MIT */
#include "drain/stage.h"

#include "base/state_page.h"
#include "base/sys.h"
#include "conn/fork_detect.h"
#include "drain/walk.h"
#include "tree/coordinator.h"
#include "tree/membership.h"
#include "tree/process_slot.h"

#include <fcntl.h>

_Atomic uint32_t stage;
bool stage_began_tree;

bool stage_is_first(void)
{
    return stage_began_tree && tree_page && fork_pid() == tree_page->pid;
}

/*
 * A program that came and went leaves no page behind, nor does a tree that has drained. Any other
 * page is removed by the next process that starts to serve (pagefile_clean).
 */
void stage_ends(void)
{
    /* In a child that has not noticed yet that it is one, the slot is its parent's. */
    if (in_vfork_child() || !generation_now())
        return;
    bool came_and_went = stage_is_first() && stage_is_dormant() && !membership_has_forked();
    walk_hold();
    process_slot_give_back();
    walk_go_on();
    if (*membership_name() == '/' &&
        (came_and_went || (coordinator_tree_is_drained() && process_slot_is_alone())))
        sys3(SYS_unlinkat, AT_FDCWD, membership_name(), 0);
}
