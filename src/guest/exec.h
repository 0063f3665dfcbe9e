/* `guest exec`: a command with its arguments as they were given to banger.
 * Run by the login shell that sshd starts.
 * Never hands a word to a shell. */
#pragma once

/**
 * guest_exec_main:
 * @words: [--cwd WORD] WORD..., coded as common/exec-words.h says.
 * Returns: what to exit with: the command's status, 128 + n if signal n ended it; 127 not found, 126 cannot be run, 125
 * a bad word or directory.
 */
int guest_exec_main (char **words);

/** guest_exec_become: executes @words. Returns: 127 or 126, with a line on stderr, if that cannot be. */
int guest_exec_become (char **words);
