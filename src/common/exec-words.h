/* An argument list as words that no shell changes: what follows `/run/banger/guest exec` in an ssh command.
 * Written by banger, read by banger-guest (no GLib here).
 * Never yields a byte that a shell splits, expands or unquotes. */
#pragma once

#include <stddef.h>

/* A word: A-Z a-z 0-9 . _ / , : + @ and '-' (not first) stand for themselves, every other byte is %XX (upper-case hex).
 * The empty argument is the word "%00"; %00 stands nowhere else. So a word is never empty and never begins with '-':
 * `--cwd` before the words is an option, in them it is "%2D-cwd". */

/**
 * banger_exec_word_encode:
 * Returns: (transfer full): the word for @argument, for free(3); NULL with ENOMEM.
 */
char *banger_exec_word_encode (const char *argument);

/**
 * banger_exec_word_decode:
 * Decodes @word in place. Returns: 0; -1 for a word that banger_exec_word_encode() never writes (@word is then
 * unchanged).
 */
int banger_exec_word_decode (char *word);
