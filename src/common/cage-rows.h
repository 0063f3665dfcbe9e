/* Words for the rows of a cage's table.
 * Never included by a header: the names are short ones. */
#pragma once

#include <errno.h>

#include "common/cage.h"

/* clang-format off */
#define ROW(call, error, ...) { call, error, 1, { { __VA_ARGS__ } } }
#define ALWAYS(call, error) { call, error, 0, { { 0 } } }

#define ALLOW(call) ALWAYS (call, 0)
#define ALLOW_IF(call, argument, comparison, ...) ROW (call, 0, argument, comparison, __VA_ARGS__)
#define ALLOW_VALUE(call, argument, value) ROW (call, 0, argument, SCMP_CMP_EQ, value, 0)
#define ALLOW_NONE(call, argument, bits) ROW (call, 0, argument, SCMP_CMP_MASKED_EQ, bits, 0)

#define DENY(call) ALWAYS (call, EPERM)
#define DENY_NOT(call, argument, value) ROW (call, EPERM, argument, SCMP_CMP_NE, value, 0)
#define DENY_BITS(call, argument, mask, value) ROW (call, EPERM, argument, SCMP_CMP_MASKED_EQ, mask, value)
#define MISSING(call) ALWAYS (call, ENOSYS)

#define END_OF_ROWS ALWAYS (NULL, 0)
/* clang-format on */
