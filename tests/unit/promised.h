/* SPDX-License-Identifier: MIT */
/* promised.h - the steps of INTERFACE.md section 2, written down a second time. */
#ifndef WEIR_PROMISED_H
#define WEIR_PROMISED_H

#include "conn/conn.h"

/*
 * A row a mode: is a connection in use (+) or idle (-) after the event, or what it was (=)? The
 * columns are enum conn_event's.
 */
static const char *const promised[MODES] = {
    /*                 read wrote cut timeout mark-idle mark-in-use */
    [MODE_MANUAL] = "====-+",
    [MODE_AUTOMATIC] = "+===-+",
    [MODE_DEADLINE] = "+==--+",
    [MODE_REPLY] = "+-+=-+",
    [MODE_PROTOCOL] = "+-+=-+", /* where its framing has it so */
};

#endif
