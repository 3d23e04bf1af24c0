/* SPDX-License-Identifier: MIT */
/*
 * listener_list.h - the tree's listeners, as the state page lists them.
 *
 * An index is that of the list + 1; 0: there was no room.
 */
#ifndef WEIR_LISTENER_LIST_H
#define WEIR_LISTENER_LIST_H

#include "base/state_page.h"

/* Adds a listener of this process. from_outside: the process that started the tree has handed it
 * over. is_picked: the kernel has picked its port, or its name. */
int listener_list_add(const struct sockaddr *addr, socklen_t len, enum mode mode, bool from_outside,
                      bool is_picked);

/* Sets the state of a listener; returns the last one that any process has set. */
void listener_list_set(int index, enum page_listener_state state);
enum page_listener_state listener_list_state(int index);

/* has_children: this process has, and they may have it still. */
void listener_list_remove(int index, bool has_children);

/* Tells whether that page's tree has a listener of this address that one of its processes has made
 * itself, or that it was handed by the process that started the tree, or that was added as picked.
 */
enum listener_is { LISTENER_IS_MADE, LISTENER_IS_HANDED, LISTENER_IS_PICKED };
bool listener_list_has(const struct page *page, const struct sockaddr *addr, socklen_t len,
                       enum listener_is what);

/* AF_UNIX: a client of that listener is no process of the tree, as whoever else has it sees as
 * well; and whether that is so, or not known. */
void listener_list_serves_outside(int index);
bool listener_list_may_serve_outside(int index);

/*
 * Tells whether any process of the tree but `but` (0: none) has connections, or may still accept
 * some, whose clients are no processes of the tree: to answer them it may have to ask another one.
 */
bool listener_list_tree_serves(int32_t but);

/* Tells whether another process of the tree than that one has a listener. */
bool listener_list_has_others(int32_t pid);

/* Tells whether no other process of the tree that drains with this one is still to stop a listener
 * of the same address. */
bool listener_list_is_last(int index);

/* Tells whether that process, which has connected to this one, is another of the tree that drains
 * with it. */
bool listener_list_is_of_tree(int32_t pid);

#endif
