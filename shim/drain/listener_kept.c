/* SPDX-License-Identifier: MIT */
#include "drain/listener_kept.h"

#include "base/settings.h"
#include "base/sock.h"
#include "base/sys.h"
#include "tree/coordinator.h"
#include "tree/listener_list.h"
#include "tree/process_slot.h"


static _Atomic int kept[PAGE_LISTENERS + 1]; /* the descriptor and one more; 0: not yet there */
_Atomic uint32_t listener_kept;

static int number(uint32_t i)
{
    return atomic_load(&kept[i]) - 1;
}

int listener_keep(int fd)
{
    long copy = sys_duplicate(fd);
    if (copy >= 0 && atomic_load(&listener_kept) < PAGE_LISTENERS)
        atomic_store(&kept[atomic_fetch_add(&listener_kept, 1)], (int)copy + 1);
    return (int)copy;
}

bool listener_keeps(int fd)
{
    for (uint32_t i = 0; i < atomic_load(&listener_kept); i++)
        if (number(i) == fd)
            return true;
    return false;
}

bool listener_keeps_path(const char *path)
{
    for (uint32_t i = 0; i < atomic_load(&listener_kept); i++) {
        struct sockaddr_storage own;
        socklen_t len = sock_own_address(number(i), &own);
        if (len && sock_is_path((struct sockaddr *)&own, len, path))
            return true;
    }
    return false;
}

/* ---- a program that binds again as it ends ---- */

static bool is_stored(void)
{
    return settings_now()->listeners == LISTENERS_STORE && tree_page &&
           atomic_load(&tree_page->keeps_listeners) == KEEPS_ALL;
}

void listener_closes(const struct listener *listener, int fd)
{
    if (is_stored() && coordinator_is_here() && atomic_load(&listener->view.state) != STOPPED &&
        sock_is_listener(fd) == 1)
        listener_keep(fd);
}

bool listener_binds_again(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (!is_stored()) /* else a successor may accept from it by now */
        return false;
    for (uint32_t i = 0; i < atomic_load(&listener_kept); i++)
        if (sock_may_take_place(number(i), fd, addr, len))
            return sock_take_place(number(i), fd);
    return false;
}
