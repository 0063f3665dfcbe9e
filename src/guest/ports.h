/* `guest ports`: who listens in the guest, a line for each.
 * Run by the agent for `banger vm ports`.
 * Never asks a server anything. */
#pragma once

/** guest_ports_main: "tcp 0.0.0.0 80 417 nginx": protocol, address, port, process (0: not known) and its name, coded as
 * common/exec-words.h says. No @arguments. Returns: 0. */
int guest_ports_main (char **arguments);
