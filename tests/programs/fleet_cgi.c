/* fleet_cgi: a CGI program that takes its time. The body, a line, is written to "executed.apache" in
 * its directory, and is the answer QUERY_STRING seconds later.
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char id[100] = "";
    const char *seconds = getenv("QUERY_STRING");
    if (!fgets(id, sizeof id - 1, stdin)) // Apache has ended before it had passed it on
        return 1;
    size_t length = strcspn(id, "\n");
    id[length] = '\n';
    int executed = open("executed.apache", O_WRONLY | O_APPEND);
    if (executed < 0 || write(executed, id, length + 1) != (ssize_t)length + 1)
        return 1;
    usleep(1000000 * atof(seconds ? seconds : "0"));
    printf("Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%.*s", length, (int)length, id);
    return 0;
}
