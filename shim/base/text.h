/* SPDX-License-Identifier: MIT */
/*
 * text.h - a line put together without stdio: on any thread, in a signal handler.
 */
#ifndef WEIR_TEXT_H
#define WEIR_TEXT_H

#include "base/common.h"

#include <stdarg.h>
#include <sys/socket.h>

/* Appends to a buffer of fixed size and cuts what does not fit; always ends with a NUL. */
struct text {
    char *at;
    size_t used, size;
};

#define TEXT_ON(buffer) ((struct text){(buffer), 0, sizeof(buffer)})

void text_string(struct text *text, const char *string);

/* Appends as printf(3) would: %s, %d (of what is not negative), %u and %lu alone. */
void text_add(struct text *text, const char *format, ...) __attribute__((format(__printf__, 2, 3)));
void text_add_list(struct text *text, const char *format, va_list args);

/* At most `most` bytes of it, control characters and what is not ASCII as \xNN. */
void text_escaped(struct text *text, const char *string, size_t most);
void text_number(struct text *text, uint64_t number);

/* Tenths of a second: "25.0s". */
void text_tenths(struct text *text, int64_t ms);

/* A duration as a user writes it: "250ms", "25s". */
void text_duration(struct text *text, int64_t ms);

/* "203.0.113.7:5123", "[::1]:80", "unix:/run/x.sock". */
void text_address(struct text *text, const struct sockaddr *addr, socklen_t len);

bool text_equal(const char *a, const char *b);
bool text_same_bytes(const void *a, const void *b, size_t n);
/* Whether string begins with prefix: what follows it, or NULL. */
const char *text_after(const char *string, const char *prefix);
size_t text_length(const char *string);

/* Reads a number of digits of that base from *at, and moves *at behind it. What is larger than all
 * numbers is UINT64_MAX. */
uint64_t text_take_number(const char **at, unsigned int base);

/* A whole text as a number. -1: it is none, or above `most`. */
int text_number_in(const char *text, int most);

/* The value of the variable of this name ("PATH=") in an environment, which clearenv(3) may have
 * made NULL. NULL: there is none. */
char *text_variable(char *const *envp, const char *name);

/* Takes every variable whose name begins so out of it. */
void text_drop_variables(char **envp, const char *name);

/* Returns what stands behind so many words, and the spaces around them. */
const char *text_skip_words(const char *at, int count);

#endif
