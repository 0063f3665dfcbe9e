/* `guest pack` and `guest unpack`: files out of the guest and into it, as a tar on stdout and stdin.
 * Run by the agent for `banger vm cp` and for whoever else may run commands here.
 * Never needs a tar(1) in the image. */
#pragma once

#include "common/tree-write.h"

/** guest_pack_main: @arguments: PATH [NAME]: what it is called in the tar. Returns: 1 if not all of it could be read. */
int guest_pack_main (char **arguments);

/**
 * guest_unpack_main:
 * @arguments: PATH: a folder that is there, for all of the tar. PATH NAME: the tar's one file or folder, to PATH/NAME if PATH is
 * a folder, else it becomes PATH. PATH .: what is in the tar's one folder.
 * Returns: 1 with a line on stderr if not all of it could be written.
 */
int guest_unpack_main (char **arguments);

/** guest_unpack: the tar on stdin. Returns: 0; 1 with a line on stderr. */
int guest_unpack (BangerTreeWriter *writer);
