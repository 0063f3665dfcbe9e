/* Taking in a work tree.
 * Run by the agent for the manager, in a guest. */
#pragma once

/**
 * guest_receive_main:
 * @arguments: FOLDER NAME BYTES git|plain [SCRIPT]. From stdin come BYTES of names, sorted, each with a NUL: the files of
 * the work tree that becomes FOLDER/NAME; then its tar, each name with NAME before it. Of an earlier copy goes what came
 * with it and does not come with this one, and of its `.git` what would hide the new state (with `git`); what only the
 * guest has stays, unless it is in the way. At last SCRIPT, by `sh -c` in FOLDER.
 * Returns: what to exit with, that of SCRIPT where it ran.
 */
int guest_receive_main (char **arguments);
