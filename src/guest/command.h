/* The last steps of a child of a session: rights, environment, directory, program.
 * Never goes on with more rights than were asked for. */
#pragma once

#include "guest/request.h"

/** guest_command_become: @fds: what becomes 0, 1 and 2. @apart: closed when the process has a session of its own, whose
 * signals reach it. Ends with 125 (user, directory), 126 or 127 and a line on stderr if it cannot. */
void guest_command_become (const GuestRun *run, const int *fds, int apart) __attribute__ ((noreturn));
