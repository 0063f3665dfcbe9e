/* The helper as a program: connection, dispatch, name, main loop.
 * Never answers before its folders and leases are in order. */
#pragma once

#include "privileged/root.h"

/** banger_helper_run: serves org.banger.Privileged until SIGTERM, SIGINT or the loss of the bus. Returns: an exit
 * status. */
int banger_helper_run (const BangerRoot *root);
