/* Shell completion: one answer for all shells, and a few lines for each that ask for it.
 * Never starts the manager, never takes longer than a second. */
#pragma once

#include "cli/command.h"

/**
 * banger_complete:
 * @words: the command line without "banger"; the last one is the word under the cursor, perhaps empty.
 * Returns: (transfer full): lines "CANDIDATE\tSUMMARY", and ":files" or ":directories" where the shell itself knows.
 */
char *banger_complete (const BangerCommandTable *table, const char *const *words);

/** banger_completion_script: Returns: (transfer none): the script of @shell or %NULL. */
const char *banger_completion_script (const char *shell);
const char *const *banger_completion_shells (void);
