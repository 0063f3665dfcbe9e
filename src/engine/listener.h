/* Listening unix sockets that can be connected to from the moment their name appears.
 * Never replaces a file that exists. */
#pragma once

/**
 * banger_listen_unix:
 * Mode 0600 from birth, non-blocking, close-on-exec. Watchers of the folder see the name created (IN_CREATE) after
 * listen(2). Returns: a descriptor, or -1 with errno: EADDRINUSE for a file that exists, ENAMETOOLONG.
 */
int banger_listen_unix (const char *path, int backlog);
