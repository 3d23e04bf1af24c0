/* SPDX-License-Identifier: MIT */
#include "drain/listener_queue.h"

#include "base/log.h"
#include "base/sock.h"
#include "base/sys.h"
#include "conn/fdtable.h"
#include "tree/process_slot.h"

#define TURNED_AWAY_MOST 65536 /* the most that a backlog is set to, as a rule */

static void say_lost(int fd, uint32_t unread)
{
    struct log_line line;
    log_begin(&line, LOG_INFO);
    text_string(&line.text, "forced ");
    sock_peer(fd, &line.text);
    if (unread)
        text_add(&line.text, ": in the accept queue, %u unread", unread);
    else /* it inherited MINTTL */
        text_string(&line.text, ": in the accept queue, and what it may have sent was dropped");
    log_keep(&line);
}

void listener_turn_away(int fd)
{
    int got;
    sock_never_block(fd); /* another process may accept in between: those that share it drain too */
    for (int n = 0; n < TURNED_AWAY_MOST && (got = sock_accept(fd)) >= 0; n++) {
        /* What a connection that inherited MINTTL was sent has been dropped. */
        sock_clear_minttl(got);
        uint32_t unread = sock_unread(got);
        if (unread || sock_had_minttl(got)) {
            table_count_turned_away();
            process_slot_count_loss(false, true, false);
            say_lost(got, unread);
        }
        sys1(SYS_close, got);
    }
}
