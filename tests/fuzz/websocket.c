/* SPDX-License-Identifier: MIT */
/* WebSocket's frames: the talk at random of tests/unit/websocket.c beside its plain parser, whose
 * dice are the input. What is not told alike ends the run. */
#define main unit_tests
#define UNIT_FAILS abort()
#include "../unit/websocket.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dice_take(data, size);
    converse();
    return 0;
}
