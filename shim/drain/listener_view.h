/* SPDX-License-Identifier: MIT */
/* listener_view.h - what an accept needs to know of its listener. */
#ifndef WEIR_LISTENER_VIEW_H
#define WEIR_LISTENER_VIEW_H

#include "base/settings.h"

enum listener_state {
    LISTENING = 1,
    CLOSING, /* new SYNs are dropped, and its queue is accepted from */
    STOPPED, /* swapped */
};

/* What an accept on a listener gives to its connections. */
struct listener_view {
    _Atomic int state; /* enum listener_state; 0: it does not listen yet */
    enum mode mode;
    uint32_t address; /* sock_hash of the listener's own address; 0: not known */
    uint16_t port;    /* in network order; 0: not known */
    bool is_unix;
};

#endif
