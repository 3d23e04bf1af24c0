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
 * over. */
int listener_list_add(const struct sockaddr *addr, socklen_t len, enum mode mode,
                      bool from_outside);

/* Sets the state of a listener; returns the last one that any process has set. */
void listener_list_set(int index, enum page_listener_state state);
enum page_listener_state listener_list_state(int index);

/* has_children: this process has, and they may have it still. */
void listener_list_remove(int index, bool has_children);

/* Tells whether a process of that page's tree has made a listener of this address itself. */
bool listener_list_made(const struct page *page, const struct sockaddr *addr, socklen_t len);

/* Tells whether the process that started the tree has handed over a listener of this address. */
bool listener_list_is_from_outside(const struct sockaddr *addr, socklen_t len);

/*
 * Tells whether another process of the tree has connections, and may ask this one for what it needs
 * to answer. A process that itself serves others by AF_UNIX does not count: two would wait for each
 * other.
 */
bool listener_list_others_serve(void);

/* The same of one process, whose own drain is not over: whether it has connections or not. */
bool listener_list_may_ask(int32_t pid);

#endif
