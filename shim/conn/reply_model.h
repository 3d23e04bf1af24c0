/* SPDX-License-Identifier: MIT */
/*
 * reply_model.h - what a connection that never rests teaches about its answers.
 *
 * A client whose next request follows each answer at once leaves no quiet moment in which the
 * answer could be seen to be whole. But each request of its proves that the answer before it was:
 * how many bytes that had, to a request of how many, in how many writes. While the process drains
 * this is noted. An answer that has come to what the last ones did, to requests alike, is taken for
 * whole in the write that brings it there. Where requests differ (a "100 Continue" and what follows
 * it, several at once and one alone) nothing is learned at first; who goes on like that for a
 * second is taken by what answered requests as long as the last, or by the number of writes. Where
 * the client sends while an answer is on its way, or an answer's pieces are far apart, there is
 * nothing to learn.
 *
 * Read and written by the program's own threads, a connection by one at a time as a rule: two at
 * once can only make it learn more slowly. Memory alone; there is none before a drain.
 */
#ifndef WEIR_REPLY_MODEL_H
#define WEIR_REPLY_MODEL_H

#include "base/common.h"

/*
 * Notes from now on, of `count` records of `most` that there may be. In the worker. False:
 * there is no room for all: of the others nothing is learned.
 */
bool reply_model_begin(uint32_t count, uint32_t most);

/* The record of this number is a new connection's. */
void reply_model_forget(uint32_t number);

/*
 * A read has returned so many bytes; full: as many as it could. after_answer: nothing was owed any
 * more.
 */
void reply_model_read(uint32_t number, size_t bytes, bool full, bool after_answer);

/* What the answers before say of one that has come so far. */
enum reply_model_sign {
    REPLY_NONE,
    REPLY_LIKELY, /* whole: it has had as many writes as any before it */
    REPLY_SURE,   /* whole: it is as long as all of the last ones were, to requests as long */
};

/*
 * A look before a write of an answer has told whether the client has sent more already. One that
 * has does not wait for its answers.
 */
void reply_model_looked_ahead(uint32_t number, bool has_sent);

/* What the answer will be taken for when a write of `bytes` has been added to it. */
enum reply_model_sign reply_model_expects(uint32_t number, size_t bytes);

/* A write took `bytes`. */
enum reply_model_sign reply_model_wrote(uint32_t number, size_t bytes);

/* Whether the client has waited for its answers for so long that it can be taken to do so always.
 */
bool reply_model_is_in_step(uint32_t number);

/*
 * A write went out on a connection that was half-closed by then; whether one did so within the last
 * ms, of an answer that was on its way when the drain began.
 */
void reply_model_wrote_on(uint32_t number);
bool reply_model_wrote_on_within(uint32_t number, uint32_t ms);

/*
 * An answer that we keep the kernel from sending: for as long as the write of it lasts, or until
 * the program meets the end behind it, so that our FIN goes out with it.
 */
enum reply_model_hold { HOLD_NONE, HOLD_WRITE, HOLD_END };
void reply_model_holds(uint32_t number, enum reply_model_hold hold);
enum reply_model_hold reply_model_held(uint32_t number);

/*
 * A write has added to an answer that seemed to be whole; also before a drain. It is followed by
 * reply_model_wrote. A pause longer than `most` ms teaches nothing.
 */
void reply_model_goes_on(uint32_t number, uint32_t most);

/*
 * Returns how long a pause within its answer may be, as far as others were, on any connection. The
 * last byte of the answer came `took` ms behind the request: that tells where the answer began
 * before the drain.
 */
int64_t reply_model_pause_ms(uint32_t number, int64_t took);

/* Whether the client has waited for the last answers, as far as is known. */
bool reply_model_waits_for_answers(uint32_t number);

#endif
