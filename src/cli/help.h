/* Texts made from the command table: --help and man pages.
 * Never holds a text about one command. */
#pragma once

#include "cli/command.h"

/** banger_help_command: Returns: (transfer full): what `banger WORDS --help` prints. */
char *banger_help_for_command (const BangerCommand *command);
/** banger_help_for_group: @group: %NULL for the whole program. Returns: (transfer full). */
char *banger_help_for_group (const BangerCommandTable *table, const BangerGroup *group);
/** banger_usage_line: Returns: (transfer full): "vm run [OPTION...] [PATH] [-- CMD...]". */
char *banger_usage_line (const BangerCommand *command);
/** banger_man_page: Returns: (transfer full): the man page in roff of @group: banger-vm(1), ...; banger(1) for "". */
char *banger_man_page (const BangerCommandTable *table, const BangerGroup *group);
