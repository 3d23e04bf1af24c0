/* SPDX-License-Identifier: MIT */
#include "drain/signals_jumps.h"

#include "drain/signals_mask.h"
#include "drain/signals_view.h"

#include <setjmp.h>

#ifdef __GLIBC__
/*
 * The kernel's mask is the first word of a jmp_buf's sigset_t, and on x86-64 the place of a shadow
 * stack comes behind it (glibc, sysdeps/unix/sysv/linux/x86/setjmpP.h). The last words are
 * nobody's.
 */
#define JUMP_MARK UINT64_C(0x7765697276696577)

struct jump_mask {
    uint64_t kernel, rest[12];
    uint64_t mark, view, hidden;
};

_Static_assert(sizeof(struct jump_mask) == sizeof(((sigjmp_buf *)NULL)[0]->__saved_mask),
               "lies in its place");

static struct jump_mask *mask_of(struct __jmp_buf_tag *place)
{
    return (struct jump_mask *)(void *)&place->__saved_mask;
}

void signals_jump_marked(struct __jmp_buf_tag *place)
{
    struct jump_mask *mask = mask_of(place);
    mask->mark = JUMP_MARK;
    mask->view = signals_own.blocked;
    mask->hidden = signals_hidden();
}

void signals_jumps(struct __jmp_buf_tag *place)
{
    struct jump_mask *saved = mask_of(place);
    signals_own.waits = signals_own.changes = false; /* the call that it may have been in is left */
    if (!place->__mask_was_saved || saved->mark != JUMP_MARK)
        return;
    /* As if the program set the mask that it had there: some may have become ours since, or not be
     * so any more. */
    sigset_t set, kernel;
    struct signals_mask mask;
    sigemptyset(&set);
    signals_set_word(&set, saved->kernel | (saved->view & saved->hidden));
    signals_mask(SIG_SETMASK, &set, &kernel, &mask);
    saved->kernel = signals_word(&kernel);
    signals_jump_marked(place);
    signals_own.held_back = 0;
    signals_own.changes = false; /* nobody will say that the kernel has been told */
}
#endif
