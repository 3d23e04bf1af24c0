/* SPDX-License-Identifier: MIT */
/*
 * process_slot.h - this process's slot in its tree's state page, and what it says of itself there.
 *
 * A slot holds a process's pid, its counts and its phase. It is taken when the process serves, and
 * given back when it ends; that of a process that died is taken from it where none is free.
 */
#ifndef WEIR_PROCESS_SLOT_H
#define WEIR_PROCESS_SLOT_H

#include "base/state_page.h"

/* Makes sure that this process has a slot, where it can have one. */
void process_slot_take(void);
bool process_slot_is_taken(void);

/* Returns this process's slot; NULL: it has none. */
struct page_slot *process_slot_now(void);

/* Returns the slot with this pid; NULL: there is none. */
struct page_slot *process_slot_of(int32_t pid);

/* Tells whether there is one, and that process lives. */
bool process_slot_lives(int32_t pid);

/* Tells whether no other process of the tree serves. */
bool process_slot_is_alone(void);

/* Returns how many slots have been used. */
static inline uint32_t process_slots_used(void)
{
    return page_used(&tree_page->slots_used, PAGE_SLOTS);
}

/* Adds what an earlier program of this process has left to the page's sums, and frees its slot. */
void process_slot_fold_own(int32_t pid);

/*
 * Does the same with those of processes that have died. is_missed: what was in use there in a drain
 * is lost, and logged (page_add_slot). It makes system calls.
 */
void process_slots_reap(bool is_missed);

/*
 * Does the same with a process that lives and has not ended its drain (PAGE_SLOTS: with all that
 * have no slot): its connections count as forced, once, and what it counts later is no part of the
 * sums.
 */
void process_slot_give_up(uint32_t index);

/* Does the same with this process's own slot. */
void process_slot_give_back(void);

/* Tells whether this process is in a pid namespace of its own. Then no pid of the page means
 * anything to it, nor its own to others, and it has no slot. */
bool process_slot_is_foreign(void);

/* Begins anew in a child, which has no slot yet. Returns whether its parent had one: under which
 * pid, since when. */
struct process_slot_origin {
    int32_t pid;
    uint64_t since;
};
bool process_slot_forked(struct process_slot_origin *parent);

/* Tells the page how many connections are in use here, for those who can't look; and whether every
 * process that will has done so since the last order. */
void process_slot_count(void);
bool process_slots_have_counted(void);

void process_slot_set_phase(enum phase phase);

/*
 * Tells the page what a walk over its connections has found. One that arrives makes that void until
 * the next walk: with a close of another the sum is as it was. arrived: process_slot_arrivals
 * before the walk.
 */
void process_slot_tell_clients(uint64_t outside, uint64_t of_tree, uint32_t arrived);
uint32_t process_slot_arrivals(void);
void process_slot_arrived(void);

void process_slot_set_flag(uint32_t flag, bool on);
void process_slot_count_loss(bool in_use, bool unread, bool unsent);

/* Tells whether any process of the tree has this flag in its slot. */
bool process_slot_any_has(uint32_t flag);

#endif
