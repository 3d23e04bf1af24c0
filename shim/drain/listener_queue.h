/* SPDX-License-Identifier: MIT */
/* listener_queue.h - who still waits in a listener's queue when nobody will accept any more. */
#ifndef WEIR_LISTENER_QUEUE_H
#define WEIR_LISTENER_QUEUE_H

/*
 * Closes the connections in the queue of fd, which is the worker's own and out of the program's
 * reach. A client that has sent has lost that: it is counted as forced, and named in the log (by
 * log_keep).
 */
void listener_turn_away(int fd);

#endif
