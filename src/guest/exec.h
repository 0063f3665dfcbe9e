/* `guest exec`: a command with its arguments as they were given to banger.
 * Run by the login shell that sshd starts.
 * Never hands a word to a shell. */
#pragma once

/** guest_exec_main: @words: [--cwd WORD] WORD..., coded as common/exec-words.h says. Returns: only if nothing was
 * started: 127 not found, 126 cannot be run, 125 a bad word or directory. */
int guest_exec_main (char **words);
