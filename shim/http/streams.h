/* SPDX-License-Identifier: MIT */
/*
 * streams.h - the streams of an HTTP/2 connection that are open: one that neither side has reset,
 * and that not both have ended.
 *
 * Of each its number is kept, and which side has ended it, in lists that all connections take from
 * one stock: a connection has none before its first stream, and gives them back when its number is
 * another connection's. One thread opens streams (who reads); both sides' end them, and anybody may
 * ask how many there are.
 */
#ifndef WEIR_STREAMS_H
#define WEIR_STREAMS_H

#include "base/common.h"

/* All zero: there has never been one. */
union streams {
    _Atomic uint64_t all;
    struct {
        _Atomic uint32_t last; /* the highest number of those that were opened */
        _Atomic uint16_t list; /* the first of the connection's; 0: none */
        _Atomic uint16_t open;
    };
};
_Static_assert(sizeof(union streams) == sizeof(uint64_t), "one word");

/* What has ended a stream; the first two are one side's word. */
enum stream_end { ENDED_BY_CLIENT, ENDED_BY_SERVER, ENDED_BY_RESET };

/* Opens a stream, whose number is higher than the last one's, and which its client may have ended
 * by then. False: there is no room. */
bool streams_open(union streams *streams, uint32_t number, bool has_ended);

/* A stream that is not open (any more) stays so. */
void streams_end(union streams *streams, uint32_t number, enum stream_end end);

/* Those with higher numbers are not served (GOAWAY). */
void streams_end_above(union streams *streams, uint32_t number);

/* For a new connection, where there was another before. */
void streams_give_back(union streams *streams);

#endif
