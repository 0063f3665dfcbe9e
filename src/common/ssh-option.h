/* Paths as ssh_config(5) reads them.
 * Used by banger and bangerd for the ssh that they run.
 * Never expands anything. */
#pragma once

/** banger_ssh_path_option: KEY="PATH" for ssh -o: quoted for spaces, % doubled. Returns: (transfer full). */
char *banger_ssh_path_option (const char *key, const char *path);
