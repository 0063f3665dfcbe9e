/* What each fuzz target defines, see llvm.org/docs/LibFuzzer.html.
 * Used by replay.c and the targets.
 * Never declares a helper: a target stands alone. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);
