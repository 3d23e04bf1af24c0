/* tree_lines: what a super server starts for each connection. Sends back each line that it reads,
 * after 1.5 s if it is "slow". SPDX-License-Identifier: MIT */
#include <string.h>
#include <unistd.h>

int main(void)
{
    char line[256];
    ssize_t length;
    while ((length = read(0, line, sizeof line)) > 0) {
        if (length >= 4 && memcmp(line, "slow", 4) == 0)
            usleep(1500000);
        if (write(1, line, (size_t)length) != length)
            return 1;
    }
    return length < 0;
}
