/* A connection of the host's to a port of this machine (docs/guest.md, "connect").
 * Never to another machine. */
#pragma once

/** guest_connect_main: in a process of its own. @client: the host's; answers with @token, then carries bytes. */
_Noreturn void guest_connect_main (int client, const char *token, unsigned port);
