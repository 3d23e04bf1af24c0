/* SPDX-License-Identifier: MIT */
/* inherited.h - the listeners and connections that a process finds open when it is loaded. */
#ifndef WEIR_INHERITED_H
#define WEIR_INHERITED_H

#include "base/common.h"

/* Whether any of the first descriptors listens. */
bool inherited_has_listener(void);

/* Takes note of them. serve: is called before each; false: the shim stands aside. */
void inherited_take(bool (*serve)(void));

#endif
