/* SPDX-License-Identifier: MIT */
/* Does nothing, and is linked statically: no loader, so no library that would be preloaded. */
int main(void)
{
    return 0;
}
