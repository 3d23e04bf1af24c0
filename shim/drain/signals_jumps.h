/* SPDX-License-Identifier: MIT */
/*
 * signals_jumps.h - the mask in a sigjmp_buf, and what the kernel does not know of it.
 */
#ifndef WEIR_SIGNALS_JUMPS_H
#define WEIR_SIGNALS_JUMPS_H

#include "base/common.h"

/* sigsetjmp has saved, or is about to save, the mask there; siglongjmp is about to restore it: what
 * the kernel does not know of it is restored here. */
struct __jmp_buf_tag;
void signals_jump_marked(struct __jmp_buf_tag *place);
void signals_jumps(struct __jmp_buf_tag *place);

#endif
