/* Bytes one way between two descriptors that do not block.
 * Never holds more than one buffer. */
#pragma once

#include <poll.h>
#include <stddef.h>

#define BANGER_PUMP_BYTES 32768

typedef struct {
  int from, to; /* -1: closed */
  size_t start, end;
  size_t limit; /* bytes that are still read of @from */
  char buffer[BANGER_PUMP_BYTES];
} BangerPump;

/** banger_pump_prepare: what of the two is to be waited for. @fds: two entries. */
void banger_pump_prepare (const BangerPump *pump, struct pollfd *fds);
/** banger_pump_step: one buffer at most. Returns: whether there may be more at once. */
int banger_pump_step (BangerPump *pump);
/** banger_pump_run: moves what can be moved. @from is closed at its end; an error of @to closes both. */
void banger_pump_run (BangerPump *pump);
/** banger_pump_is_over: whether nothing is left to move. */
int banger_pump_is_over (const BangerPump *pump);
