/* SPDX-License-Identifier: MIT */
/*
 * http_cache.h - heads that were looked at before: what a look at them came to, by a fingerprint.
 *
 * Under a load that makes a look at each head cost something, heads come again and again: a client
 * asks for the same with the same, and all answers of a second bear the same date. Of such a head
 * each byte goes into a fingerprint, which costs a tenth of a look.
 *
 * The fingerprint is NH (Black et al., "UMAC", CRYPTO 1999), in 64-bit words with a key that each
 * process has of its own. Of two different heads of one length it is the same for one key in 2^64,
 * whoever has made the heads up without knowing the key; and nothing of it can be seen outside.
 *
 * Nothing of a head is kept but that. Any thread may look and learn at any time: an entry of which
 * two threads have written a part each fits to no fingerprint.
 */
#ifndef WEIR_HTTP_CACHE_H
#define WEIR_HTTP_CACHE_H

#include "base/common.h"

/* What a look at a head has come to, where it begins a message and is whole. */
union http_head {
    uint64_t all; /* 0: it is not known */
    struct {
        uint64_t length : 10; /* bytes, of the head itself */
        uint64_t flags : 8;   /* these three as http_look.h has them when a head ends */
        uint64_t what : 10;
        uint64_t left : 36;
    };
};

/* Learns from now on. seed: 16 random bytes. In one thread, once. */
void http_cache_begin(const unsigned char seed[16]);

/* The head with which these bytes begin, where it has been learnt. */
union http_head http_cache_find(bool is_answer, const char *bytes, size_t n);

/* These bytes begin with this head, which a look at all of it has shown. */
void http_cache_learn(bool is_answer, const char *bytes, size_t n, union http_head head);

#endif
