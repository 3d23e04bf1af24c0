/* env_overwritten: writes over its whole environment, as a title would, before it listens.
 * SPDX-License-Identifier: MIT
 *
 *   env_overwritten PORT
 */
#include <string.h>
#include <unistd.h>

#include "listen.h"

extern char **environ;

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    char *port = strdup(argv[1]);
    for (char **entry = environ; *entry; entry++)
        memset(*entry, 'x', strlen(*entry));
    int listener = listen_on(port, SOCK_STREAM, 5);
    for (;;)
        close(accept(listener, NULL, NULL));
}
