/* SPDX-License-Identifier: MIT */
/* sock_option.h - options of one int, for the files of sock.h. */
#ifndef WEIR_SOCK_OPTION_H
#define WEIR_SOCK_OPTION_H

#include "base/sys.h"

#include <sys/socket.h>

static inline long get_int(int fd, int level, int name, int *value)
{
    socklen_t len = sizeof *value;
    return sys5(SYS_getsockopt, fd, level, name, value, &len);
}

static inline long set_int(int fd, int level, int name, int value)
{
    return sys5(SYS_setsockopt, fd, level, name, &value, sizeof value);
}

#endif
