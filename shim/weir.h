/* SPDX-License-Identifier: MIT */
/*
 * weir.h - the C interface of Weir, for programs and plug-ins that choose to cooperate.
 *
 * Every function is a weak symbol: linked without the shim it is NULL, so that a program tests
 * `if (weir_mark_idle)` and runs the same with and without LD_PRELOAD=libweir.so. Programs that
 * are not linked against it find the functions with dlsym(RTLD_DEFAULT, "weir_mark_idle").
 * All of them may be called from any thread; the marks also from a signal handler.
 */
#ifndef WEIR_H
#define WEIR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* This process's connections. accepted counts since the start, the others are of now. */
struct weir_counts {
    uint64_t tracked;
    uint64_t idle;
    uint64_t in_use;
    uint64_t accepted;
};

#ifndef WEIR_API
#define WEIR_API __attribute__((weak))
#endif

/*
 * The connection on fd may be closed at any time from now on, or may not.
 * Returns 0; -1 with errno ENOENT where fd is not tracked.
 */
WEIR_API int weir_mark_idle(int fd);
WEIR_API int weir_mark_in_use(int fd);

/*
 * The connection on fd is the program's alone from now on: no drain closes or waits for it.
 * Returns 0; -1 with errno ENOENT where fd is not tracked, EALREADY where it is disowned already.
 */
WEIR_API int weir_disown(int fd);

/* Closes what is idle now and waits for nothing. Returns 0. */
WEIR_API int weir_close_idle(void);

/*
 * weir_drain closes what is idle, accepts no more, closes each other connection as it becomes
 * idle; weir_drain_all closes every tracked connection and accepts no more. Both wait until the
 * last is gone: so they are not for the thread that has to close them.
 * Return 0; -1 with errno ETIMEDOUT when WEIR_TIMEOUT forced some, ENOBUFS when connections or
 * listeners go on for which the library had no room (the log names them), EAGAIN when the drain
 * could not be begun.
 */
WEIR_API int weir_drain(void);
WEIR_API int weir_drain_all(void);

/* Fills *counts with this process's figures. Returns 0. */
WEIR_API int weir_counts(struct weir_counts *counts);

#ifdef __cplusplus
}
#endif

#endif
